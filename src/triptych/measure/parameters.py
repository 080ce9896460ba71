"""Parameters of modules, counted by storage: all of them, and those that are trained."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters, each storage once."""

    trainable: int
    total: int


def count_parameters(*modules: nn.Module | None) -> ParameterCounts:
    """Count the parameters of modules, a tied one once; `None` among the modules is skipped."""
    found = {id(parameter): parameter for module in modules if module is not None for parameter in module.parameters()}
    return ParameterCounts(
        sum(p.numel() for p in found.values() if p.requires_grad), sum(p.numel() for p in found.values())
    )

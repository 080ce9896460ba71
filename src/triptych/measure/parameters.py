"""Count total and trainable parameters of modules by storage."""

import math
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters, with each storage counted once."""

    trainable: int
    total: int


def count_parameters(*modules: nn.Module | None) -> ParameterCounts:
    """Count the parameters of modules, tied ones once; `None` among the modules is skipped."""
    found = {id(parameter): parameter for module in modules if module is not None for parameter in module.parameters()}
    return ParameterCounts(
        sum(p.numel() for p in found.values() if p.requires_grad), sum(_count(p) for p in found.values())
    )


def _count(parameter: nn.Parameter) -> int:
    """Number of values in a parameter; 4-bit parameters pack two values per byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)

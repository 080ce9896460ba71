"""Parameters of modules, counted by storage: all of them, and those that are trained."""

import math
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
        sum(p.numel() for p in found.values() if p.requires_grad), sum(_count(p) for p in found.values())
    )


def _count(parameter: nn.Parameter) -> int:
    """How many numbers a parameter has; of one in 4 bits, two to a byte, the numbers and not the bytes."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)

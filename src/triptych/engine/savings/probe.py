"""What probes share: whether two paths predict the same, and the reason where a model cannot take one of them.

Tried with transformers 5.23.0.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Found = TypeVar("Found")
Report = Callable[[str], Any]

TOLERANCE = 1e-3  # of the spread of log-probabilities over the vocabulary
ROUNDING = 1e-5  # of the largest logit: what fp32 loses of it on its way through a deep model


class Unsupported(Exception):
    """The model's family lacks what a saving needs; the message says what, and fits after "this family: "."""


def attempt(work: Callable[[], Found], report: Report) -> Found | None:
    """What `work` returns; None, with the reason reported, where this model cannot do it.

    Args:
        work: runs a path through the model.
        report: called with the reason in one line: what the family lacks, or which exception was raised in which
            module, so that a mistake of this package is not taken for a trait of the family.

    Raises:
        AttributeError, TypeError: a line of this package raised it, which is always a mistake here.
    """
    try:
        return work()
    except Unsupported as error:
        report(str(error))
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        module = _module_of(error)
        if isinstance(error, (AttributeError, TypeError)) and module.startswith("triptych."):
            raise
        words = str(error).strip().splitlines() or [""]
        report(f"{type(error).__name__} in {module}: {words[0][:200]}")
    return None


def _module_of(error: Exception) -> str:
    """The module whose line raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return str(trace.tb_frame.f_globals.get("__name__", "?")) if trace is not None else "?"


def same_predictions(found: Tensor, expected: Tensor) -> bool:
    """Whether logits predict the same: log-probabilities differ by no more than fp32's rounding explains.

    Both are [.., V]. A part that all logits share predicts nothing (GPT-2's are around -100), so it may not widen what
    is allowed: `TOLERANCE` of the spread of the expected log-probabilities, and `ROUNDING` of the largest logit.
    """
    if found.shape != expected.shape or not torch.isfinite(found).all():
        return False
    wanted = expected.float().log_softmax(-1)
    allowed = TOLERANCE * wanted.std() + ROUNDING * expected.float().abs().max()
    return bool(((found.float().log_softmax(-1) - wanted).abs() <= allowed).all())

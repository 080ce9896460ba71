"""Helpers for probes: compare the predictions of two paths, and report why a model does not support one.

Tested with transformers 5.23.0.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Found = TypeVar("Found")
Report = Callable[[str], Any]

TOLERANCE = 1e-3  # relative to the standard deviation of the log-probabilities over the vocabulary
ROUNDING = 1e-5  # relative to the largest logit: fp32 rounding error accumulated through a deep model


class Unsupported(Exception):
    """The model's family lacks something a saving needs; the message says what, and fits after "this family: "."""


def attempt(work: Callable[[], Found], report: Report) -> Found | None:
    """Return the result of `work`; None, with the reason reported, if this model does not support it.

    Args:
        work: runs a path through the model.
        report: called with the reason in one line: what the family lacks, or which exception was raised in which
            module, so that a bug in this package is not mistaken for a limitation of the family.

    Raises:
        AttributeError, TypeError: a line of this package raised it, which is always a bug.
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
    """The name of the module that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return str(trace.tb_frame.f_globals.get("__name__", "?")) if trace is not None else "?"


def same_predictions(found: Tensor, expected: Tensor) -> bool:
    """Whether logits give the same predictions: log-probabilities differ by no more than fp32 rounding explains.

    Both are [.., V]. An offset common to all logits predicts nothing (GPT-2's are around -100), so it must not widen
    the tolerance: `TOLERANCE` times the standard deviation of the expected log-probabilities, plus `ROUNDING` times the
    largest logit.
    """
    if found.shape != expected.shape or not torch.isfinite(found).all():
        return False
    wanted = expected.float().log_softmax(-1)
    allowed = TOLERANCE * wanted.std() + ROUNDING * expected.float().abs().max()
    return bool(((found.float().log_softmax(-1) - wanted).abs() <= allowed).all())

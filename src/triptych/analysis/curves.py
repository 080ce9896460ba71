"""Validation loss against what was spent: steps, tokens, seconds, FLOPs, joules. Measured, never prorated."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from triptych.errors import ResultsError, nearest
from triptych.results.reading import Results, Run

# The key of an evaluation line in history.jsonl that holds what training had spent by then, and its name with the unit.
AXES: Mapping[str, str] = {
    "step": "optimizer steps",
    "tokens": "tokens trained on",
    "train_seconds": "training time (s)",
    "train_flops": "training compute (FLOPs)",
    "energy_joules": "energy (J)",
}


@dataclass(frozen=True)
class Curve:
    """The validation losses of one run in nats per target token, at rising spending."""

    label: str
    seed: int
    spent: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """The curves of a comparison over one axis, and the trained rows that have none because it was not measured."""

    axis: str
    title: str
    lines: tuple[Curve, ...]
    absent: tuple[str, ...]


def validation_curves(results: Results, axis: str = "step") -> Curves:
    """The validation loss of every trained run against one kind of spending.

    Args:
        results: a loaded results folder.
        axis: a key of `AXES`.

    Raises:
        ResultsError: an unknown axis, or a history in which spending falls.
    """
    if axis not in AXES:
        raise ResultsError(f"Unknown axis {axis!r}.{nearest(axis, AXES)}")
    trained = [run for run in results.runs if run.done and run.tuned]
    lines = {run.name: _curve(run, axis) for run in trained}
    absent = dict.fromkeys(run.record.label for run in trained if lines[run.name] is None)
    return Curves(axis, AXES[axis], tuple(line for line in lines.values() if line is not None), tuple(absent))


def _curve(run: Run, axis: str) -> Curve | None:
    """The curve of one run, from the loss before training on; None if an evaluation did not note this spending."""
    evaluations = [
        event for event in run.history if event["event"] == "evaluation" and _is_number(event, "validation_loss")
    ]
    if not evaluations or not all(_is_number(event, axis) for event in evaluations):
        return None
    spent = tuple(float(event[axis]) for event in evaluations)
    losses = tuple(float(event["validation_loss"]) for event in evaluations)
    initial = run.record.loss.initial
    if initial is not None and spent[0] > 0:
        spent, losses = (0.0, *spent), (initial, *losses)
    if any(later < earlier for earlier, later in pairwise(spent)):
        raise ResultsError(
            f"The history of {run.name} has a falling {axis}: {spent}. Delete this run's folder and resume the suite."
        )
    return Curve(run.record.label, run.record.seed, spent, losses)


def _is_number(event: Mapping[str, Any], key: str) -> bool:
    value = event.get(key)
    return isinstance(value, (int, float)) and not isinstance(value, bool)

"""Loss curves: against optimizer steps, and against the tokens, seconds, FLOPs or joules that training had spent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from triptych.errors import ResultsError, nearest
from triptych.results.reading import Results, SavedRun

# Keys of evaluation lines in history.jsonl that say what training had spent so far, with their names and units.
AXES: Mapping[str, str] = {
    "step": "optimizer steps",
    "tokens": "tokens trained on",
    "train_seconds": "training time (s)",
    "train_flops": "training compute (FLOPs)",
    "energy_joules": "energy (J)",
}
MAX_POINTS = 60
Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """The validation losses of one run in nats per target token, in order of spending."""

    label: str
    seed: int
    spent: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """The curves of a comparison over one axis, and the trained methods without one because it was not measured."""

    axis: str
    title: str
    lines: tuple[Curve, ...]
    absent: tuple[str, ...]


def still_falling(run: SavedRun) -> bool:
    """Whether more epochs may lower the validation loss: the last evaluation was the best, not only due to the decay.

    A decay also lowers the loss of a run whose loss rose at the peak rate; more epochs would not help there.
    """
    training = run.record.training
    if training is None or training.stopped_early or not 0 < training.best_epoch == training.epochs:
        return False
    losses = [
        line["validation_loss"]
        for line in run.history
        if line.get("event") == "evaluation" and line.get("step", 0) <= (training.decay_start or 0)
    ]
    return len(losses) < 2 or losses[-1] <= min(losses)


@dataclass(frozen=True)
class LossCurves:
    """A method's training and validation losses by optimizer step, in nats per target token, means over seeds."""

    train: tuple[Point, ...]
    validation: tuple[Point, ...]


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
    trained = [run for run in results.runs if run.done and run.trained]
    lines = {run.name: _curve(run, axis) for run in trained}
    absent = dict.fromkeys(run.record.label for run in trained if lines[run.name] is None)
    return Curves(axis, AXES[axis], tuple(line for line in lines.values() if line is not None), tuple(absent))


def loss_curves(results: Results) -> dict[str, LossCurves]:
    """The curves of every method that has any, in the suite's order."""
    found = {
        label: LossCurves(
            train=thin(mean_curve([_training(run) for run in results.of(label)])),
            validation=mean_curve([_validation(run) for run in results.of(label)]),
        )
        for label in results.labels
    }
    return {label: curves for label, curves in found.items() if curves.train or curves.validation}


def mean_curve(curves: Sequence[Sequence[Point]]) -> tuple[Point, ...]:
    """The mean over seeds at each step that all seeds reached, so that no mean is over fewer."""
    if not curves:
        return ()
    by_step = [dict(curve) for curve in curves]
    shared = sorted(set(by_step[0]).intersection(*by_step[1:]))
    return tuple((step, sum(curve[step] for curve in by_step) / len(by_step)) for step in shared)


def thin(curve: Sequence[Point], most: int = MAX_POINTS) -> tuple[Point, ...]:
    """At most `most` points, each the mean of equally many neighbors."""
    width = -(-len(curve) // most) if curve else 1
    groups = [curve[start : start + width] for start in range(0, len(curve), width)]
    return tuple((sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups)


def _curve(run: SavedRun, axis: str) -> Curve | None:
    """The curve of one run, starting with the loss before training; None if an evaluation lacks this axis."""
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


def _training(run: SavedRun) -> list[Point]:
    """The loss of each step, or the mean of each epoch if steps were not logged."""
    steps = _points(run.history, "step", "loss")
    return steps or _points(run.history, "evaluation", "train_loss")


def _validation(run: SavedRun) -> list[Point]:
    """The loss of each evaluation, preceded by the loss before training."""
    points = _points(run.history, "evaluation", "validation_loss")
    initial = run.record.loss.initial
    if points and initial is not None and points[0][0] > 0:
        return [(0.0, initial), *points]
    return points


def _points(history: Sequence[dict[str, Any]], event: str, key: str) -> list[Point]:
    return [
        (float(line["step"]), float(line[key]))
        for line in history
        if line.get("event") == event and _is_number(line, "step") and _is_number(line, key)
    ]

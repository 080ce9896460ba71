"""Loss curves from the histories of a row's runs: means over its seeds, thinned to what a figure can show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from triptych.results.reading import Results, Run

MAX_POINTS = 60
Point = tuple[float, float]


@dataclass(frozen=True)
class Curves:
    """Losses against optimizer steps, in nats per target token."""

    train: tuple[Point, ...]
    validation: tuple[Point, ...]


def loss_curves(results: Results) -> dict[str, Curves]:
    """The curves of every row that has any, in the suite's order."""
    found = {
        label: Curves(
            train=thin(mean_curve([_training(run) for run in results.of(label)])),
            validation=mean_curve([_validation(run) for run in results.of(label)]),
        )
        for label in results.labels
    }
    return {label: curves for label, curves in found.items() if curves.train or curves.validation}


def mean_curve(curves: Sequence[Sequence[Point]]) -> tuple[Point, ...]:
    """The mean over seeds at each step that all seeds reached; beyond it, it would be a mean over fewer."""
    if not curves:
        return ()
    by_step = [dict(curve) for curve in curves]
    shared = sorted(set(by_step[0]).intersection(*by_step[1:]))
    return tuple((step, sum(curve[step] for curve in by_step) / len(by_step)) for step in shared)


def thin(curve: Sequence[Point], most: int = MAX_POINTS) -> tuple[Point, ...]:
    """At most `most` points, each the mean of equally many neighbours."""
    width = -(-len(curve) // most) if curve else 1
    groups = [curve[start : start + width] for start in range(0, len(curve), width)]
    return tuple((sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups)


def _training(run: Run) -> list[Point]:
    """The loss of each step; where steps were not logged, the mean of each epoch."""
    steps = _points(run.history, "step", "loss")
    return steps or _points(run.history, "evaluation", "train_loss")


def _validation(run: Run) -> list[Point]:
    """The loss of each evaluation, after the one before training."""
    points = _points(run.history, "evaluation", "validation_loss")
    initial = run.record.loss.initial
    if points and initial is not None and points[0][0] > 0:
        return [(0.0, initial), *points]
    return points


def _points(history: Sequence[dict[str, Any]], event: str, key: str) -> list[Point]:
    return [
        (float(line["step"]), float(line[key]))
        for line in history
        if line.get("event") == event and _is_number(line.get("step")) and _is_number(line.get(key))
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

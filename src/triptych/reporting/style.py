"""The look of a method in all figures: a color of Okabe and Ito's color-blind-safe set, marker, line and hatch."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

# Okabe and Ito's set with gray instead of yellow, which is hard to see on white.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C8C8C")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 2, 2)))
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo", "---")


@dataclass(frozen=True)
class Look:
    """Each of the four alone distinguishes up to eight methods: figures work in grayscale and without color vision."""

    color: str
    marker: str
    line: str | tuple
    hatch: str


# The indices of known methods in the lists above, so that a method looks the same in every report.
_PLACES = {"prompt-tuning": 0, "lora": 1, "last-layers": 2, "full": 3, "lead-3": 5, "untuned": 6}


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """A look for each method: known methods keep theirs, variants share it if it is free, others get what is left.

    Args:
        labels: the labels of all methods, in the suite's order.
    """
    places: dict[str, int] = {}
    wanted = list(labels)
    for method_of in (str, _variant_of):
        for label in wanted:
            place = _PLACES.get(method_of(label))
            if place is not None and label not in places and place not in places.values():
                places[label] = place
    free = (place for place in count() if place not in places.values())
    return {label: _look(places[label] if label in places else next(free)) for label in wanted}


def _variant_of(label: str) -> str:
    """The known method that a label begins with, such as `lora` in `lora-r4`; empty if there is none."""
    return next((name for name in _PLACES if label.startswith((f"{name}-", f"{name}@"))), "")


def _look(place: int) -> Look:
    return Look(
        _COLORS[place % len(_COLORS)],
        _MARKERS[place % len(_MARKERS)],
        _LINES[place % len(_LINES)],
        _HATCHES[place % len(_HATCHES)],
    )

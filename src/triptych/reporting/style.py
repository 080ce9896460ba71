"""The look of a row in every figure: a colour of Okabe and Ito's colour-blind safe set, a marker, a line, a hatch."""

from collections.abc import Iterable
from dataclasses import dataclass

# Okabe and Ito's set without its yellow, which is lost on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo")


@dataclass(frozen=True)
class Look:
    """Each of the four distinguishes a row by itself, so that figures work in grey and without colour vision."""

    colour: str
    marker: str
    line: str | tuple
    hatch: str


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """A look for each row, by its place in the suite."""
    return {
        label: Look(
            _COLOURS[i % len(_COLOURS)],
            _MARKERS[i % len(_MARKERS)],
            _LINES[i % len(_LINES)],
            _HATCHES[i % len(_HATCHES)],
        )
        for i, label in enumerate(labels)
    }

"""Draw figures with Matplotlib in a common style, and record the place of each method and number."""

import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Transform

from triptych.reporting.style import Look, looks
from triptych.text.characters import showable

WIDTH = 6.6  # inches, the text width of the page
_LONGEST_NAME = 24
_TYPEFACE = "Libertinus Serif"  # of the printed text; the web page uses its own
_STYLE: Any = {
    "svg.fonttype": "none",  # keep text as text, so that it can be searched and copied in the PDF
    "svg.hashsalt": "triptych",
    "text.parse_math": False,  # a `$` in a label is a plain `$`
    "font.family": ["STIXGeneral", "DejaVu Sans"],  # as wide as the text's typeface, which Matplotlib lacks
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 5,
}


@dataclass(frozen=True)
class ReadablePoint:
    """A position in a drawing, in points from the left and top, and the numbers shown there as text."""

    x: float
    y: float
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class Series:
    """Points of one method with the same description.

    Attributes:
        row: the index of the method among the figure's methods.
        text: the description of each point after the method's label, with `{}` for each number.
        points: the points, from left to right or from top to bottom.
    """

    row: int
    text: str
    points: tuple[ReadablePoint, ...]


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Attributes:
        svg: an SVG document; the groups of a method's marks have ids `row-ROW-N`, the legend has the id `legend_1`.
        labels: the labels of the methods, in the order of the comparison.
        keys: the indices of the methods in the legend, in legend order.
        series: the numbers that the figure shows.
    """

    svg: str
    labels: tuple[str, ...]
    keys: tuple[int, ...]
    series: tuple[Series, ...]


@dataclass
class Canvas:
    """A Matplotlib figure that keeps track of what it shows for each method."""

    figure: Figure
    labels: Sequence[str]
    keys: list[int] = field(default_factory=list)
    pending: list[tuple[int, str, Transform, list[tuple[float, float, tuple[str, ...]]]]] = field(default_factory=list)
    marked: int = 0

    def look(self, label: str) -> Look:
        """The look of a method."""
        return looks(self.labels)[label]

    def own(self, label: str, artists: Iterable[Artist]) -> None:
        """Mark artists as belonging to a method."""
        for artist in artists:
            self.marked += 1
            artist.set_gid(f"row-{self.labels.index(label)}-{self.marked}")

    def numbers(
        self,
        place: Axes | Transform,
        label: str,
        text: str,
        points: Iterable[tuple[float, float, tuple[str, ...]]],
    ) -> None:
        """Record which numbers of a method are shown where.

        Args:
            place: the axes or the transform of the coordinates.
            label: the method's label.
            text: the description of each point after the method's label, with `{}` for each number.
            points: coordinates and numbers of each point.
        """
        transform = place.transData if isinstance(place, Axes) else place
        self.pending.append((self.labels.index(label), text, transform, list(points)))

    def legend(self, axes: Axes) -> None:
        """Add a legend of all methods drawn in these axes, under the figure."""
        self.legend_of([axes])

    def legend_of(self, several: Sequence[Axes]) -> None:
        """Add a legend of all methods drawn in any of these axes, in order, under the figure."""
        found = [pair for axes in several for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
        order = {short_name(label): place for place, label in reversed(list(enumerate(self.labels)))}
        found.sort(key=lambda pair: order[pair[1].removesuffix(UNMEASURED)])
        handles, names = [handle for handle, _ in found], [name for _, name in found]
        places: dict[str, list[int]] = {}
        for place, label in enumerate(self.labels):
            places.setdefault(short_name(label), []).append(place)
        self.keys = [places[name.removesuffix(UNMEASURED)].pop(0) for name in names]
        longest = max((len(name) for name in names), default=1)
        columns = max(1, min(len(names), 96 // (longest + 8)))
        self.figure.legend(handles, names, loc="outside lower center", ncols=columns)

    def finish(self) -> Drawing:
        """The figure as SVG, with the positions of its numbers."""
        stream = io.StringIO()
        self.figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        width, height = (72 * inches for inches in self.figure.get_size_inches())
        to_fraction = self.figure.transFigure.inverted()
        series = []
        for row, text, transform, points in self.pending:
            places = [to_fraction.transform(transform.transform((x, y))) for x, y, _ in points]
            found = [
                ReadablePoint(round(float(x) * width, 1), round((1 - float(y)) * height, 1), numbers)
                for (x, y), (_, _, numbers) in zip(places, points, strict=True)
            ]
            series.append(Series(row, text, tuple(found)))
        svg = stream.getvalue().replace("STIXGeneral", _TYPEFACE)
        return Drawing(svg, tuple(self.labels), tuple(self.keys), tuple(series))


UNMEASURED = " (not measured)"  # after a method's name in a legend


def short_name(label: str) -> str:
    """A label that leaves room for the figure; a long one is shortened to its two ends."""
    label = showable(label)
    return label if len(label) <= _LONGEST_NAME else f"{label[: _LONGEST_NAME - 11]}…{label[-10:]}"


@contextmanager
def canvas(labels: Sequence[str], height: float) -> Iterator[Canvas]:
    """A figure in the report's style, as wide as the page text.

    Args:
        labels: the labels of all methods of the comparison, in order.
        height: the height in inches.
    """
    # Matplotlib warns about glyphs that DejaVu Sans lacks during layout; the SVG contains the text itself.
    with matplotlib.rc_context(), warnings.catch_warnings(), _quiet_fonts():
        matplotlib.rcdefaults()  # ignore a matplotlibrc in the working folder: it could make Matplotlib run LaTeX
        matplotlib.rcParams.update(_STYLE)
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        yield Canvas(Figure(figsize=(WIDTH, height), layout="constrained"), labels)


@contextmanager
def _quiet_fonts() -> Iterator[None]:
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

"""The figures of the printed report, as SVG, from a comparison and curves alone; the same data, the same bytes."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from triptych.analysis.curves import Curves as Spending
from triptych.reporting import formats, rows
from triptych.reporting.series import Curves
from triptych.reporting.style import Look, looks
from triptych.results.records import Comparison, Estimate, Row, RowLoss

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched and copied in the PDF
    "svg.hashsalt": "triptych",
    "text.parse_math": False,  # a `$` in a label is a `$`
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 5,
}
_LONGEST_NAME = 24
_WIDTH = 6.6  # inches, the text width of the page
_LOG_FROM = 8  # a wider range of costs than this is shown on a logarithmic axis
_BARS: tuple[tuple[str, str, str, Callable[[Row], float | None]], ...] = (
    ("Training time", "s", "train_seconds", lambda row: rows.cost(row, "train_seconds")),
    ("Trainable parameters", "", "trainable", lambda row: rows.value(row, "parameters.num_trainable_parameters")),
    ("Training compute", "FLOP", "train_flops", lambda row: rows.cost(row, "train_flops")),
    ("Peak memory", "B", "peak_memory_bytes", lambda row: rows.cost(row, "peak_memory_bytes")),
    ("Energy", "J", "energy_joules", lambda row: rows.cost(row, "energy_joules")),
)


def curves_figure(curves: dict[str, Curves], labels: list[str]) -> str | None:
    """Training and validation loss against steps; None where nothing was trained."""
    shown = [label for label in labels if label in curves]
    if not shown:
        return None
    style = looks(labels)
    with _figure(_WIDTH, 2.9) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for label in shown:
            _line(left, curves[label].train, label, style[label], markers=8)
            _line(right, curves[label].validation, label, style[label], markers=30)
        for axes, title in ((left, "Training"), (right, "Validation")):
            axes.set_title(title, loc="left")
            axes.set_xlabel("optimizer step")
        left.set_ylabel("loss (nats per target token)")
        right.tick_params(labelleft=True)
        _legend(figure, right)
        return _svg(figure)


def pareto_figure(comparison: Comparison) -> str | None:
    """Test R-1 with its interval against training time and trainable parameters; None where nothing was trained."""
    done = {label: row for label, row in rows.done(comparison).items() if row.rouge1 is not None}
    tuned = {label: row for label, row in done.items() if rows.trained(row)}
    if not tuned:
        return None
    style = looks(comparison.rows)
    panels = (
        ("train_seconds", "training time (s)", lambda row: rows.cost(row, "train_seconds"), comparison.pareto),
        (
            "trainable",
            "trainable parameters",
            lambda row: row.parameters.num_trainable_parameters,
            comparison.pareto_parameters,
        ),
    )
    with _figure(_WIDTH, 3.1) as figure:
        for axes, (_, title, cost_of, front) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
            _pareto_panel(axes, done, style, cost_of, front)
            axes.set_xlabel(f"{title}, log scale" if axes.get_xscale() == "log" else title)
            axes.tick_params(labelleft=True)
        figure.axes[0].set_ylabel("test R-1 (F1, 0-100)")
        _legend(figure, figure.axes[0])
        return _svg(figure)


def cost_figure(comparison: Comparison) -> str | None:
    """Bars of what training took, a panel for each cost that was measured; None where nothing was trained."""
    tuned = {label: row for label, row in rows.done(comparison).items() if rows.trained(row)}
    panels = [panel for panel in _BARS if any(panel[3](row) for row in tuned.values())]
    if not panels:
        return None
    style = looks(comparison.rows)
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    with _figure(_WIDTH, lines * (0.75 + 0.2 * len(tuned))) as figure:
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        for number, (axes, (title, unit, _, cost_of)) in enumerate(zip(grid.flat, panels, strict=False)):
            _bar_panel(axes, {label: cost_of(row) for label, row in tuned.items()}, style, number % columns == 0)
            axes.set_title(f"{title} ({unit})" if unit else title, loc="left", fontsize=8)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_major_locator(MaxNLocator(4))
        return _svg(figure)


def spending_figure(spendings: Sequence[Spending], labels: list[str]) -> str | None:
    """Validation loss against what training had spent, a panel for each kind that was measured, a line for each run."""
    shown = [spending for spending in spendings if spending.lines]
    if not shown:
        return None
    style = looks(labels)
    columns = min(len(shown), 2)
    with _figure(_WIDTH, 2.4 * -(-len(shown) // columns) + 0.4) as figure:
        grid = list(figure.subplots(-(-len(shown) // columns), columns, squeeze=False, sharey=True).flat)
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        for axes, spending in zip(grid, shown, strict=False):
            named: set[str] = set()
            for line in spending.lines:
                points = tuple(zip(line.spent, line.losses, strict=True))
                _line(axes, points, "" if line.label in named else line.label, style[line.label], markers=30)
                named.add(line.label)
            for label in spending.absent:
                look = style[label]
                axes.plot([], [], color=look.colour, label=f"{_name(label)} (not measured)")
            axes.set_xlabel(spending.title)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.tick_params(labelleft=True)
        for axes in grid[::columns]:
            axes.set_ylabel("validation loss")
        _legend(figure, grid[0])
        return _svg(figure)


def scaling_figure(comparison: Comparison) -> str | None:
    """Test R-1 and test loss with their intervals against the number of training documents; None where it did not
    vary."""
    if not comparison.scaling:
        return None
    style = looks(comparison.rows)
    sizes = [point.train_documents for point in comparison.scaling]
    labels = dict.fromkeys(label for point in comparison.scaling for label in point.rows)
    with _figure(_WIDTH, 2.9) as figure:
        panels: tuple[tuple[str, Callable[[Row], Estimate | RowLoss | None]], ...] = (
            ("test R-1 (F1, 0-100)", lambda row: row.rouge1),
            ("test loss (nats per target token)", lambda row: row.loss),
        )
        for axes, (title, of) in zip(figure.subplots(1, 2), panels, strict=True):
            for label in labels:
                points = [
                    (point.train_documents, estimate.mean, estimate)
                    for point in comparison.scaling
                    if label in point.rows and (estimate := of(point.rows[label])) and estimate.mean is not None
                ]
                if not points:
                    continue
                places, means, estimates = zip(*points, strict=True)
                _line(axes, tuple(zip(places, means, strict=True)), label, style[label], markers=30)
                for place, estimate in zip(places, estimates, strict=True):
                    if estimate.low is not None and estimate.high is not None:
                        axes.plot([place] * 2, [estimate.low, estimate.high], color=style[label].colour, linewidth=0.8)
            axes.set_xscale("log")
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("training documents, log scale")
            axes.set_ylabel(title)
        _legend(figure, figure.axes[0])
        return _svg(figure)


def _name(label: str) -> str:
    """A label that leaves room for the figure: of a long one, its two ends."""
    return label if len(label) <= _LONGEST_NAME else f"{label[: _LONGEST_NAME - 11]}…{label[-10:]}"


def _line(axes: Axes, points: tuple[tuple[float, float], ...], label: str, look: Look, markers: int) -> None:
    if not points:
        return
    every = max(1, len(points) // markers)
    axes.plot(
        *zip(*points, strict=True),
        label=_name(label) or None,
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markevery=every,
        markersize=4,
    )


def _pareto_panel(
    axes: Axes, done: dict[str, Row], style: dict[str, Look], cost_of: Callable[[Row], float | None], front: list[str]
) -> None:
    costs = [cost for row in done.values() if rows.trained(row) and (cost := cost_of(row))]
    if costs and max(costs) > _LOG_FROM * min(costs):
        axes.set_xscale("log")
        axes.set_xlim(min(costs) / 2, max(costs) * 2)
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif costs:
        axes.set_xlim(0, max(costs) * 1.1)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    points = []
    for label, row in done.items():
        look, estimate = style[label], row.rouge1
        if estimate is None:
            continue
        cost = cost_of(row) if rows.trained(row) else None
        if not rows.trained(row):
            axes.axhline(estimate.mean, color=look.colour, linestyle=look.line, linewidth=1, label=_name(label))
            continue
        if not cost:
            axes.plot(
                [], [], color=look.colour, marker=look.marker, linestyle="none", label=f"{_name(label)} (not measured)"
            )
            continue
        error = None
        if estimate.low is not None and estimate.high is not None:
            error = [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
        axes.errorbar(
            [cost],
            [estimate.mean],
            yerr=error,
            label=_name(label),
            color=look.colour,
            marker=look.marker,
            linestyle="none",
            capsize=2.5,
            markersize=6,
            markeredgewidth=1.2,
            markerfacecolor=look.colour if label in front else "white",
        )
        if label in front:
            points.append((cost, estimate.mean))
    if len(points) > 1:
        axes.plot(*zip(*sorted(points), strict=True), color="#808080", linewidth=0.8, zorder=0)


def intervals_figure(comparison: Comparison) -> str:
    """Every ROUGE of every row with its interval, a panel for each score."""
    done = rows.done(comparison)
    style = looks(comparison.rows)
    with _figure(_WIDTH, 0.75 + 0.24 * len(done)) as figure:
        for number, (axes, (metric, title)) in enumerate(zip(figure.subplots(1, 4), rows.ROUGE.items(), strict=True)):
            for place, (label, row) in enumerate(done.items()):
                if (estimate := getattr(row, metric)) is not None:
                    _whisker(axes, place, estimate.mean, estimate.low, estimate.high, style[label])
            _named_places(axes, list(done), number == 0)
            axes.set_title(title, loc="left", fontsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(3))
        return _svg(figure)


def differences_figure(comparison: Comparison) -> str:
    """Differences in R-1 between rows, with their intervals, beside the line of no difference."""
    tests = [test for test in comparison.tests if test.metric == "rouge1"]
    look = looks([""])[""]
    with _figure(_WIDTH, 0.75 + 0.22 * len(tests)) as figure:
        axes = figure.subplots()
        axes.axvline(0, color="black", linewidth=0.8)
        for place, test in enumerate(tests):
            _whisker(axes, place, test.difference, test.low, test.high, look)
        _named_places(axes, [f"{_name(test.a)} − {_name(test.b)}" for test in tests], True)
        axes.set_xlabel("difference in R-1 (points of F1)")
        return _svg(figure)


def _whisker(axes: Axes, place: int, mean: float, low: float | None, high: float | None, look: Look) -> None:
    error = None if low is None or high is None else [[mean - low], [high - mean]]
    axes.errorbar(
        [mean], [place], xerr=error, color=look.colour, marker=look.marker, linestyle="none", capsize=2.5, markersize=5
    )


def _named_places(axes: Axes, names: list[str], named: bool) -> None:
    axes.set_yticks(range(len(names)), [_name(name) for name in names] if named else [""] * len(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(False, axis="y")


def _bar_panel(axes: Axes, values: dict[str, float | None], style: dict[str, Look], named: bool) -> None:
    for place, (label, value) in enumerate(values.items()):
        look = style[label]
        if value is None:
            axes.annotate(
                formats.NOT_MEASURED,
                (0, place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
                style="italic",
            )
        else:
            axes.barh([place], [value], color=look.colour, hatch=look.hatch, edgecolor="white", height=0.7)
            axes.barh([place], [value], fill=False, edgecolor="black", linewidth=0.6, height=0.7)
            axes.annotate(
                formats.si(value), (value, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7
            )
    axes.set_yticks(range(len(values)), [_name(label) for label in values] if named else [""] * len(values))
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.set_xlim(0, max((value for value in values.values() if value), default=1) * 1.3)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    longest = max((len(name) for name in names), default=1)
    figure.legend(handles, names, loc="outside lower center", ncols=max(1, min(len(names), 96 // (longest + 8))))


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of our style. A glyph that DejaVu Sans lacks is warned of by Matplotlib while it lays out; the SVG
    holds the text itself, so nothing is lost."""
    with matplotlib.rc_context(), warnings.catch_warnings(), _quiet_fonts():
        matplotlib.rcdefaults()  # not what a matplotlibrc of the working folder says: it could have LaTeX run
        matplotlib.rcParams.update(_STYLE)
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        yield Figure(figsize=(width, height), layout="constrained")


@contextmanager
def _quiet_fonts() -> Iterator[None]:
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return stream.getvalue()

"""The figures of the report, for print and page alike, from a comparison and its runs; same data, same bytes."""

from collections.abc import Callable, Sequence
from itertools import zip_longest

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from triptych.analysis.curves import AXES, Curves, LossCurves, loss_curves, validation_curves
from triptych.reporting import rows
from triptych.reporting.drawing import UNMEASURED, Canvas, Drawing, canvas, short_name
from triptych.results.reading import Results
from triptych.results.records import Comparison, Estimate, RowLoss, RowSummary
from triptych.text import formats

_LOG_FROM = 8  # a wider range of costs than this is shown on a logarithmic axis
_COSTS: tuple[tuple[str, str, Callable[[RowSummary], float | None]], ...] = (
    ("Training time", "s", lambda row: rows.cost(row, "train_seconds")),
    ("Trainable parameters", "", lambda row: rows.value(row, "parameters.num_trainable_parameters")),
    ("Training compute", "FLOP", lambda row: rows.cost(row, "train_flops")),
    ("Peak memory", "B", lambda row: rows.cost(row, "peak_memory_bytes")),
    ("Energy", "J", lambda row: rows.cost(row, "energy_joules")),
)


def figures(results: Results, comparison: Comparison) -> dict[str, Drawing]:
    """Every figure of a report by its name; a figure that would show nothing is left out.

    Args:
        results: the runs.
        comparison: of the same runs.
    """
    if rows.of_files(comparison):
        found = {
            "intervals": intervals_figure(comparison),
            "differences": differences_figure(comparison) if comparison.tests else None,
        }
    else:
        labels = list(comparison.rows)
        spendings = [validation_curves(results, axis) for axis in AXES if axis != "step"]  # loss curves are by step
        found = {
            "curves": curves_figure(loss_curves(results), labels),
            "pareto": pareto_figure(comparison),
            "cost": cost_figure(comparison),
            "spending": spending_figure(spendings, labels),
            "scaling": scaling_figure(comparison),
        }
    return {name: drawing for name, drawing in found.items() if drawing is not None}


def curves_figure(curves: dict[str, LossCurves], labels: list[str]) -> Drawing | None:
    """Training and validation loss against steps; None where nothing was trained."""
    shown = [label for label in labels if label in curves]
    if not shown:
        return None
    with canvas(labels, 2.9) as drawn:
        left, right = drawn.figure.subplots(1, 2, sharey=True)
        for label in shown:
            for axes, points, markers, what in (
                (left, curves[label].train, 8, "training loss"),
                (right, curves[label].validation, 30, "validation loss"),
            ):
                _line(drawn, axes, points, label, markers)
                numbers = [(x, y, (formats.loss(y), formats.count(x))) for x, y in points]
                drawn.numbers(axes, label, f": {what} {{}} nats per target token at step {{}}", numbers)
        for axes, title in ((left, "Training"), (right, "Validation")):
            axes.set_title(title, loc="left")
            axes.set_xlabel("optimizer step")
        left.set_ylabel("loss (nats per target token)")
        right.tick_params(labelleft=True)
        drawn.legend(right)
        return drawn.finish()


def pareto_figure(comparison: Comparison) -> Drawing | None:
    """Test R-1 with its interval against training time and trainable parameters; None where nothing was trained."""
    done = {label: row for label, row in rows.done(comparison).items() if row.rouge1 is not None}
    if not any(rows.trained(row) for row in done.values()):
        return None
    (_, _, seconds), (_, _, trainable) = _COSTS[:2]
    panels = (
        ("training time (s)", seconds, comparison.pareto),
        ("trainable parameters", trainable, comparison.pareto_parameters),
    )
    with canvas(list(comparison.rows), 3.1) as drawn:
        for axes, (title, cost_of, front) in zip(drawn.figure.subplots(1, 2, sharey=True), panels, strict=True):
            _pareto_panel(drawn, axes, done, title, cost_of, front)
            axes.set_xlabel(f"{title}, log scale" if axes.get_xscale() == "log" else title)
            axes.tick_params(labelleft=True)
        drawn.figure.axes[0].set_ylabel("test R-1 (F1, 0-100)")
        drawn.legend(drawn.figure.axes[0])
        return drawn.finish()


def cost_figure(comparison: Comparison) -> Drawing | None:
    """Bars of what training took, a panel for each cost that was measured; None where nothing was trained."""
    tuned = {label: row for label, row in rows.done(comparison).items() if rows.trained(row)}
    panels = [panel for panel in _COSTS if any(panel[2](row) for row in tuned.values())]
    if not panels:
        return None
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    with canvas(list(comparison.rows), lines * (0.75 + 0.2 * len(tuned))) as drawn:
        grid = list(drawn.figure.subplots(lines, columns, squeeze=False).flat)
        for number, (axes, panel) in enumerate(zip_longest(grid, panels)):
            if panel is None:
                axes.set_visible(False)
                continue
            title, unit, cost_of = panel
            title = f"{title} ({unit})" if unit else title
            _bar_panel(drawn, axes, {label: cost_of(row) for label, row in tuned.items()}, title, number % columns == 0)
            axes.set_title(title, loc="left", fontsize=8)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_major_locator(MaxNLocator(4))
        return drawn.finish()


def spending_figure(spendings: Sequence[Curves], labels: list[str]) -> Drawing | None:
    """Validation loss against what training had spent, a panel for each kind that was measured, a line for each run."""
    shown = [spending for spending in spendings if spending.lines]
    if not shown:
        return None
    columns = min(len(shown), 2)
    with canvas(labels, 2.4 * -(-len(shown) // columns) + 0.4) as drawn:
        grid = list(drawn.figure.subplots(-(-len(shown) // columns), columns, squeeze=False, sharey=True).flat)
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        for axes, spending in zip(grid, shown, strict=False):
            named: set[str] = set()
            for line in spending.lines:
                points = tuple(zip(line.spent, line.losses, strict=True))
                _line(drawn, axes, points, line.label, markers=30, named=line.label not in named)
                named.add(line.label)
                text = f", seed {line.seed}: validation loss {{}} nats per target token, {spending.title} {{}}"
                drawn.numbers(axes, line.label, text, [(x, y, (formats.loss(y), formats.si(x))) for x, y in points])
            for label in spending.absent:
                axes.plot([], [], color=drawn.look(label).colour, label=short_name(label) + UNMEASURED)
            axes.set_xlabel(spending.title)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.tick_params(labelleft=True)
        for axes in grid[::columns]:
            axes.set_ylabel("validation loss")
        drawn.legend(grid[0])
        return drawn.finish()


def scaling_figure(comparison: Comparison) -> Drawing | None:
    """Test R-1 and test loss with their intervals against the number of training documents.

    None where that number did not vary.
    """
    if not comparison.scaling:
        return None
    sizes = [point.train_documents for point in comparison.scaling]
    panels: tuple[tuple[str, int, Callable[[RowSummary], Estimate | RowLoss | None]], ...] = (
        ("test R-1 (F1, 0-100)", 2, lambda row: row.rouge1),
        ("test loss (nats per target token)", 4, lambda row: row.loss),
    )
    with canvas(list(comparison.rows), 2.9) as drawn:
        for axes, (title, digits, of) in zip(drawn.figure.subplots(1, 2), panels, strict=True):
            for label in dict.fromkeys(label for point in comparison.scaling for label in point.rows):
                _scaling_line(drawn, axes, comparison, label, title, digits, of)
            axes.set_xscale("log")
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("training documents, log scale")
            axes.set_ylabel(title)
        drawn.legend(drawn.figure.axes[0])
        return drawn.finish()


def intervals_figure(comparison: Comparison) -> Drawing:
    """Every ROUGE of every row with its interval, a panel for each score."""
    done = rows.done(comparison)
    with canvas(list(comparison.rows), 0.75 + 0.24 * len(done)) as drawn:
        panels = zip(drawn.figure.subplots(1, 4), rows.ROUGE.items(), strict=True)
        for number, (axes, (metric, title)) in enumerate(panels):
            for place, (label, row) in enumerate(done.items()):
                if (estimate := getattr(row, metric)) is not None:
                    low, high = estimate.low, estimate.high
                    _whisker(drawn, axes, place, label, estimate.mean, low, high)
                    numbers = (formats.rouge_score(estimate.mean), _range(low, high))
                    drawn.numbers(axes, label, f": {title} {{}}{{}}", [(estimate.mean, place, numbers)])
            _named_places(axes, [short_name(label) for label in done], number == 0)
            axes.set_title(title, loc="left", fontsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(3))
        return drawn.finish()


def differences_figure(comparison: Comparison) -> Drawing:
    """Differences in R-1 between rows, with their intervals, against the line of no difference."""
    tests = [test for test in comparison.tests if test.metric == "rouge1"]
    names = [f"{test.a} − {test.b}" for test in tests]
    with canvas(names, 0.75 + 0.22 * len(tests)) as drawn:
        axes = drawn.figure.subplots()
        axes.axvline(0, color="black", linewidth=0.8)
        for place, (test, name) in enumerate(zip(tests, names, strict=True)):
            _whisker(drawn, axes, place, names[0], test.difference, test.low, test.high)
            numbers = (formats.signed(test.difference), _range(test.low, test.high))
            drawn.numbers(axes, name, ": R-1 {}{}", [(test.difference, place, numbers)])
        _named_places(axes, [f"{short_name(test.a)} − {short_name(test.b)}" for test in tests], True)
        axes.set_xlabel("difference in R-1 (points of F1)")
        return drawn.finish()


def _line(
    drawn: Canvas, axes: Axes, points: tuple[tuple[float, float], ...], label: str, markers: int, named: bool = True
) -> None:
    if not points:
        return
    look = drawn.look(label)
    made = axes.plot(
        *zip(*points, strict=True),
        label=short_name(label) if named else None,
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markevery=max(1, len(points) // markers),
        markersize=4,
    )
    drawn.own(label, made)


def _pareto_panel(
    drawn: Canvas,
    axes: Axes,
    done: dict[str, RowSummary],
    title: str,
    cost_of: Callable[[RowSummary], float | None],
    front: list[str],
) -> None:
    costs = {label: cost for label, row in done.items() if rows.trained(row) and (cost := cost_of(row))}
    _cost_axis(axes, list(costs.values()))
    on_front = []
    for label, row in done.items():
        look, estimate = drawn.look(label), row.rouge1
        if estimate is None:
            continue
        score = formats.rouge_score(estimate.mean)
        if not rows.trained(row):
            line = axes.axhline(
                estimate.mean, color=look.colour, linestyle=look.line, linewidth=1, label=short_name(label)
            )
            drawn.own(label, [line])
            points = [(0.02, estimate.mean, (score, _range(estimate.low, estimate.high)))]
            drawn.numbers(axes.get_yaxis_transform(), label, ": R-1 {}{}, no training", points)
            continue
        if label not in costs:
            name = short_name(label) + UNMEASURED
            axes.plot([], [], color=look.colour, marker=look.marker, linestyle="none", label=name)
            continue
        made = axes.errorbar(
            [costs[label]],
            [estimate.mean],
            yerr=_ends(estimate.mean, estimate.low, estimate.high),
            label=short_name(label),
            color=look.colour,
            marker=look.marker,
            linestyle="none",
            capsize=2.5,
            markersize=6,
            markeredgewidth=1.2,
            markerfacecolor=look.colour if label in front else "white",
        )
        drawn.own(label, made.get_children())
        numbers = (score, _range(estimate.low, estimate.high), formats.si(costs[label]))
        text = f": R-1 {{}}{{}}, {title} {{}}"
        drawn.numbers(axes, label, text, [(costs[label], estimate.mean, numbers)])
        if label in front:
            on_front.append((costs[label], estimate.mean))
    if len(on_front) > 1:
        axes.plot(*zip(*sorted(on_front), strict=True), color="#808080", linewidth=0.8, zorder=0)


def _cost_axis(axes: Axes, costs: list[float]) -> None:
    if costs and max(costs) > _LOG_FROM * min(costs):
        axes.set_xscale("log")
        axes.set_xlim(min(costs) / 2, max(costs) * 2)
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif costs:
        axes.set_xlim(0, max(costs) * 1.1)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _scaling_line(
    drawn: Canvas,
    axes: Axes,
    comparison: Comparison,
    label: str,
    title: str,
    digits: int,
    of: Callable[[RowSummary], Estimate | RowLoss | None],
) -> None:
    points, numbers = [], []
    for point in comparison.scaling:
        estimate = of(point.rows[label]) if label in point.rows else None
        if estimate is None or estimate.mean is None:
            continue
        size, mean, low, high = point.train_documents, estimate.mean, estimate.low, estimate.high
        points.append((size, mean))
        numbers.append((size, mean, (f"{size:,}", f"{mean:.{digits}f}", _range(low, high, digits))))
        if low is not None and high is not None:
            drawn.own(label, axes.plot([size] * 2, [low, high], color=drawn.look(label).colour, linewidth=0.8))
    _line(drawn, axes, tuple(points), label, markers=30)
    drawn.numbers(axes, label, f" on {{}} documents: {title} {{}}{{}}", numbers)


def _whisker(
    drawn: Canvas, axes: Axes, place: int, label: str, mean: float, low: float | None, high: float | None
) -> None:
    look = drawn.look(label)
    axes.errorbar(
        [mean],
        [place],
        xerr=_ends(mean, low, high),
        color=look.colour,
        marker=look.marker,
        linestyle="none",
        capsize=2.5,
        markersize=5,
    )


def _ends(mean: float, low: float | None, high: float | None) -> list[list[float]] | None:
    """An interval as Matplotlib takes it: how far its ends are from the mean."""
    return None if low is None or high is None else [[mean - low], [high - mean]]


def _range(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval in words; empty where there is none."""
    return "" if low is None or high is None else f", interval {low:.{digits}f} to {high:.{digits}f}"


def _named_places(axes: Axes, names: list[str], named: bool) -> None:
    axes.set_yticks(range(len(names)), names if named else [""] * len(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(False, axis="y")


def _bar_panel(drawn: Canvas, axes: Axes, values: dict[str, float | None], title: str, named: bool) -> None:
    for place, (label, value) in enumerate(values.items()):
        look = drawn.look(label)
        text = formats.NOT_MEASURED if value is None else formats.si(value)
        if value is not None:
            axes.barh([place], [value], color=look.colour, hatch=look.hatch, edgecolor="white", height=0.7)
            axes.barh([place], [value], fill=False, edgecolor="black", linewidth=0.6, height=0.7)
        axes.annotate(
            text,
            (value or 0, place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            style="italic" if value is None else "normal",
        )
        drawn.numbers(axes, label, f": {title} {{}}", [(value or 0, place, (text,))])
    axes.set_yticks(range(len(values)), [short_name(label) for label in values] if named else [""] * len(values))
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.set_xlim(0, max((value for value in values.values() if value), default=1) * 1.3)

"""The figures of the report, in print and on the web page; the same data give the same bytes."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise, zip_longest

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from triptych.analysis.curves import AXES, Curves, LossCurves, loss_curves, validation_curves
from triptych.analysis.verdict import decision_of, pareto_front, ranking
from triptych.reporting import rows
from triptych.reporting.drawing import UNMEASURED, Canvas, Drawing, canvas, short_name
from triptych.results.reading import Results
from triptych.results.records import Comparison, Estimate, PairedTest, RowLoss, RowSummary
from triptych.text import formats
from triptych.text.measures import HEADINGS, ROUGE, digits_of, short_name_of

_LOG_FROM = 8  # maximum ratio of costs on a linear axis; wider ranges get a logarithmic one
_TALLEST = 8.5  # inches: a figure and its caption fit on a page
_WIDEST = 3  # an interval is shown up to this multiple of the largest difference
_MOST_PAIRS = 21  # maximum in a figure of differences; if there are more, only the most telling are shown
_DECISIONS = {"different": ("#0072B2", True), "equivalent": ("#009E73", True), "undecided": ("#808080", False)}
_COSTS: tuple[tuple[str, str, Callable[[RowSummary], float | None]], ...] = (
    ("Training time", "s", lambda row: rows.cost(row, "train_seconds")),
    ("Trainable parameters", "", lambda row: rows.value(row, "parameters.num_trainable_parameters")),
    ("Training compute", "FLOP", lambda row: rows.cost(row, "train_flops")),
    ("Peak memory", "B", lambda row: rows.cost(row, "peak_memory_bytes")),
    ("Energy", "J", lambda row: rows.cost(row, "energy_joules")),
)


def figures(results: Results, comparison: Comparison) -> dict[str, Drawing]:
    """Every figure of a report by name; a figure that would be empty is left out.

    Args:
        results: the runs.
        comparison: the comparison of the same runs.
    """
    if rows.of_files(comparison):
        found = {"intervals": intervals_figure(comparison), "differences": differences_figure(comparison, ("rouge1",))}
    else:
        labels = list(comparison.rows)
        spendings = [validation_curves(results, axis) for axis in AXES if axis != "step"]  # the loss curves use steps
        found = {
            "search": search_figure(results, labels),
            "curves": curves_figure(loss_curves(results), labels),
            "differences": differences_figure(comparison, ("rouge1", "loss")),
            "pareto": pareto_figure(comparison),
            "cost": cost_figure(comparison),
            "length": length_figure(comparison),
            "spending": spending_figure(spendings, labels),
            "scaling": scaling_figure(comparison),
        }
    return {name: drawing for name, drawing in found.items() if drawing is not None}


def search_figure(results: Results, labels: list[str]) -> Drawing | None:
    """Validation loss of each trial against its learning rate, the chosen one ringed; None without a search."""
    searches = {
        label: found
        for label in labels
        if (found := next((run.record.search for run in results.of(label) if run.record.search), None))
        and any(trial.validation_loss is not None for trial in found.trials)
    }
    if not searches:
        return None
    with canvas(labels, 2.2 + _legend_height(len(searches))) as drawn:
        axes = drawn.figure.subplots()
        for label, search in searches.items():
            trials = [(trial.learning_rate, trial.validation_loss) for trial in search.trials]
            points = tuple((rate, loss) for rate, loss in sorted(trials) if loss is not None)
            _line(drawn, axes, points, label, markers=30)
            numbers = [(x, y, (formats.loss(y), f"{x:g}")) for x, y in points]
            drawn.numbers(axes, label, ": validation loss {} at a learning rate of {}", numbers)
            if ring := [point for point in points if point[0] == search.chosen]:
                made = axes.plot(
                    *zip(*ring, strict=True),
                    color=drawn.look(label).color,
                    marker="o",
                    markersize=10,
                    markerfacecolor="none",
                    linestyle="none",
                )
                drawn.own(label, made)
        axes.set_xscale("log")
        ticks = _apart({trial.learning_rate for search in searches.values() for trial in search.trials})
        axes.set_xticks(ticks, [f"{rate:g}" for rate in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("learning rate, log scale")
        axes.set_ylabel("validation loss (nats)")
        drawn.legend(axes)
        return drawn.finish()


def _legend_height(entries: int) -> float:
    """The height in inches that a legend needs beyond its first two lines of four entries."""
    return 0.16 * max(0, -(-entries // 4) - 2)


def _apart(rates: Iterable[float], ratio: float = 1.7) -> list[float]:
    """The learning rates whose labels fit next to each other on a log axis."""
    found: list[float] = []
    for rate in sorted(rates):
        if not found or rate >= ratio * found[-1]:
            found.append(rate)
    return found


def curves_figure(curves: dict[str, LossCurves], labels: list[str]) -> Drawing | None:
    """Training and validation loss against steps, one panel per method; None if nothing was trained."""
    shown = [label for label in labels if label in curves]
    if not shown:
        return None
    columns = min(len(shown), 4)
    lines = -(-len(shown) // columns)
    with canvas(labels, min(1.9 * lines, _TALLEST)) as drawn:
        grid = list(drawn.figure.subplots(lines, columns, squeeze=False, sharey=True, sharex=True).flat)
        for axes, label in zip_longest(grid, shown):
            if label is None:
                axes.set_visible(False)
                continue
            _curve_panel(drawn, axes, label, curves[label])
        for number, axes in enumerate(grid[: len(shown)]):
            axes.tick_params(labelbottom=True)
            if number + columns >= len(shown):
                axes.set_xlabel("optimizer step")
        for axes in grid[::columns]:
            axes.set_ylabel("loss (nats per target token)")
        return drawn.finish()


def _curve_panel(drawn: Canvas, axes: Axes, label: str, curves: LossCurves) -> None:
    """One method's training and validation losses, with the gap between them shaded."""
    color = drawn.look(label).color
    if curves.train:
        drawn.own(label, axes.plot(*zip(*curves.train, strict=True), color=color, linewidth=0.7, alpha=0.6))
    _line(drawn, axes, curves.validation, label, markers=30)
    gap = _gap(curves)
    if gap:
        steps, low, high = zip(*gap, strict=True)
        drawn.own(label, [axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)])
    for points, what in ((curves.train, "training loss"), (curves.validation, "validation loss")):
        numbers = [(x, y, (formats.loss(y), formats.count(x))) for x, y in points]
        drawn.numbers(axes, label, f": {what} {{}} nats per target token at step {{}}", numbers)
    axes.set_title(short_name(label), loc="left", fontsize=8)


def _gap(curves: LossCurves) -> list[tuple[float, float, float]]:
    """At each validation after the first, the mean training loss since the previous one, and the validation loss."""
    found = []
    for (begin, _), (end, validation) in pairwise(curves.validation):
        between = [loss for step, loss in curves.train if begin < step <= end]
        if between:
            found.append((end, sum(between) / len(between), validation))
    return found


def pareto_figure(comparison: Comparison) -> Drawing | None:
    """Test R-1 with its interval against training time and trainable parameters; None if nothing was trained.

    Untrained methods are horizontal lines; those far from all trained methods are drawn beyond an axis break.
    """
    done = {label: row for label, row in rows.done(comparison).items() if row.rouge1 is not None}
    trained = {label: row for label, row in done.items() if row.trained}
    if not trained:
        return None
    (_, _, seconds), (_, _, trainable) = _COSTS[:2]
    panels = (("training time (s)", seconds), ("trainable parameters", trainable))
    low, high = _score_range(trained)
    levels = {label: row for label, row in done.items() if label not in trained}
    above = {label: row for label, row in levels.items() if _mean(row) > high}
    below = {label: row for label, row in levels.items() if _mean(row) < low}
    near = {label: row for label, row in levels.items() if label not in above and label not in below}
    strips = [(above, 1), (trained | near, 7), (below, 1)]
    shown = [(part, size) for part, size in strips if part]
    with canvas(list(comparison.rows), 3.0 + _legend_height(len(done))) as drawn:
        grid = drawn.figure.subplots(len(shown), 2, squeeze=False, height_ratios=[size for _, size in shown])
        for column, (title, cost_of) in enumerate(panels):
            costs = {label: cost for label, row in trained.items() if (cost := cost_of(row))}
            front = pareto_front({label: (_mean(trained[label]), cost) for label, cost in costs.items()})
            for line, (part, size) in enumerate(shown):
                axes = grid[line][column]
                _cost_axis(axes, list(costs.values()))
                _pareto_panel(drawn, axes, part, title, costs, front)
                if size == 1:
                    _strip(axes, [_mean(row) for row in part.values()])
                else:
                    axes.set_ylim(low, high)
                _break(axes, above=line > 0, below=line + 1 < len(shown))
            axes = grid[-1][column]
            axes.set_xlabel(f"{title}, log scale" if axes.get_xscale() == "log" else title)
        main = next(line for line, (_, size) in enumerate(shown) if size > 1)
        grid[main][0].set_ylabel("test R-1 (F1, 0-100)")
        drawn.legend_of([axes for line in grid for axes in line[:1]])
        drawn.pending.sort(key=lambda noted: noted[0])  # read method by method, whatever part of the axis each is in
        return drawn.finish()


def _mean(row: RowSummary) -> float:
    assert row.rouge1 is not None
    return row.rouge1.mean


def _score_range(trained: dict[str, RowSummary]) -> tuple[float, float]:
    """The score range of trained methods: covers their intervals unless these are much wider than the means' spread."""
    means = [_mean(row) for row in trained.values()]
    spread = max(max(means) - min(means), 1.0)
    lows = [row.rouge1.low for row in trained.values() if row.rouge1 is not None and row.rouge1.low is not None]
    highs = [row.rouge1.high for row in trained.values() if row.rouge1 is not None and row.rouge1.high is not None]
    low = max(min([*lows, *means]), min(means) - spread)
    high = min(max([*highs, *means]), max(means) + spread)
    return low - 0.1 * spread, high + 0.1 * spread


def _strip(axes: Axes, scores: list[float]) -> None:
    """Set up a narrow part of a broken axis around a few scores."""
    middle, half = (min(scores) + max(scores)) / 2, max((max(scores) - min(scores)) * 0.8, 1.0)
    axes.set_ylim(middle - half, middle + half)
    axes.set_yticks([round(middle)])


def _break(axes: Axes, above: bool, below: bool) -> None:
    """Mark that the vertical axis continues elsewhere."""
    for place, there in ((1, above), (0, below)):
        if there:
            axes.plot(
                [0],
                [place],
                transform=axes.transAxes,
                marker=[(-1, -0.6), (1, 0.6)],
                markersize=7,
                linestyle="none",
                color="#808080",
                clip_on=False,
            )
    if below:
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(bottom=False, which="both", labelbottom=False)


def cost_figure(comparison: Comparison) -> Drawing | None:
    """The cost of training, one panel with a log axis per measured cost; None if nothing was trained."""
    tuned = {label: row for label, row in rows.done(comparison).items() if row.trained}
    panels = [panel for panel in _COSTS if any(panel[2](row) for row in tuned.values())]
    if not panels:
        return None
    columns = 2 if len(panels) in (2, 4) else min(len(panels), 3)
    lines = -(-len(panels) // columns)
    with canvas(list(comparison.rows), min(lines * (0.6 + 0.16 * len(tuned)), _TALLEST)) as drawn:
        grid = list(drawn.figure.subplots(lines, columns, squeeze=False).flat)
        for number, (axes, panel) in enumerate(zip_longest(grid, panels)):
            if panel is None:
                axes.set_visible(False)
                continue
            title, unit, cost_of = panel
            title = f"{title} ({unit})" if unit else title
            _cost_panel(drawn, axes, {label: cost_of(row) for label, row in tuned.items()}, title)
            _named_places(axes, [short_name(label) for label in tuned], number % columns == 0)
            axes.set_title(title, loc="left", fontsize=8)
        return drawn.finish()


def length_figure(comparison: Comparison) -> Drawing | None:
    """Test R-1 against the mean number of words per summary; None if fewer than two methods have both."""
    points = {
        label: (row.text_shape, row.rouge1)
        for label, row in rows.done(comparison).items()
        if row.text_shape is not None and row.rouge1 is not None
    }
    if len(points) < 2 or not any(comparison.rows[label].trained for label in points):
        return None
    with canvas(list(comparison.rows), 2.3 + _legend_height(len(points))) as drawn:
        axes = drawn.figure.subplots()
        reference = next(iter(points.values()))[0].reference_words
        axes.axvline(reference, color="#808080", linestyle="--", linewidth=0.8, zorder=0)
        for label, (shape, score) in points.items():
            _point(drawn, axes, label, shape.prediction_words, score)
            numbers = (formats.rouge_score(score.mean), formats.word_count(shape.prediction_words))
            drawn.numbers(axes, label, ": R-1 {}, {} words", [(shape.prediction_words, score.mean, numbers)])
        axes.set_xlabel("mean words per summary")
        axes.set_ylabel("test R-1 (F1, 0-100)")
        drawn.legend(axes)
        return drawn.finish()


def spending_figure(spendings: Sequence[Curves], labels: list[str]) -> Drawing | None:
    """Validation loss against the cost spent so far, one panel per measured kind of cost, one line per run."""
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
                axes.plot([], [], color=drawn.look(label).color, label=short_name(label) + UNMEASURED)
            axes.set_xlabel(spending.title)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.tick_params(labelleft=True)
        for axes in grid[::columns]:
            axes.set_ylabel("validation loss")
        drawn.legend(grid[0])
        return drawn.finish()


def scaling_figure(comparison: Comparison) -> Drawing | None:
    """Test R-1 and test loss with their intervals against the number of training documents.

    None if that number did not vary.
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
    """Every ROUGE score of every method with its interval, one panel per score."""
    done = rows.done(comparison)
    with canvas(list(comparison.rows), min(0.75 + 0.24 * len(done), _TALLEST)) as drawn:
        panels = zip(drawn.figure.subplots(1, 4), ROUGE.items(), strict=True)
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


def differences_figure(comparison: Comparison, measures: Sequence[str]) -> Drawing | None:
    """Differences between methods with their intervals and the margin, one panel per measure; None without tests."""
    tests = _shown_tests(comparison, measures)
    pairs = list(dict.fromkeys((test.a, test.b) for test in tests))
    if not pairs:
        return None
    shown = [measure for measure in measures if any(test.metric == measure for test in tests)]
    names = [f"{a} − {b}" for a, b in pairs]
    with canvas(names, min(0.7 + 0.17 * len(pairs), _TALLEST)) as drawn:
        for number, (measure, axes) in enumerate(
            zip(shown, drawn.figure.subplots(1, len(shown), squeeze=False).flat, strict=True)
        ):
            _difference_panel(drawn, axes, [test for test in tests if test.metric == measure], pairs)
            _named_places(axes, [f"{short_name(a)} − {short_name(b)}" for a, b in pairs], number == 0)
            unit = "nats" if measure == "loss" else "points of F1"
            axes.set_xlabel(f"difference in {short_name_of(measure)} ({unit})")
        return drawn.finish()


def _shown_tests(comparison: Comparison, measures: Sequence[str]) -> list[PairedTest]:
    """The tests on these measures.

    If there are too many pairs, only those of trained methods, and if these are too many, only those with the best
    method by the first measure.
    """
    tests = [test for test in comparison.tests if test.metric in measures]
    trained = {label for label, row in comparison.rows.items() if row.trained}

    def too_many() -> bool:
        return len({(test.a, test.b) for test in tests}) > _MOST_PAIRS

    if too_many():
        tests = [test for test in tests if {test.a, test.b} <= trained] or tests
    if too_many():
        best = next(label for label in ranking(comparison.rows, measures[0]) if label in trained or not trained)
        tests = [test for test in tests if best in (test.a, test.b)]
    return tests


def _difference_panel(drawn: Canvas, axes: Axes, tests: list[PairedTest], pairs: list[tuple[str, str]]) -> None:
    margin = next((test.margin for test in tests if test.margin is not None), None)
    if margin is not None:
        axes.axvspan(-margin, margin, color="#d9d9d9", linewidth=0)
    axes.axvline(0, color="black", linewidth=0.8)
    # An interval may be much wider than all differences; then it extends beyond the panel.
    largest = max(margin or 0, *(abs(test.difference) for test in tests))
    widest = max(max(abs(test.low or 0), abs(test.high or 0)) for test in tests)
    limit = 1.05 * max(largest, min(widest, _WIDEST * largest)) or 1.0
    axes.set_xlim(-limit, limit)
    digits = digits_of(tests[0].metric)
    for test in tests:
        place, name = pairs.index((test.a, test.b)), f"{test.a} − {test.b}"
        color, filled = _DECISIONS[decision_of(test)]
        made = axes.errorbar(
            [test.difference],
            [place],
            xerr=_ends(test.difference, test.low, test.high),
            color=color,
            marker="o",
            markerfacecolor=color if filled else "white",
            linestyle="none",
            capsize=2,
            markersize=4,
        )
        drawn.own(name, made.get_children())
        numbers = (formats.signed(test.difference, digits), _range(test.low, test.high, digits), decision_of(test))
        text = f": {HEADINGS[test.metric]} {{}}{{}}, {{}}"
        drawn.numbers(axes, name, text, [(test.difference, place, numbers)])


def _line(
    drawn: Canvas, axes: Axes, points: tuple[tuple[float, float], ...], label: str, markers: int, named: bool = True
) -> None:
    if not points:
        return
    look = drawn.look(label)
    made = axes.plot(
        *zip(*points, strict=True),
        label=short_name(label) if named else None,
        color=look.color,
        linestyle=look.line,
        marker=look.marker,
        markevery=max(1, len(points) // markers),
        markersize=4,
    )
    drawn.own(label, made)


def _pareto_panel(
    drawn: Canvas,
    axes: Axes,
    part: dict[str, RowSummary],
    title: str,
    costs: dict[str, float],
    front: list[str],
) -> None:
    """Draw the methods of one part of the axis: untrained ones as horizontal lines, others as points with intervals."""
    for label, row in part.items():
        look, estimate = drawn.look(label), row.rouge1
        assert estimate is not None
        score = formats.rouge_score(estimate.mean)
        if not row.trained:
            line = axes.axhline(
                estimate.mean, color=look.color, linestyle=look.line, linewidth=1, label=short_name(label)
            )
            drawn.own(label, [line])
            points = [(0.02, estimate.mean, (score, _range(estimate.low, estimate.high)))]
            drawn.numbers(axes.get_yaxis_transform(), label, ": R-1 {}{}, no training", points)
            continue
        if label not in costs:
            name = short_name(label) + UNMEASURED
            axes.plot([], [], color=look.color, marker=look.marker, linestyle="none", label=name)
            continue
        _point(drawn, axes, label, costs[label], estimate, filled=label in front)
        numbers = (score, _range(estimate.low, estimate.high), formats.si(costs[label]))
        drawn.numbers(axes, label, f": R-1 {{}}{{}}, {title} {{}}", [(costs[label], estimate.mean, numbers)])
    there = sorted((costs[label], _mean(part[label])) for label in front if label in part)
    if len(there) > 1:
        axes.plot(*zip(*there, strict=True), color="#808080", linewidth=0.8, zorder=0)


def _point(drawn: Canvas, axes: Axes, label: str, x: float, score: Estimate, filled: bool = True) -> None:
    """Draw a method's mean score with its interval at `x`."""
    look = drawn.look(label)
    made = axes.errorbar(
        [x],
        [score.mean],
        yerr=_ends(score.mean, score.low, score.high),
        label=short_name(label),
        color=look.color,
        marker=look.marker,
        linestyle="none",
        capsize=2.5,
        markersize=6,
        markeredgewidth=1.2,
        markerfacecolor=look.color if filled else "white",
    )
    drawn.own(label, made.get_children())


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
            drawn.own(label, axes.plot([size] * 2, [low, high], color=drawn.look(label).color, linewidth=0.8))
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
        color=look.color,
        marker=look.marker,
        linestyle="none",
        capsize=2.5,
        markersize=5,
    )


def _ends(mean: float, low: float | None, high: float | None) -> list[list[float]] | None:
    """An interval in Matplotlib's format: the distances of its ends from the mean."""
    return None if low is None or high is None else [[mean - low], [high - mean]]


def _range(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval in words; empty if there is none."""
    return "" if low is None or high is None else f", interval {low:.{digits}f} to {high:.{digits}f}"


def _named_places(axes: Axes, names: list[str], named: bool) -> None:
    axes.set_yticks(range(len(names)), names if named else [""] * len(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(False, axis="y")


def _cost_panel(drawn: Canvas, axes: Axes, values: dict[str, float | None], title: str) -> None:
    """Draw one cost of each method on a log axis: a line from the axis to a marker, and the number."""
    known = [value for value in values.values() if value]
    least, most = min(known), max(known)
    span = max(most / least, 10.0)
    axes.set_xscale("log")
    axes.set_xlim(least / span**0.25, most * span**0.45)
    left = axes.get_xlim()[0]
    for place, (label, value) in enumerate(values.items()):
        look = drawn.look(label)
        text = formats.si(value) if value else formats.NOT_MEASURED
        if value:
            drawn.own(label, axes.plot([left, value], [place, place], color=look.color, linewidth=1.6))
            made = axes.plot([value], [place], color=look.color, marker=look.marker, markersize=5, linestyle="none")
            drawn.own(label, made)
        axes.annotate(
            text,
            (value or left, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            style="normal" if value else "italic",
        )
        drawn.numbers(axes, label, f": {title} {{}}", [(value or left, place, (text,))])
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if span > 100 else (1.0, 2.0, 5.0), numticks=5))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))

"""Tables of quality: losses, ROUGE, paired tests, further metrics, and how methods improve with more data."""

from collections.abc import Callable, Iterable

from triptych.analysis.verdict import decision_of
from triptych.reporting import rows
from triptych.reporting.tables.table import Cell, Column, ReportTable, by_row, estimate_cell, label_cell
from triptych.results.records import Comparison, PairedTest, RowSummary
from triptych.text import formats, measures


def quality_table(comparison: Comparison) -> ReportTable:
    """Test loss and ROUGE with their intervals, and how they vary over training seeds."""
    several = any(row.seed_sd for row in comparison.rows.values())
    body = []
    for label, row in comparison.rows.items():
        if row.failed:
            body.append((Cell(label), Cell(formats.FAILED), *[Cell(formats.DASH)] * (6 if several else 4)))
            continue
        loss = row.loss
        has_interval = loss.low is not None and loss.high is not None
        body.append(
            (
                label_cell(label, row),
                Cell(
                    formats.loss(loss.test),
                    formats.interval(loss.low, loss.high, 4) if has_interval else None,
                    loss.test,
                ),
                *[estimate_cell(getattr(row, metric)) for metric in measures.ROUGE],
                *([_spread(row, "loss", formats.loss), _spread(row, "rouge1", formats.rouge_score)] if several else []),
            )
        )
    spread = " Seed SD: standard deviation of the means per training seed." if several else ""
    return ReportTable(
        "quality",
        "Quality on the test split: loss in nats per target token (lower is better) and ROUGE as F1 in 0-100 (higher "
        f"is better), with 95% intervals below.{spread} {comparison.subset}".rstrip(),
        ("Method", "Test loss", *measures.ROUGE.values(), *(("Seed SD, loss", "Seed SD, R-1") if several else ())),
        tuple(body),
        widths=(0, 1.25, 1, 1, 1, 1, *((0.75, 0.75) if several else ())),
    )


def loss_table(comparison: Comparison) -> ReportTable:
    """Losses before and after training."""
    columns = [
        Column("Before training", lambda row: row.loss.initial, formats.loss, formats.DASH),
        Column("Validation", lambda row: row.loss.validation, formats.loss, formats.DASH),
        Column("Test", lambda row: row.loss.test, formats.loss, formats.DASH),
    ]
    return by_row(
        comparison,
        "losses",
        "Loss before training (validation split) and at the best epoch, in nats per target token, means over seeds.",
        columns,
    )


def tests_caption(comparison: Comparison, metrics: Iterable[str], secondary: bool = False) -> str:
    """What a table of paired tests shows, what its intervals are, and which differences it could have detected."""
    metrics = tuple(metrics)
    names = formats.listed([measures.short_name_of(metric) for metric in metrics])
    one_seed = any(test.inference == "trained models" for test in comparison.tests)
    of_models = ""
    if one_seed and rows.of_files(comparison):
        of_models = " Where a system has one set of predictions, p is about these outputs, not about other ones of it."
    elif one_seed:
        of_models = " Where a method has one seed, p is about the trained models, not about training with another seed."
    inference = comparison.inference
    seen = [
        measures.difference_of(size, metric)
        for metric in metrics
        if inference is not None and (size := inference.detectable.get(metric)) is not None
    ]
    which, note = rows.methods_in_words(comparison), rows.power_note(comparison)
    sizes = formats.listed(seen)
    power = f" Minimum detectable difference between any two {which} ({note}): {sizes}." if seen else ""
    return (
        f"{'Secondary measures. ' if secondary else ''}Paired tests on {names} over the same documents: mean "
        "difference, interval and p; interval and p are corrected over the pairs of one measure, so that they agree "
        "with the decision (different: the interval excludes zero; equivalent: shown to be within the "
        f"margin).{of_models}{power}"
    )


def tests_table(comparison: Comparison, metrics: Iterable[str], name: str, caption: str) -> ReportTable:
    """The paired tests of some metrics."""
    metrics = tuple(metrics)
    several = len(metrics) > 1
    body = [_test_row(test, several) for test in comparison.tests if test.metric in metrics]
    head = (
        "Method a",
        "Method b",
        *(("Score",) if several else ()),
        "a − b",
        "Interval",
        "p",
        "p adjusted",
        "Decision",
    )
    words = (0, 1, 2, len(head) - 1) if several else (0, 1, len(head) - 1)
    return ReportTable(
        name, caption, head, tuple(body), words, (1.2, 1.2, *((0.7,) if several else ()), 0.7, 1.2, 0.7, 0.8, 1.1)
    )


def scaling_table(comparison: Comparison) -> ReportTable | None:
    """How each method improves with more documents; None if the suite did not vary their number."""
    body = []
    labels = dict.fromkeys(label for point in comparison.scaling for label in point.rows)
    for label in labels:
        for point in comparison.scaling:
            row = point.rows.get(label)
            if row is None:
                continue
            size = point.train_documents
            gain = next((test for test in point.gains if test.a == f"{label}@{size}" and test.metric == "rouge1"), None)
            body.append(
                (
                    label_cell(label, row),
                    Cell(formats.count(size), None, size),
                    Cell(formats.loss(row.loss.test), None, row.loss.test),
                    estimate_cell(row.rouge1),
                    Cell(formats.DASH)
                    if gain is None
                    else Cell(formats.signed(gain.difference), formats.interval(gain.low, gain.high), gain.difference),
                    Cell(formats.DASH if gain is None else formats.p_value(gain.p_value_adjusted)),
                    Cell(formats.seconds(rows.cost(row, "train_seconds"))),
                )
            )
    if not body:
        return None
    return ReportTable(
        "scaling",
        "How each method improves with more data. The training samples are seeded and nested; the number of epochs is "
        "the same, and each size has its own search. The gain in R-1 is over the row above, on the same test "
        f"documents; p is corrected by Holm's method over all gains. {comparison.subset}".rstrip(),
        ("Method", "Documents", "Test loss", "R-1", "Gain", "p adjusted", "Training time"),
        tuple(body),
    )


def further_scores_table(comparison: Comparison) -> ReportTable | None:
    """The scores of further metrics, not from this package; None if there are none."""

    def of(name: str) -> Callable[[RowSummary], float | None]:
        return lambda row: row.further_scores.get(name)

    columns = [Column(name, of(name), formats.exact, formats.DASH) for name in rows.further_names(comparison)]
    caption = "Further scores, as returned by their metrics; means over seeds."
    return by_row(comparison, "further", caption, columns) if columns else None


def _spread(row: RowSummary, measure: str, show: Callable[[float | None], str]) -> Cell:
    value = row.seed_sd.get(measure)
    return Cell(show(value), None, value)


def _test_row(test: PairedTest, several: bool) -> tuple[Cell, ...]:
    difference, interval, adjusted = rows.test_figures(test)
    return (
        Cell(test.a),
        Cell(test.b),
        *((Cell(measures.HEADINGS[test.metric]),) if several else ()),
        Cell(difference, None, test.difference),
        Cell(interval),
        Cell(formats.p_value(test.p_value), None, test.p_value),
        Cell(adjusted, None, test.p_value_adjusted),
        Cell(decision_of(test)),
    )

"""Parts shared by the terminal and the Markdown file: heading, cells, legend and flags of a comparison."""

from triptych.reporting import rows
from triptych.results.records import Comparison, RowSummary
from triptych.text import formats
from triptych.text.measures import difference_of, name_of, second_measure

LEGEND = (
    "Scores are shown with 95% confidence intervals. —: not applicable. “not measured”: the machine has no meter for "
    "it, or it could not be counted (the run's log.txt says why)."
)
FILES_LEGEND = (
    "Scores are shown with 95% confidence intervals. Words: the mean length of an output; length alone affects ROUGE."
)


def heading(comparison: Comparison) -> str:
    """What was compared, and on which data."""
    documents = formats.number_of(
        comparison.num_documents, "document" if rows.of_files(comparison) else "test document"
    )
    if rows.of_files(comparison):
        sets = sum(len(row.seeds) for row in comparison.rows.values())
        files = formats.number_of(len(comparison.rows), "system")
        more = f", {sets} sets of predictions" if sets > len(comparison.rows) else ""
        return f"{files}{more}: {documents}, scored against {comparison.data}"
    seeds = f"{'seed' if len(comparison.seeds) == 1 else 'seeds'} {', '.join(map(str, comparison.seeds))}"
    return f"{comparison.model} on {comparison.data}: {documents}, {seeds}"


def cost_cells(row: RowSummary) -> list[str]:
    """A method's training time, trainable and added parameters, executed FLOPs and peak memory, as text."""
    if row.failed:
        return [formats.FAILED] + [formats.DASH] * 4
    missing = formats.NOT_MEASURED if row.trained else formats.DASH
    return [
        formats.seconds(rows.cost(row, "train_seconds"), missing),
        formats.count(rows.value(row, "parameters.num_trainable_parameters")),
        formats.count(rows.value(row, "parameters.num_added_parameters")),
        formats.quantity(rows.cost(row, "train_flops"), "flops", missing),
        formats.quantity(rows.cost(row, "peak_memory_bytes"), "bytes", missing),
    ]


def further_cells(row: RowSummary, names: list[str]) -> list[str]:
    """A method's means for these further metrics, as text."""
    values = [row.further_scores.get(name) for name in names]
    return [formats.DASH if value is None else f"{value:.4g}" for value in values]


def length_cells(row: RowSummary) -> list[str]:
    """The length of a system's outputs, which affects ROUGE."""
    return [formats.word_count(rows.value(row, "text_shape.prediction_words"))]


def power_sentence(comparison: Comparison) -> str:
    """Which differences the table could have detected; empty without tests."""
    if comparison.inference is None:
        return ""
    primary, found = comparison.primary_measure, comparison.inference.detectable
    parts = [
        difference_of(size, measure, name_of(measure))
        for measure in (primary, second_measure(primary))
        if (size := found.get(measure)) is not None
    ]
    if not parts:
        return ""
    which, note = rows.methods_in_words(comparison), rows.power_note(comparison)
    return f"Minimum detectable difference between any two {which} ({note}): {' or '.join(parts)}."


def all_flags(comparison: Comparison) -> list[str]:
    """What readers must know about the comparison and its methods; a sentence shared by several is given once.

    The notice about synthetic models or data is not included: it is shown above the numbers.
    """
    labels_of: dict[str, list[str]] = {}
    for label, row in comparison.rows.items():
        for flag in dict.fromkeys(row.flags):
            labels_of.setdefault(flag, []).append(label)
    of_rows = [f"{', '.join(labels)}: {flag}" for flag, labels in labels_of.items()]
    flags = dict.fromkeys([*comparison.flags, *of_rows])
    flags.pop(rows.synthetic_notice(comparison), None)
    return list(flags)

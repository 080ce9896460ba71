"""Tables of what the summaries look like."""

from collections.abc import Callable

from triptych.reporting import rows
from triptych.reporting.tables.table import Column, ReportTable, by_row
from triptych.results.records import Comparison, RowSummary
from triptych.text import formats


def shape_table(comparison: Comparison) -> ReportTable:
    """What the summaries look like."""

    def of(name: str) -> Callable[[RowSummary], float | None]:
        return lambda row: rows.value(row, f"text_shape.{name}")

    return by_row(
        comparison,
        "shape",
        "What the summaries look like: mean words of summary and reference, share that ran into the "
        "limit of new tokens, share empty, share of word pairs not in the document, longest copied run of words, "
        "share of repeated word triples.",
        [
            Column("Words", of("prediction_words"), formats.word_count, formats.DASH),
            Column("Reference", of("reference_words"), formats.word_count, formats.DASH),
            Column("At limit", of("share_at_cap"), formats.share, formats.DASH),
            Column("Empty", of("share_empty"), formats.share, formats.DASH),
            Column("New pairs", of("novel_bigrams"), formats.share, formats.DASH),
            Column("Longest copy", of("longest_copied_words"), formats.word_count, formats.DASH),
            Column("Repeated", of("repeated_trigrams"), formats.share, formats.DASH),
        ],
    )

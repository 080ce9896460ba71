"""Tables of what the summaries look like."""

from collections.abc import Callable
from functools import partial

from triptych.reporting import rows
from triptych.reporting.tables.table import Cell, Column, ReportTable, by_row, label_cell
from triptych.results.records import ROUGE_PARTS, Comparison, Estimate, RowSummary
from triptych.text import formats

_CHECKS = {
    "wrong_numbers": "Wrong number",
    "wrong_names": "Wrong name",
    "new_words": "New words",
    "new_triples": "New triples",
    "coverage": "Coverage",
    "density": "Density",
    "lead_overlap": "Lead",
    "unfinished": "Unfinished",
    "relative_length": "Length",
}


def checks_table(comparison: Comparison) -> ReportTable | None:
    """What summaries contain that their articles do not, and how they end; None if they were not checked."""
    checks = comparison.checks
    if checks is None:
        return None
    names = [name for name in _CHECKS if name in checks.units]
    body = [(Cell("references"), *[Cell(_digits(name, checks.references[name])) for name in names])]
    for label, row in comparison.rows.items():
        if label in checks.rows:
            body.append((label_cell(label, row), *[_estimate(name, checks.rows[label][name]) for name in names]))
    of_article = (
        "share of summaries with a number or a name that is not in the article; shares of words and of word "
        "triples that are not in it; extractive coverage (share of words in fragments of the article) and density "
        "(mean length, in words, of the fragment that a word belongs to; Grusky et al., 2018); share of word pairs "
        "that are in its first three sentences; "
    )
    known = of_article if checks.documents_known else "the articles are not available, so only the "
    part = (
        f" Checked on {checks.num_documents:,} of the {comparison.num_documents:,} documents."
        if checks.num_documents < comparison.num_documents
        else ""
    )
    return ReportTable(
        "checks",
        f"What models get wrong, in percent{' except for density' if checks.documents_known else ''}: {known}share of "
        "summaries that end without final punctuation, and length as a percentage of the reference's. 95% intervals "
        f"are below the means.{part}",
        ("Method", *[_CHECKS[name] for name in names]),
        tuple(body),
    )


def _digits(name: str, value: float) -> str:
    return f"{value:.2f}" if name == "density" else f"{value:.1f}"


def _estimate(name: str, estimate: Estimate) -> Cell:
    low, high = estimate.low, estimate.high
    interval = None if low is None or high is None else f"[{_digits(name, low)}, {_digits(name, high)}]"
    return Cell(_digits(name, estimate.mean), interval, estimate.mean)


def shape_table(comparison: Comparison) -> ReportTable:
    """What the summaries look like: their length next to ROUGE-1 precision and recall, which length drives apart."""

    def of(name: str) -> Callable[[RowSummary], float | None]:
        return lambda row: rows.value(row, f"text_shape.{name}")

    parts, rouge = [], ""
    if any(row.rouge_recall for row in comparison.rows.values()):
        rouge = "ROUGE-1 precision (lowered by long summaries) and recall (lowered by short ones), "
        parts = [
            Column(f"R-1 {part}", partial(rows.value, path=f"rouge_{part}.rouge1"), formats.rouge_score, formats.DASH)
            for part in ROUGE_PARTS
        ]
    return by_row(
        comparison,
        "shape",
        f"What the summaries look like: mean number of words in summary and reference, {rouge}share that reached the "
        "limit of new tokens, share empty, share of word pairs not in the document, longest copied run of words, "
        "share of repeated word triples.",
        [
            Column("Words", of("prediction_words"), formats.word_count, formats.DASH),
            Column("Reference", of("reference_words"), formats.word_count, formats.DASH),
            *parts,
            Column("At limit", of("share_at_cap"), formats.share, formats.DASH),
            Column("Empty", of("share_empty"), formats.share, formats.DASH),
            Column("New pairs", of("novel_bigrams"), formats.share, formats.DASH),
            Column("Longest copy", of("longest_copied_words"), formats.word_count, formats.DASH),
            Column("Repeated", of("repeated_trigrams"), formats.share, formats.DASH),
        ],
    )

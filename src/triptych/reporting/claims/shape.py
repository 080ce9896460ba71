"""Sentences about what the summaries look like: length, copying, truncation."""

from triptych.reporting.claims.selection import cell, having, highest, listed_cells, with_rouge
from triptych.results.records import Comparison
from triptych.text import formats


def length(comparison: Comparison) -> str | None:
    """How long summaries and references are."""
    among = having(comparison, "text_shape", with_rouge(comparison))
    if not among:
        return None
    return (
        f"References have {cell(comparison, among[0], 'text_shape.reference_words')} words on average; summaries have: "
        f"{listed_cells(comparison, among, 'text_shape.prediction_words')}. "
        "Length alone affects ROUGE, so part of a difference in score between systems of different length is due to it."
    )


def copying(comparison: Comparison) -> str | None:
    """Which methods have the most new word pairs, and which repeat themselves the most."""
    among = having(comparison, "text_shape.novel_bigrams", with_rouge(comparison))
    if len(among) < 2:
        return None
    parts = []
    for path, most in (
        ("text_shape.novel_bigrams", "the largest share of word pairs that are not in the document"),
        ("text_shape.repeated_trigrams", "the largest share of repeated word triples"),
    ):
        labels = highest(comparison, path, among)
        parts.append(
            f"{formats.listed(labels)} {formats.verb(labels, 'has', 'have')} {most} "
            f"({cell(comparison, labels[0], path)})"
        )
    return f"Of all systems, {'; '.join(parts)}."

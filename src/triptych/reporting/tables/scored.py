"""Tables of a report on files from other tools, without loss, cost or training."""

from collections.abc import Callable, Iterable
from typing import Any

from triptych.reporting import rows
from triptych.reporting.tables.table import Cell, Column, ReportTable, by_row, estimate_cell
from triptych.results.reading import Results, SavedRun
from triptych.results.records import Comparison, Estimate, RowSummary, TextShape
from triptych.text import formats, measures

_DIGEST = 12  # characters of a digest shown in a table


def scored_tables(results: Results, comparison: Comparison) -> list[ReportTable]:
    """The tables between front page and record, without the paired tests."""
    made = [scored_files_table(results), scored_quality_table(comparison), scored_shape_table(comparison)]
    return [*made, *([sets_table(results, comparison)] if len(results.runs) > len(comparison.rows) else [])]


def scored_files_table(results: Results) -> ReportTable:
    """Which file is which system, and where the references come from."""
    assert results.files is not None
    scored = results.files
    counts = {name: sum(file.name == name for file in scored.systems) for name in results.labels}
    body = [
        (
            Cell(file.name, f"set {file.seed}" if counts[file.name] > 1 else None),
            Cell(file.file),
            Cell(file.sha256[:_DIGEST]),
        )
        for file in scored.systems
    ]
    if scored.references is not None:
        body.append((Cell("(references)"), Cell(scored.references.file), Cell(scored.references.sha256[:_DIGEST])))
    return ReportTable(
        "files",
        "The scored files and the first characters of their SHA-256.",
        ("System", "File", "SHA-256"),
        tuple(body),
        (0, 1, 2),
        (0, 3, 1),
    )


def scored_quality_table(comparison: Comparison) -> ReportTable:
    """The ROUGE scores of every system with their intervals."""
    body = [
        (Cell(label), *[estimate_cell(getattr(row, metric)) for metric in measures.ROUGE])
        for label, row in comparison.rows.items()
    ]
    return ReportTable(
        "quality",
        "Quality: ROUGE as F1 in 0-100 (higher is better), with 95% intervals below the means.",
        ("System", *measures.ROUGE.values()),
        tuple(body),
    )


def scored_shape_table(comparison: Comparison) -> ReportTable:
    """What the outputs look like; columns that need the documents are shown only if these are known."""

    def of(name: str) -> Callable[[RowSummary], float | None]:
        return lambda row: rows.value(row, f"text_shape.{name}")

    columns = {
        "prediction_words": Column("Words", of("prediction_words"), formats.word_count, formats.DASH),
        "reference_words": Column("Reference", of("reference_words"), formats.word_count, formats.DASH),
        "share_empty": Column("Empty", of("share_empty"), formats.share, formats.DASH),
        "repeated_trigrams": Column("Repeated", of("repeated_trigrams"), formats.share, formats.DASH),
        "novel_bigrams": Column("New pairs", of("novel_bigrams"), formats.share, formats.DASH),
        "longest_copied_words": Column("Longest copy", of("longest_copied_words"), formats.word_count, formats.DASH),
    }
    known = [name for name in columns if any(columns[name].get(row) is not None for row in comparison.rows.values())]
    copying = ", share of word pairs not in the document, longest run of words copied from it"
    return by_row(
        comparison,
        "shape",
        "What the outputs look like: mean number of words in output and reference, share empty, share of repeated word "
        f"triples{copying if 'novel_bigrams' in known else ''}; means over a system's sets.",
        [columns[name] for name in known],
    )


def sets_table(results: Results, comparison: Comparison) -> ReportTable:
    """Every set of predictions with its scores."""
    body = [
        (
            Cell(run.record.label),
            Cell(str(run.record.seed), None, run.record.seed),
            *[Cell(formats.rouge_score(mean), None, mean) for mean in _means(run)],
        )
        for run in results.runs
    ]
    caption = "Mean ROUGE of every set of predictions."
    return ReportTable("sets", caption, ("System", "Set", *measures.ROUGE.values()), tuple(body))


def _means(run: SavedRun) -> list[float]:
    return [getattr(run.record.rouge, name) for name in measures.ROUGE]


def scored_record_tables(comparison: Comparison) -> list[ReportTable]:
    """Every number of the comparison's methods, as recorded."""

    def sheet(name: str, caption: str, paths: Iterable[tuple[str, str]]) -> ReportTable:
        columns = [Column(head, _at(path), formats.exact, formats.DASH) for head, path in paths]
        return by_row(comparison, name, caption, columns)

    parts = Estimate.model_fields
    return [
        *(
            sheet(
                f"exact-{metrics[0]}",
                f"{' and '.join(metrics)}: mean and 95% interval, as recorded.",
                [(f"{metric} {part}", f"{metric}.{part}") for metric in metrics for part in parts],
            )
            for metrics in (("rouge1", "rouge2"), ("rougeL", "rougeLsum"))
        ),
        sheet(
            "exact-shape",
            "text_shape: means over a system's sets, as recorded.",
            [(name, f"text_shape.{name}") for name in TextShape.model_fields if name != "share_at_cap"],
        ),
    ]


def _at(path: str) -> Callable[[RowSummary], Any]:
    return lambda row: rows.value(row, path)

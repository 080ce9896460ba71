"""Comparisons and records as short HTML tables, for the cells of a notebook."""

from collections.abc import Iterable, Sequence
from html import escape

from triptych.results.records import ROUGE_TYPES, Comparison, Record, RowSummary
from triptych.text import formats
from triptych.text.measures import ROUGE

_HEAD = ("", "Test loss", *ROUGE.values(), "Training", "Trainable")


def comparison_html(comparison: Comparison) -> str:
    """A row for each method, then the verdict and warnings about the comparison."""
    notes = [comparison.subset, *comparison.flags]
    lines = [_line(label, row) for label, row in comparison.rows.items()]
    paragraphs = [f"<p><b>{escape(comparison.verdict)}</b></p>", *(f"<p>{escape(note)}</p>" for note in notes if note)]
    return _table(_HEAD, lines) + "".join(paragraphs)


def record_html(record: Record) -> str:
    """The main settings and figures of a run, one per row."""
    facts: list[tuple[str, str]] = [("Run", f"{record.label}, seed {record.seed}"), ("Status", record.status)]
    if record.error:
        facts.append(("Error", record.error.strip().splitlines()[-1]))
    facts += [("Test loss", formats.loss(record.loss.test))]
    if record.rouge is not None:
        facts += [(name, formats.rouge_score(getattr(record.rouge, name))) for name in ROUGE_TYPES]
    if record.parameters is not None:
        facts.append(("Trainable parameters", formats.count(record.parameters.num_trainable_parameters)))
    facts.append(("Training", formats.seconds(record.cost.train_seconds)))
    return _table(("", "value"), facts)


def _line(label: str, row: RowSummary) -> list[str]:
    trained = row.parameters is not None and row.parameters.num_trainable_parameters > 0
    if row.failed:
        return [label, formats.FAILED, *[formats.DASH] * (len(_HEAD) - 2)]
    return [
        label,
        formats.loss(row.loss.test),
        *(formats.with_interval(getattr(row, name)) for name in ROUGE_TYPES),
        formats.seconds(row.cost.get("train_seconds")) if trained else formats.DASH,
        formats.count(row.parameters.num_trainable_parameters if row.parameters else None),
    ]


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    cells = [f"<th>{escape(name)}</th>" for name in head]
    body = [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines]
    return f"<table><tr>{''.join(cells)}</tr>{''.join(body)}</table>"

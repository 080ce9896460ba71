"""A report table as plain data: a header and text cells."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from triptych.reporting import rows
from triptych.results.records import Comparison, Estimate, RowSummary
from triptych.text import formats

_MISSING = (formats.DASH, formats.NOT_MEASURED, formats.FAILED)


@dataclass(frozen=True)
class Cell:
    """The content of a cell: text, a smaller line below it, and the number to sort by."""

    text: str
    sub: str | None = None
    value: float | None = None


@dataclass(frozen=True)
class ReportTable:
    """A table. `widths` are shares of the page width; 0 means as wide as needed."""

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: tuple[int, ...] = (0,)  # columns of words; the others contain numbers
    widths: tuple[float, ...] = ()

    def data(self) -> dict[str, Any]:
        """The table as data for the templates."""
        return {
            "name": self.name,
            "caption": self.caption,
            "head": list(self.head),
            "numeric": [column not in self.words for column in range(len(self.head))],
            "widths": list(self.widths or (0, *[1] * (len(self.head) - 1))),
            "rows": [[{"text": cell.text, "sub": cell.sub, "value": cell.value} for cell in row] for row in self.rows],
        }


@dataclass(frozen=True)
class Column:
    """A column of numbers: its header, the field it shows, and the format."""

    head: str
    get: Callable[[RowSummary], float | None]
    show: Callable[..., str]
    missing: str | None = None  # None: `not measured` if something was trained, else a dash
    width: float = 1  # its share of the page width


def by_row(
    comparison: Comparison, name: str, caption: str, columns: list[Column], failures: bool = True
) -> ReportTable:
    """A table with one line per method of the comparison.

    Args:
        comparison: the comparison.
        name: the name of the table.
        caption: its caption.
        columns: its columns after the label.
        failures: whether to say that a failed method failed; otherwise its cells are empty.
    """
    body = []
    for label, row in comparison.rows.items():
        failed = row.failed
        cells = []
        for number, column in enumerate(columns):
            value = column.get(row)
            missing = column.missing or (formats.NOT_MEASURED if row.trained else formats.DASH)
            text = formats.FAILED if failed and failures and number == 0 else column.show(value, missing)
            cells.append(Cell(text, None, None if text in _MISSING else value))
        body.append((label_cell(label, row), *cells))
    head = ("Method", *[column.head for column in columns])
    return ReportTable(name, caption, head, tuple(body), widths=(0, *[column.width for column in columns]))


def label_cell(label: str, row: RowSummary) -> Cell:
    """The label of a method, with a note if it failed."""
    return Cell(label, rows.failure_note(row) or None)


def estimate_cell(estimate: Estimate | None) -> Cell:
    """A score with its interval below."""
    if estimate is None:
        return Cell(formats.DASH)
    has_interval = estimate.low is not None and estimate.high is not None
    return Cell(
        formats.rouge_score(estimate.mean),
        formats.interval(estimate.low, estimate.high) if has_interval else None,
        estimate.mean,
    )


def cost_of(name: str) -> Callable[[RowSummary], float | None]:
    """A function that returns one cost of a method, by field name."""
    return lambda row: rows.cost(row, name)

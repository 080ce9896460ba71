"""The comparison as a table for the terminal."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from triptych.reporting import rows
from triptych.reporting.lines import (
    FILES_LEGEND,
    LEGEND,
    all_flags,
    cost_cells,
    further_cells,
    heading,
    length_cells,
    power_sentence,
)
from triptych.results.records import Comparison, Estimate, PairedTest, RowSummary
from triptych.text import formats
from triptych.text.characters import visible

_INLINE_WIDTH = 120  # from here on, an interval is next to its mean, otherwise below it


@dataclass(frozen=True)
class ComparisonTable:
    """A rich renderable: quality, then cost, laid out for the width at hand."""

    comparison: Comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        comparison = self.comparison
        wide = options.max_width >= _INLINE_WIDTH
        files = rows.of_files(comparison)
        yield _text(heading(comparison), style="bold")
        if comparison.synthetic:
            yield _text(rows.synthetic_notice(comparison), style="yellow")
        if comparison.subset:
            yield _text(comparison.subset, style="yellow")
        yield self._quality(wide)
        yield self._differences() if files else self._cost()
        yield Text(FILES_LEGEND if files else LEGEND, style="dim")
        yield _text(comparison.verdict, style="bold")
        if power := power_sentence(comparison):
            yield Text(power)
        for flag in all_flags(comparison):
            yield Padding(_text("• " + flag), (0, 0, 0, 1))

    def _quality(self, wide: bool) -> Table:
        files = rows.of_files(self.comparison)
        table = _table("Quality" if files else "Quality on the test split")
        if files:
            table.columns[0].header = "System"
        else:
            _number_column(table, "Test loss\nnats/token")
        for name in rows.ROUGE.values():
            _number_column(table, f"{name}\nF1, 0-100")
        further = rows.further_names(self.comparison)
        for name in further:
            _number_column(table, _text(name))
        if files:
            _number_column(table, "Words")
        for label, row in self.comparison.rows.items():
            if rows.failed(row):
                table.add_row(
                    _label(label, row), Text(formats.FAILED, style="bold red"), *[formats.DASH] * (4 + len(further))
                )
                continue
            estimates = [getattr(row, metric) for metric in rows.ROUGE]
            table.add_row(
                _label(label, row),
                *([] if files else [formats.loss(row.loss.test)]),
                *[_estimate(estimate, wide) for estimate in estimates],
                *further_cells(row, further),
                *(length_cells(row) if files else []),
            )
        return table

    def _differences(self) -> Table:
        table = _table(f"Differences in {_primary(self.comparison)}, on the same documents")
        table.columns[0].header = "a − b"
        for title in ("Difference", "Interval", "p, corrected"):
            _number_column(table, title)
        table.add_column("Decision")
        for test in _primary_tests(self.comparison):
            difference, interval, adjusted = rows.test_figures(test)
            table.add_row(Text(f"{test.a} − {test.b}"), difference, escape(interval), adjusted, rows.decision(test))
        return table

    def _cost(self) -> Table:
        table = _table("Cost of training")
        for title in ("Time", "Trainable\nparameters", "Added\nparameters", "Compute", "Peak\nmemory"):
            _number_column(table, title)
        for label, row in self.comparison.rows.items():
            table.add_row(_label(label, row), *cost_cells(row))
        return table


def comparison_table(comparison: Comparison) -> ComparisonTable:
    """The comparison for `console.print`; reads well from 80 columns on."""
    return ComparisonTable(comparison)


def _primary(comparison: Comparison) -> str:
    """The measure that the verdict rests on, as the tables name it."""
    return rows.TESTED[comparison.inference.primary] if comparison.inference is not None else rows.ROUGE["rouge1"]


def _primary_tests(comparison: Comparison) -> list[PairedTest]:
    return [test for test in comparison.tests if test.role == "primary"]


def _table(title: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="italic", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1)
    )
    table.add_column("Row", overflow="fold", min_width=8, max_width=24)
    return table


def _number_column(table: Table, title: str | Text) -> None:
    table.add_column(title, justify="right", overflow="fold")


def _text(text: str, style: str = "") -> Text:
    """Text from outside: no control character and no markup in it reaches the terminal."""
    return Text(visible(text), style=style)


def _label(label: str, row: RowSummary) -> Text:
    text = _text(label, style="bold red" if rows.failed(row) else "")
    note = rows.failure_note(row)
    if note and not rows.failed(row):
        text.append(f"\n{note}", style="red")
    return text


def _estimate(estimate: Estimate | None, wide: bool) -> str:
    if wide or estimate is None or estimate.low is None or estimate.high is None:
        return escape(formats.with_interval(estimate))
    return f"{formats.rouge_score(estimate.mean)}\n{estimate.low:.1f}–{estimate.high:.1f}"

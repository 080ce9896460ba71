"""Print the comparison as tables in the terminal."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from triptych.analysis.verdict import decision_of
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
from triptych.text import formats, measures
from triptych.text.characters import visible

_INLINE_WIDTH = 120  # from this width on, an interval is shown next to its mean, otherwise below it
_NARROW = 70  # below this width, what does not fit becomes one list per row


@dataclass(frozen=True)
class Grid:
    """A table before layout.

    Attributes:
        title: the title above the table.
        corner: the header of the label column.
        columns: the column headers; their lines are separated by line breaks.
        rows: the label and the cells of each row.
        words: how many of the last columns contain words, which are left-aligned.
    """

    title: str
    corner: str
    columns: list[str]
    rows: list[tuple[Text, list[str]]]
    words: int = 0

    def laid_out(self, console: Console, options: ConsoleOptions) -> list[RenderableType]:
        """One table, several if the columns do not fit side by side, or one list per row if it is narrow.

        Numbers are never broken.
        """
        everything = list(range(len(self.columns)))
        if self._fits(everything, console, options):
            return [self._table(everything, self.title)]
        if options.max_width < _NARROW:
            return [self._lists()]
        groups: list[list[int]] = [[]]
        for column in everything:
            if groups[-1] and not self._fits([*groups[-1], column], console, options):
                groups.append([])
            groups[-1].append(column)
        titles = [self.title, *[f"{self.title}, continued"] * (len(groups) - 1)]
        return [self._table(group, title) for group, title in zip(groups, titles, strict=True)]

    def _fits(self, columns: list[int], console: Console, options: ConsoleOptions) -> bool:
        return (
            console.measure(self._table(columns, ""), options=options.update(width=10_000)).minimum <= options.max_width
        )

    def _table(self, columns: list[int], title: str) -> Table:
        table = Table(
            title=title or None,
            title_justify="left",
            title_style="italic",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1),
        )
        table.add_column(self.corner, overflow="fold", min_width=8, max_width=24)
        for column in columns:
            numbers = column < len(self.columns) - self.words
            table.add_column(_text(self.columns[column]), justify="right" if numbers else "left", overflow="fold")
        for label, cells in self.rows:
            table.add_row(label, *(_text(cells[column]) for column in columns))
        return table

    def _lists(self) -> Text:
        names = [name.replace("\n", ", ") for name in self.columns]
        lines = [_text(self.title, style="italic")]
        for label, cells in self.rows:
            lines.append(Text("\n").append_text(label))
            lines += [_text(f"  {name}: {' '.join(cell.split())}") for name, cell in zip(names, cells, strict=True)]
        return Text("\n").join([*lines, Text()])


@dataclass(frozen=True)
class ComparisonTable:
    """A Rich renderable: quality, then cost, laid out for the available width."""

    comparison: Comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for part in self.parts(console, options):
            yield _indented(part) if isinstance(part, Text) else part

    def parts(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the heading, the tables and the sentences below them as separate parts."""
        comparison = self.comparison
        wide = options.max_width >= _INLINE_WIDTH
        files = rows.of_files(comparison)
        yield _text(heading(comparison), style="bold")
        if notice := rows.synthetic_notice(comparison):
            yield _text(notice, style="yellow")
        if comparison.subset:
            yield _text(comparison.subset, style="yellow")
        grids = [self._quality(wide), *([] if files else [self._cost()])]
        if files and comparison.tests:
            grids.append(self._differences())
        for grid in grids:
            yield from grid.laid_out(console, options)
        yield Text(FILES_LEGEND if files else LEGEND, style="dim")
        yield _text(comparison.verdict, style="bold")
        if power := power_sentence(comparison):
            yield Text(power)
        for flag in all_flags(comparison):
            yield _text("• " + flag)

    def _quality(self, wide: bool) -> Grid:
        files = rows.of_files(self.comparison)
        further = rows.further_names(self.comparison)
        columns = [
            *([] if files else ["Test loss\nnats/token"]),
            *(f"{name}\nF1, 0-100" for name in measures.ROUGE.values()),
            *further,
            *(["Words"] if files else []),
        ]
        lines = []
        for label, row in self.comparison.rows.items():
            if row.failed:
                cells = [formats.FAILED, *[formats.DASH] * (len(columns) - 1)]
            else:
                cells = [
                    *([] if files else [formats.loss(row.loss.test)]),
                    *[_estimate(getattr(row, metric), wide) for metric in measures.ROUGE],
                    *further_cells(row, further),
                    *(length_cells(row) if files else []),
                ]
            lines.append((_label(label, row), cells))
        title, first_column = ("Quality", "System") if files else ("Quality on the test split", "Method")
        return Grid(title, first_column, columns, lines)

    def _differences(self) -> Grid:
        lines = []
        for test in _primary_tests(self.comparison):
            cells = [*rows.test_figures(test), decision_of(test)]
            lines.append((Text(f"{test.a} − {test.b}"), cells))
        title = f"Differences in {measures.short_name_of(self.comparison.primary_measure)}, on the same documents"
        return Grid(title, "a − b", ["Difference", "Interval", "p, corrected", "Decision"], lines, words=1)

    def _cost(self) -> Grid:
        columns = ["Time", "Trainable\nparameters", "Added\nparameters", "Compute", "Peak\nmemory"]
        lines = [(_label(label, row), cost_cells(row)) for label, row in self.comparison.rows.items()]
        return Grid("Cost of training", "Method", columns, lines)


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print a comparison; sentences are wrapped only on a terminal, so that they can be searched in a file."""
    for part in ComparisonTable(comparison).parts(console, console.options):
        if not isinstance(part, Text):
            console.print(part)
        elif console.is_terminal:
            console.print(_indented(part))
        else:
            console.print(Text(" ").append_text(part) if part.plain.startswith("•") else part, soft_wrap=True)


def _primary_tests(comparison: Comparison) -> list[PairedTest]:
    return [test for test in comparison.tests if test.role == "primary"]


def _indented(part: Text) -> RenderableType:
    """Indent all lines of a flag by one; leave other text as it is."""
    return Padding(part, (0, 0, 0, 1)) if part.plain.startswith("•") else part


def _text(text: str, style: str = "") -> Text:
    """Untrusted text, without control characters and with markup shown literally."""
    return Text(visible(text), style=style)


def _label(label: str, row: RowSummary) -> Text:
    text = _text(label, style="bold red" if row.failed else "")
    note = rows.failure_note(row)
    if note and not row.failed:
        text.append(f"\n{note}", style="red")
    return text


def _estimate(estimate: Estimate | None, wide: bool) -> str:
    if wide or estimate is None or estimate.low is None or estimate.high is None:
        return formats.with_interval(estimate)
    return f"{formats.rouge_score(estimate.mean)}\n{estimate.low:.1f}–{estimate.high:.1f}"

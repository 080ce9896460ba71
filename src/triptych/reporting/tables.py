"""The comparison as a table: for the terminal, as CSV and as Markdown."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from triptych.analysis.verdict import NAMES
from triptych.reporting import formats, rows
from triptych.results.records import NUMERIC_COSTS, Comparison, Estimate, PairedTest, Row
from triptych.text.characters import showable, visible
from triptych.text.markdown import plain

_INLINE_WIDTH = 120  # from here an interval stands beside its mean, below it under it
_LEGEND = (
    "After or under a score: its 95% interval. —: does not apply. “not measured”: the machine has no meter for it."
)
_FILES_LEGEND = (
    "After or under a score: its 95% interval. Words: the mean length of an output; length alone moves ROUGE."
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True)
class ComparisonTable:
    """A rich renderable: quality, then cost, laid out for the width at hand."""

    comparison: Comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        comparison = self.comparison
        wide = options.max_width >= _INLINE_WIDTH
        files = rows.of_files(comparison)
        yield _text(_heading(comparison), style="bold")
        if comparison.synthetic:
            yield _text(rows.synthetic_notice(comparison), style="yellow")
        if comparison.subset:
            yield _text(comparison.subset, style="yellow")
        yield self._quality(wide)
        yield self._differences() if files else self._cost()
        yield Text(_FILES_LEGEND if files else _LEGEND, style="dim")
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
                *(_words(row) if files else []),
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


def _heading(comparison: Comparison) -> str:
    """What was compared, on what."""
    documents = f"{comparison.num_documents:,} {'documents' if rows.of_files(comparison) else 'test documents'}"
    if rows.of_files(comparison):
        sets = sum(len(row.seeds) for row in comparison.rows.values())
        files = f"{len(comparison.rows)} {'system' if len(comparison.rows) == 1 else 'systems'}"
        more = f", {sets} sets of predictions" if sets > len(comparison.rows) else ""
        return f"{files}{more}: {documents}, scored against {comparison.data}"
    seeds = f"{'seed' if len(comparison.seeds) == 1 else 'seeds'} {', '.join(map(str, comparison.seeds))}"
    return f"{comparison.model} on {comparison.data}: {documents}, {seeds}"


def _words(row: Row) -> list[str]:
    """How long a system's outputs are, which ROUGE depends on."""
    return [formats.words(rows.value(row, "text_shape.prediction_words"))]


def _primary(comparison: Comparison) -> str:
    """The measure that the verdict rests on, as the tables name it."""
    return rows.TESTED[comparison.inference.primary] if comparison.inference is not None else rows.ROUGE["rouge1"]


def _primary_tests(comparison: Comparison) -> list[PairedTest]:
    return [test for test in comparison.tests if test.role == "primary"]


def further_cells(row: Row, names: list[str]) -> list[str]:
    """Those means of a row as text."""
    values = [row.further_scores.get(name) for name in names]
    return [formats.DASH if value is None else f"{value:.4g}" for value in values]


def comparison_table(comparison: Comparison) -> ComparisonTable:
    """The comparison for `console.print`; reads well from 80 columns on."""
    return ComparisonTable(comparison)


def cost_cells(row: Row) -> list[str]:
    """Training time, trainable and added parameters, executed FLOPs and peak memory of a row, as text."""
    if rows.failed(row):
        return [formats.FAILED] + [formats.DASH] * 4
    missing = formats.NOT_MEASURED if rows.trained(row) else formats.DASH
    return [
        formats.seconds(rows.cost(row, "train_seconds"), missing),
        formats.count(rows.value(row, "parameters.num_trainable_parameters")),
        formats.count(rows.value(row, "parameters.num_added_parameters")),
        formats.quantity(rows.cost(row, "train_flops"), "flops", missing),
        formats.quantity(rows.cost(row, "peak_memory_bytes"), "bytes", missing),
    ]


def power_sentence(comparison: Comparison) -> str:
    """Which differences the table would have found; empty where it has no tests."""
    if comparison.inference is None:
        return ""
    primary, found = comparison.inference.primary, comparison.inference.detectable
    parts = [
        formats.difference(size, measure, NAMES.get(measure, measure))
        for measure in (primary, "rouge1" if primary == "loss" else "loss")
        if (size := found.get(measure)) is not None
    ]
    if not parts:
        return ""
    which = "systems" if rows.of_files(comparison) else "rows"
    return (
        f"Between any two {which} a true difference of {' or '.join(parts)} would have been found four times in five."
    )


def _markdown_tests(comparison: Comparison) -> list[str]:
    """The tests on the primary and the second measure, with their decisions."""
    tests = [test for test in comparison.tests if test.role != "secondary"]
    if not tests:
        return []
    lines = ["", "| a − b | Measure | Difference | Interval | p, corrected | Decision |"]
    lines.append("| --- | --- | ---: | ---: | ---: | --- |")
    for test in tests:
        name = rows.TESTED.get(test.metric, test.metric)
        cells = [plain(f"{test.a} − {test.b}"), name, *map(plain, rows.test_figures(test)), rows.decision(test)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def all_flags(comparison: Comparison) -> list[str]:
    """What a reader must know, of the comparison and of its rows; a sentence that several rows share stands once."""
    labels_of: dict[str, list[str]] = {}
    for label, row in comparison.rows.items():
        for flag in dict.fromkeys(row.flags):
            labels_of.setdefault(flag, []).append(label)
    of_rows = [f"{', '.join(labels)}: {flag}" for flag, labels in labels_of.items()]
    return list(dict.fromkeys([*comparison.flags, *of_rows]))


def to_csv(comparison: Comparison) -> str:
    """The comparison as CSV: raw numbers, a line a row, missing values empty; no cell that a spreadsheet runs.

    A further metric's score that is named like another column gets `score ` before its name.
    """
    own = {name for label, row in comparison.rows.items() for name in _flat(comparison, label, row, {})}
    columns = _score_columns(rows.further_names(comparison), own)
    records = [_flat(comparison, label, row, columns) for label, row in comparison.rows.items()]
    names = list(dict.fromkeys(name for record in records for name in record))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(_csv_cell, names))
    for record in records:
        writer.writerow([_csv_cell(record.get(name)) for name in names])
    return stream.getvalue()


def to_tests_csv(comparison: Comparison) -> str:
    """The paired tests as CSV: a line for each pair of rows and measure, the fields of `records.PairedTest` as
    columns."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = list(PairedTest.model_fields)
    writer.writerow(names)
    for test in comparison.tests:
        fields = test.model_dump() | {"seeds": " ".join(map(str, test.seeds))}
        writer.writerow([_csv_cell(fields[name]) for name in names])
    return stream.getvalue()


def to_markdown(comparison: Comparison) -> str:
    """The comparison as a Markdown document: what it is of, the table, the verdict and what must be known."""
    files = rows.of_files(comparison)
    what = (
        _heading(comparison)
        if files
        else f"Model: {comparison.model}. Data: {comparison.data}, {comparison.num_documents:,} test documents. "
        f"Seeds: {', '.join(map(str, comparison.seeds))}"
    )
    lines = [f"# {plain(comparison.suite)}", "", f"{plain(what)}.", ""]
    if comparison.synthetic:
        lines += [f"**{plain(rows.synthetic_notice(comparison))}**", ""]
    if comparison.subset:
        lines += [plain(comparison.subset), ""]
    further = rows.further_names(comparison)
    cost = ["Training time", "Trainable parameters", "Added parameters", "Training compute", "Peak memory"]
    head = [
        "System" if files else "Row",
        *([] if files else ["Test loss (nats/token)"]),
        *[f"{name} (F1, 0-100)" for name in rows.ROUGE.values()],
        *[plain(name) for name in further],
        *(["Words"] if files else cost),
    ]
    lines += ["| " + " | ".join(head) + " |", "|" + " --- |" + " ---: |" * (len(head) - 1)]
    for label, row in comparison.rows.items():
        note = rows.failure_note(row)
        name = plain(label + (f" ({note})" if note and not rows.failed(row) else ""))
        quality = (
            [formats.FAILED] + [formats.DASH] * (4 + len(further))
            if rows.failed(row)
            else [
                *([] if files else [formats.loss(row.loss.test)]),
                *[_inline(getattr(row, metric)) for metric in rows.ROUGE],
                *further_cells(row, further),
            ]
        )
        lines.append("| " + " | ".join([name, *quality, *(_words(row) if files else cost_cells(row))]) + " |")
    lines += _markdown_tests(comparison)
    lines += ["", _FILES_LEGEND if files else _LEGEND, "", plain(comparison.verdict)]
    if power := power_sentence(comparison):
        lines += ["", plain(power)]
    flags = all_flags(comparison)
    lines += ["", *[f"- {plain(flag)}" for flag in flags]] if flags else []
    if comparison.signature:
        lines += ["", f"ROUGE: {plain(comparison.signature)}"]
    return "\n".join(lines) + "\n"


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


def _label(label: str, row: Row) -> Text:
    text = _text(label, style="bold red" if rows.failed(row) else "")
    note = rows.failure_note(row)
    if note and not rows.failed(row):
        text.append(f"\n{note}", style="red")
    return text


def _estimate(estimate: Estimate | None, wide: bool) -> str:
    if estimate is None:
        return formats.DASH
    text = formats.score(estimate.mean)
    if estimate.low is None or estimate.high is None:
        return text
    if wide:
        return f"{text} {escape(formats.interval(estimate.low, estimate.high))}"
    return f"{text}\n{estimate.low:.1f}–{estimate.high:.1f}"


def _inline(estimate: Estimate | None) -> str:
    if estimate is None:
        return formats.DASH
    has_interval = estimate.low is not None and estimate.high is not None
    return formats.score(estimate.mean) + (f" {formats.interval(estimate.low, estimate.high)}" if has_interval else "")


def _score_columns(names: list[str], taken: set[str]) -> dict[str, str]:
    """A column for each further score, none of them taken."""
    columns = {name: name for name in names if name not in taken}
    for name in names:
        if name in taken:
            column = f"score {name}"
            while column in columns.values() or column in taken:
                column = f"score {column}"
            columns[name] = column
    return columns


def _flat(comparison: Comparison, label: str, row: Row, score_columns: dict[str, str]) -> dict[str, Any]:
    """A line of the CSV by column.

    Args:
        score_columns: the column of each further score; a score that it lacks is left out.
    """
    flat: dict[str, Any] = {
        "label": label,
        "kind": row.kind,
        "status": "failed" if rows.failed(row) else "done",
        "seeds": " ".join(map(str, row.seeds)),
        "failed_seeds": " ".join(map(str, row.failed_seeds)),
    }
    for name in ("test", "low", "high", "initial", "validation"):
        flat[f"loss_{name}"] = getattr(row.loss, name)
    for metric in rows.ROUGE:
        estimate = getattr(row, metric)
        for name in ("mean", "low", "high"):
            flat[f"{metric}_{name}"] = estimate and getattr(estimate, name)
    for name in ("base", "added", "trainable", "total"):
        field = f"num_{name}_parameters"
        flat[field] = row.parameters and getattr(row.parameters, field)
    flat["stored_bytes"] = row.parameters and row.parameters.stored_bytes
    flat |= {name: row.cost.get(name) for name in NUMERIC_COSTS}
    if row.text_shape is not None:
        flat |= row.text_shape.model_dump()
    flat |= {column: row.further_scores[name] for name, column in score_columns.items() if name in row.further_scores}
    return flat | {
        "model": comparison.model,
        "data": comparison.data,
        "synthetic": comparison.synthetic,
        "num_documents": comparison.num_documents,
        "flags": " ".join(row.flags),
    }


def _csv_cell(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, (int, float)):
        return repr(cell)
    cell = "\n".join(showable(cell).splitlines())  # one kind of line break, or a lone "\r" would end the line unquoted
    # A spreadsheet runs a text cell that begins like a formula, full-width signs too; an apostrophe makes it text.
    return "'" + cell if cell.lstrip(" \n").startswith(_FORMULA) else cell

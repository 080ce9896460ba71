"""Export the comparison as CSV and Markdown."""

import csv
import io
from typing import Any

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
from triptych.results.flat import flat_rows
from triptych.results.records import Comparison, PairedTest
from triptych.text import formats, measures
from triptych.text.characters import showable
from triptych.text.markdown import plain

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def to_csv(comparison: Comparison) -> str:
    """The comparison as CSV: raw numbers, one line per method, missing values empty, no cell that could be a formula.

    The columns are those of `results.flat`.
    """
    records = flat_rows(comparison)
    names = list(dict.fromkeys(name for record in records for name in record))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(_csv_cell, names))
    for record in records:
        writer.writerow([_csv_cell(record.get(name)) for name in names])
    return stream.getvalue()


def to_tests_csv(comparison: Comparison) -> str:
    """The paired tests as CSV: one line per pair and measure, with the fields of `records.PairedTest` as columns."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = list(PairedTest.model_fields)
    writer.writerow(names)
    for test in comparison.tests:
        fields = test.model_dump() | {"seeds": " ".join(map(str, test.seeds))}
        writer.writerow([_csv_cell(fields[name]) for name in names])
    return stream.getvalue()


def to_markdown(comparison: Comparison) -> str:
    """The comparison as a Markdown document: what was compared, the table, the verdict and the caveats."""
    files = rows.of_files(comparison)
    what = (
        heading(comparison)
        if files
        else f"Model: {comparison.model}. Data: {comparison.data}, "
        f"{formats.number_of(comparison.num_documents, 'test document')}. Seeds: "
        f"{', '.join(map(str, comparison.seeds))}"
    )
    lines = [f"# {plain(comparison.suite)}", "", f"{plain(what)}.", ""]
    if notice := rows.synthetic_notice(comparison):
        lines += [f"**{plain(notice)}**", ""]
    if comparison.subset:
        lines += [plain(comparison.subset), ""]
    further = rows.further_names(comparison)
    cost = ["Training time", "Trainable parameters", "Added parameters", "Training compute", "Peak memory"]
    head = [
        "System" if files else "Method",
        *([] if files else ["Test loss (nats/token)"]),
        *[f"{name} (F1, 0-100)" for name in measures.ROUGE.values()],
        *[plain(name) for name in further],
        *(["Words"] if files else cost),
    ]
    lines += ["| " + " | ".join(head) + " |", "|" + " --- |" + " ---: |" * (len(head) - 1)]
    for label, row in comparison.rows.items():
        note = rows.failure_note(row)
        name = plain(label + (f" ({note})" if note and not row.failed else ""))
        quality = (
            [formats.FAILED] + [formats.DASH] * (4 + len(further))
            if row.failed
            else [
                *([] if files else [formats.loss(row.loss.test)]),
                *[formats.with_interval(getattr(row, metric)) for metric in measures.ROUGE],
                *further_cells(row, further),
            ]
        )
        lines.append("| " + " | ".join([name, *quality, *(length_cells(row) if files else cost_cells(row))]) + " |")
    lines += _markdown_tests(comparison)
    lines += ["", FILES_LEGEND if files else LEGEND, "", plain(comparison.verdict)]
    if power := power_sentence(comparison):
        lines += ["", plain(power)]
    flags = all_flags(comparison)
    lines += ["", *[f"- {plain(flag)}" for flag in flags]] if flags else []
    if comparison.signature:
        lines += ["", f"ROUGE: {plain(comparison.signature)}"]
    return "\n".join(lines) + "\n"


def _markdown_tests(comparison: Comparison) -> list[str]:
    """The tests on the primary and second measures, with their decisions."""
    tests = [test for test in comparison.tests if test.role != "secondary"]
    if not tests:
        return []
    lines = ["", "| a − b | Measure | Difference | Interval | p, corrected | Decision |"]
    lines.append("| --- | --- | ---: | ---: | ---: | --- |")
    for test in tests:
        name = measures.HEADINGS.get(test.metric, test.metric)
        cells = [plain(f"{test.a} − {test.b}"), name, *map(plain, rows.test_figures(test)), decision_of(test)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _csv_cell(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, (int, float)):
        return repr(cell)
    cell = "\n".join(showable(cell).splitlines())  # one kind of line break: an unquoted lone "\r" would end the line
    # Spreadsheets run a text cell that begins like a formula, also with full-width signs; an apostrophe makes it text.
    return "'" + cell if cell.lstrip(" \n").startswith(_FORMULA) else cell

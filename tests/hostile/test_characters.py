"""Characters that a document cannot contain, in any text that reaches one; and files that must be replaced together."""

import csv
import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from support.made_up import make_comparison, make_results
from triptych.api import describe_data
from triptych.cli.printing import SummaryPrinter, show_data
from triptych.cli.progress import ProgressView
from triptych.errors import TriptychError
from triptych.reporting import write, write_report
from triptych.reporting.document import ReportContent
from triptych.reporting.export import to_csv, to_markdown
from triptych.reporting.pdf import to_pdf
from triptych.reporting.terminal import ComparisonTable
from triptych.reporting.web import to_html
from triptych.results import json_files, reading, records
from triptych.run.events import FailedEvent, NoteEvent, RunId
from triptych.text.characters import for_terminal, map_texts, showable, to_json, visible, whole

ODD = [
    "\0",
    "\x0b",
    "\x0c",
    "\x1b",
    "\x1f",
    "\x7f",
    "\x85",
    "\x9b",
    "\ufdd0",
    "\ufffe",
    "\uffff",
    "\U0001fffe",
    "\U0010ffff",
    "\u2028",
    "\u2029",
    "\ufeff",
    "\u202e",
    "\u200b",
    "\ud800",
    "\udfff",
    "\ue000",
    "\U000e0001",
    "\r",
    "\t",
]
RAW = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")  # what no file of a report may hold


def spoiled(text: str) -> tuple[reading.Results, records.Comparison]:
    """Results with this text in every place that comes from outside: ids, texts, names, notes, versions, command,
    error."""
    results = make_results(("untuned", "lora", "full"), documents=2, failed=(("full", 0),))

    def changed(run: reading.SavedRun) -> reading.SavedRun:
        record = run.record
        if not run.done:
            return replace(run, record=record.model_copy(update={"error": text}))
        assert record.provenance is not None and record.data is not None
        provenance = record.provenance.model_copy(
            update={"command": text, "versions": {text: text}, "model": text, "hardware": {text: text}, "commit": text}
        )
        lines = tuple(
            line.model_copy(update={"id": f"{place}{text}", "prediction": text, "reference": text})
            for place, line in enumerate(run.predictions)
        )
        data = record.data.model_copy(update={"source": text, "cut": text})
        update = {"provenance": provenance, "notes": {text: text}, "data": data, "options": {text: text}}
        return replace(run, record=record.model_copy(update=update), predictions=lines)

    comparison = make_comparison(results)
    scored = comparison.rows["lora"].model_copy(
        update={"further_scores": {f"score{text}": 0.5}, "flags": [f"Flag {text}"]}
    )
    comparison = comparison.model_copy(
        update={
            "suite": f"suite {text}",
            "model": text,
            "data": text,
            "signature": text,
            "flags": [text],
            "verdict": text,
            "rows": {**comparison.rows, "lora": scored},
        }
    )
    return replace(results, runs=tuple(map(changed, results.runs))), comparison


def embedded(page: str, name: str):
    """The data that the page's script reads."""
    found = re.search(rf'<script[^>]*id="{name}"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def check_documents(text: str) -> None:
    """Check every document except the PDF, made from results with this text: none contains a forbidden character."""
    results, comparison = spoiled(text)
    page = to_html(ReportContent(results, comparison)).decode()
    assert not RAW.search(page)
    assert embedded(page, "browser-data")["documents"][1] == [f"1{text}", text]
    assert not RAW.search(to_csv(comparison) + to_markdown(comparison))
    assert len(list(csv.DictReader(io.StringIO(to_csv(comparison))))) == 3
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(ComparisonTable(comparison))
    assert not RAW.search(console.file.getvalue())
    content = to_json(comparison.model_dump(mode="python"))
    content.encode()
    assert json.loads(content)["suite"] == f"suite {text}"


def test_no_character_ends_a_report() -> None:
    """With all of these characters in every text, the page and the tables are written, none contains them raw, and the
    page's data keep them."""
    check_documents("".join(f"a{character}b" for character in ODD))


def test_all_of_them_can_be_printed() -> None:
    """The PDF is made from texts with all of these characters."""
    assert to_pdf(ReportContent(*spoiled("".join(ODD) + " ".join(ODD)))).startswith(b"%PDF")


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.text(st.characters(), max_size=60))
def test_no_text_ends_a_report(text: str) -> None:
    """Any Unicode text, lone surrogates included, can be typeset for the PDF and the web page."""
    check_documents(text)
    assert to_pdf(ReportContent(*spoiled(text))).startswith(b"%PDF")


def test_the_report_says_what_it_cannot_show() -> None:
    """A replaced character is shown as U+FFFD, and the limitations name its code point; a clean report has no such
    sentence."""
    page = to_html(ReportContent(*spoiled("caf\x85"))).decode()
    assert "caf\N{REPLACEMENT CHARACTER}" in page and "no document can show (U+0085)" in page
    assert "no document can show" not in to_html(ReportContent(*spoiled("café"))).decode()


@given(st.text(st.characters()))
def test_json_reads_back_as_it_was(text: str) -> None:
    """JSON files contain no raw control character or lone surrogate, and read back as the same text."""
    written = to_json({text: [text]})
    assert not RAW.search(written) and json.loads(written.encode()) == {text: [text]}


@given(st.text(st.characters()))
def test_what_is_shown_can_be_shown(text: str) -> None:
    """A text keeps its length and loses what a document cannot contain; a terminal gets no control character."""
    assert len(showable(text)) == len(text) and not RAW.search(showable(text))
    showable(text).encode()
    whole(text).encode()
    assert all(character.isprintable() or character in "\n\t" for character in visible(text))
    assert map_texts(str.upper, {"a": ["b", 1, None]}) == {"A": ["B", 1, None]}


def test_half_a_character_in_a_record_is_read_as_unknown(tmp_path: Path) -> None:
    r"""A record with `\ud800` is read with U+FFFD in its place: a command or file name in another encoding costs no
    run."""
    results = make_results(("lead-3",))
    record = results.runs[0].record
    content = json.loads(record.model_dump_json())
    content["provenance"]["command"] = "triptych compare caf\udce9"
    json_files.write_json(tmp_path / "record.json", content)
    read = reading.read_record(tmp_path / "record.json")
    assert read.provenance is not None and read.provenance.command == "triptych compare caf\N{REPLACEMENT CHARACTER}"


# Documents that belong together


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with documents of an earlier report."""
    for name in ("comparison.json", "comparison.csv", "comparison.md", "report.pdf", "report.html"):
        (tmp_path / name).write_text("old")
    return tmp_path


@pytest.mark.parametrize("broken", ["to_html", "to_pdf", "to_csv", "to_markdown"])
def test_an_old_document_is_never_left_beside_new_figures(old: Path, broken: str, monkeypatch) -> None:
    """If one document cannot be made, the others are new, its old version is gone, and the message says which and
    why."""

    def fail(*_: object) -> bytes:
        raise ValueError("cannot be drawn")

    monkeypatch.setattr(write, broken, fail)
    results = make_results(("lead-3",))
    with pytest.raises(TriptychError, match=r"ValueError: cannot be drawn.*has comparison\.json") as error:
        write_report(results, make_comparison(results), old)
    files = {
        "to_html": "report.html",
        "to_pdf": "report.pdf",
        "to_csv": "comparison.csv",
        "to_markdown": "comparison.md",
    }
    names = {path.name for path in old.iterdir()}
    assert len(names) == 5 and files[broken] not in names and files[broken] in str(error.value)
    assert all(path.read_bytes() != b"old" for path in old.iterdir())
    assert error.value.exit_status == 1


def test_an_interrupted_report_changes_nothing(old: Path, monkeypatch) -> None:
    """Ctrl-C while the page is made leaves every document of the folder as it was, and no temporary file."""

    def interrupt(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "to_html", interrupt)
    results = make_results(("lead-3",))
    with pytest.raises(KeyboardInterrupt):
        write_report(results, make_comparison(results), old)
    assert {path.name: path.read_text() for path in old.iterdir()} == dict.fromkeys(
        ("comparison.json", "comparison.csv", "comparison.md", "report.pdf", "report.html"), "old"
    )


def test_a_suite_writes_its_figures_with_its_documents(tmp_path: Path, monkeypatch) -> None:
    """comparison.json is moved into place together with the report, not before."""
    there: list[bool] = []

    def look(*_: object) -> bytes:
        there.append((tmp_path / "comparison.json").exists())
        return b"page"

    monkeypatch.setattr(write, "to_html", look)
    results = make_results(("lead-3",))
    write_report(results, make_comparison(results), tmp_path)
    assert there == [False] and json.loads((tmp_path / "comparison.json").read_bytes())["rows"]


@given(st.text(st.characters()))
def test_running_text_cannot_command_a_terminal(text: str) -> None:
    """Quoted text printed on a terminal contains no control character, lone surrogate or change of direction."""
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", for_terminal(text))


def test_running_text_keeps_its_letters() -> None:
    """Spaces and joiners of a script are kept; an escape sequence is written out."""
    for text in (
        "\u6771\u4eac\u3000\u5927\u962a",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "10\u00a0%\tx\ny",
    ):
        assert for_terminal(text) == text
    assert for_terminal("\x1b]0;owned\x07\r\u202e") == "\\x1b]0;owned\\x07\\r\\u202e"


@pytest.mark.parametrize("terminal", [True, False])
def test_summaries_reach_files_exactly_and_terminals_safely(terminal, monkeypatch, capsys) -> None:
    """Escape sequences in a summary or a document's name are written out on a terminal and kept in a pipe."""
    text = "up \x1b[2J\x9b1m down"
    row = SimpleNamespace(label="lora", folder=Path("run"))
    summary = SimpleNamespace(text=text, truncated=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    for headings in (True, False):
        SummaryPrinter(headings, as_json=False)(row, f"a{text}", summary)
        said = f"== a{text}, lora (run)\n{text}\n\n" if headings else f"{text}\n"
        assert capsys.readouterr().out == (for_terminal(said) if terminal else said)


def test_events_and_examples_are_shown_safely(tmp_path) -> None:
    """Messages of failed runs, notes and tables cannot control the terminal."""
    file = io.StringIO()
    console = Console(file=file, width=200, force_terminal=True)
    view, said = ProgressView(console), "no \x1b]0;owned\x07"
    for event in (FailedEvent(message=said, index=0, total=1), NoteEvent(message=said)):
        view(RunId("lora", 0), event)
    view.print("of \x1b]0;owned\x07")
    line = json.dumps({"id": "a\x1b]0;owned\x07", "document": "d\x1b]0;owned\x07", "summary": "s\x1b]0;owned\x07"})
    (tmp_path / "train.jsonl").write_text(f"{line}\n" * 3)
    show_data(console, describe_data(tmp_path, settings={"rouge": {"language": "any"}}))
    assert "\x1b]0" not in file.getvalue() and file.getvalue().count("\\x1b]0;owned") == 6

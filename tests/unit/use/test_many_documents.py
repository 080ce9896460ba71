"""Documents from many files, and summaries written next to their documents."""

import csv
import json
from functools import partial

import pandas
import pytest

from triptych import api, cli
from triptych.config.schema import Columns
from triptych.errors import ConfigError, DataError, ResultsError
from triptych.use import summary_files
from triptych.use.documents import open_documents
from triptych.use.summarizers import Summary, Trained


class Shouting(Trained):
    """Summarizes by shouting the first word; a document of more than three words counts as truncated."""

    def stream(self, documents):
        """Yield the last document first."""
        for index in reversed(range(len(documents))):
            words = documents[index].split()
            yield index, Summary(words[0].upper(), 1, False, len(words), min(len(words), 3))


@pytest.fixture
def loud(tmp_path, monkeypatch):
    """Load every run as one that shouts, with the label of its folder."""

    def load(runs, **_):
        return [Shouting(str(run).rpartition("/")[2], "shouting", tmp_path / str(run), None) for run in runs]

    monkeypatch.setattr(api, "load_all", load)
    return load


@pytest.fixture
def notes(tmp_path):
    """A folder with texts, a table and another file."""
    folder = tmp_path / "notes"
    (folder / "below").mkdir(parents=True)
    for name in ("note10.txt", "note2.txt", "below/deep.txt"):
        (folder / name).write_text(f"{name.split('.')[0]} was written.")
    (folder / "more.csv").write_text("id,text,author\n7,Seven is here.,Ann\n8,Eight is here.,Bo\n")
    (folder / "scan.pdf").write_bytes(b"%PDF")
    (folder / ".hidden.txt").write_text("hidden")
    return folder


def test_a_folder_gives_its_texts_and_tables_by_name(notes):
    """Numbered names sort numerically, unread files are named, and subfolders need a pattern."""
    found = open_documents([str(notes)])
    assert [document.id for document in found] == ["7", "8", "note2.txt", "note10.txt"] and found.number == 4
    assert found.notes == [f"Not read in {notes}: scan.pdf."]
    assert [document.id for document in open_documents([f"{notes}/**/*.txt"])] == [
        "deep.txt",
        "note2.txt",
        "note10.txt",
    ]
    several = open_documents([str(notes / "note2.txt"), str(notes / "more.csv")], cells=True)
    assert several.columns == ["id", "text", "author"]
    assert [document.cells.get("author") for document in several] == [None, "Ann", "Bo"]


def test_a_named_column_is_that_of_the_tables(notes):
    """Texts next to tables, in one folder or named, are documents as they are; without a table, a column is refused."""
    found = open_documents([str(notes)], "author")
    assert [document.text for document in found] == ["Ann", "Bo", "note2 was written.", "note10 was written."]
    text, table = str(notes / "note2.txt"), str(notes / "more.csv")
    assert [document.id for document in open_documents([text, table], "text")] == ["note2.txt", "7", "8"]
    with pytest.raises(DataError, match=r"There is no table among the documents .*note2\.txt.*: leave --column out"):
        open_documents([text], "text")


@pytest.mark.parametrize(
    ("source", "message"),
    [("nowhere.txt", "There is no file"), ("*.doc", "No file matches"), ("below", "holds no text .*scan.pdf")],
)
def test_what_holds_no_document_is_named(source, message, tmp_path, monkeypatch):
    """A missing file, a pattern without matches, and a folder without texts give one message each."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "below").mkdir()
    (tmp_path / "below/scan.pdf").write_bytes(b"%PDF")
    with pytest.raises(DataError, match=message):
        open_documents([source])


def test_the_column_of_the_run_comes_before_the_usual_names(tmp_path):
    """A named column comes first, then the run's own, then recognized names."""
    table = tmp_path / "tickets.jsonl"
    table.write_text(json.dumps({"nr": 5, "ticket_text": "One.", "text": "Two."}) + "\n")
    own = [Columns(), Columns(document="ticket_text", id="nr")]
    assert [(each.id, each.text) for each in open_documents([str(table)], None, own)] == [("5", "One.")]
    assert [each.text for each in open_documents([str(table)], "text", own)] == ["Two."]
    assert [each.text for each in open_documents([str(table)], None, [Columns(document="gone")])] == ["Two."]


def test_summaries_are_written_next_to_every_column_in_order(notes, loud, tmp_path):
    """Ids, the tables' columns and the summaries are written, one row per document, as CSV and as JSON lines."""
    rows = open_documents([str(notes / "more.csv"), str(notes / "note2.txt")], cells=True)
    for name in ("made.csv", "made.jsonl"):
        summary_files.write_summary_file(loud(["lora"]), rows, tmp_path / name)
    header, *lines = csv.reader((tmp_path / "made.csv").open())
    assert header == ["id", "text", "author", "summary", "at_cap", "truncated"]
    assert lines == [
        ["7", "Seven is here.", "Ann", "SEVEN", "false", "false"],
        ["8", "Eight is here.", "Bo", "EIGHT", "false", "false"],
        ["note2.txt", "", "", "NOTE2", "false", "false"],
    ]
    first, *_ = map(json.loads, (tmp_path / "made.jsonl").open())
    assert first == dict(zip(header, ["7", "Seven is here.", "Ann", "SEVEN", False, False], strict=True))
    assert list(pandas.read_csv(tmp_path / "made.csv")["summary"]) == ["SEVEN", "EIGHT", "NOTE2"]


def test_a_cell_with_a_carriage_return_stays_one_cell(loud, tmp_path):
    """Old texts have lone carriage returns: every reader of the table gets the same rows."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.csv"
    source.write_text(json.dumps({"document": "One line.\rAnother.", "note": "first\rsecond"}) + "\n")
    api.summarize_to_file(["lora"], [source], out)
    with out.open(newline="") as file:
        header, row = csv.reader(file)
    assert dict(zip(header, row, strict=True))["note"] == "first\rsecond"
    assert out.read_bytes().endswith(b"\n") and not out.read_bytes().endswith(b"\r\n")


def test_nothing_is_not_taken_for_something(notes, tmp_path):
    """No run, no folder, or a text next to documents is refused."""
    for call in (partial(api.summarize, [], text="A."), partial(api.summarize_to_file, [], notes, tmp_path / "a.csv")):
        with pytest.raises(ConfigError, match="No run is given"):
            call()
    with pytest.raises(ConfigError, match="documents or a text, not both"):
        api.summarize(["lora"], ["a.csv"], text="A.")
    with pytest.raises(ResultsError, match="No results folder is given"):
        api.report([], to=tmp_path)


def test_names_that_a_table_has_are_not_overwritten(loud, tmp_path):
    """A reference is unchanged; several runs, also with the same label, get separate columns."""
    table = tmp_path / "pairs.csv"
    table.write_text("document,summary\nOne two.,A reference.\n")
    rows = open_documents([str(table)], cells=True)
    made = tmp_path / "made.jsonl"
    summary_files.write_summary_file(loud(["lora"]), rows, made)
    (line,) = map(json.loads, made.open())
    assert (line["summary"], line["generated_summary"], line["id"]) == ("A reference.", "ONE", "pairs.csv-1")
    summary_files.write_summary_file(loud(["a/lora", "b/lora", "full"]), rows, made)
    (line,) = map(json.loads, made.open())
    assert {"summary_lora_1", "summary_lora_2", "summary_full", "truncated_full"} <= set(line)


def test_a_column_named_id_is_not_overwritten(loud, tmp_path):
    """Documents are identified by `id` before `document_id`; if a run's own column is another, `id` is unchanged."""
    table = tmp_path / "two.csv"
    table.write_text("document_id,id,document\nx1,7,One two.\n")
    assert [each.id for each in open_documents([str(table)])] == ["7"]
    made = tmp_path / "made.jsonl"
    own = {"document_id": "x1", "id": "7", "document": "One two."}
    for columns, key in ((Columns(), {"id": "7"}), (Columns(id="document_id"), {"generated_id": "x1"})):
        rows = open_documents([str(table)], None, [columns], cells=True)
        summary_files.write_summary_file(loud(["lora"]), rows, made)
        (line,) = map(json.loads, made.open())
        assert line == {**own, **key, "summary": "ONE", "at_cap": False, "truncated": False}


def test_cells_of_every_kind_are_valid_json(loud, tmp_path):
    """NaN and infinity are null, and empty in CSV, also within lists; bytes are refused before anything is written."""
    table = tmp_path / "cells.parquet"
    nan, infinite = float("nan"), float("inf")
    columns = {"document": ["One."], "a": [nan], "b": [-infinite], "c": [[1.5, nan]], "d": [{"e": infinite}]}
    pandas.DataFrame(columns).to_parquet(table)
    rows = open_documents([str(table)], cells=True)
    for name in ("made.csv", "made.jsonl"):
        summary_files.write_summary_file(loud(["lora"]), rows, tmp_path / name)
    line = json.loads((tmp_path / "made.jsonl").read_text(), parse_constant=pytest.fail)
    assert [line[name] for name in "abcd"] == [None, None, [1.5, None], {"e": None}]
    (row,) = csv.DictReader((tmp_path / "made.csv").open())
    assert [row[name] for name in "abcd"] == ["", "", "[1.5, null]", '{"e": null}']
    pandas.DataFrame({"document": ["One."], "image": [{"bytes": b"\x89PNG"}]}).to_parquet(table)
    assert [each.text for each in open_documents([str(table)])] == ["One."]
    with pytest.raises(DataError, match=r"cells\.parquet, row 1: column 'image' holds bytes"):
        open_documents([str(table)], cells=True)


def test_a_file_that_fails_half_way_is_not_there(notes, loud, tmp_path, monkeypatch):
    """The file is complete or absent; an existing one is kept until it is replaced."""
    made = tmp_path / "made.csv"
    made.write_text("mine")
    with pytest.raises(ResultsError, match="already exists: give another name, or --overwrite"):
        api.summarize_to_file("lora", str(notes), made)

    def broken(self, documents):
        yield 0, Summary("ONE")
        raise RuntimeError("no memory")

    monkeypatch.setattr(Shouting, "stream", broken)
    with pytest.raises(RuntimeError):
        api.summarize_to_file("lora", str(notes), made, overwrite=True)
    assert made.read_text() == "mine" and not list(tmp_path.glob(".made*"))
    with pytest.raises(ConfigError, match=r"\.csv or \.jsonl is needed"):
        api.summarize_to_file("lora", str(notes), tmp_path / "made.xlsx")


def test_the_command_takes_files_folders_patterns_and_a_text(notes, loud, tmp_path, monkeypatch, capsys):
    """Many files after `--file`, with the run before or after them; a single text; and a file to write to."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "adapter_config.json").write_text("{}")
    files = [str(notes / "note2.txt"), str(notes / "note10.txt")]
    for arguments in ([str(run), "--file", *files], ["--file", *files, str(run)]):
        assert cli.main(["summarize", *arguments]) == 0
        printed = capsys.readouterr().out
        assert "== note2.txt, run (" in printed and "NOTE10" in printed
    assert cli.main(["summarize", str(run), "--file", files[0]]) == 0
    assert capsys.readouterr().out == "NOTE2\n"
    assert cli.main(["summarize", str(run), "--text", "The council met on Monday."]) == 0
    captured = capsys.readouterr()
    assert captured.out == "THE\n" and "1 of 1 document was too long" in captured.err
    made = tmp_path / "made.csv"
    assert cli.main(["summarize", str(run), "--file", str(notes), "--out", str(made)]) == 0
    assert capsys.readouterr().out == f"{made}: 4 documents\n" and len(made.read_text().splitlines()) == 5
    assert cli.main(["summarize", "--file", files[0]]) == 2
    assert "RUN is missing" in capsys.readouterr().err
    assert cli.main(["summarize", str(run), "--text", "x", "--file", files[0]]) == 2


def test_a_call_takes_one_run_and_documents_of_any_kind(notes, loud):
    """A text, a file, several files, and pairs are accepted; a name is never taken for a list of letters."""
    first, second = str(notes / "note2.txt"), notes / "note10.txt"
    calls = {
        ("note2.txt",): {"documents": first},
        ("note2.txt", "note10.txt"): {"documents": [first, second]},
        ("a", "b"): {"documents": [("a", "One."), ("b", "Two.")]},
        ("text",): {"text": "One two."},
        (): {"documents": []},
    }
    for names, call in calls.items():
        assert sorted(name for _, name, _ in api.summarize("some/lora", **call)) == sorted(names)

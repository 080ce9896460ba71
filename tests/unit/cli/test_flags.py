"""Options that would have no effect are refused, with what to do instead."""

import re

import pytest

import triptych
from support.folders import DOCUMENTS, write_results
from triptych import cli
from triptych.config.schema import Suite
from triptych.errors import ConfigError, ResultsError
from triptych.results.reading import read_comparison
from triptych.run import entries
from triptych.storage.files import make_folder
from triptych.suite import executors, reports

DATA = f"""
import triptych


@triptych.register("notes")
class Notes(triptych.Dataset):
    '''Notes.'''

    def splits(self):
        return ("test",)

    def examples(self, split):
        for n in range({DOCUMENTS}):
            yield triptych.Example(f"d{{n}}", f"Document {{n}}.", f"Reference {{n}}.")

    def fingerprint(self):
        return "notes"
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["summarize", "out", "--text", "x", "--column", "body"], "give it without --file, --out and --column"),
        (["summarize", "out", "--text", "x", "--overwrite"], "--overwrite replaces the file of --out"),
        (["summarize", "out", "--file", "x", "--out", "made.csv", "--json"], "--json prints lines of JSON"),
        (["advise", "out", "--model", "gpt2"], "give --export DIR"),
        (["advise", "out", "--plugin", "mine.py"], "--plugin is for --export"),
        (["score", "good=made.csv", "--no-report"], "leave --no-report out"),
        (["list", "data", "out", "--plugin", "mine.py"], "--plugin does not change what a folder contains"),
        (["list", "keys", "--set", "columns.id=a"], "--set belongs to `triptych list data DIR`"),
        (["train", "lora", "--lock", "out", "0"], "--lock is for programs, and needs --events"),
        (["train", "lora", "--methods", ","], "at least one method is needed"),
        (["train", "lora", "out/suite.json", "--seeds", "0,0"], "A seed is given twice: 0, 0"),
        (["compare", "--run-gpus", "1"], "are for --executor ray"),
        (["compare", "--dry-run", "--run-gpus", "1"], "are for --executor ray"),
        (["compare", "--executor", "ray", "--run-gpus", "nan"], "numbers of 0 or more are needed"),
        (["compare", "--executor", "ray", "--run-cpus", "-1"], "numbers of 0 or more are needed"),
        (["compare", "--executor", "ray://"], "give local, ray (a cluster on this machine) or ray://HOST:PORT"),
    ],
    ids=" ".join,
)
def test_an_option_without_an_effect_is_refused(arguments, said, tmp_path, monkeypatch, capsys):
    """It is refused before anything is read or written, instead of being ignored."""
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "out", model="tiny", data="newswire")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    """Every command that makes a folder refuses one below a file, and says which it is."""
    (tmp_path / "file").write_text("")
    out = write_results(tmp_path / "out")
    for make in (make_folder, lambda folder: triptych.report(out, to=folder)):
        with pytest.raises(ResultsError, match=r"The folder '.*file/below' cannot be made: Not a directory\."):
            make(tmp_path / "file" / "below")


def test_seeds_are_chosen_once():
    """A method's seeds are those requested, each once, or all that the suite plans for it."""
    suite = Suite(methods=("lora", "lead-3"), seeds=(3, 1))
    lora, lead = entries.suite_entries(suite)
    assert list(entries.choose_seeds(suite, lora, None)) == [3, 1]
    assert list(entries.choose_seeds(suite, lead, None)) == [3]
    assert list(entries.choose_seeds(suite, lora, [1])) == [1]
    with pytest.raises(ConfigError, match="A seed is given twice: 1, 1"):
        entries.choose_seeds(suite, lora, [1, 1])


def test_a_report_finds_the_documents_of_a_data_set_in_a_plug_in(tmp_path, monkeypatch, capsys):
    """`report --plugin` reads the file: without the articles, nothing is said about what summaries add to them."""
    (tmp_path / "notes.py").write_text(DATA)
    out = write_results(tmp_path / "out", data="notes")
    write = reports.write_report
    monkeypatch.setattr(reports, "write_report", lambda results, comparison, to: write(results, comparison, to, False))
    assert cli.main(["report", str(out), "--plugin", str(tmp_path / "notes.py")]) == 0
    assert read_comparison(out).checks.documents_known


def test_an_empty_text_is_not_summarized(tmp_path, capsys):
    """`--text` with nothing but spaces, as from an unset variable, is refused like an empty file."""
    small = {"limits": {"train_documents": 4, "validation_documents": 2, "test_documents": 2}}
    triptych.train("lead-3", preset="demo", settings=small, methods="lead-3", out=tmp_path / "out", device="cpu")
    for text in ("", " \n"):
        assert cli.main(["summarize", str(tmp_path / "out"), "--text", text]) == 2
        captured = capsys.readouterr()
        assert "is empty: there is nothing to summarize" in captured.err and captured.out == ""
    assert cli.main(["summarize", str(tmp_path / "out"), "--text", "It rained."]) == 0
    assert capsys.readouterr().out == "It rained.\n"


@pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "ray://[::1]:1", "ray://127.0.0.1:99999"])
def test_a_cluster_that_does_not_answer_is_refused_before_the_folder_is_claimed(address, tmp_path, monkeypatch):
    """A wrong address leaves no results folder behind, so another one can be given with other settings."""
    monkeypatch.setattr(executors.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ConfigError, match=f"The Ray cluster {re.escape(repr(address))} cannot be reached: "):
        triptych.compare(preset="demo", methods="lead-3", out=tmp_path / "out", executor=address, device="cpu")
    assert not (tmp_path / "out").exists()

"""`triptych init` writes a suite file that runs as it is, and says what it examined."""

import tomllib
from pathlib import Path

import pytest

from triptych import cli
from triptych.api import list_keys
from triptych.config.schema import make_suite
from triptych.run import entries
from triptych.run.corpus import reserved_positions
from triptych.suite import new_suite


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(new_suite, "_products_per_second", lambda device: 1e16)
    rows = "".join(f"{i},A day in town {i}. It rained.,Rain {i}.\n" for i in range(40))
    Path("tickets.csv").write_text(f"key,Ticket text,the gist\n{rows}")


def test_the_file_names_columns_and_limits_that_fit(tmp_path, capsys):
    """Columns are written out, documents are cut to the window, and the suite is one that the model can run."""
    Path("mine.py").write_text("")
    named = ["columns.document=Ticket text", "columns.summary=the gist", "method.lora.rank=4"]
    given = ["--data", "tickets.csv", "--model", "tiny", "--plugin", "mine.py"]
    assert cli.main(["init", *given, "--set", *named]) == 0
    assert "triptych compare suite.toml --plugin mine.py --dry-run" in capsys.readouterr().out
    text = Path("suite.toml").read_text()
    suite, table = entries.resolve(tomllib.loads(text))
    assert (suite.name, suite.model, suite.data) == ("tickets", "tiny", "tickets.csv")
    assert (suite.columns.document, suite.columns.summary) == ("Ticket text", "the gist")
    assert suite.method["lora"]["rank"] == 4 and suite.seeds == (0, 1, 2)
    around = reserved_positions(table) + 7  # virtual tokens, separator and EOS
    assert suite.limits.document_tokens == 512 - around - suite.limits.summary_tokens
    assert "the model has 512 positions" in text
    for key in list_keys():
        section, _, name = key.name.rpartition(".")
        assert not section or f"[{section}]" in text
        assert f"{name} =" in text


def test_methods_under_a_label_of_ones_own_are_written_out():
    """Sections of labels with a kind, and of variants, are written too: the file compares what was asked for."""
    asked = ["method.my-lora.kind=lora", "method.my-lora.rank=2", "method.lora.kind=dora", "method.lora-all.rank=4"]
    given = ["--data", "tickets.csv", "--model", "tiny", "--methods", "lora,lora-all,lead-3", "--set", *asked]
    columns = ["columns.document=Ticket text", "columns.summary=the gist"]
    assert cli.main(["init", *given, *columns]) == 0
    suite, _ = entries.resolve(tomllib.loads(Path("suite.toml").read_text()))
    kinds = {label: options["kind"] for label, options in suite.method.items()}
    assert kinds == {"lora": "dora", "lora-all": "lora", "lead-3": "lead-3", "my-lora": "lora"}
    assert suite.method["my-lora"]["rank"] == 2 and suite.method["lora-all"]["rank"] == 4


def test_recognized_columns_are_written_out():
    """Columns with usual names need no naming, and are written into the file for the reader to check."""
    Path("usual.csv").write_text(Path("tickets.csv").read_text().replace("Ticket text,the gist", "article,tl_dr"))
    assert cli.main(["init", "mine.toml", "--data", "usual.csv", "--model", "tiny"]) == 0
    made = tomllib.loads(Path("mine.toml").read_text())
    assert made["columns"] == {"document": "article", "summary": "tl_dr"} and made["name"] == "mine"


def test_a_slow_machine_gets_fewer_documents_and_a_fast_one_all(monkeypatch):
    """Work that would take longer than a night is reduced, which the file says, except for given values."""
    sizes = {}
    for speed in (1e8, 1e16):
        monkeypatch.setattr(new_suite, "_products_per_second", lambda device, speed=speed: speed)
        given = {"model": "tiny", "data": "newswire", "limits": {"test_documents": 777}}
        text = new_suite.new_suite(None, given, "mine", "cpu")
        sizes[speed] = make_suite(tomllib.loads(text))
        assert ("with fewer documents and epochs and one seed" in text) is (len(sizes[speed].seeds) == 1)
    assert sizes[1e16].limits.train_documents == 21000 and sizes[1e16].training.max_epochs == 10
    assert 64 <= sizes[1e8].limits.train_documents < 21000 and sizes[1e8].training.max_epochs == 3
    assert {made.limits.test_documents for made in sizes.values()} == {777}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "tickets.csv", "--model", "tiny"], "columns.document"),
        (["--data", "nowhere.csv", "--model", "tiny"], "nowhere.csv"),
        (["--set", "limits.train_documets=3"], "train_documents"),
        (["--methods", "lroa"], "lora"),
        (["--model", "tiny", "--data", "newswire", "--set", "limits.summary_tokens=600"], "limits.summary_tokens=64"),
        (["tickets.csv"], "exists and is not overwritten"),
        (["nowhere/suite.toml"], "cannot be written"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(arguments, said, capsys):
    """A wrong name, columns that are not recognized, a file that exists: one message, status 2, no file."""
    before = {path: path.read_bytes() for path in Path().iterdir()}
    assert cli.main(["init", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path().iterdir()} == before

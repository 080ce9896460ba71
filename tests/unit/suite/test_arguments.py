"""Arguments of a Python call: data as objects, one seed, labels in a string; and what a notebook shows."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest
import transformers

import triptych
from support.in_process import run_here
from triptych import cli
from triptych.config import reading
from triptych.config.schema import make_suite
from triptych.errors import ConfigError, InputError, ModelError, ResultsError
from triptych.models.quiet import quietly
from triptych.run.events import (
    BeginEvent,
    DoneEvent,
    EstimateEvent,
    FailedEvent,
    KeptEvent,
    PlanEvent,
    ReadyEvent,
    RemainingEvent,
    ResolvedEvent,
    RunId,
    StageEvent,
    StepEvent,
    ignore,
)
from triptych.suite import executors, notebook, reports
from triptych.suite.arguments import SuiteArguments

FRAME = pandas.DataFrame(
    {
        "document": [f"The council of town {n} met on Monday. It will build bridge {n} by May." for n in range(12)],
        "summary": [f"Town {n} will build a bridge." for n in range(12)],
    }
)
SMALL = {
    "limits": {"train_documents": 6, "validation_documents": 2, "test_documents": 2, "document_tokens": 200},
    "training": {"max_epochs": 1},
    "decoding": {"max_new_tokens": 4, "num_beams": 1},
    "search": {"trials": 0},
    "split": {"fractions": [0.5, 0.25, 0.25]},
}


@pytest.fixture(autouse=True)
def _here(workplace, monkeypatch):
    """Run in this process, without reports."""
    monkeypatch.setattr(executors, "_carry_out", run_here)
    monkeypatch.setattr(reports, "write_report", lambda results, comparison, folder: None)


def _compare(out, data, **more):
    call = {"model": "tiny", "settings": SMALL, "methods": "lead-3", "seeds": 0, "device": "cpu"} | more
    return triptych.compare(data=data, out=out, **call)


def _files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock")


def test_a_frame_is_compared_from_its_own_folder_and_resumed(workplace):
    """Its documents are written below OUT, `suite.json` names them, and the same frame again runs nothing."""
    out, said = workplace / "frame", []
    comparison = _compare(out, FRAME)
    (made,) = (out / "data").iterdir()
    suite = json.loads((out / "suite.json").read_text())
    assert suite["data"] == str(made) and comparison.data == f"data/{made.name}" and suite["methods"] == ["lead-3"]
    assert comparison.num_documents == 2 and not comparison.rows["lead-3"].failed_seeds
    again = _compare(out, FRAME.copy(), listener=lambda run, event: said.append(event))
    assert again == comparison and any(isinstance(event, KeptEvent) for event in said)
    log = [line[20:] for line in (out / "log.txt").read_text().splitlines()]
    assert log[0].startswith("triptych ") and [line.partition(" ")[0] for line in log].count("resumed,") == 1
    assert log.count(comparison.verdict) == 2 and all(flag in log for flag in comparison.flags)
    assert "R-1" in (out / "runs/lead-3/0/log.txt").read_text()  # each run has its own
    before = _files(out)
    with pytest.raises(ResultsError, match="data is"):
        _compare(out, FRAME.iloc[1:])
    assert _files(out) == before


def test_a_folder_with_its_documents_may_be_moved_and_used_from_anywhere(workplace, monkeypatch):
    """From another working directory and under another name, a folder made from a frame can be extended, keeps its
    learning-rate search, and can be evaluated and reported."""
    searched = SMALL | {"search": {"trials": 2}}
    monkeypatch.chdir(workplace)
    _compare("first", FRAME, methods="bitfit", settings=searched)
    search = (workplace / "first/runs/bitfit/search.json").read_bytes()
    (workplace / "elsewhere").mkdir()
    monkeypatch.chdir(workplace / "elsewhere")
    (workplace / "first").rename(workplace / "elsewhere/second")
    grown = triptych.compare("second", methods="lead-3", seeds=[0, 1], device="cpu")
    assert set(grown.rows) == {"bitfit", "lead-3"} and grown.rows["bitfit"].seeds == [0, 1]
    assert (workplace / "elsewhere/second/runs/bitfit/search.json").read_bytes() == search
    assert triptych.evaluate("second/runs/bitfit/0").reproduced
    monkeypatch.chdir("/")
    again = _compare(workplace / "elsewhere/second", FRAME, settings=searched, seeds=[0, 1])
    assert again.rows.keys() == grown.rows.keys()
    assert triptych.report(workplace / "elsewhere/second").rows.keys() == grown.rows.keys()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"out": "results/term"}, "term"),
        ({"out": "results/term", "preset": "quick"}, "quick"),
        ({"out": "results/term", "settings": SMALL | {"name": "mine"}}, "mine"),
        ({"out": "results/term", "suite_file": "named.toml"}, "of the file"),
        ({"out": "results/term", "suite_file": "nameless.toml"}, "term"),
        ({"out": "kept"}, "older"),
        ({"out": "kept", "preset": "quick"}, "older"),
        ({"out": "."}, "workplace"),
        ({"out": ".hidden"}, "assignment"),
        ({}, "assignment"),
    ],
)
def test_a_comparison_is_named_after_its_folder_where_nothing_else_names_it(tmp_path, monkeypatch, given, name):
    """A preset, settings or a suite file may name it, and an existing folder keeps its suite's name."""
    (tmp_path / "workplace").mkdir()
    monkeypatch.chdir(tmp_path / "workplace")
    Path("named.toml").write_text('name = "of the file"')
    Path("nameless.toml").write_text("seeds = [0]")
    Path("kept").mkdir()
    Path("kept/suite.json").write_text(json.dumps(make_suite({"name": "older"}).model_dump(mode="json")))
    with SuiteArguments(data="mine", **given).settings_with_files() as over:
        merged = reading.merge_settings(given.get("suite_file"), given.get("preset"), over)
    assert make_suite(merged).name == name


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"limits.train_documents": 8}, {"limits": {"train_documents": 8}}),
        (
            {"limits": {"test_documents": 2}, "limits.train_documents": 8, "name": "n"},
            {"limits": {"test_documents": 2, "train_documents": 8}, "name": "n"},
        ),
        ({"method.lora.rank": 4, "method.lora.alpha": 8}, {"method": {"lora": {"rank": 4, "alpha": 8}}}),
        ({"a..b": 1, 3: 4}, {"a..b": 1, 3: 4}),
    ],
)
def test_a_dotted_key_is_a_key_of_its_table(settings, expected):
    """Dotted keys work as in `--set`, next to tables given as dictionaries."""
    assert SuiteArguments(settings=settings).overriding == reading.nested(settings) == expected


@pytest.mark.parametrize(("seeds", "expected"), [(3, [3]), ("0,1", [0, 1]), ([4, 5], [4, 5])])
def test_seeds_are_numbers_however_they_are_given(seeds, expected):
    """One seed, several, or a string as on the command line."""
    assert list(SuiteArguments(seeds=seeds).overriding["seeds"]) == expected


@pytest.mark.parametrize("seeds", ["a", "many"])
def test_other_texts_for_seeds_are_refused(workplace, seeds):
    """Other strings are refused by `compare` and `train` with the command line's message."""
    said = f"seeds '{seeds}': whole numbers separated by commas are needed, such as 0,1,2."
    with pytest.raises(ConfigError, match=said):
        _compare(workplace / "refused", FRAME, seeds=seeds)
    with pytest.raises(ConfigError, match=said):
        triptych.train("lead-3", seeds=seeds)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pandas.DataFrame(), "data has no columns and no rows"),
        (FRAME[:0], "data has no rows"),
        (FRAME.assign(summary=""), "data: none of the 12 rows has a summary in column 'summary'"),
        (FRAME.assign(document=""), "no pair is left"),
        (FRAME.rename(columns={"document": "x", "summary": "y"}), 'In Python: settings={"columns.document": NAME'),
    ],
)
@pytest.mark.parametrize("call", [triptych.compare, triptych.dry_run])
def test_a_frame_that_cannot_be_used_is_refused_without_a_path_of_ours(workplace, frame, said, call):
    """The message is about the data, not about a temporarily written file."""
    with pytest.raises(InputError) as error:
        call(data=frame, model="tiny", settings=SMALL, methods="lead-3", out=workplace / "refused")
    assert said in str(error.value) and "tmp" not in str(error.value) and "parquet" not in str(error.value)


def test_fresh_takes_the_documents_along(workplace):
    """The folder set aside stays complete, and the new folder has the documents as well."""
    out = workplace / "again"
    _compare(out, FRAME)
    _compare(out, FRAME, fresh=True)
    old = workplace / "again.before-1"
    assert _files(old / "data") == _files(out / "data") != []
    assert (old / "runs/lead-3/0/record.json").is_file() and (out / "runs/lead-3/0/record.json").is_file()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "./nowhere"}, ModelError),
        ({"methods": ["nothing"]}, ConfigError),
        ({"settings": SMALL | {"name": "a/b"}}, ConfigError),
        ({"settings": SMALL | {"limits": {"summary_tokens": 1}}}, InputError),
    ],
)
def test_a_call_that_is_refused_leaves_nothing(workplace, change, error):
    """Neither the results folder nor the documents are left."""
    with pytest.raises(error):
        _compare(workplace / "refused", FRAME, **change)
    assert not (workplace / "refused").exists()


def test_a_folder_of_the_users_own_named_data_is_not_taken_for_ours(workplace):
    """An OUT with other files is refused as usual, and its content is left alone."""
    mine = workplace / "mine"
    (mine / "data").mkdir(parents=True)
    (mine / "data/thesis.csv").write_text("mine")
    with pytest.raises(ResultsError, match="holds other files"):
        _compare(mine, FRAME)
    assert _files(mine) == ["data", "data/thesis.csv"]


def test_a_dry_run_of_objects_writes_nothing_and_names_where_they_would_be(workplace):
    """The forecast names the folder that `compare` would write."""
    made = triptych.dry_run(data=FRAME, model="tiny", settings=SMALL, methods="lead-3", seeds=1, out=workplace / "dry")
    assert made.suite.data.startswith(str(workplace / "dry/data")) and made.suite.seeds == (1,)
    assert not (workplace / "dry").exists()


def test_train_takes_the_same_arguments(workplace):
    """Objects, a model, one seed; settings may contain the object too."""
    common = {"model": "tiny", "out": workplace / "trained", "device": "cpu"}
    (record,) = triptych.train(
        "untuned", data={"train": FRAME[:8], "test": FRAME[8:]}, settings=SMALL, seeds=2, **common
    )
    assert record.seed == 2 and record.data.splits["test"].used == 2
    assert record.config["data"].startswith(str(workplace / "trained/data"))
    both = SMALL | {"data": {"train": FRAME[:8], "test": FRAME[8:]}}
    (again,) = triptych.train("lead-3", settings=both, seeds=2, **common)
    assert again.data.fingerprint == record.data.fingerprint


def test_a_cell_of_a_notebook_shows_one_bar(monkeypatch):
    """In a notebook shell, events update a single display; their content is shown as text."""
    shown = []
    place = SimpleNamespace(update=lambda html: shown.append(html))
    fake = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1))
    shell = SimpleNamespace(HTML=str, display=lambda html, display_id: shown.append(html) or place)
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", shell)
    listener, run = notebook.usual_listener(), RunId("lora", 0)
    listener(None, ReadyEvent(out="o", notes=["cut <here>"], language="", changes=[]))
    listener(RunId("lead-3", 0), KeptEvent(index=0, total=3))
    listener(run, BeginEvent(index=1, total=3))
    listener(run, StageEvent(stage="train", epochs=1, total=9))
    monkeypatch.setattr(notebook, "UPDATE_SECONDS", -1)
    progress = {"epoch": 0, "tokens": 1, "energy_joules": None, "train_flops": None, "train_seconds": 1.0, "total": 9}
    listener(run, StepEvent(step=4, loss=1.25, learning_rate=0.1, **progress))
    assert "lora, seed 0: training: step 4 of up to 9, loss 1.250" in shown[-1] and "1 of 3 runs" in shown[-1]
    listener(None, RemainingEvent(done=1, total=3, elapsed_seconds=9.0, seconds=90.0))
    assert "1 of 3 runs, about 90.0 s left" in shown[-1]
    listener(run, DoneEvent(test_loss=1.25, rouge1=30.0))
    assert "lora, seed 0: done in 0 s, test loss 1.2500, R-1 30.00" in shown[-1]
    listener(None, RemainingEvent(done=3, total=3, elapsed_seconds=9.0, seconds=0.0))
    listener(RunId("full", 0), FailedEvent(message="no <memory>", index=2, total=3))
    assert "3 of 3 runs" in shown[-1] and "cut &lt;here&gt;" in shown[-1] and "FAILED: no &lt;memory&gt;" in shown[-1]
    assert "lora, seed 0: done in" in shown[-1] and "step 4" not in shown[-1]


def test_a_dry_run_leaves_no_bar_in_its_cell(workplace, monkeypatch):
    """The bar of a dry run is removed when it returns, and when it is refused."""
    shown = []
    place = SimpleNamespace(update=shown.append)
    shell = SimpleNamespace(HTML=str, display=lambda html, display_id: shown.append(html) or place)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1)))
    monkeypatch.setitem(sys.modules, "IPython.display", shell)
    call = {"data": FRAME, "model": "tiny", "methods": "lead-3", "out": workplace / "none", "timing": False}
    triptych.dry_run(settings=SMALL, **call)
    assert "preparing data" in shown[0] and shown[-1] == ""
    with pytest.raises(InputError):
        triptych.dry_run(settings=SMALL | {"limits": {"summary_tokens": 1}}, **call)
    assert shown[-1] == ""


def test_the_plan_is_told_before_anything_is_timed(workplace):
    """A dry run's listener gets the plan, then each method's estimate; without timing there is no estimate."""
    said = []
    call = {"data": FRAME, "model": "tiny", "settings": SMALL, "methods": "lead-3,bitfit", "seeds": 0, "device": "cpu"}
    found = triptych.dry_run(**call, listener=lambda run, event: said.append(type(event)))
    order = [kind for kind in said if kind in (ResolvedEvent, PlanEvent, EstimateEvent)]
    assert order == [ResolvedEvent, PlanEvent, EstimateEvent, EstimateEvent] and found.seconds > 0
    said.clear()
    untimed = triptych.dry_run(**call, timing=False, listener=lambda run, event: said.append(type(event)))
    assert PlanEvent in said and EstimateEvent not in said and untimed.seconds is None


def test_compare_tells_where_prepared_data_is_kept_instead(workplace, monkeypatch):
    """A home folder that is not writable gives one line among what the user must know."""
    monkeypatch.setattr(triptych.api, "cache_place", lambda: SimpleNamespace(note="kept elsewhere"))
    said = []
    _compare(workplace / "told", FRAME, listener=lambda run, event: said.append(event))
    (ready,) = [event for event in said if isinstance(event, ReadyEvent)]
    assert "kept elsewhere" in ready.changes


def test_a_call_without_a_listener_has_the_usual_one_and_no_foreign_bar(workplace, monkeypatch, capfd):
    """`compare` and `train` show the notebook's bar if there is a notebook; loading a model prints nothing."""
    said = []
    monkeypatch.setattr(triptych.api, "usual_listener", lambda: lambda run, event: said.append(type(event)))
    _compare(workplace / "shown", FRAME, methods="bitfit")
    assert ReadyEvent in said and DoneEvent in said
    said.clear()
    call = {"data": FRAME, "model": "tiny", "settings": SMALL | {"seeds": 0}, "device": "cpu"}
    (record,) = triptych.train("untuned", out=workplace / "alone", **call)
    assert record.seed == 0 and StageEvent in said
    triptych.load(workplace / "shown/runs/bitfit/0").summarize("The council of town 1 met on Monday.")
    assert "Loading weights" not in "".join(capfd.readouterr())


def test_a_text_that_the_report_cannot_show_is_refused_before_anything_runs(workplace):
    """A missing figure named by `discussion.md` costs no run."""
    out = workplace / "argued"
    _compare(out, FRAME)
    (out / "discussion.md").write_text("![p](pic.png)")
    with pytest.raises(ResultsError, match="there is no such file"):
        _compare(out, FRAME, methods="lead-3,bitfit")
    assert not (out / "runs/bitfit").exists()
    (out / "discussion.md").unlink()
    assert set(_compare(out, FRAME, methods="lead-3,bitfit").rows) == {"lead-3", "bitfit"}


def test_a_table_is_read_by_the_columns_of_the_run(workplace):
    """Summaries of a table, returned or written to a file, use the column that the run was trained on."""
    named = {"columns": {"document": "ticket_text", "summary": "gist"}}
    frame = FRAME.rename(columns={"document": "ticket_text", "summary": "gist"})
    _compare(workplace / "own", frame, methods="bitfit", settings=SMALL | named)
    table, run = workplace / "new.csv", workplace / "own/runs/bitfit/0"
    pandas.DataFrame({"remark": ["not this"], "ticket_text": [FRAME["document"][0]]}).to_csv(table, index=False)
    ((_, _, given),) = triptych.summarize(run, table, device="cpu")
    assert given.document_tokens > 10
    assert triptych.summarize_to_file(run, table, workplace / "made.csv", device="cpu") == 1
    assert pandas.read_csv(workplace / "made.csv", keep_default_na=False)["summary"][0] == given.text


def test_train_prints_the_scores_as_tables_do(workplace, capsys):
    """The command's line about a run has rounded figures, and a dash for what the method lacks."""
    FRAME.to_csv(workplace / "pairs.csv", index=False)
    words = [f"{table}.{key}={json.dumps(value)}" for table, keys in SMALL.items() for key, value in keys.items()]
    call = [
        "train",
        "lead-3",
        "--data",
        str(workplace / "pairs.csv"),
        "--model",
        "tiny",
        "--seeds",
        "0",
        "--device",
        "cpu",
    ]
    assert cli.main([*call, "--out", str(workplace / "printed"), "--set", *words]) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.fullmatch(r".*/runs/lead-3/0: test loss —, R-1 \d+\.\d\d", line)


def test_elsewhere_nothing_is_shown(monkeypatch):
    """A script, or IPython on a terminal, has no cell for a bar."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert notebook.usual_listener() is ignore
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace()))
    assert notebook.usual_listener() is ignore


def test_libraries_are_quiet_inside_and_as_they_were_afterwards():
    """No foreign progress bar appears in a call from Python; the caller's settings are restored."""
    logging = transformers.logging
    before = logging.is_progress_bar_enabled(), logging.get_verbosity()
    try:
        logging.enable_progress_bar()
        logging.set_verbosity_info()
        with pytest.raises(KeyError), quietly():
            assert not logging.is_progress_bar_enabled() and logging.get_verbosity() == logging.ERROR
            raise KeyError
        assert logging.is_progress_bar_enabled() and logging.get_verbosity() == logging.INFO
    finally:
        logging.set_verbosity(before[1])
        (logging.enable_progress_bar if before[0] else logging.disable_progress_bar)()

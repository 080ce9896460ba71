"""Who may write to a results folder, what a killed suite leaves there, and what happens to a moved folder."""

import json
import os
import signal
import subprocess
import sys

import pytest

import triptych
from triptych import cli
from triptych.config import reading, schema
from triptych.errors import ResultsError, RunFailed
from triptych.results import json_files, lock, records
from triptych.run import entries, preflight
from triptych.run.events import RunId
from triptych.storage import files, locks
from triptych.suite import executors, reports
from triptych.suite.finished import finished_record, refuse_other_data
from triptych.suite.folder import check_claim, claim_folder
from triptych.suite.planned_runs import PlannedRun
from triptych.use.evaluate import Evaluation

SUITE = schema.make_suite(reading.preset_settings("demo") | {"methods": ["lead-3"]})
OTHER = schema.make_suite(reading.preset_settings("demo") | {"methods": ["lead-3"], "seeds": [7]})


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Make no test wait for a lock."""
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.0)


def test_fresh_never_moves_a_folder_that_a_suite_works_in(tmp_path):
    """While the lock is held `fresh` is refused and OUT stays in place unchanged; afterwards it is set aside."""
    out = tmp_path / "out"
    with claim_folder(out, SUITE):
        with pytest.raises(ResultsError, match="Another process is using"), claim_folder(out, OTHER, fresh=True):
            pytest.fail("the folder was claimed twice")
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert json_files.read_json(out / "suite.json")["seeds"] == [0]
    with claim_folder(out, OTHER, fresh=True):
        assert json_files.read_json(out / "suite.json")["seeds"] == [7]
        assert json_files.read_json(tmp_path / "out.before-1/suite.json")["seeds"] == [0]


def test_fresh_by_the_command_is_refused_while_a_suite_is_at_work(tmp_path, capsys):
    """`compare --fresh` on an OUT in use ends with status 2 and changes nothing."""
    out = tmp_path / "out"
    with claim_folder(out, SUITE):
        before = sorted(out.rglob("*"))
        small = ["--methods", "lead-3", "--set", "limits.test_documents=2", "limits.train_documents=4"]
        assert cli.main(["compare", "--fresh", "--out", str(out), *small]) == 2
        assert sorted(out.rglob("*")) == before and not (tmp_path / "out.before-1").exists()
    assert "Another process is using" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["compare"], ["compare", "--within", "1h"], ["train", "lead-3"]])
def test_a_folder_at_work_is_refused_before_anything_is_prepared(tmp_path, monkeypatch, capsys, command):
    """Neither documents nor a plan are prepared for a call that could not begin."""
    monkeypatch.setattr(preflight, "check_suite", lambda *_, **__: pytest.fail("the suite was checked"))
    with claim_folder(tmp_path / "out", SUITE):
        (tmp_path / "out/suite.json").unlink()
        assert cli.main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "Another process is using" in capsys.readouterr().err


def test_a_folder_moved_between_opening_and_locking_is_not_taken_for_the_new_one(tmp_path, monkeypatch):
    """The lock is taken on OUT's current lock file, not on that of a folder that was renamed meanwhile."""
    out, flock, moved = tmp_path / "out", locks._flock.flock, []
    out.mkdir()

    def move_first(descriptor, how):
        if not moved:
            moved.append(out.rename(tmp_path / "moved"))
            out.mkdir()
        return flock(descriptor, how)

    monkeypatch.setattr(locks._flock, "flock", move_first)
    with lock.locked(out) as held:
        held.check()
        assert os.path.samestat(os.fstat(held.descriptor), (out / lock.LOCK).stat())


def _link(path):
    os.symlink("elsewhere", path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, _link])
def test_a_lock_file_of_another_kind_is_refused(tmp_path, make):
    """A pipe, folder or link in place of the lock gives one message; nothing waits forever or is written elsewhere."""
    make(tmp_path / lock.LOCK)
    with pytest.raises(ResultsError, match="cannot be locked"), lock.locked(tmp_path):
        pytest.fail("it was locked")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("exchanged", [False, True], ids=["moved", "exchanged"])
def test_a_suite_whose_folder_is_gone_or_anothers_stops_with_one_message(tmp_path, exchanged):
    """Neither a run nor a failed record is written, no record of the other suite is removed, and no event is passed
    on."""
    out, told = tmp_path / "out", []
    with claim_folder(out, SUITE) as held:
        held.guard(told.append)({"event": "step"})
        out.rename(tmp_path / "moved")
        if exchanged:
            with claim_folder(out, OTHER):
                pass
            json_files.write_json(out / "runs/lead-3/0/record.json", {"of": "the other suite"})
        job = executors.Job(RunId("lead-3", 0), "lead-3", ("train", "lead-3"), out / "runs/lead-3/0")
        ((_, error),) = executors.one_by_one([job], held, lambda *told: None)
        assert "was moved" in error
        for wrote in (held.check, lambda: held.guard(told.append)({"event": "step"})):
            with pytest.raises(ResultsError, match="was moved, or replaced"):
                wrote()
    assert told == [{"event": "step"}]
    assert not (out / "runs/lead-3/0/log.txt").exists()
    assert (out / "runs/lead-3/0/record.json").exists() == exchanged


def test_a_run_of_a_folder_that_was_exchanged_ends_before_it_reads_the_other_suite(tmp_path, capfd):
    """`train --events` whose lock is not OUT's ends with status 2, the message as its only event, and no run."""
    out = tmp_path / "out"
    with claim_folder(out, OTHER):
        arguments = ["train", "lead-3", str(out / "suite.json"), "--seeds", "7", "--out", str(out), "--events"]
        command = [sys.executable, "-m", "triptych", *arguments, "--lock", str(out), "ab" * 16]
        child = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    (event,) = map(json.loads, child.stdout.splitlines())
    assert child.returncode == 2 and event["event"] == "error" and "was moved" in event["message"]
    assert not (out / "runs").exists()


# What a killed suite leaves


def test_a_suite_killed_in_its_first_write_resumes(tmp_path):
    """A leftover temporary file of suite.json is no reason to refuse the folder, and is removed."""
    out = tmp_path / "out"
    out.mkdir()
    left = out / ".suite.json.k3j_2h1a"
    left.write_text('{"name": "de')
    with claim_folder(out, SUITE):
        assert not left.exists() and json_files.read_json(out / "suite.json")["name"] == "demo"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    with pytest.raises(ResultsError, match="holds other files"), claim_folder(other, SUITE):
        pytest.fail("it was claimed")


def test_a_process_killed_between_temporary_and_rename_leaves_what_is_swept(tmp_path):
    """A writer killed before its rename leaves one file matching the pattern; the next suite in OUT removes it."""
    out = tmp_path / "out"
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom triptych.storage import files\n"
        "os.replace = lambda *names: os.kill(os.getpid(), 9)\n"
        "files.write_bytes(Path(sys.argv[1]), b'half')\n"
    )
    with claim_folder(out, SUITE):
        pass
    wrote = subprocess.run(
        [sys.executable, "-c", code, str(out / "runs/lora/0/adapter/trained.safetensors")], check=False
    )
    (left,) = (out / "runs/lora/0/adapter").iterdir()
    assert wrote.returncode == -signal.SIGKILL and files.is_temporary(left)
    with claim_folder(out, SUITE):
        assert not left.exists()


@pytest.mark.parametrize(
    "name",
    [
        ".profile",
        ".notes.json",
        "report.json.abcdefgh",
        ".report.json.ABCDEFGH",
        ".mine.txt.abcdefgh",
        ".a.json.abcdefghi",
    ],
)
def test_files_that_are_not_ours_are_never_swept(tmp_path, name):
    """Only `.NAME.xxxxxxxx` for the kinds of file written there is removed, and never a link or a folder."""
    (tmp_path / name).write_text("mine")
    (tmp_path / ".a.json.abcdefgh").symlink_to(tmp_path / name)
    (tmp_path / ".b.json.abcdefgh").mkdir()
    files.sweep(tmp_path)
    assert (tmp_path / name).read_text() == "mine" and len(list(tmp_path.iterdir())) == 3


def test_a_temporary_file_that_is_being_written_is_not_swept(tmp_path):
    """A temporary file of a report being written by another process is kept."""
    with files.replacing(tmp_path / "report.html") as file:
        file.write(b"page")
        files.sweep(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == b"page"


# Ranks

LAUNCHER = """
import subprocess, sys, time
rank = "import os, time; from triptych.suite import processes; processes.LAUNCHER_SECONDS = 0.05; " \\
       "processes.end_with_launcher(); print(os.getpid(), flush=True); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", rank], start_new_session=True)
time.sleep(60)
"""


def test_a_rank_ends_with_its_launcher():
    """After `kill -9` of its launcher, a rank in its own session ends too."""
    with subprocess.Popen([sys.executable, "-c", LAUNCHER], stdout=subprocess.PIPE, text=True) as launcher:
        rank = int(launcher.stdout.readline())
        assert os.getsid(rank) == rank and launcher.poll() is None
        launcher.kill()
        assert launcher.stdout.read() == ""  # ends when the last process that holds the pipe does


# Statuses


def test_a_suite_in_which_every_run_failed_ends_with_status_1(tmp_path):
    """A suite without a finished run has failed, which is not bad input: the first reason is given."""
    with claim_folder(tmp_path / "out", SUITE):
        row = {"label": "lead-3", "kind": "lead-3", "seed": 0, "config": {}, "options": {}}
        failed = records.Record(**row, status="failed", error="It broke.")
        json_files.write_json(tmp_path / "out/runs/lead-3/0/record.json", failed.model_dump(mode="json"))
        with pytest.raises(RunFailed, match=r"lead-3 .seed 0., failed: It broke") as raised:
            reports.report_suite(tmp_path / "out")
    assert raised.value.exit_status == 1


@pytest.mark.parametrize(
    ("change", "reproduced"),
    [
        ({}, True),
        ({"test_loss": 2.0001}, True),
        ({"test_loss": 2.01}, False),
        ({"identical_predictions": 3}, False),
        ({"identical_predictions": None}, True),
        ({"identical_predictions": None, "rouge1": 30.1}, False),
        ({"recorded_test_loss": None, "recorded_rouge1": None, "identical_predictions": None}, True),
    ],
)
def test_an_evaluation_says_whether_it_is_the_records(change, reproduced):
    """A loss or summary that differs from the record's is not reproduced, and the text says so."""
    usual = {
        "run": "r",
        "test_loss": 2.0,
        "recorded_test_loss": 2.0,
        "rouge1": 30.0,
        "recorded_rouge1": 30.0,
        "documents": 4,
        "identical_predictions": 4,
    }
    found = Evaluation(**usual | change)
    assert found.reproduced == reproduced and ("NOT REPRODUCED" in found.text()) != reproduced


@pytest.fixture
def reported(tmp_path, monkeypatch):
    """An OUT with one finished run."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    small = {"limits": {"train_documents": 4, "validation_documents": 2, "test_documents": 3}, "methods": ["lead-3"]}
    triptych.train("lead-3", preset="demo", settings=small, out=tmp_path / "out", device="cpu")
    return tmp_path / "out"


@pytest.mark.parametrize("at_work", ["out", "to"])
def test_a_report_waits_for_whoever_works_where_it_is_written(reported, tmp_path, monkeypatch, capsys, at_work):
    """`report` ends with status 2, one message and nothing written while its OUT or --to is locked, but not another."""
    monkeypatch.setattr(
        reports, "write_report", lambda results, comparison, out, *_: (out / "written").write_text("it")
    )
    to, elsewhere = tmp_path / "to", tmp_path / "elsewhere"
    command = ["report", str(reported), *(["--to", str(to)] if at_work == "to" else [])]
    locked = tmp_path / at_work
    locked.mkdir(exist_ok=True)
    with lock.locked(locked):
        assert cli.main(command) == 2
        assert "wait for it, or write elsewhere what there is so far: --to DIR." in capsys.readouterr().err
        assert not (locked / "written").exists()
        if at_work == "out":
            assert cli.main(["report", str(reported), "--to", str(elsewhere)]) == 0 and (elsewhere / "written").exists()
    assert cli.main(command) == 0 and (locked / "written").exists()


def test_a_report_on_nothing_leaves_nothing(tmp_path):
    """Without results neither --to is created nor a lock left."""
    (tmp_path / "notes").mkdir()
    assert cli.main(["report", str(tmp_path / "notes"), "--to", str(tmp_path / "to")]) == 2
    assert cli.main(["report", str(tmp_path / "notes")]) == 2
    assert [*tmp_path.rglob("*")] == [tmp_path / "notes"]


def test_a_resumed_suite_refuses_finished_runs_of_other_documents(tmp_path, monkeypatch, capsys):
    """A changed document in any split is detected before a run begins; the same data resume."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for split in ("train", "validation", "test"):
        texts = [(f"The {split} council met {i} times.", f"It met {i} times.") for i in range(4)]
        lines = [{"id": f"{split}{i}", "document": text, "summary": short} for i, (text, short) in enumerate(texts)]
        (data / f"{split}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    settings = {"data": str(data), "methods": ["lead-3", "untuned"], "limits": {"document_tokens": 64}}
    triptych.train("lead-3", preset="demo", settings=settings, out=out, device="cpu")
    monkeypatch.setattr(reports, "report_suite", lambda out: pytest.fail("work was done"))
    command = ["compare", str(out / "suite.json"), "--out", str(out), "--device", "cpu"]
    train = (data / "train.jsonl").read_text()
    (data / "train.jsonl").write_text(train.replace("met 2 times", "met two times"))
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert "was made with other documents" in error and "--fresh to start over" in error
    assert not (out / "runs/untuned").exists()
    (data / "train.jsonl").write_text(train)
    resolved = schema.make_suite(json_files.read_json(out / "suite.json"))
    table = entries.suite_entries(resolved)
    plan = preflight.check_suite(resolved, table, "cpu", tmp_path / "cache")
    run = PlannedRun(resolved, out, table[0], 0, "lead-3")
    record = finished_record(run)
    refuse_other_data([(run, record)], {out: plan.corpus.data})
    other = plan.corpus.data.model_copy(update={"token_fingerprint": "other"})
    refuse_other_data([(run, record)], {out: other})  # it reads no tokens
    with_model = record.model_copy(update={"parameters": records.Parameters.model_construct()})
    with pytest.raises(ResultsError, match="other tokens"):
        refuse_other_data([(run, with_model)], {out: other})


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b'{"name": 3}'])
@pytest.mark.parametrize("place", ["out", "out/scaling/8"])
def test_an_unreadable_suite_of_a_results_folder_says_what_to_do(tmp_path, content, place):
    """On resume a damaged suite.json gives one message with a specific remedy, naming the folder for --out."""
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / "suite.json").write_bytes(content)
    with pytest.raises(ResultsError, match=r"suite\.json.* Remedy: .*--fresh") as caught:
        check_claim(folder, SUITE, fresh=False)
    assert "scaling" not in str(caught.value).partition("Remedy")[2] and ".." not in str(caught.value)

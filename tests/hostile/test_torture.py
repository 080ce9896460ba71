"""A seeded sample of what `make torture` tries; and that its checks can fail."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.paths import CHECKOUT
from torture import bases, children, outcomes, swaps
from torture.kinds import KINDS, make
from torture.outcomes import VIOLATIONS, Case, Tally
from triptych.errors import ResultsError

# Cases of each kind that take a few seconds together, with suites of one method and documents that are not typeset.
SHARE = {"characters": 1, "patterns": 4, "indexes": 10, "swaps": 6, "disks": 1, "caches": 1, "first-writes": 2}
LONGER = {"characters", "swaps", "caches", "first-writes"}  # their share takes 10 to 20 s each


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.chdir(tmp_path)


def try_kind(name: str, folder: Path, cases: int, spread: bool) -> None:
    """Try cases of one kind in its short form; none may be a violation.

    Args:
        cases: how many.
        spread: spread them over all cases instead of taking the first ones.
    """
    kind = make(name, folder, True)
    reason = kind.missing()
    if reason is not None:
        pytest.skip(reason)
    kind.prepare()
    count = kind.count()
    numbers = [i * count // cases for i in range(cases)] if spread else range(cases)
    tried = {number: kind.case(1, number) for number in numbers}
    bad = {number: case for number, case in tried.items() if case.outcome in VIOLATIONS}
    assert tried and not bad, bad


def run_program(name: str, folder: Path, *options: str) -> None:
    """Run the same in a new process: typesetting starts threads, which a fork would not have."""
    command = [sys.executable, str(CHECKOUT / "scripts/torture_faults.py"), str(folder), "--only", name, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONGER)) for name in SHARE])
def test_a_share_of_every_kind_loses_believes_and_hangs_nothing(name, tmp_path, monkeypatch):
    """Seeded faults of each kind end in one message or in the right result: nothing is lost, hangs or is wrongly
    accepted."""
    if name == "characters":
        run_program(name, tmp_path / "work", "--cases", str(SHARE[name]))
        return
    monkeypatch.setenv(children.DRAFT, "1")
    try_kind(name, tmp_path / "work", SHARE[name], spread=name == "first-writes")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", KINDS)
def test_the_long_form_of_every_kind(name, tmp_path):
    """The same for every case of `make torture`."""
    run_program(name, tmp_path / "work")


def test_every_kind_has_its_share():
    """Every kind is tested."""
    assert SHARE.keys() == KINDS.keys()


# The laws can fail


def test_what_hangs_dies_or_leaves_processes_is_seen(monkeypatch):
    """The watchdog ends a child that hangs, a signal is reported, and a process that a child left behind is found."""
    assert children.Child(lambda: time.sleep(60) or 0).end(0.2).status is None
    assert children.Child(lambda: os.kill(os.getpid(), signal.SIGTERM) or 0).end().status == -signal.SIGTERM
    monkeypatch.setattr(children, "GRACE", 0.2)

    def leave() -> int:
        if os.fork() == 0:
            time.sleep(60)
        return 0

    assert children.Child(leave).end().orphans


@pytest.mark.parametrize(
    ("status", "err", "clear"),
    [
        (2, "[1/1] lora: starting\ntriptych: no.\n", True),
        (0, "", False),
        (2, "", False),
        (2, "triptych: a.\ntriptych: b.\n", False),
        (2, "Traceback (most recent call last)\ntriptych: no.\n", False),
        (2, "triptych: unexpected KeyError: 'x'\n", False),
        (-signal.SIGBUS, "triptych: no.\n", False),
    ],
)
def test_a_refusal_is_one_message_with_its_status(status, err, clear):
    """Anything except one message without a traceback, with status 2, is reported."""
    assert (children.complaint(children.Ended(status, "", err)) is None) == clear


def _refuse() -> None:
    raise ResultsError("no.")


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda: {"a": b"1"}, outcomes.RIGHT),
        (lambda: {"a": b"2"}, outcomes.BELIEVED),
        (_refuse, outcomes.REFUSED),
        (lambda: {}["a"], outcomes.UNEXPECTED),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), outcomes.UNEXPECTED),
    ],
)
def test_a_reader_in_a_child_is_judged_by_what_it_returns(read, outcome):
    """The same result is right, another one is wrongly accepted, one message is a refusal; an exception or a signal is
    unexpected."""
    assert swaps.watched(read, {"a": b"1"}, "a case").outcome == outcome


def test_a_reader_that_hangs_is_ended_by_the_watchdog():
    """A report, bundle or evaluation that does not end counts as hung and does not stop the other cases."""
    assert swaps.watched(lambda: time.sleep(600), None, "a case", 0.2).outcome == outcomes.HUNG


def test_other_results_are_not_those_of_the_base(tmp_path):
    """Results with another summary, another figure in a record or a missing file are different; another time is not."""
    fixed = dict.fromkeys(("time", "command", "commit", "dirty"))
    record = {"loss": {"test": 1.0}, "cost": {"wall_seconds": 3.0}, "provenance": fixed, "files": {}}
    run = tmp_path / "out/runs/lora/0"
    run.mkdir(parents=True)
    (tmp_path / "out/comparison.json").write_text(
        json.dumps(dict.fromkeys(("rows", "tests", "num_documents", "signature")))
    )
    (run / "predictions.jsonl").write_text("{}\n")
    (run / "history.jsonl").write_text("")

    def difference(changes: dict) -> str | None:
        (run / "record.json").write_text(json.dumps(record | changes))
        return base.difference(tmp_path / "out")

    (run / "record.json").write_text(json.dumps(record))
    base = bases.Base(tmp_path / "out", (), bases.compared(tmp_path / "out"))
    assert difference({}) is None and difference({"cost": {"wall_seconds": 9.0}}) is None
    assert "record.json" in str(difference({"loss": {"test": 2.0}}))
    (run / "predictions.jsonl").write_text("{} \n")
    assert "predictions.jsonl" in str(difference({}))
    (run / "history.jsonl").unlink()
    assert "not whole" in str(difference({}))


def test_the_table_counts_every_case(tmp_path):
    """Cases are counted by kind and outcome, skipped ones have a reason, and each violation is kept with its number."""
    tally = Tally()
    kind = make("disks", tmp_path)
    for number, outcome in enumerate((outcomes.RIGHT, outcomes.REFUSED, outcomes.REFUSED, outcomes.HUNG)):
        tally.add(kind, number, Case(outcome, "x"))
    tally.skipped["another"] = "no root"
    assert f"| {kind.title} | 4 | 2 | 1 | 0 | 0 | 1 | 0 |" in tally.table() and "| all | 4 |" in tally.table()
    assert "| another | skipped: no root |" in tally.table()
    assert [(found["case"], found["outcome"]) for found in tally.violations] == [(3, outcomes.HUNG)]

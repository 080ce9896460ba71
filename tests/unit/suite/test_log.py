"""The log of a suite, and its remaining time."""

import re
import signal
from pathlib import Path

import pytest

from triptych.results.lock import locked
from triptych.run.events import (
    BeginEvent,
    DoneEvent,
    FailedEvent,
    KeptEvent,
    NoteEvent,
    RemainingEvent,
    RunId,
    StageEvent,
    StepEvent,
    ignore,
)
from triptych.suite.log import SuiteLog
from triptych.suite.processes import Ended
from triptych.suite.remaining import RemainingTime, Work

LORA, FULL = RunId("lora", 0), RunId("full", 0)
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


def step(number: int, total: int = 10) -> StepEvent:
    """An optimizer step."""
    state = {"tokens": 9, "energy_joules": None, "train_flops": None, "train_seconds": 1.0}
    return StepEvent(epoch=0, step=number, total=total, loss=2.0, learning_rate=0.1, **state)


def lines(file: Path) -> list[str]:
    """The lines of a log without their times, which each must have."""
    found = file.read_text().splitlines()
    assert all(re.match(STAMP, line) for line in found)
    return [re.sub(f"^{STAMP}", "", line) for line in found]


def test_a_log_has_a_stamped_line_for_each_event_and_passes_it_on(tmp_path):
    """OUT/log.txt has the lines of all runs, a run's log its own lines, and the listener gets every event."""
    folder, heard = tmp_path / "runs" / "lora" / "0", []
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("")
    with locked(tmp_path) as lock:
        log = SuiteLog(lock, {LORA: folder}, lambda run, event: heard.append((run, event)))
        log.write("triptych: six runs")
        log(LORA, BeginEvent(index=0, total=2))
        log(LORA, step(1))
        log(LORA, NoteEvent(message="a note \x1b[2J"))
        log(FULL, KeptEvent(index=1, total=2))
        log(LORA, DoneEvent(rouge1=31.4159))
        log(None, RemainingEvent(done=2, total=2, elapsed_seconds=3.0, seconds=0.0))
    name = "[1/2] lora, seed 0"
    own = [f"{name}: starting", f"{name}: a note \\x1b[2J", f"{name}: done in 0 s: R-1 31.42"]
    assert lines(folder / "log.txt") == own
    kept = "[2/2] full, seed 0: already finished, kept"
    rest = "2 of 2 runs done after 3.0 s"
    assert lines(tmp_path / "log.txt") == ["triptych: six runs", *own[:2], kept, own[2], rest]
    assert len(heard) == 6


@pytest.mark.parametrize(
    ("error", "name"),
    [(KeyboardInterrupt(), "SIGINT"), (Ended(signal.SIGTERM), "SIGTERM"), (Ended(signal.SIGHUP), "SIGHUP")],
)
def test_an_interruption_is_noted_with_its_signal(tmp_path, error, name):
    """The last line of the log says what ended the suite; the interruption propagates."""
    with locked(tmp_path) as lock:
        log = SuiteLog(lock, {}, ignore)
        with pytest.raises(KeyboardInterrupt), log.noting_interruption():
            raise error
    assert lines(tmp_path / "log.txt") == [f"interrupted by {name}"]


def test_nothing_is_logged_into_a_folder_whose_lock_was_lost(tmp_path):
    """If the folder was replaced by another one, nothing is written there; events are still passed on."""
    out, heard = tmp_path / "out", []
    out.mkdir()
    with locked(out) as lock:
        log = SuiteLog(lock, {}, lambda run, event: heard.append(event))
        out.rename(tmp_path / "moved")
        out.mkdir()
        log(LORA, BeginEvent(index=0, total=2))
    assert list(out.iterdir()) == [] and len(heard) == 1


WORK = {LORA: Work(0.0, 100.0, 20.0), RunId("lora", 1): Work(0.0, 100.0, 20.0), FULL: Work(0.0, 200.0, 40.0)}


def test_the_rest_is_estimated_from_what_was_measured():
    """No estimate is given before a measurement; then steps of the current run, a similar run, and the amount of work
    decide."""
    now = [0.0]
    remaining = RemainingTime(WORK, lambda: now[0])
    remaining.follow(LORA, BeginEvent(index=0, total=3))
    assert remaining.seconds(0.0) is None
    now[0] = 8.0
    remaining.follow(LORA, StageEvent(stage="train", epochs=1, total=10))
    for number in range(1, 6):
        now[0] += 1.0
        event = remaining.follow(LORA, step(number))
    # half of 100 units took 5 s: 0.1 s per unit
    assert event is not None and event.done == 0 and event.total == 3
    assert event.seconds == pytest.approx((5 + 2) + (8 + 12) + (8 + 24))
    now[0] = 20.0
    event = remaining.follow(LORA, DoneEvent())
    assert event is not None and event.done == 1 and event.elapsed_seconds == 20
    assert event.seconds == pytest.approx(20 + (8 + 24))
    remaining.follow(FULL, FailedEvent(message="", index=2, total=3))
    assert remaining.seconds(20.0) == pytest.approx(20)
    remaining.follow(RunId("lora", 1), KeptEvent(index=1, total=3))
    assert remaining.seconds(20.0) == 0


def test_the_rest_is_said_now_and_then_while_a_run_is_under_way():
    """An event within five seconds of the last estimate gives none."""
    now = [0.0]
    remaining = RemainingTime(WORK, lambda: now[0])
    remaining.follow(LORA, BeginEvent(index=0, total=3))
    said = []
    for seconds in range(0, 21, 2):
        now[0] = float(seconds)
        if remaining.follow(LORA, NoteEvent(message="")) is not None:
            said.append(seconds)
    assert said == [6, 12, 18]
    assert remaining.follow(RunId("lora at 0.001", 0), BeginEvent(index=0, total=3)) is None

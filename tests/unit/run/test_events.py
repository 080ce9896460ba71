"""Events between processes are types, and one JSON line each on the wire."""

import json
from datetime import datetime

import pytest

from support.paths import CHECKOUT
from triptych.errors import RunFailed
from triptych.run import events
from triptych.run.events import (
    DoneEvent,
    ErrorEvent,
    EvaluationEvent,
    NoteEvent,
    ProgressEvent,
    RemainingEvent,
    RunId,
    StageEvent,
    StepEvent,
    TrialEvent,
    format_event,
    parse_event,
    stream_line,
)

STATE = {"epoch": 1, "step": 4, "tokens": 90, "energy_joules": None, "train_flops": 2.5e9, "train_seconds": 0.5}
STATE_LINE = (
    '"epoch": 1, "step": 4, "tokens": 90, "energy_joules": null, "train_flops": 2500000000.0, "train_seconds": 0.5'
)
LINES = [
    (StageEvent(stage="preparation"), '{"event": "stage", "stage": "preparation"}'),
    (
        StageEvent(stage="train", epochs=2, total=8),
        '{"event": "stage", "stage": "train", "epochs": 2, "total": 8}',
    ),
    (ProgressEvent(done=1, total=3), '{"event": "progress", "done": 1, "total": 3}'),
    (NoteEvent(message='a "note"\n'), '{"event": "note", "message": "a \\"note\\"\\n"}'),
    (
        TrialEvent(learning_rate=0.01, validation_loss=None),
        '{"event": "trial", "learning_rate": 0.01, "validation_loss": null}',
    ),
    (
        StepEvent(loss=2.0, learning_rate=0.1, total=8, **STATE),
        f'{{"event": "step", "loss": 2.0, "learning_rate": 0.1, {STATE_LINE}, "total": 8}}',
    ),
    (
        EvaluationEvent(train_loss=2.0, validation_loss=1.5, total=8, **STATE),
        f'{{"event": "evaluation", "train_loss": 2.0, "validation_loss": 1.5, {STATE_LINE}, "total": 8}}',
    ),
    (ErrorEvent(message="it failed"), '{"event": "error", "message": "it failed"}'),
]


@pytest.mark.parametrize(("event", "line"), LINES, ids=[event.event for event, _ in LINES])
def test_an_event_is_one_documented_line_and_back(event, line):
    """Readers of `train --events` get these fields in this order, and parsing a line gives the event again."""
    assert format_event(event) == line and "\n" not in line
    assert parse_event(line) == event


def test_every_event_of_a_child_process_has_its_line():
    """The list of lines is complete."""
    assert {type(event) for event, _ in LINES} == set(events.ChildEvent.__args__)


def test_a_line_of_the_history_is_the_event_without_the_number_of_steps():
    """`history.jsonl` keeps the measurements; the maximum number of steps is only for progress bars."""
    event, line = LINES[5]
    assert json.dumps(event.history_line()) == line.replace(', "total": 8', "")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"event": "stepp"}', "stepp"),
        ('{"event": "begin", "index": 0, "total": 1}', "begin"),
        ('{"event": "note"}', "Field required"),
        ('{"event": "note", "message": "x", "label": "lora"}', "label"),
        ('{"event": "stage", "stage": "lunch"}', "lunch"),
        ('{"event": "progress", "done": "many", "total": 3}', "many"),
        ('{"done": 1}', "event"),
        ("[]", "not an event"),
        ("up to here", "Invalid JSON"),
        ("", "Invalid JSON"),
    ],
)
def test_an_unknown_event_is_an_error(line, problem):
    """A line that is not an event of a run, or has other fields, is refused with the line and the reason."""
    with pytest.raises(RunFailed, match="not an event") as error:
        parse_event(line)
    assert problem in str(error.value)


def test_a_line_of_the_stream_says_when_and_about_what():
    """`compare --events` writes the time, the run that an event belongs to, and the event itself."""
    line = json.loads(stream_line(RunId("lora", 1), DoneEvent(test_loss=1.5)))
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {"run": {"name": "lora", "seed": 1}, "event": "done", "test_loss": 1.5}
    line = json.loads(stream_line(None, RemainingEvent(done=1, total=4, elapsed_seconds=2.0, seconds=None)))
    assert line["run"] is None and line["seconds"] is None and line["event"] == "remaining"


def test_every_event_is_documented():
    """docs/events.md names every event and each of its fields."""
    text = (CHECKOUT / "docs" / "events.md").read_text()
    for kind in {*events.Event.__args__, ErrorEvent}:
        name = kind.model_fields["event"].default
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        assert [field for field in kind.model_fields if field != "event" and f"`{field}`" not in row] == [], name

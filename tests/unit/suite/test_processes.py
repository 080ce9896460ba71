"""A child process reports events, and its errors become the reason of a failed run."""

import os
import stat

import pytest

from triptych.run.events import NoteEvent, ProgressEvent
from triptych.suite import processes

BEGINNING = '{"event": "progress", "done": 1, "total": 2}'


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Make a child process from a shell script; return what it reported and how it ended."""

    def run(script: str) -> tuple[list, str | None]:
        python, reported = tmp_path / "python", []
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(processes.sys, "executable", str(python))
        return reported, processes.run_command([], tmp_path / "log.txt", None, reported.append)

    return run


def test_events_are_passed_on_and_no_message_means_success(child):
    """Each line is passed on as its event, in order."""
    lines = f"""echo '{BEGINNING}'; echo '{{"event": "note", "message": "half"}}'"""
    assert child(lines) == ([ProgressEvent(done=1, total=2), NoteEvent(message="half")], None)


def test_an_error_event_is_the_reason_of_the_failure(child):
    """The message of the child's error is returned, and is not an event for the listener."""
    reported, reason = child("""echo '{"event": "error", "message": "no memory"}'; exit 1""")
    assert reported == [] and reason == "no memory"


@pytest.mark.parametrize("line", ['{"event": "here"}', "Segmentation fault", '{"event": "note"}'])
def test_a_line_that_is_not_an_event_ends_the_child(child, line):
    """An unknown event is the reason of the failure, and the child has ended when it is returned."""
    pid = """echo '{"event": "note", "message": "'$$'"}'"""
    (note,), reason = child(f"{pid}\necho '{line}'\nexec sleep 60")
    assert "not an event" in reason and line in reason
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.message), 0)


def test_a_child_that_dies_without_a_word_names_its_log(child):
    """Without a message, a signal or a status is the reason."""
    assert child("kill -9 $$")[1] == "the process died of SIGKILL; see log.txt in its folder"
    assert child("exit 3")[1] == "the process ended with status 3; see log.txt in its folder"

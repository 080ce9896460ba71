"""Signals that end a command: the message, the exit status, and that no child process is left."""

import os
import signal
import stat
import time

import pytest

from triptych import cli
from triptych.cli import commands
from triptych.suite import processes

SAID = "\nInterrupted. Run the same command again to resume.\n"


def signaled(signum):
    """A command during which this process receives a signal."""

    def work(options):
        os.kill(os.getpid(), signum)
        time.sleep(60)
        return 0

    return work


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", [["compare"], ["train", "lora"]])
def test_a_signal_says_how_to_resume(monkeypatch, capsys, command, signum):
    """Ctrl-C, SIGTERM and SIGHUP end compare and train with one sentence and 128 + the signal number."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(f"triptych.cli.{command[0]}.run_{command[0]}", signaled(signum))
    assert cli.main(command) == 128 + signum
    assert capsys.readouterr().err == SAID


def test_only_what_can_be_resumed_says_so(monkeypatch, capsys):
    """A command that keeps nothing is interrupted without mentioning resumption."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("triptych.cli.results.run_advise", signaled(signal.SIGINT))
    assert cli.main(["advise", "out"]) == 130
    assert capsys.readouterr().err == "\nInterrupted.\n"


@pytest.mark.parametrize("signum", processes.ENDING_SIGNALS)
def test_a_child_ends_with_the_command_that_was_signaled(monkeypatch, tmp_path, signum):
    """When main returns, the process of the current run has ended."""
    python = tmp_path / "python"
    python.write_text("""#!/bin/sh\necho '{"event": "note", "message": "'$$'"}'\nexec sleep 60\n""")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    pids = []

    def listen(event):
        pids.append(int(event.message))
        os.kill(os.getpid(), signum)

    monkeypatch.setattr(processes.sys, "executable", str(python))
    monkeypatch.setattr(
        "triptych.cli.compare.run_compare",
        lambda options: processes.run_command([], tmp_path / "log.txt", None, listen),
    )
    assert cli.main(["compare"]) == 128 + signum
    (pid,) = pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_closed_terminal_does_not_change_the_status(monkeypatch):
    """If the terminal is gone and nothing can be shown on it, SIGHUP still ends with 129."""

    def work(options):
        try:
            return signaled(signal.SIGHUP)(options)
        finally:
            try:
                raise OSError(5, "Input/output error")
            finally:
                raise OSError(5, "Input/output error")

    class Gone:
        def write(self, text):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("triptych.cli.compare.run_compare", work)
    monkeypatch.setattr(commands.sys, "stderr", Gone())
    assert cli.main(["compare"]) == 129


def test_nohup_is_respected(monkeypatch):
    """A signal that was ignored when the command began stays ignored, and every handler is restored afterwards."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGTERM)

    def work(options):
        os.kill(os.getpid(), signal.SIGHUP)
        return 0

    monkeypatch.setattr("triptych.cli.compare.run_compare", work)
    assert cli.main(["compare"]) == 0
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and signal.getsignal(signal.SIGTERM) is before


def test_ranks_and_runs_of_a_suite_end_at_once(monkeypatch):
    """A process ended by torchrun or by the suite keeps the default handling, which does not wait for an operation to
    return."""
    options = commands.make_parser().parse_args
    assert commands.resumes(options(["train", "lora"])) and commands.resumes(options(["compare"]))
    assert not commands.resumes(options(["train", "lora", "--events"]))
    monkeypatch.setenv("RANK", "0")
    assert not commands.resumes(options(["train", "lora"]))


def test_a_handler_that_a_library_replaces_is_put_back():
    """Ray sets a SIGTERM handler in the calling process: our handler is restored, and none is added if there was
    none."""
    with processes.ended_by_signals():
        with processes.keeping_sigterm():
            signal.signal(signal.SIGTERM, lambda *_: None)
        with pytest.raises(processes.Ended):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with processes.keeping_sigterm():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler

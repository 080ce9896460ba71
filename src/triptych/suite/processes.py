"""A command of Triptych's in a process of its own, which tells what happens as events and neither outlives nor hangs
us."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import triptych

LAUNCHER_SECONDS = 0.5  # between two looks at whether the launcher of this rank lives
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
SILENCE_SECONDS = 3600.0  # a process that tells nothing for so long hangs


def run(arguments: Sequence[str], log: Path, lock: int | None, tell: Callable[[dict[str, Any]], None]) -> str | None:
    """Run a command to its end; returns what went wrong in words, or None.

    Args:
        arguments: of `triptych`.
        log: gets what the process writes on standard error.
        lock: a file descriptor that the process holds as long as it lives, or None.
        tell: told its events.

    Raises:
        KeyboardInterrupt: the process was interrupted.
    """
    message = None
    with log.open("ab") as errors:
        # its standard input stays open as long as this process lives: see `end_with_parent`
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "triptych", *arguments],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            pass_fds=[] if lock is None else [lock],
        )
        watch = Watch(process)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                watch.heard()
                event = json.loads(line)
                message = event["message"] if event["event"] == "error" else message
                tell(event)
            status = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
        finally:
            watch.end()
    if status == 0:
        return None
    if watch.bit:
        return f"the process hung: it told nothing for {SILENCE_SECONDS:g} seconds and was ended"
    if status == -signal.SIGINT or status == 130:
        raise KeyboardInterrupt
    died = (
        f"the process died of {signal.Signals(-status).name}"
        if status < 0
        else f"the process ended with status {status}"
    )
    return message or f"{died}; see {log.name} in its folder"


class Ended(KeyboardInterrupt):
    """A signal asked this process to end: it is interrupted as by Ctrl-C.

    Attributes:
        signum: the signal's number.
    """

    def __init__(self, signum: int):
        super().__init__(f"ended by {signal.Signals(signum).name}")
        self.signum = signum


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP interrupt what is done inside as Ctrl-C does: child processes end and locks are released.

    A signal that is ignored, such as SIGHUP under nohup, stays ignored. Outside the main thread nothing changes, since
    Python handles signals nowhere else.

    Raises:
        Ended: one of the two arrived.
    """

    def end(signum: int, _: object) -> None:
        raise Ended(signum)

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for signum in ENDING_SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                before[signum] = signal.signal(signum, end)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Put a handler of SIGTERM back that a library replaces inside, where there was one."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _environment() -> dict[str, str]:
    """This process's, with this very package first; `-P` keeps modules of the working folder out."""
    home = str(Path(triptych.__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])}


class Watch:
    """Kills a process that has told nothing for `SILENCE_SECONDS`."""

    def __init__(self, process: subprocess.Popen):
        self.bit = False
        self._process = process
        self._ended = threading.Event()
        self.heard()
        threading.Thread(target=self._watch, daemon=True).start()

    def heard(self) -> None:
        """The process told something: it lives."""
        self._last = time.monotonic()

    def end(self) -> None:
        """Watch no longer."""
        self._ended.set()

    def _watch(self) -> None:
        while (left := self._last + SILENCE_SECONDS - time.monotonic()) > 0:
            if self._ended.wait(left):
                return
        self.bit = True
        self._process.kill()


def end_with_parent() -> None:
    """End this process at once when the suite that started it is gone: the pipe that is its standard input closes
    then."""

    def wait() -> None:
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=wait, daemon=True).start()


def end_with_launcher() -> None:
    """End this process when the launcher that started it as a rank is gone: `kill -9` of torchrun leaves its ranks at
    work.

    Ranks are in sessions of their own, which no signal to the launcher's process group reaches.
    """
    launcher = os.getppid()

    def wait() -> None:
        while os.getppid() == launcher:
            time.sleep(LAUNCHER_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()

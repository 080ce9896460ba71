"""Run a command in a child process that reports events, ends with its parent and is killed when it hangs."""

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
from typing import IO, Any, BinaryIO, Protocol, cast

import triptych
from triptych.errors import RunFailed
from triptych.run.events import ErrorEvent, RunEvent, parse_event

LAUNCHER_SECONDS = 0.5  # between two checks that the launcher of this rank is alive
ENDING_SIGNALS = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))  # Windows has no SIGHUP
SILENCE_SECONDS = 3600.0  # a process that reports nothing for this long hangs


class ChildProcess(Protocol):
    """The parts of `subprocess.Popen` that are used."""

    stdout: IO[str]

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal; raises `subprocess.TimeoutExpired`."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


Start = Callable[[Sequence[str], BinaryIO, int | None], ChildProcess]


def spawn(arguments: Sequence[str], errors: BinaryIO, lock: int | None) -> ChildProcess:
    """Start a command in a new Python process.

    Args:
        arguments: arguments of `triptych`.
        errors: the file that the child's standard error goes to.
        lock: a file descriptor that the child holds as long as it lives, or None.
    """
    # its standard input stays open as long as this process lives: see `end_with_parent`
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "triptych", *arguments],
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        pass_fds=[] if lock is None else [lock],
    )
    return cast(ChildProcess, process)


def run_command(
    arguments: Sequence[str],
    log: Path,
    lock: int | None,
    listener: Callable[[RunEvent], None],
    start: Start = spawn,
) -> str | None:
    """Run a command in a child process until it ends.

    Args:
        arguments: arguments of `triptych`.
        log: the file that the child's standard error is appended to.
        lock: a file descriptor that the child holds as long as it lives, or None.
        listener: called with each event that the child reports, except for its error.
        start: how the child is started.

    Returns:
        What went wrong, as a sentence, or None.

    Raises:
        KeyboardInterrupt: the child was interrupted.
    """
    message = None
    with log.open("ab") as errors:
        process = start(arguments, errors, lock)
        watch = Watch(process)
        try:
            for line in process.stdout:
                watch.heard()
                try:
                    event = parse_event(line)
                except RunFailed as error:
                    _end(process)
                    return str(error)
                if isinstance(event, ErrorEvent):
                    message = event.message
                else:
                    listener(event)
            status = process.wait()
        except BaseException:
            _end(process)
            raise
        finally:
            watch.end()
    if status == 0:
        return None
    if watch.killed:
        return f"the process hung: it reported nothing for {SILENCE_SECONDS:g} seconds and was killed"
    if status == -signal.SIGINT or status == 130:
        raise KeyboardInterrupt
    died = (
        f"the process died of {signal.Signals(-status).name}"
        if status < 0
        else f"the process ended with status {status}"
    )
    return message or f"{died}; see {log.name} in its folder"


def _end(process: ChildProcess) -> None:
    """Terminate a child, and kill it if it does not end within 10 seconds."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Ended(KeyboardInterrupt):
    """A signal asked this process to end: it is interrupted as if by Ctrl-C.

    Attributes:
        signum: the signal's number.
    """

    def __init__(self, signum: int):
        super().__init__(f"ended by {signal.Signals(signum).name}")
        self.signum = signum


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP interrupt as Ctrl-C does: child processes end and locks are released.

    A signal that is ignored, such as SIGHUP under nohup, stays ignored. Outside the main thread nothing changes, since
    Python handles signals only there.

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
    """Restore the handler of SIGTERM, if there was one, after a library inside has replaced it."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def child_environment() -> dict[str, str]:
    """This process's environment, with this package first; `-P` keeps modules of the working folder out."""
    home = str(Path(triptych.__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])}


class Watch:
    """Kills a process that has reported nothing for `SILENCE_SECONDS`."""

    def __init__(self, process: ChildProcess | subprocess.Popen):
        self.killed = False
        self._process = process
        self._ended = threading.Event()
        self.heard()
        threading.Thread(target=self._watch, daemon=True).start()

    def heard(self) -> None:
        """Note that the process reported something: it is alive."""
        self._last = time.monotonic()

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()

    def _watch(self) -> None:
        while (left := self._last + SILENCE_SECONDS - time.monotonic()) > 0:
            if self._ended.wait(left):
                return
        self.killed = True
        self._process.kill()


def end_with_parent() -> None:
    """End this process at once when the suite that started it is gone, which closes the pipe on its standard input."""

    def wait() -> None:
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=wait, daemon=True).start()


def is_rank() -> bool:
    """Whether torchrun or accelerate launched this process."""
    return "RANK" in os.environ


def is_main_process() -> bool:
    """Whether this process may write: the only one, or the first of those launched by torchrun or accelerate."""
    return int(os.environ.get("RANK", "0")) == 0


def end_with_launcher() -> None:
    """End this process when the launcher that started it as a rank is gone: `kill -9` of torchrun leaves ranks running.

    Each rank has its own session, which no signal to the launcher's process group reaches.
    """
    launcher = os.getppid()

    def wait() -> None:
        while os.getppid() == launcher:
            time.sleep(LAUNCHER_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()

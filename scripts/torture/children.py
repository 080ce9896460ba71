"""Run Triptych commands in forked children of this process, with a watchdog; the runs of a suite are also forked."""

import io
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from torture.outcomes import HUNG, LOST, Case
from triptych import cli
from triptych.reporting import write
from triptych.suite import processes
from triptych.suite.fork_server import ForkServer

SECONDS = 120.0  # a case that takes longer has hung; on an idle machine, the longest takes a tenth of this
GRACE = 10.0  # seconds within which all processes of a finished command must be gone
MEMORY = 12 << 30  # address space of a child, in bytes
DRAFT = "TRIPTYCH_TORTURE_DRAFT"  # environment variable; if set, the documents of a report are not typeset
_FAILED = 70  # exit status of a child whose code failed


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        status: exit status; the negative signal number if a signal killed it; None if the watchdog ended it.
        out: its standard output.
        err: its standard error.
        orphans: whether processes of it were left and had to be killed.
    """

    status: int | None
    out: str
    err: str
    orphans: bool = False


class Child:
    """A call in a forked process, the leader of its own process group.

    Args:
        call: returns the exit status.
        memory: address space that it may use, in bytes.
    """

    def __init__(self, call: Callable[[], int], memory: int = MEMORY):
        self._streams = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 (closed by `end`)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
            _become(call, None, *(stream.fileno() for stream in self._streams))

    def end(self, seconds: float = SECONDS) -> Ended:
        """Wait for it, at most `seconds`, and then for all processes that it left."""
        status = _wait(self.pid, time.monotonic() + seconds)
        if status is None:
            _kill_group(self.pid)
            _wait(self.pid, time.monotonic() + GRACE)
        patience, orphans = time.monotonic() + GRACE, False
        while _is_group(self.pid):
            if time.monotonic() > patience:
                orphans = status is not None
                _kill_group(self.pid)
            time.sleep(0.01)
        texts = []
        for stream in self._streams:
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
            stream.close()
        return Ended(status, *texts, orphans=orphans)


def start(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] = lambda: None,
    folder: Path | None = None,
    memory: int = MEMORY,
) -> Child:
    """Start a command.

    Args:
        arguments: of `triptych`.
        environment: variables to set.
        before: called in the child first.
        folder: the working folder.
        memory: address space that it may use, in bytes.
    """

    def call() -> int:
        os.environ.update(environment or {})
        if folder is not None:
            os.chdir(folder)
        processes.subprocess = FORKING  # type: ignore[assignment]
        ForkServer.begin = lambda self: None  # type: ignore[method-assign]
        ForkServer.start = lambda self, *given: processes.spawn(*given)  # type: ignore[method-assign]
        if os.environ.get(DRAFT):
            write.to_pdf = write.to_html = lambda *_: b"not typeset"
        before()
        return cli.main(list(arguments))

    return Child(call, memory)


def command(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None, seconds: float = SECONDS, **more: Any
) -> Ended:
    """Run a command to its end; see `start`."""
    return start(arguments, environment, **more).end(seconds)


def complaint(ended: Ended, statuses: Sequence[int] = (2,)) -> str | None:
    """What is wrong with the end of a command that should be refused; None if it gave one message and a good status."""
    messages = [line for line in ended.err.splitlines() if line.startswith("triptych: ")]
    if ended.status not in statuses:
        return f"status {ended.status}: {tail(ended)}"
    if "Traceback" in ended.err or "triptych: unexpected " in ended.err or len(messages) != 1 or ended.orphans:
        left = ", processes left behind" if ended.orphans else ""
        return f"status {ended.status}, {len(messages)} messages{left}: {tail(ended)}"
    return None


def failure(ended: Ended, what: str) -> Case | None:
    """The case of a command that should have succeeded but did not; None if it ended with status 0."""
    if ended.status is None:
        return Case(HUNG, what, tail(ended))
    return Case(LOST, what, tail(ended)) if ended.status else None


def tail(ended: Ended) -> str:
    """The end of the error output."""
    return ended.err[-1500:]


def message(ended: Ended) -> str:
    """The message of a command that was refused."""
    return next((line for line in ended.err.splitlines() if line.startswith("triptych: ")), "")


class Forked:
    """The part of `subprocess.Popen` that `processes.run_command` uses, with a fork instead of a new Python process."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], stderr: Any, pass_fds: Sequence[int], **streams: Any
    ):
        arguments = list(command[list(command).index("triptych") + 1 :])
        (reader, stdin), (stdout, writer) = os.pipe(), os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(stdin)
            os.close(stdout)
            os.environ.update(env)
            _become(lambda: cli.main(arguments), reader, writer, stderr.fileno())
        os.close(reader)
        os.close(writer)
        self._stdin = os.fdopen(stdin, "w")  # held open, so that the pipe closes when this process dies
        self.stdout = os.fdopen(stdout, "r", encoding=streams.get("encoding"))

    def wait(self, timeout: float | None = None) -> int:
        """The exit status."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def kill(self) -> None:
        """Send SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)


FORKING = SimpleNamespace(Popen=Forked, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)


def _become(call: Callable[[], int], stdin: int | None, stdout: int, stderr: int) -> None:
    """In a forked child: take the streams, make the call, and exit without the parent's cleanup."""
    status = _FAILED
    try:
        os.dup2(stdin if stdin is not None else os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        sys.stdin, sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(number, mode, closefd=False), "utf-8", write_through=True)
            for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        torch.set_num_threads(1)  # threads of the parent's pool do not exist in a fork
        status = call()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _wait(pid: int, until: float) -> int | None:
    """The exit status of a child; None if it is still running at that time."""
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.005)


def _is_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return

"""Start child processes as forks of one process that has imported everything, so that each starts at once."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, BinaryIO

from triptych.suite.processes import ChildProcess, child_environment, spawn

LONGEST = 1 << 17  # bytes of a request; the arguments of a run take about a thousand


class ForkServer:
    """A process that imports torch, transformers and this package once, and forks on request.

        with ForkServer() as server:
            run_command(arguments, log, lock, listener, server.start)

    A forked child is like a spawned one, with its own process, streams, log and memory; it ends with this process, and
    a crash affects only itself. It starts 4 to 6 seconds of processor time ahead. The server starts with `begin` or the
    first child, and has started no threads when it forks. It does no work itself. If it cannot be used (no Linux, or a
    GPU, whose driver does not survive a fork) or has died, children are spawned.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._connection: socket.socket | None = None
        self._usable = sys.platform == "linux"

    def __enter__(self) -> "ForkServer":
        """Return the server; nothing is started yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the server."""
        self._stop()

    def begin(self) -> None:
        """Start the server, which imports while this process does something else; no effect if it cannot be used."""
        try:
            if self._usable:
                self._connect()
        except OSError:
            self._usable = False

    def start(self, arguments: Sequence[str], errors: BinaryIO, lock: int | None) -> ChildProcess:
        """Start a child; see `processes.spawn`."""
        try:
            return self._fork(arguments, errors, lock)
        except (OSError, ValueError, EOFError):
            self._stop()
            self._usable = False
            return spawn(arguments, errors, lock)

    def _fork(self, arguments: Sequence[str], errors: BinaryIO, lock: int | None) -> "ForkedProcess":
        if not self._usable:
            raise EOFError
        connection = self._connect()
        (reader, stdin), (stdout, writer) = os.pipe(), os.pipe()
        try:
            descriptors = [reader, writer, errors.fileno(), *([] if lock is None else [lock])]
            socket.send_fds(connection, [json.dumps(list(arguments)).encode()], descriptors)
        except BaseException:
            os.close(stdin)
            os.close(stdout)
            raise
        finally:
            os.close(reader)
            os.close(writer)
        held, lines = os.fdopen(stdin, "w"), os.fdopen(stdout, encoding="utf-8")
        try:
            while "pid" not in (answer := _receive(connection)):
                pass  # the status of an earlier child that nobody waited for
            return ForkedProcess(answer["pid"], connection, held, lines)
        except BaseException:
            held.close()
            lines.close()
            raise

    def _connect(self) -> socket.socket:
        if self._connection is not None:
            return self._connection
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "triptych.cli.forking", str(theirs.fileno())],
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._connection = ours
        return ours

    def _stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()  # it has no state, and a child that is left ends with it
            self._process.wait()
        self._connection = self._process = None


class ForkedProcess:
    """A child of the server, with the parts of `subprocess.Popen` that `run_command` needs.

    Args:
        pid: its process id.
        connection: the connection to the server, which reports the exit status.
        stdin: the pipe that the child reads; the child ends when it closes.
        stdout: the pipe that the child prints to.
    """

    def __init__(self, pid: int, connection: socket.socket, stdin: IO[str], stdout: IO[str]):
        self.pid, self.stdout = pid, stdout
        self._connection, self._stdin = connection, stdin
        self._status: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: it is still running after `timeout` seconds.
        """
        if self._status is None:
            self._connection.settimeout(timeout)
            try:
                self._status = _receive(self._connection)["status"]
            except TimeoutError:
                raise subprocess.TimeoutExpired("triptych", timeout or 0.0) from None
            except (OSError, EOFError):
                self._status = -signal.SIGKILL  # the server is gone, and its child with it
            finally:
                with suppress(OSError):
                    self._connection.settimeout(None)
            self._stdin.close()
            self.stdout.close()
        return self._status

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send(signal.SIGKILL)

    def _send(self, signum: signal.Signals) -> None:
        if self._status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)


def _receive(connection: socket.socket) -> dict[str, int]:
    message = connection.recv(LONGEST)
    if not message:
        raise EOFError
    return json.loads(message)

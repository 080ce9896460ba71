"""One suite at a time works in a results folder: its lock, and how its runs know that the folder is still the
suite's."""

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from triptych.errors import ResultsError

P = ParamSpec("P")

LOCK = ".lock"
LOCK_SECONDS = 2.0  # a suite that was killed leaves runs behind that end within this time


@dataclass(frozen=True)
class Lock:
    """The right to write into a results folder.

    Attributes:
        folder: the results folder.
        token: names the holder; the lock file in the folder contains it.
        descriptor: of the open lock file, for child processes to inherit; None where another process took the lock.
    """

    folder: Path
    token: str
    descriptor: int | None = None

    def check(self) -> None:
        """Make sure that the folder is still the one that was locked.

        Raises:
            ResultsError: it was moved or removed, or another suite has its place.
        """
        try:
            found = (self.folder / LOCK).read_bytes()
        except OSError:
            found = b""
        if found != self.token.encode():
            raise ResultsError(
                f"The results folder {str(self.folder)!r} was moved, or replaced by another, while a suite was at "
                "work in it; "
                "the suite stops and writes nothing more. Put the folder back and run the same command again to resume."
            )

    def guard(self, listener: Callable[P, None]) -> Callable[P, None]:
        """`listener`, preceded by `check` for every event: a run whose folder was moved ends at its next event."""

        def checked(*event: P.args, **named: P.kwargs) -> None:
            self.check()
            listener(*event, **named)

        return checked


@contextmanager
def locked(folder: Path) -> Iterator[Lock]:
    """Hold the lock of a results folder; it is released when the last process that holds it ends.

    Raises:
        ResultsError: another process holds it, or the folder cannot be locked.
    """
    descriptor = _take(folder)
    try:
        token = secrets.token_hex(16)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, token.encode(), 0)
        yield Lock(folder, token, descriptor)
    finally:
        os.close(descriptor)


def _take(folder: Path) -> int:
    """The descriptor of the lock file, locked; waits for `LOCK_SECONDS` at most."""
    file, patience = folder / LOCK, time.monotonic() + LOCK_SECONDS
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise ResultsError(f"{str(folder)!r} cannot be locked: {file.name}: {error.strerror}.") from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ResultsError(f"{str(folder)!r} cannot be locked: {file.name} is not a regular file. Remove it.")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, file):
                return descriptor
            os.close(descriptor)  # the folder was moved between opening and locking: lock what is there now
        except BlockingIOError:
            os.close(descriptor)
            if time.monotonic() > patience:
                raise ResultsError(
                    f"Another process works in {str(folder)!r}; wait for it, or give another --out."
                ) from None
            time.sleep(0.1)
        except OSError as error:
            os.close(descriptor)
            raise ResultsError(f"{str(folder)!r} cannot be locked: {error.strerror}.") from None
        except BaseException:
            os.close(descriptor)
            raise


def _is_at(descriptor: int, file: Path) -> bool:
    """Whether the open file is the one that has this path."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except OSError:
        return False

"""The lock of a results folder: only one suite at a time writes to it, and its runs notice if it is replaced."""

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from triptych.errors import ResultsError
from triptych.storage.locks import FileLock

P = ParamSpec("P")

LOCK = ".lock"
INSTEAD = "give another --out"
LOCK_SECONDS = 2.0  # runs of a killed suite end within this time


@dataclass(frozen=True)
class Lock:
    """The right to write to a results folder.

    Attributes:
        folder: the results folder.
        token: identifies the holder; written to the lock file in the folder.
        descriptor: the open lock file, for child processes to inherit; None if another process took the lock.
    """

    folder: Path
    token: str
    descriptor: int | None = None

    def check(self) -> None:
        """Check that the folder is still the one that was locked.

        Raises:
            ResultsError: it was moved or removed, or another suite took its place.
        """
        try:
            found = (self.folder / LOCK).read_bytes()
        except OSError:
            found = b""
        if found != self.token.encode():
            raise ResultsError(
                f"The results folder {str(self.folder)!r} was moved, or replaced by another, while a suite was running "
                "in it; "
                "the suite stops and writes nothing more. Put the folder back and run the same command again to resume."
            )

    def guard(self, listener: Callable[P, None]) -> Callable[P, None]:
        """Wrap `listener` to call `check` before every event: a run whose folder was moved ends at its next event."""

        def checked(*event: P.args, **named: P.kwargs) -> None:
            self.check()
            listener(*event, **named)

        return checked


@contextmanager
def locked(folder: Path, instead: str = INSTEAD) -> Iterator[Lock]:
    """Hold the lock of a results folder; it is released when the last process that holds it ends.

    Args:
        folder: the results folder.
        instead: what to do other than wait if another process holds it.

    Raises:
        ResultsError: another process holds it, or the folder cannot be locked.
    """
    lock = _take(folder, instead)
    try:
        token = secrets.token_hex(16)
        os.ftruncate(lock.descriptor, 0)
        os.pwrite(lock.descriptor, token.encode(), 0)
        yield Lock(folder, token, lock.descriptor)
    finally:
        lock.close()


def check_free(folder: Path) -> None:
    """Check that no process is working in a results folder, which need not exist; nothing is written.

    Raises:
        ResultsError: another process is, or the folder cannot be locked.
    """
    if (folder / LOCK).exists():
        _take(folder, INSTEAD).close()


def _take(folder: Path, instead: str) -> FileLock:
    """Lock the lock file of a folder, waiting at most `LOCK_SECONDS`."""
    path, patience = folder / LOCK, time.monotonic() + LOCK_SECONDS
    while True:
        try:
            lock = FileLock(path, wait=False, create=True)
        except BlockingIOError:
            if time.monotonic() > patience:
                raise ResultsError(f"Another process is using {str(folder)!r}; wait for it, or {instead}.") from None
            time.sleep(0.1)
            continue
        except OSError as error:
            if path.is_symlink():
                what = f"{path.name} is a link, which leads out of it: remove it"
                raise ResultsError(f"{str(folder)!r} cannot be locked: {what}.") from None
            raise ResultsError(f"{str(folder)!r} cannot be locked: {path.name}: {error.strerror}.") from None
        if lock.is_of(path):
            return lock
        lock.close()  # the folder was moved between opening and locking: lock what is there now

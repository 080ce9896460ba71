"""File locks, which the system releases when the last process holding them ends."""

import errno
import os
import stat
import weakref
from contextlib import suppress
from pathlib import Path
from types import ModuleType

_flock: ModuleType | None
try:
    import fcntl as _flock
except ImportError:  # Windows: the package can be imported, and whatever needs a lock fails with a clear error
    _flock = None


class FileLock:
    """A lock on a file, held until it is closed, no longer referenced, or the process ends.

    The package `filelock` has shared locks only through a database, and none that child processes inherit.

    Args:
        path: an existing file, unless `create` is set.
        shared: whether several processes may hold the lock at the same time.
        wait: whether to wait until the lock is free.
        create: whether to create the file if it is missing, and open it for writing; a link is not followed.

    Attributes:
        descriptor: the descriptor of the open file. A child process that inherits it also holds the lock.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is false.
        OSError: the file is missing, is not a regular file or cannot be opened, or the system has no such locks.
    """

    def __init__(self, path: Path, *, shared: bool = False, wait: bool = True, create: bool = False):
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) if create else os.O_RDONLY  # Windows lacks it
        self.descriptor = os.open(path, flags, 0o666)
        self.close = weakref.finalize(self, os.close, self.descriptor)
        try:
            if not stat.S_ISREG(os.fstat(self.descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file; remove it", str(path))
            lock_descriptor(self.descriptor, shared=shared, wait=wait)
        except BaseException:
            self.close()
            raise

    def is_of(self, path: Path) -> bool:
        """Whether the file at `path` is still the locked one: it may have been moved or replaced."""
        with suppress(OSError):
            return os.path.samestat(os.stat(path), os.fstat(self.descriptor))
        return False


def lock_descriptor(descriptor: int, *, shared: bool = False, wait: bool = True) -> None:
    """Lock an open file until it is closed.

    Args:
        descriptor: the descriptor of the open file.
        shared: whether several processes may hold the lock at the same time.
        wait: whether to wait until the lock is free.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is false.
        OSError: the file system or the operating system has no such locks.
    """
    if _flock is None:
        raise OSError(errno.ENOSYS, "this system cannot lock files (flock); use Linux, macOS or WSL")
    _flock.flock(descriptor, (_flock.LOCK_SH if shared else _flock.LOCK_EX) | (0 if wait else _flock.LOCK_NB))

"""A bounded cache on disk: entries are built once, shared by processes, and never removed while in use."""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

from triptych.storage.files import sync
from triptych.storage.locks import FileLock

_Content = TypeVar("_Content")

_UNFINISHED = "building-"
_ALIVE = "alive"  # file in an unfinished entry, locked while the process that builds the entry is alive
_DAY = 86400  # seconds; an unfinished entry without that file is kept this long
_ATTEMPTS = 10


class DiskCache:
    """Entries by key; each is a folder, which contains a file named `seal` once it is complete.

    A process that uses an entry locks its seal; a process that builds an entry locks a file in the folder where it
    builds it. So an entry is never removed while a live process uses or builds it, and unfinished entries of dead
    processes are removed. Entries in use are never removed to stay below the limit, so the cache can grow beyond it.

    Args:
        folder: created if it is missing.
        max_bytes: above this size the least recently used entries are removed.
        seal: the name of the file that marks an entry as complete; `make` writes it last.
    """

    def __init__(self, folder: Path, max_bytes: int, seal: str):
        self.folder, self.max_bytes, self.seal = folder, max_bytes, seal

    def entry(
        self,
        key: str,
        make: Callable[[Path], None],
        read: Callable[[Path], _Content | None],
        *,
        num_bytes: int = 0,
        alone: bool = False,
    ) -> tuple[_Content, FileLock]:
        """Read an entry; build it first if it is missing or damaged.

        Args:
            key: identifies everything the entry's content depends on.
            make: writes the entry to an empty folder, the seal last.
            read: returns the content of an entry's folder, or None if it is damaged; the entry is then removed.
            num_bytes: space to free beforehand, if the entry's size is known.
            alone: one process builds the entry while others wait; otherwise several may build it, and the first to
                finish wins.

        Returns:
            What `read` returned, and a lock that keeps the entry from being removed while it is referenced.

        Raises:
            OSError: the folder cannot be written, the disk is full, or what was written cannot be read back.
        """
        place = self.folder / key
        with self._alone(key) if alone else nullcontext():
            made: FileLock | None = None
            for _ in range(_ATTEMPTS):
                hold = self._hold(place)
                content = read(place) if hold is not None else None
                if hold is not None and content is not None:
                    break
                # damaged, and not yet rebuilt by another process
                if hold is not None and hold.is_of(place / self.seal):
                    shutil.rmtree(place, ignore_errors=True)
                if made is None:  # only once per call: what was built is read back first
                    self.evict(place, self.max_bytes - num_bytes)
                made = self._make(place, make)
            else:
                raise OSError(errno.EIO, "what was written cannot be read back; check the disk", str(place))
        with suppress(OSError):  # a read-only cache also works; its timestamps stay as they are
            os.utime(place / self.seal)
        self.evict(place, self.max_bytes)
        return content, hold

    def evict(self, keep: Path, room: int) -> None:
        """Remove unfinished entries of dead processes, then the least recently used entries until the rest fits.

        Args:
            keep: an entry that is not removed.
            room: bytes that the entries may take.
        """
        with suppress(FileNotFoundError):  # another process is evicting and does the rest
            unfinished = [folder for folder in self.folder.glob(f"{_UNFINISHED}*") if not _remove_if_dead(folder)]
            used = {seal.parent: seal.stat().st_mtime_ns for seal in self.folder.glob(f"*/{self.seal}")}
            sizes = {folder: _size(folder) for folder in [*used, *unfinished]}
            total = sum(sizes.values())
            for entry in sorted(used, key=used.__getitem__):
                if total <= room:
                    return
                if entry != keep and self._remove(entry):
                    total -= sizes[entry]

    def _hold(self, place: Path) -> FileLock | None:
        """A lock on an entry; None if there is no such entry."""
        try:
            hold = FileLock(place / self.seal, shared=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return hold if hold.is_of(place / self.seal) else None  # removed while waiting for its lock

    def _make(self, place: Path, make: Callable[[Path], None]) -> FileLock | None:
        """Build an entry under a temporary name, lock it and rename it, so that others only see it locked."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=_UNFINISHED, ignore_cleanup_errors=True) as building:
            alive, folder = Path(building) / _ALIVE, Path(building) / "entry"
            unlocked = alive.with_suffix(".new")
            unlocked.touch()
            mine = FileLock(unlocked)
            unlocked.rename(alive)  # others never see it unlocked
            folder.mkdir()
            make(folder)
            for path in folder.iterdir():
                with path.open("rb") as file:
                    sync(file)
            made = FileLock(folder / self.seal, shared=True)
            try:
                folder.rename(place)
            except OSError:
                if not place.is_dir():
                    raise
                if not (place / self.seal).is_file():  # from an older version, or damaged
                    shutil.rmtree(place, ignore_errors=True)
                    folder.rename(place)
                else:  # another process has just built the same entry: use that one
                    return None
            finally:
                mine.close()
        return made

    def _remove(self, entry: Path) -> bool:
        """Remove an entry unless it is in use; return whether it is gone."""
        try:
            hold = FileLock(entry / self.seal, wait=False)
        except FileNotFoundError:
            return True
        except OSError:  # in use, or no permission to open it
            return False
        shutil.rmtree(entry, ignore_errors=True)
        hold.close()
        return True

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Wait until no other process builds this entry; the lock file is removed afterwards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{key}.lock"
        while True:
            path.touch()
            with suppress(FileNotFoundError):
                hold = FileLock(path)
                if hold.is_of(path):
                    break
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            hold.close()


def _remove_if_dead(folder: Path) -> bool:
    """Remove an unfinished entry if the process that was building it has died."""
    try:
        hold = FileLock(folder / _ALIVE, wait=False)
    except FileNotFoundError:  # just started, or from an older version
        if not folder.is_dir() or time.time() - folder.stat().st_mtime <= _DAY:
            return not folder.is_dir()
        hold = None
    except OSError:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    if hold is not None:
        hold.close()
    return True


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())

"""A bounded folder of entries that are made once, shared by processes, and never removed while one of them is in
use."""

import errno
import fcntl
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

Content = TypeVar("Content")

_UNFINISHED = "building-"
_ALIVE = "alive"  # in an unfinished entry; locked for as long as the process that makes it lives
_DAY = 86400  # seconds; an unfinished entry without that file is left to its maker for so long
_ATTEMPTS = 10


class Hold:
    """A claim on a file for as long as this object lives, at most as long as the process: a lock on it.

    Args:
        path: of the file.
        kind: `fcntl.LOCK_SH`, which several may have, or `fcntl.LOCK_EX`, with `fcntl.LOCK_NB` not to wait.

    Raises:
        BlockingIOError: another has it, and it was not to be waited for.
        OSError: there is no such file, or it cannot be opened.
    """

    def __init__(self, path: Path, kind: int):
        self._file = os.open(path, os.O_RDONLY)
        self.close = weakref.finalize(self, os.close, self._file)
        try:
            fcntl.flock(self._file, kind)
        except BaseException:
            self.close()
            raise

    def is_of(self, path: Path) -> bool:
        """Whether the file at `path` is still the one that is held."""
        with suppress(OSError):
            return os.path.samestat(os.stat(path), os.fstat(self._file))
        return False


class DiskCache:
    """Entries by key, each a folder that holds a file named `seal` once it is complete.

    Whoever uses an entry holds a lock on its seal, and whoever makes one on a file in the folder it is made in. So an
    entry that a living process uses or makes is never removed, and what a dead process left unfinished is. The size
    bounds what is not in use: where everything is, the cache is larger for that long.

    Args:
        folder: made where it is missing.
        max_bytes: beyond it the entries used longest ago go.
        seal: the name of the file whose presence makes an entry; `make` writes it last.
    """

    def __init__(self, folder: Path, max_bytes: int, seal: str):
        self.folder, self.max_bytes, self.seal = folder, max_bytes, seal

    def entry(
        self,
        key: str,
        make: Callable[[Path], None],
        read: Callable[[Path], Content | None],
        *,
        num_bytes: int = 0,
        alone: bool = False,
    ) -> tuple[Content, Hold]:
        """What is read from an entry, which is made where it is missing, damaged, or vanished meanwhile; and the claim
        on it.

        Args:
            key: names everything that the entry's content depends on.
            make: writes the entry into an empty folder, its seal last.
            read: gives the content of an entry's folder; None where it is damaged, which is then removed.
            num_bytes: room to make for it beforehand, where its size is known.
            alone: one process makes it while others wait; else several may, and the first to finish wins.

        Raises:
            OSError: the folder cannot be written, the disk is full, or what was written cannot be read back.
        """
        place = self.folder / key
        with self._alone(key) if alone else nullcontext():
            made: Hold | None = None
            for _ in range(_ATTEMPTS):
                hold = self._hold(place)
                content = read(place) if hold is not None else None
                if hold is not None and content is not None:
                    break
                # damaged, and not made again by another meanwhile
                if hold is not None and hold.is_of(place / self.seal):
                    shutil.rmtree(place, ignore_errors=True)
                if made is None:  # not again within this call: what was made is read back first
                    self.evict(place, self.max_bytes - num_bytes)
                made = self._make(place, make)
            else:
                raise OSError(errno.EIO, "what was written cannot be read back; check the disk", str(place))
        with suppress(OSError):  # a cache that may only be read serves too; its entries do not age
            os.utime(place / self.seal)
        self.evict(place, self.max_bytes)
        return content, hold

    def evict(self, keep: Path, room: int) -> None:
        """Remove what dead processes left unfinished, then the entries used longest ago until the rest fits.

        Args:
            keep: an entry that stays.
            room: bytes that may remain.
        """
        with suppress(FileNotFoundError):  # another process removes at the same time: it does what is left
            unfinished = [folder for folder in self.folder.glob(f"{_UNFINISHED}*") if not _remove_if_dead(folder)]
            used = {seal.parent: seal.stat().st_mtime_ns for seal in self.folder.glob(f"*/{self.seal}")}
            sizes = {folder: _size(folder) for folder in [*used, *unfinished]}
            total = sum(sizes.values())
            for entry in sorted(used, key=used.__getitem__):
                if total <= room:
                    return
                if entry != keep and self._remove(entry):
                    total -= sizes[entry]

    def _hold(self, place: Path) -> Hold | None:
        """A claim on an entry; None where there is none."""
        try:
            hold = Hold(place / self.seal, fcntl.LOCK_SH)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return hold if hold.is_of(place / self.seal) else None  # removed while its lock was waited for

    def _make(self, place: Path, make: Callable[[Path], None]) -> Hold | None:
        """Make an entry under another name and put it in place in one step, claimed from before it can be seen."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=_UNFINISHED, ignore_cleanup_errors=True) as building:
            alive, folder = Path(building) / _ALIVE, Path(building) / "entry"
            unlocked = alive.with_suffix(".new")
            unlocked.touch()
            mine = Hold(unlocked, fcntl.LOCK_EX)
            unlocked.rename(alive)  # nobody sees it before it is locked
            folder.mkdir()
            make(folder)
            for file in folder.iterdir():
                _sync(file)
            made = Hold(folder / self.seal, fcntl.LOCK_SH)
            try:
                folder.rename(place)
            except OSError:
                if not place.is_dir():
                    raise
                if not (place / self.seal).is_file():  # left by an older version, or damaged: no entry
                    shutil.rmtree(place, ignore_errors=True)
                    folder.rename(place)
                else:  # another process made the same meanwhile, and its files serve as well
                    return None
            finally:
                mine.close()
        return made

    def _remove(self, entry: Path) -> bool:
        """Remove an entry that nobody uses; False where somebody does."""
        try:
            hold = Hold(entry / self.seal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except OSError:  # in use, or not ours to open
            return False
        shutil.rmtree(entry, ignore_errors=True)
        hold.close()
        return True

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Wait for every other process that makes this entry; the lock's file is gone afterwards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{key}.lock"
        while True:
            path.touch()
            with suppress(FileNotFoundError):
                hold = Hold(path, fcntl.LOCK_EX)
                if hold.is_of(path):
                    break
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            hold.close()


def _remove_if_dead(folder: Path) -> bool:
    """Remove an unfinished entry if the process that made it has died."""
    try:
        hold = Hold(folder / _ALIVE, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:  # just begun, or of an older version
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


def _sync(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

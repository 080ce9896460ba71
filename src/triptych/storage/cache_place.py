"""Where prepared data is kept: a chosen folder, else the home folder, else a folder for temporary files."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

VARIABLE = "TRIPTYCH_CACHE"


class CachePlace(NamedTuple):
    """A folder for prepared data.

    Attributes:
        folder: the folder, which may not exist yet.
        note: a sentence on why it is not the usual one; empty where it is, or was chosen.
    """

    folder: Path
    note: str = ""


def cache_place() -> CachePlace:
    """`$TRIPTYCH_CACHE`, else `~/.cache/triptych`, else a folder of this user's for temporary files.

    A home folder that cannot be written is usual in containers and for users without a home. Every process of a suite
    comes to the same folder.
    """
    if chosen := os.environ.get(VARIABLE):
        return CachePlace(Path(chosen))
    with suppress(RuntimeError):  # no home folder is known
        usual = Path.home() / ".cache" / "triptych"
        if _can_write(usual):
            return CachePlace(usual)
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"triptych-{user}"
    if not _make_own(folder):
        folder = Path(tempfile.gettempdir()) / f"triptych-{user}-{os.getppid()}"
        _make_own(folder)
    return CachePlace(
        folder,
        f"Prepared data is kept in {folder}, since the home folder cannot be written. Set {VARIABLE} to a folder that "
        "stays, so that it need not be prepared again.",
    )


def cache_folder() -> Path:
    """The folder of `cache_place`."""
    return cache_place().folder


def give_matplotlib_a_folder() -> None:
    """Have Matplotlib keep its files next to prepared data where the home folder, its own choice, cannot be written.

    It reads `MPLCONFIGDIR` when it is imported, and prints two warnings where it finds no folder.
    """
    if "MPLCONFIGDIR" in os.environ:
        return
    with suppress(RuntimeError):  # no home folder is known
        home = Path.home()
        there = next(folder for folder in (home, *home.parents) if folder.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return
    os.environ["MPLCONFIGDIR"] = str(cache_place().folder.expanduser().absolute() / "matplotlib")


def _can_write(folder: Path) -> bool:
    """Whether a folder can be written, or made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _make_own(folder: Path) -> bool:
    """Make a folder that this user alone can write, or find it; False: it is somebody else's."""
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
        return stat.S_ISDIR(found.st_mode) and mine and not found.st_mode & 0o022
    return False

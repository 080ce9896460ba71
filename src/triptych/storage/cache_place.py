"""Where prepared data is cached: a chosen folder, else the home folder, else the temporary folder."""

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
        note: a sentence that says why it is not the default folder; empty if it is, or if the user chose it.
    """

    folder: Path
    note: str = ""


def cache_place() -> CachePlace:
    """`$TRIPTYCH_CACHE`, else `~/.cache/triptych`, else this user's folder among the temporary files.

    In containers, and for users without a home, the home folder often cannot be written. Every process of a suite gets
    the same folder.
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
    """Make Matplotlib store its files next to prepared data if the home folder, its default, cannot be written.

    Matplotlib reads `MPLCONFIGDIR` on import and prints two warnings if it finds no folder.
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
    """Whether a folder can be written, creating it if needed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _make_own(folder: Path) -> bool:
    """Create a folder that only this user can write; False if it exists and does not belong to this user alone."""
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
        return stat.S_ISDIR(found.st_mode) and mine and not found.st_mode & 0o022
    return False

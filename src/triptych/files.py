"""A file is there whole or not at all."""

import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from triptych.errors import ResultsError

# `.NAME.xxxxxxxx`, as `replacing` names temporary files, of the kinds of file that a results folder holds.
_TEMPORARY = re.compile(r"\.[^/]+\.(?:json|jsonl|csv|md|pdf|html|safetensors)\.[a-z0-9_]{8}")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file next to `path`, synced and put in its place when the block ends; on failure the old file is kept and the
    temporary file is removed.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                with suppress(OSError):  # so that `sweep` leaves it alone; some network file systems have no locks
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ResultsError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write the whole content: the file is the old one or the new one, never half of it.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full.
    """
    with replacing(path) as file:
        file.write(content)


def is_temporary(path: Path) -> bool:
    """Whether a name is one that `replacing` gives to the temporary file of a result."""
    return _TEMPORARY.fullmatch(path.name) is not None


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder and below; one that is being written is kept."""
    for path in folder.rglob(".*"):
        if not is_temporary(path) or path.is_symlink() or not path.is_file():
            continue
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def digest(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        ResultsError: missing, unreadable, or not a regular file.
    """
    if path.exists() and not path.is_file():
        raise ResultsError(f"{str(path)!r} is not a regular file.")  # a device or a pipe could be read for ever
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ResultsError(f"{str(path)!r} cannot be read: {error.strerror}.") from None


def leads_out(path: Path, folder: Path) -> bool:
    """Whether what `path` names lies outside `folder`, links followed."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

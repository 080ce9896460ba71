"""Write files atomically, hash them, and reserve disk space."""

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from triptych.errors import InputError, ResultsError, shorten
from triptych.storage.locks import FileLock, lock_descriptor

# `.NAME.xxxxxxxx`, the names that `replacing` gives to temporary files, for the file types of a results folder.
_TEMPORARY = re.compile(r"\.[^/]+\.(?:json|jsonl|csv|md|pdf|html|safetensors)\.[a-z0-9_]{8}")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file next to `path`, which replaces `path` when the block ends.

    On failure, the old file is kept and the temporary file is removed.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full.
    """
    with _explained(path), _temporary(path) as (name, file):
        yield file
        sync(file)
        os.replace(name, path)


def write_together(contents: Mapping[Path, Callable[[], bytes]]) -> dict[Path, Exception]:
    """Write several files and move them into place at the end, so that old and new files are never mixed.

    Args:
        contents: a function that returns the content, for each file; called in order, with one content in memory at a
            time.

    Returns:
        The files that could not be made, with the exceptions. Neither an old nor a new version of them is left; the
        other files are written.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full; then every file stays as it was.
    """
    failed: dict[Path, Exception] = {}
    ready: dict[Path, str] = {}
    with ExitStack() as stack:
        for path, make in contents.items():
            try:
                content = make()
            except Exception as error:
                failed[path] = error
                continue
            with _explained(path):
                ready[path], file = stack.enter_context(_temporary(path))
                file.write(content)
                sync(file)
        for path in contents:  # first, so that a process killed here leaves a file missing, never an old one
            with _explained(path):
                path.unlink(missing_ok=True)
        for path, name in ready.items():
            with _explained(path):
                os.replace(name, path)
    return failed


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Open a temporary file next to `path` and yield its name and the file; it is removed at the end unless renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            with suppress(OSError):  # so that `sweep` keeps it; some systems and network file systems lack locks
                lock_descriptor(handle, wait=False)
            os.chmod(name, 0o666 & ~umask())
            yield name, file
    finally:
        Path(name).unlink(missing_ok=True)


def sync(file: IO[bytes]) -> None:
    """Flush a file to disk."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultsError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: it always has the old or the new content, never part of it.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full.
    """
    with replacing(path) as file:
        file.write(content)


def is_temporary(path: Path) -> bool:
    """Whether a path has the name of a temporary file that `replacing` made for a result."""
    return _TEMPORARY.fullmatch(path.name) is not None


def sweep(folder: Path) -> None:
    """Remove temporary files of killed processes in a folder and its subfolders, except those being written."""
    for path in folder.rglob(".*"):
        if is_temporary(path):
            _remove_if_unused(path)


def sweep_of(path: Path) -> None:
    """Remove temporary files that killed processes left next to one file, except one being written."""
    named = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")
    with suppress(OSError):  # the folder is missing or cannot be listed
        for each in path.parent.iterdir():
            if named.fullmatch(each.name):
                _remove_if_unused(each)


def _remove_if_unused(path: Path) -> None:
    """Remove a regular file unless a process has locked it."""
    if path.is_symlink() or not path.is_file():
        return
    with suppress(OSError):
        lock = FileLock(path, wait=False)
        path.unlink()
        lock.close()


def digest(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        ResultsError: the file is missing, unreadable, or not a regular file.
    """
    if path.exists() and not path.is_file():
        raise ResultsError(f"{str(path)!r} is not a regular file.")  # reading a device or a pipe may never end
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ResultsError(f"{str(path)!r} cannot be read: {error.strerror}.") from None


def named_path(path: str | Path) -> Path:
    """A path given by the user.

    Raises:
        InputError: it is empty, which Python would take as the current folder.
    """
    if path == "":
        raise InputError("A path or name is empty. Give one; the current folder is written '.'.")
    return Path(path)


def expand_path(text: str) -> Path:
    """A path given by the user, with `~` expanded. It need not exist.

    Raises:
        InputError: it is empty or cannot be looked up: an unknown home, a name that is too long, a folder without read
            permission.
    """
    try:
        path = named_path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{shorten(repr(text))} cannot be looked up: {reason}. Give another path or name.") from None
    return path


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless it exists.

    Raises:
        ResultsError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(f"The folder {str(folder)!r} cannot be made: {error.strerror}.") from error


def leads_out(path: Path, folder: Path) -> bool:
    """Whether `path` is outside `folder`, after following links."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def give_usual_modes(folder: Path) -> None:
    """Give each file in a folder the mode of a new file: some libraries write files that only the owner can read."""
    mode = 0o666 & ~umask()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(mode)


def umask() -> int:
    """The umask of this process: the permission bits that new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def reserve(file: IO[bytes], num_bytes: int) -> None:
    """Reserve disk space for a new file and set its size, so that later writes do not run out of space.

    Raises:
        OSError: the disk is full, or the file would exceed a size limit.
    """
    if num_bytes == 0:
        return
    with suppress(AttributeError):  # macOS has no such function
        try:
            os.posix_fallocate(file.fileno(), 0, num_bytes)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
    zeros = bytes(2**20)  # the file system cannot reserve space: write zeros to allocate the blocks
    for start in range(0, num_bytes, len(zeros)):
        file.write(zeros[: num_bytes - start])
    file.flush()
    file.seek(0)

"""Open a table's file: a file on disk, or a member of a zip archive, which is never unpacked to disk."""

import gzip
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from triptych.errors import DataError

MAX_MEMBERS = 100_000  # maximum files in an archive; more cannot be tables
MAX_UNPACKED = 2**40  # maximum bytes of a member; a larger one is an attack, not a table
READ_ERRORS = (  # from damaged files: everything that Python's gzip and zip readers were seen to raise
    OSError,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
    struct.error,
    RuntimeError,
    ValueError,
    LookupError,
)
_SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d{5})-of-(?P<total>\d{5})")


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A file inside a zip archive.

    Attributes:
        archive: the archive's path.
        inner: the name in the archive, with `/` between folders. It is only looked up in the archive, never used as a
            path.
    """

    archive: Path
    inner: str

    @property
    def name(self) -> str:
        """The last part of the name."""
        return PurePosixPath(self.inner).name

    def __str__(self) -> str:
        return f"{self.archive}/{self.inner}"


File = Path | Member


@contextmanager
def open_bytes(file: File) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressing gzip.

    Raises:
        READ_ERRORS: the errors of Python's readers.
    """
    with ExitStack() as stack:
        handle: IO[bytes]
        if isinstance(file, Member):
            archive = stack.enter_context(zipfile.ZipFile(file.archive))
            handle = stack.enter_context(archive.open(file.inner))
        else:
            handle = stack.enter_context(open(file, "rb"))
        if file.name.lower().endswith(".gz"):
            handle = stack.enter_context(gzip.open(handle, "rb"))  # type: ignore[arg-type]
        yield handle


def state(file: File) -> str:
    """A string that changes when the content may have changed: resolved path, size and modification time."""
    path = file.archive if isinstance(file, Member) else file
    status = path.stat()
    inner = f"\t{file.inner}" if isinstance(file, Member) else ""
    return f"{path.resolve()}{inner}\t{status.st_size}\t{status.st_mtime_ns}"


def members(archive: Path) -> list[Member]:
    """The files of a zip archive, by name.

    Raises:
        DataError: the archive is damaged, or has too many or too large files.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
    except READ_ERRORS as error:
        raise DataError(f"{archive}: cannot be read as a zip archive: {error}. Fetch it again, or unpack it.") from None
    if len(entries) > MAX_MEMBERS:
        raise DataError(
            f"{archive}: {len(entries):,} files are more than the {MAX_MEMBERS:,} that are read. Unpack it."
        )
    for entry in entries:
        if entry.filename.startswith("/") or ".." in PurePosixPath(entry.filename).parts:
            raise DataError(
                f"{archive}: the name {entry.filename[:100]!r} in it leads elsewhere. Such an archive is not read."
            )
        if entry.file_size > MAX_UNPACKED:
            raise DataError(
                f"{archive}: {entry.filename[:100]!r} would unpack to more than {MAX_UNPACKED // 2**30:,} GiB."
            )
    return [Member(archive, name) for name in sorted({entry.filename for entry in entries})]


def bare_name(file: File, endings: frozenset[str]) -> str:
    """The name in lower case, without `.gz` and the extension that says how the file is read."""
    bare = file.name.lower().removesuffix(".gz")
    ending = Path(bare).suffix
    return bare.removesuffix(ending) if ending in endings else bare


def shard(bare: str) -> re.Match[str] | None:
    """The `stem`, `index` and `total` of a name such as `train-00000-of-00004`."""
    return _SHARD.fullmatch(bare)

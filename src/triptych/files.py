"""A file is there whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from triptych.errors import ResultsError


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file beside `path`, synced and put in its place when the block ends; a failure leaves what was there, and no rest.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
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


def leads_out(path: Path, folder: Path) -> bool:
    """Whether what `path` names lies outside `folder`, links followed."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""A file is there whole or not at all."""

import os
import tempfile
from pathlib import Path

from triptych.errors import ResultsError


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path`, then put it in its place; a failure leaves what was there, and no rest."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ResultsError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error

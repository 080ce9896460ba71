"""Files of a results folder, read with a clear word on what is wrong, and written whole or not at all."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from safetensors import SafetensorError

from triptych.errors import InputError, ResultsError, shorten
from triptych.storage.files import digest as digest
from triptych.storage.files import write_bytes
from triptych.text.characters import to_json

if TYPE_CHECKING:
    from torch import Tensor

Line = TypeVar("Line", bound=BaseModel)
Content = TypeVar("Content")


def locate(text: str) -> Path:
    """A path as somebody wrote it, `~` undone; there may be nothing.

    Raises:
        InputError: nothing could be there: a home of nobody, too long a name, a folder that may not be read.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{shorten(repr(text))} cannot be looked up: {reason}. Give another path or name.") from None
    return path


def write_json(path: Path, value: Any) -> None:
    """JSON with a stable order; NaN and infinity are refused."""
    write_bytes(path, f"{to_json(value, indent=2)}\n".encode())


def write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    write_bytes(path, "".join(f"{to_json(value)}\n" for value in values).encode())


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ResultsError: missing, unreadable or malformed.
    """
    _check_file(path)
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ResultsError(f"There is no {str(path)!r}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"{str(path)!r} cannot be read: {error}.") from None


def read_as(path: Path, kind: type[Content], name: str, remedy: str = "") -> Content:
    """Read JSON that must fit a type.

    Args:
        name: what the file should be, for the message.
        remedy: what to do where it is not, for the message.

    Raises:
        ResultsError: missing, unreadable, malformed or something else.
    """
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except ValidationError as error:
        said = f"{str(path)!r} is no {name}: {error.errors()[0]['msg']}. {remedy}"
        raise ResultsError(said.rstrip()) from None


def write_tensors(path: Path, tensors: "Mapping[str, Tensor]") -> str:
    """Tensors as safetensors, in the order of their names; returns the SHA-256 of the file."""
    from safetensors.torch import save  # imports torch, which reading JSON does not need

    content = save({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def read_lines(path: Path, kind: type[Line]) -> list[Line]:
    """One JSON object a line, each checked to be of its kind.

    Raises:
        ResultsError: missing, unreadable, or a line is malformed.
    """
    _check_file(path)
    try:
        return [kind.model_validate_json(line) for line in path.read_bytes().split(b"\n") if line]
    except FileNotFoundError:
        raise ResultsError(f"There is no {str(path)!r}.") from None
    except OSError as error:
        raise ResultsError(f"{str(path)!r} cannot be read: {error}.") from None
    except ValidationError as error:
        raise ResultsError(
            f"{str(path)!r} has a line that is no {kind.__name__}: {error.errors()[0]['msg']}."
        ) from None


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """Read safetensors; nothing is ever unpickled.

    Raises:
        ResultsError: missing, truncated or no safetensors file.
    """
    from safetensors.torch import load_file

    _check_file(path)
    try:
        return load_file(path)
    except FileNotFoundError:
        raise ResultsError(f"There is no {str(path)!r}.") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise ResultsError(f"{str(path)!r} is no whole safetensors file: {str(error)[:300]}.") from None


def _check_file(path: Path) -> None:
    """A device or a pipe could be read for ever."""
    if path.exists() and not path.is_file():
        raise ResultsError(f"{str(path)!r} is no file.")

"""Read and write safetensors files; the only module in this package that needs torch."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from triptych.results.json_files import refuse
from triptych.storage.files import write_bytes


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors, in the order of their names.

    Returns:
        The SHA-256 of the file.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full.
    """
    content = save({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def read_tensors(path: Path, remedy: str = "") -> dict[str, Tensor]:
    """Read safetensors; nothing is ever unpickled.

    Args:
        path: the file.
        remedy: what to do if it is missing or damaged, for the message.

    Raises:
        ResultsError: the file is missing, truncated or not a safetensors file.
    """
    if path.exists() and not path.is_file():  # a device or a pipe could be read without end
        refuse(path, "is not a regular file", remedy)
    try:
        return load_file(path)
    except FileNotFoundError:
        refuse(path, "is missing", remedy)
    except (OSError, ValueError, SafetensorError) as error:
        refuse(path, f"is truncated or not a safetensors file: {str(error)[:300]}", remedy)

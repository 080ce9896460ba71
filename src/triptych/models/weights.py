"""The files from which a model's weights are read: only safetensors in its own folder or repository."""

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from triptych.errors import ModelError, shorten

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> tuple[dict[str, str], list[Path]]:
    """The files that transformers reads from a folder: a single file, or those named in an index.

    As in transformers, a single file takes precedence over an index next to it.

    Args:
        folder: a transformers folder.

    Returns:
        The index's map from tensors to file names, empty without an index, and the files sorted by name.

    Raises:
        ModelError: there are none, the index is malformed, or it names something other than a safetensors file in this
            folder.
    """
    if (folder / SINGLE).is_file():
        return {}, [_inside(folder, SINGLE)]
    if not (folder / INDEX).is_file():
        others = sorted(file.name for file in folder.glob("*.safetensors"))
        hint = (
            f"It holds {shorten(', '.join(others))}: {SINGLE} or {INDEX} is needed."
            if others
            else (
                "Pickled weights are never read, since they can run code: save the model again with transformers' "
                "save_pretrained, which writes safetensors."
            )
        )
        missing = f"no {SINGLE}" if others else "no *.safetensors"
        raise ModelError(f"The folder {str(folder)!r} holds {missing}. {hint}")
    names = _read_index(_inside(folder, INDEX))
    return names, [_inside(folder, name) for name in sorted(set(names.values()))]


def hub_files(name: str, commit: str) -> list[Path]:
    """The files of a model on the Hub, by the rule of `weight_files`, downloaded if not cached.

    Args:
        name: the repository's name.
        commit: the repository's commit.

    Raises:
        ModelError: there are none, the index is malformed, or it names something other than a safetensors file of
            this repository.
    """
    index = _fetch(name, INDEX, commit)
    names = sorted(set(_read_index(index).values())) if index is not None else []
    if (single := _fetch(name, SINGLE, commit)) is not None:
        return [single]
    files = [file for each in names if (file := _fetch(name, each, commit)) is not None]
    if names and len(files) == len(names):
        return files
    if constants.is_offline_mode():
        raise ModelError(
            f"The weights of {name!r} at commit {commit} are not in the cache, and the Hub was not asked or did not "
            "answer. Connect once, set HF_HOME to a cache that holds them, or give --model a local transformers folder."
        )
    if names:
        raise ModelError(f"The model {name!r} on the Hub lacks weights at commit {commit} that its {INDEX} names.")
    raise ModelError(
        f"The model {name!r} on the Hub has no {SINGLE} and no {INDEX} at commit {commit}. Pickled weights are never "
        "read, since they can run code: look for a revision with safetensors, or save the model again with "
        "transformers' save_pretrained and give its folder."
    )


def _fetch(name: str, file: str, commit: str) -> Path | None:
    """A file of a repository, downloaded if not cached; None if it does not exist."""
    try:
        return Path(hf_hub_download(name, file, revision=commit, local_files_only=constants.is_offline_mode()))
    except RemoteEntryNotFoundError:
        return None
    except LocalEntryNotFoundError:
        if constants.is_offline_mode():
            return None
        raise


def is_finite(file: Path) -> bool:
    """Whether a safetensors file can be read and has no NaN or infinity; reads one tensor at a time."""
    try:
        state = file.stat()
        return _is_finite(file, state.st_size, state.st_mtime_ns)
    except OSError:
        return False


@lru_cache(maxsize=1024)
def _is_finite(file: Path, num_bytes: int, modified: int) -> bool:
    """Like `is_finite`; size and time distinguish a file from an earlier one of the same name."""
    try:
        with safe_open(file, framework="pt") as tensors:
            return all(_sum_is_finite(tensors.get_tensor(name)) for name in tensors.keys())  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError):
        return False


def _sum_is_finite(tensor: Tensor) -> bool:
    """Whether the sum in float64 is finite; finite numbers of fp32, bf16 or fp16 cannot add up to infinity there."""
    if not tensor.is_floating_point():
        return True
    wide = tensor if tensor.element_size() > 1 else tensor.float()  # torch cannot sum 8-bit numbers
    return math.isfinite(float(wide.sum(dtype=torch.float64)))


def _read_index(path: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{str(path)!r} cannot be read: {shorten(str(error))}.") from None
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f"{str(path)!r} has no weight_map from tensors to file names: it is not an index of weights.")
    for name in names.values():
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors") or not name.isprintable():
            raise ModelError(
                f"{str(path)!r} names {shorten(repr(name))}: only *.safetensors files of its own folder are read. "
                "Pickled weights can run code, and files elsewhere do not belong to the model: save it again with "
                "save_pretrained."
            )
    return names


def _inside(folder: Path, name: str) -> Path:
    """A file of the folder; a link must stay in the folder or lead from the Hub's cache to its blobs."""
    file = folder / name
    if not file.is_file():
        raise ModelError(f"The folder {str(folder)!r} lacks {shorten(repr(name))}, which its {INDEX} names.")
    home, target = folder.resolve(), file.resolve()
    allowed = [home, *([home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [])]
    if target.parent not in allowed:
        raise ModelError(
            f"{str(file)!r} is a link out of its folder: the target file does not belong to the model. Replace the "
            "link with a copy."
        )
    return file

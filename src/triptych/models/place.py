"""Where a base model is read from: the package, a local folder, a GGUF file or the Hugging Face Hub."""

import importlib
import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from safetensors import SafetensorError
from transformers.utils import is_gguf_available, logging

from triptych.contracts import EmbeddedModel
from triptych.errors import ModelError, nearest, shorten
from triptych.models import weights
from triptych.models.hub_access import HubRefusal, is_interruption, offline_if_unreachable, why_not_asked
from triptych.registry import registered
from triptych.storage.files import expand_path

ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Place:
    """The location of a model.

    Attributes:
        where: a folder, or a name on the Hub.
        gguf: the GGUF file with configuration, tokenizer and weights, or None.
    """

    where: str
    gguf: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether the model is on this machine, so that the Hub is not needed."""
        return self.gguf is not None or Path(self.where).is_dir()

    @property
    def path(self) -> Path | None:
        """The local folder or GGUF file; None for a name on the Hub."""
        return (self.gguf or Path(self.where)) if self.is_local else None

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments for transformers' `from_pretrained` in addition to `where`."""
        return {} if self.gguf is None else {"gguf_file": str(self.gguf)}

    def reading(self) -> AbstractContextManager[None]:
        """A context for reading the model; for a model on the Hub, it avoids long retries while offline."""
        return nullcontext() if self.is_local else offline_if_unreachable()


def find_place(model: str) -> Place:
    """Find a model by its name in a suite.

    Args:
        model: the name of an embedded model, the path of a transformers folder or GGUF file, or a name on the Hub.

    Raises:
        ModelError: a folder or file is missing, or contains no transformers model with safetensors.
    """
    embedded = registered(EmbeddedModel)
    if model in embedded:
        folder = embedded[model]().folder()
        if not folder.is_dir():
            raise ModelError(
                f"{model!r} is an embedded model, and its folder {str(folder)!r} is missing. In a bundle it is in "
                f"models/base/{model}: give --model models/base/{model} from the bundle's folder."
            )
        return Place(str(folder))
    path = expand_path(model)
    if path.is_dir():
        return _folder(path)
    if path.is_file() and path.suffix == ".gguf":
        return _gguf(path)
    if path.exists() or path.suffix == ".gguf" or model.startswith((".", "/", "~")) or model.count("/") > 1:
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise ModelError(
            f"There is no model folder {shorten(repr(model))}: the path {what}. Give a transformers folder with "
            "config.json, a .gguf file, or a name on the hub (NAME or OWNER/NAME)."
        )
    return Place(model)


def cannot_read(model: str, place: Place, what: str, error: Exception) -> ModelError:
    """The error to raise if a part of a model cannot be read.

    Args:
        model: the model's name as given.
        place: where it was looked up.
        what: the part, such as `tokenizer`.
        error: the libraries' error; a `ModelError` is returned as it is.
    """
    if isinstance(error, ModelError):
        return error
    first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if place.is_local:
        return ModelError(f"The {what} in {model!r} cannot be read: {first_line}")
    hint = nearest(model, registered(EmbeddedModel)).partition(" Known:")[0]
    if isinstance(error, HubRefusal):
        return ModelError(f"{error}{hint}")
    if is_interruption(error):
        return ModelError(
            f"The download of the {what} of {model!r} from the Hub was interrupted: {first_line}. Run the same command "
            "again to download what is missing, or give --model a local transformers folder."
        )
    if isinstance(error, SafetensorError):
        return ModelError(
            f"The {what} of {model!r}, downloaded from the Hub, cannot be read: {first_line}. The file is damaged "
            f"there or in the cache: remove {_cached(place)} and try again."
        )
    unreachable = why_not_asked(error)
    without = " Without a network, `triptych compare --preset demo` tries your files." if unreachable else ""
    return ModelError(
        f"There is no folder {model!r} here, and the {what} of that name cannot be downloaded from the hub: "
        f"{unreachable or first_line.rstrip('.')}.\n"
        "Give --model a local transformers folder, or set HF_HOME to a cache that holds it, or check the name."
        f"{without}{hint}"
    )


def _cached(place: Place) -> str:
    """The cache folder of a model on the Hub."""
    return str(Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=place.where, repo_type="model")))


def _gguf(file: Path) -> Place:
    if not is_gguf_available():
        raise ModelError(
            f"{str(file)!r} is a GGUF file, which needs the package gguf: pip install 'triptych[gguf]'. Or give the "
            "folder that it was made from."
        )
    # the reader of these files uses tqdm directly; this makes transformers' own switch apply to it too
    reader: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    reader.tqdm = logging.tqdm
    return Place(str(file.parent), file.resolve())


def _folder(path: Path) -> Place:
    if any(file.exists() and not file.is_file() and not file.is_dir() for file in path.iterdir()):
        raise ModelError(
            f"The folder {str(path)!r} contains a device or a pipe, which could be read without end; only files are "
            "accepted."
        )
    if not (path / "config.json").is_file():
        ggufs = sorted(path.glob("*.gguf"))
        if len(ggufs) == 1:
            return _gguf(ggufs[0])
        if ggufs:
            names = shorten(", ".join(file.name for file in ggufs))
            raise ModelError(
                f"The folder {str(path)!r} holds {len(ggufs)} GGUF files ({names}): give --model one of them."
            )
        if (path / ADAPTER_CONFIG).is_file():
            raise ModelError(
                f"The folder {str(path)!r} is an adapter{_base_of(path)}, not a model. Give --model its base; "
                "`triptych summarize` and `triptych evaluate` take the adapter's folder as RUN."
            )
        raise ModelError(f"The folder {str(path)!r} holds no config.json; a transformers folder is needed.")
    weights.weight_files(path)
    return Place(str(path))


def _base_of(folder: Path) -> str:
    """` of BASE` for an adapter that names its base, otherwise an empty string."""
    try:
        base = json.loads((folder / ADAPTER_CONFIG).read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f" of {shorten(repr(base))}" if base and isinstance(base, str) else ""

"""Save and load trained parameters, in PEFT's format if it has one, with a manifest of the run they belong to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from triptych.config.schema import Quantization
from triptych.contracts import AdaptedModel
from triptych.errors import ResultsError, shorten
from triptych.models.base import BaseModel
from triptych.results import json_files, tensor_files
from triptych.results.integrity import remedy
from triptych.results.records import Record
from triptych.storage.files import digest

MANIFEST = "triptych.json"
PEFT_CONFIG = "adapter_config.json"
PEFT_TENSORS = "adapter_model.safetensors"
OWN_TENSORS = "trained.safetensors"
_PEFT_PREFIX, _PEFT_ADAPTER = "base_model.model.", ".default."


@dataclass(frozen=True)
class Origin:
    """The run and base model that an adapter belongs to."""

    label: str
    kind: str
    options: dict[str, Any]
    model: str
    model_revision: str
    model_fingerprint: str
    tokenizer_fingerprint: str | None = None  # None: not recorded
    seed: int | None = None  # None: not recorded
    model_quantization: Quantization = "none"


@dataclass(frozen=True)
class _Written:
    """The files that a manifest describes."""

    tensors: str
    sha256: str
    config_sha256: str | None = None


def save_adapter(
    adapted: AdaptedModel, folder: Path, origin: Origin, trained: Mapping[str, Tensor] | None = None
) -> int:
    """Write the trained parameters.

    Args:
        adapted: the trained model.
        folder: the folder to write to.
        origin: the run and base model it belongs to.
        trained: the whole trained tensors if the model is sharded; None: the model's own.

    Returns:
        Size of the tensors on disk in bytes.
    """
    trained = adapted.trained_parameters() if trained is None else trained
    tensors = {_stored_name(name, adapted): tensor for name, tensor in trained.items()}
    file = folder / (PEFT_TENSORS if adapted.peft_config is not None else OWN_TENSORS)
    digests = {"sha256": tensor_files.write_tensors(file, tensors)}
    if adapted.peft_config is not None:
        adapted.peft_config.base_model_name_or_path = origin.model
        adapted.peft_config.revision = origin.model_revision
        adapted.peft_config.inference_mode = True
        json_files.write_json(folder / PEFT_CONFIG, _plain(adapted.peft_config.to_dict()))
        digests["config_sha256"] = digest(folder / PEFT_CONFIG)
    json_files.write_json(folder / MANIFEST, {**vars(origin), "tensors": file.name, **digests})
    return file.stat().st_size


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter written by `save_adapter`.

    Attributes:
        origin: the run and base model it belongs to.
        tensors: the trained tensors by name.
        files: the names of its files, sorted.
        sha256: the SHA-256 of the file with the tensors.
    """

    origin: Origin
    tensors: dict[str, Tensor]
    files: tuple[str, ...]
    sha256: str


def read_manifest(folder: Path) -> tuple[Origin, dict[str, Tensor]]:
    """The origin and the tensors of an adapter; `read_adapter` returns everything saved, and raises the same errors."""
    saved = read_adapter(folder)
    return saved.origin, saved.tensors


def read_adapter(folder: Path) -> SavedAdapter:
    """Read an adapter written by `save_adapter` and check that it is complete.

    Raises:
        ResultsError: a file is missing, truncated or modified.
    """
    content = json_files.read_object(folder / MANIFEST, _remedy(folder))
    try:
        origin = TypeAdapter(Origin).validate_python(content)
        written = TypeAdapter(_Written).validate_python(content)
    except ValidationError as error:
        problem = error.errors()[0]
        what = f"{shorten('.'.join(map(str, problem['loc'])))}: {problem['msg']}"
        json_files.refuse(folder / MANIFEST, f"is not the manifest of an adapter: {what}", _remedy(folder))
    file = folder / Path(written.tensors).name[:100]
    expected = {file: written.sha256}
    if written.config_sha256:
        expected[folder / PEFT_CONFIG] = written.config_sha256
    tensors = tensor_files.read_tensors(file, _remedy(folder))
    for path, sha256 in expected.items():
        if digest(path) != sha256:
            what = "was changed after it was written: its SHA-256 is not the manifest's"
            json_files.refuse(path, what, _remedy(folder))
    names = {MANIFEST, *(path.name for path in expected)}
    return SavedAdapter(origin, tensors, tuple(sorted(names)), written.sha256)


def _remedy(folder: Path) -> str:
    """What to do about a damaged or missing file of an adapter; a run's adapter can be made again by its suite."""
    if folder.name == "adapter":
        return remedy(folder / MANIFEST)
    return f"copy the whole folder {folder} again from where the adapter was trained, or train it again"


def check_origin(origin: Origin, base: BaseModel, where: Path) -> None:
    """Check that a base model has the weights, quantization and tokenizer that an adapter was trained with.

    Raises:
        ResultsError: one of them differs.
    """
    if origin.model_quantization != base.quantization:
        raise ResultsError(
            f"{str(where)!r} was trained on a base model with model_quantization = "
            f'"{origin.model_quantization}", and this one has "{base.quantization}".'
        )
    if origin.model_fingerprint != base.fingerprint:
        raise ResultsError(
            f"{str(where)!r} was trained on another model than the one given (it was {origin.model!r}): weights or "
            "configuration differ. Give the same model."
        )
    if origin.tokenizer_fingerprint not in (None, base.tokenizer_fingerprint):
        raise ResultsError(
            f"{str(where)!r} was trained with another tokenizer than the model has now: give the same one."
        )


def check_belongs(origin: Origin, record: Record, where: Path) -> None:
    """Check that an adapter belongs to a record, by label, kind, options, seed and base model.

    Args:
        origin: the origin in the adapter's manifest.
        record: the record next to it.
        where: the adapter's folder, for the error message.

    Raises:
        ResultsError: it belongs to another run.
    """
    base = record.provenance.model_fingerprint if record.provenance is not None else None
    pairs = {
        "label": (origin.label, record.label),
        "kind": (origin.kind, record.kind),
        "options": (origin.options, record.options),
        "seed": (origin.seed, record.seed if origin.seed is not None else None),
        "model_fingerprint": (origin.model_fingerprint, base or origin.model_fingerprint),
    }
    for name, (mine, recorded) in pairs.items():
        if mine != recorded:
            raise ResultsError(
                f"{str(where)!r} is not the adapter of the record next to it: {name} is {shorten(repr(mine))} in "
                f"{MANIFEST} and {shorten(repr(recorded))} in record.json. Remedy: {remedy(where / MANIFEST)}."
            )


def load_tensors(adapted: AdaptedModel, tensors: dict[str, Tensor], where: Path) -> None:
    """Load saved tensors into a freshly adapted model.

    Raises:
        ResultsError: names or shapes differ from the parameters that this method trains in this model.
    """
    parameters = {_stored_name(name, adapted): p for name, p in adapted.trained_parameters().items()}
    if set(parameters) != set(tensors):
        odd = sorted(set(parameters) ^ set(tensors))[0]
        raise ResultsError(f"{str(where)!r} does not fit the model: the tensor {odd!r} is in only one of them.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != tensors[name].shape:
                found, needed = tuple(tensors[name].shape), tuple(parameter.shape)
                raise ResultsError(
                    f"{str(where)!r} does not fit the model: {name!r} is {found} and {needed} is needed."
                )
            parameter.copy_(tensors[name])


def _stored_name(name: str, adapted: AdaptedModel) -> str:
    if adapted.peft_config is None:
        return name
    if name == "virtual_tokens" or name.startswith("prefix."):
        return "prompt_embeddings"
    return _PEFT_PREFIX + name.replace(_PEFT_ADAPTER, ".")


def _plain(value: Any) -> Any:
    """Convert the sets and enums of PEFT's config for JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return getattr(value, "value", value)

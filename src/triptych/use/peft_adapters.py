"""Read adapters in PEFT's format, check them against a base model, and insert them into it."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from triptych.contracts import AdaptedModel, ModelParts
from triptych.errors import ModelError, ResultsError, shorten
from triptych.models.fingerprints import TOKENIZER_PROBE
from triptych.models.patterns import check_patterns
from triptych.models.tokens import native_failures
from triptych.results import json_files, tensor_files
from triptych.run.adapters import MANIFEST, PEFT_CONFIG, PEFT_TENSORS, Origin, read_manifest

# Kinds that peft inserts into layers from the adapter's own tensors; others load more models or files by name.
IN_LAYERS = ("lora", "adalora", "ia3", "loha", "lokr", "oft", "boft", "vera", "hra", "fourierft", "ln_tuning")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class PeftFolder:
    """A folder written by `PeftModel.save_pretrained`.

    Attributes:
        kind: peft's name of the method in lower case, such as `lora` or `prompt_tuning`.
        model: the base model named by the adapter, or None.
        revision: revision of that base model on the Hub.
        num_virtual_tokens: P; 0 if the adapter is not a prompt.
        tensors: what was trained, by name.
        origin: the contents of Triptych's manifest; None if another program saved the adapter.
    """

    folder: Path
    kind: str
    model: str | None
    revision: str
    num_virtual_tokens: int
    tensors: dict[str, Tensor]
    origin: Origin | None


def is_peft_folder(folder: Path) -> bool:
    """Whether a folder contains an adapter in PEFT's format rather than a run."""
    return (folder / PEFT_CONFIG).is_file() and not (folder / "record.json").is_file()


def read_peft_folder(folder: Path) -> PeftFolder:
    """Read an adapter's configuration and tensors, and check them against Triptych's manifest if there is one.

    Raises:
        ResultsError: a file is missing, malformed or truncated, or does not match the manifest.
    """
    config = json_files.read_object(folder / PEFT_CONFIG)
    if not isinstance(config.get("peft_type"), str):
        raise ResultsError(
            f"{str(folder / PEFT_CONFIG)!r} names no peft_type: it is not the configuration of an adapter."
        )
    if not (folder / PEFT_TENSORS).is_file():
        raise ResultsError(
            f"There is no {str(folder / PEFT_TENSORS)!r}. Pickled adapters are never read, since they can run code: "
            "save it again with safe_serialization=True."
        )
    ours = (folder / MANIFEST).is_file()
    origin, tensors = read_manifest(folder) if ours else (None, tensor_files.read_tensors(folder / PEFT_TENSORS))
    model, revision = config.get("base_model_name_or_path") or "", config.get("revision") or "main"
    count = config.get("num_virtual_tokens") or 0
    if not (isinstance(model, str) and isinstance(revision, str) and type(count) is int):
        raise ResultsError(
            f"{str(folder / PEFT_CONFIG)!r} is malformed: base_model_name_or_path and revision must be strings, "
            "num_virtual_tokens a whole number."
        )
    return PeftFolder(folder, config["peft_type"].lower(), model or None, revision, count, tensors, origin)


def check_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a tokenizer saved with the adapter reads texts like the model's.

    It may have additional special tokens, such as one for padding, which no text contains.

    Args:
        folder: the adapter's folder; without a tokenizer there is nothing to check.
        tokenizer: the base model's tokenizer.

    Raises:
        ModelError: it reads or ends texts differently, or cannot be read.
    """
    if not all((folder / name).is_file() for name in _TOKENIZER_FILES):
        return
    try:
        with native_failures():
            own = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
            probes = [each(TOKENIZER_PROBE, verbose=False)["input_ids"] for each in (own, tokenizer)]
    except Exception as error:
        raise ModelError(f"The tokenizer in {str(folder)!r} cannot be read: {error}.") from error
    difference = _difference(own, tokenizer) or (
        "it tokenizes the same text differently" if probes[0] != probes[1] else None
    )
    if difference:
        raise ModelError(
            f"The adapter in {str(folder)!r} was trained with another tokenizer than the model's: {difference}. Give "
            "its own base with --model. If it was trained on the model's tokens nevertheless, remove the tokenizer "
            "files from its folder."
        )


def _difference(own: PreTrainedTokenizerBase, model: PreTrainedTokenizerBase) -> str | None:
    """Why an adapter's tokenizer reads or ends texts differently from the model's; None if it does not.

    An additional special token changes no text: nothing written in a text is ever a special token.
    """
    theirs, ours = own.get_vocab(), model.get_vocab()
    moved = next((token for token in theirs.keys() & ours.keys() if theirs[token] != ours[token]), None)
    if moved is not None:
        return f"the token {shorten(repr(moved))} has the id {theirs[moved]}, but {ours[moved]} in the model's"
    special = {*own.all_special_tokens, *model.all_special_tokens}
    for each in (own, model):
        special |= {str(token) for token in each.added_tokens_decoder.values() if token.special}
    odd = min((theirs.keys() ^ ours.keys()) - special, default=None)
    if odd is not None:
        return f"the token {shorten(repr(odd))} is in only one of them"
    if own.eos_token_id != model.eos_token_id:
        return f"its texts end with {own.eos_token!r}, but the model's with {model.eos_token!r}"
    return None


def insert_adapter(parts: ModelParts, adapter: PeftFolder) -> AdaptedModel:
    """Insert the adapter into a model as peft does; tensors that the adapter replaces become the model's own.

    Args:
        parts: the untouched model, which is changed in place. Its tensors may be shared: none is written to.
        adapter: the adapter saved by peft.

    Raises:
        ModelError: the adapter does not fit the model, or is of an unsupported kind.
    """
    if adapter.kind == "prompt_tuning":
        return AdaptedModel(parts, virtual_tokens=_prompt(parts, adapter))
    if adapter.kind not in IN_LAYERS:
        known = ", ".join(("prompt_tuning", *IN_LAYERS))
        raise ModelError(f"{str(adapter.folder)!r} holds a {shorten(adapter.kind)} adapter; those read are {known}.")
    from peft import PeftConfig, get_peft_model

    try:
        config: Any = PeftConfig.from_pretrained(str(adapter.folder))
        _check_ranks(config, adapter)
        _check_lengths(config, parts, adapter)
        _check_vocabulary(parts, adapter)
        check_patterns(
            _patterns(config), [name for name, _ in parts.model.named_modules()], str(adapter.folder / PEFT_CONFIG)
        )
        config.inference_mode = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft warns about names and layouts; what matters is checked below
            model = get_peft_model(parts.model, config)
            named = dict(model.named_parameters())
            # biases, for example; parameters of the adapter itself have other names
            for name in named.keys() & adapter.tensors.keys():
                named[name].data = named[name].data.clone()
            result = model.load_adapter(str(adapter.folder), "default", torch_device=str(parts.device))
    except ModelError:
        raise
    except Exception as error:  # peft trusts the configuration: a wrong one can cause any error
        raise _misfit(adapter, f"{type(error).__name__}: {error}") from error
    odd = [*result.missing_keys, *result.unexpected_keys]
    if odd:
        raise _misfit(adapter, f"the tensor {odd[0]!r} is in only one of them")
    if type(parts.model.get_input_embeddings()) is not nn.Embedding:
        raise ModelError(
            f"The adapter in {str(adapter.folder)!r} changes the token embedding, which cannot be read here."
        )
    return AdaptedModel(parts)


def _prompt(parts: ModelParts, adapter: PeftFolder) -> nn.Embedding:
    needed = (adapter.num_virtual_tokens, parts.hidden_size)
    weight = adapter.tensors.get("prompt_embeddings")
    if weight is None or tuple(weight.shape) != needed:
        found = "missing" if weight is None else tuple(weight.shape)
        raise _misfit(adapter, f"'prompt_embeddings' is {found} and {needed} is needed")
    return nn.Embedding.from_pretrained(weight.to(parts.device, torch.float32))


def _check_ranks(config: Any, adapter: PeftFolder) -> None:
    """Refuse a rank above the tensors' sizes, for which peft would allocate memory needlessly."""
    most = max((size for tensor in adapter.tensors.values() for size in tensor.shape), default=0)
    ranks = [getattr(config, "r", None), *(getattr(config, "rank_pattern", None) or {}).values()]
    if any(rank is not None and rank > most for rank in ranks):
        raise _misfit(adapter, f"its configuration gives a rank above {most}, the largest size of its tensors")


def _check_lengths(config: Any, parts: ModelParts, adapter: PeftFolder) -> None:
    """Refuse a list longer than the model has modules: peft matches each entry against each module, for hours."""
    most = max(1000, sum(1 for _ in parts.model.named_modules()))
    for field, value in vars(config).items():
        if isinstance(value, (list, tuple, set, dict)) and len(value) > most:
            raise _misfit(adapter, f"{field} in its configuration has {len(value):,} entries, above {most:,}")


def _check_vocabulary(parts: ModelParts, adapter: PeftFolder) -> None:
    """Refuse tensors of the token embedding or head, whole or as factors, with another number of tokens."""
    names = {id(module): name for name, module in parts.model.named_modules()}
    embedding, head = names.get(id(parts.token_embedding)), names.get(id(parts.head))
    # dimension of a tensor that counts tokens
    sizes = {f"{embedding}.lora_embedding_A": 1, f"{head}.lora_B.weight": 0}
    for name in (embedding, head):
        sizes |= {f"{name}.weight": 0, f"{name}.modules_to_save.weight": 0, f"{name}.base_layer.weight": 0}
    base = parts.token_embedding.num_embeddings
    for name, tensor in adapter.tensors.items():
        dimension = sizes.get(name.removeprefix("base_model.model."))
        if dimension is None or tensor.dim() != 2 or tensor.shape[dimension] == base:
            continue
        raise ModelError(
            f"The adapter in {str(adapter.folder)!r} was trained on a base with {tensor.shape[dimension]:,} tokens in "
            f"its vocabulary, and this base has {base:,}: tokens were added before training, such as those of a chat "
            "template. Give with --model a folder with the base as it was trained: its embeddings resized "
            f"(model.resize_token_embeddings({tensor.shape[dimension]})), saved together with the adapter's tokenizer."
        )


def _patterns(config: Any) -> list[str]:
    """Every string in a configuration that peft may match against names as a regular expression."""
    found: list[str] = []
    for value in vars(config).values():
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, (list, tuple, set, dict)):
            found += [each for each in value if isinstance(each, str)]
    return found


def _misfit(adapter: PeftFolder, why: str) -> ModelError:
    reason = shorten(why)
    return ModelError(
        f"The adapter in {str(adapter.folder)!r} does not fit the model: {reason}. Give its base with --model."
    )

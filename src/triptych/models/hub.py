"""Any causal language model of transformers: embedded, a local folder, or by its hub name. Safetensors only, no remote code."""

import hashlib
import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import find_adapter_config_file

from triptych import store
from triptych.contracts import EmbeddedModel
from triptych.errors import ModelError, nearest
from triptych.models.connection import caches_alone_without_a_hub
from triptych.registry import registered, shorten

MOST_BLOCKS = 10_000  # ten times what any model has; a configuration that asks for more would fill the memory


def locate(model: str) -> str:
    """Where transformers finds the model: the folder of an embedded or local one, else its hub name.

    Raises:
        ModelError: a folder that is missing or holds no transformers model with safetensors.
    """
    embedded = registered(EmbeddedModel)
    if model in embedded:
        return str(embedded[model]().folder())
    path = store.locate(model)
    if path.is_dir():
        _check_folder(path)
        return str(path)
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ModelError(f"There is no model folder {shorten(repr(model))}; a transformers folder with config.json is needed.")
    return model


def _check_folder(path: Path) -> None:
    if any(file.exists() and not file.is_file() and not file.is_dir() for file in path.iterdir()):
        raise ModelError(f"The folder {str(path)!r} holds a device or a pipe, which could be read for ever; files are needed.")
    if not (path / "config.json").is_file():
        raise ModelError(f"The folder {str(path)!r} holds no config.json; a transformers folder is needed.")
    if not any(path.glob("*.safetensors")):
        raise ModelError(
            f"The folder {str(path)!r} holds no *.safetensors. Pickled weights are never read, since they can run code: "
            "save the model again with transformers' save_pretrained, which writes safetensors."
        )


def load_tokenizer(model: str, revision: str = "main") -> PreTrainedTokenizerBase:
    """The model's own tokenizer.

    Raises:
        ModelError: it cannot be found or read.
    """
    where = locate(model)
    try:
        with _hub(where):
            tokenizer = AutoTokenizer.from_pretrained(where, revision=revision, trust_remote_code=False)
        tokenizer("a")  # a setting of the wrong type is told by its first use
        return tokenizer
    except Exception as error:
        raise _unreachable(model, "tokenizer", error) from error


def load_config(model: str, revision: str = "main"):
    """The model's configuration, checked to be a causal language model's.

    Raises:
        ModelError: it cannot be read, is an encoder-decoder, or needs remote code.
    """
    where = locate(model)
    try:
        with _hub(where):
            config = AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=False)
            adapter = find_adapter_config_file(where, revision=revision)
        text = config.get_text_config()
        attention = {str(part._attn_implementation) for part in (config, text)}
    except Exception as error:
        raise _unreachable(model, "configuration", error) from error
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{model!r} is an encoder-decoder ({config.model_type}); Triptych compares causal language models.")
    if adapter is not None:  # transformers would load it unasked, pickled too
        raise ModelError(f"{model!r} holds an adapter beside its model: then nothing is untouched. Give the model alone.")
    if any("/" in name for name in attention):
        asked = shorten(str(attention))
        raise ModelError(f"{model!r} wants attention code of a hub, {asked}: no code of others is run. Remove the key.")
    blocks = getattr(text, "num_hidden_layers", 0)
    if not isinstance(blocks, int) or not 0 < blocks <= MOST_BLOCKS:
        raise ModelError(f"{model!r} says that it has {shorten(repr(blocks))} blocks; from 1 to {MOST_BLOCKS} are needed.")
    return config


def load_model(model: str, revision: str = "main") -> PreTrainedModel:
    """The model with its weights, in fp32 and eval mode.

    Raises:
        ModelError: it cannot be found or read, or weights are missing from the file.
    """
    where, config = locate(model), load_config(model, revision)
    try:
        with _hub(where):
            pair: Any = AutoModelForCausalLM.from_pretrained(
                where, config=config, revision=revision, trust_remote_code=False, use_safetensors=True,
                dtype=torch.float32, output_loading_info=True,
            )
    except Exception as error:
        raise _unreachable(model, "weights", error) from error
    loaded, report = pair
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(f"The weights of {model!r} lack {len(missing)} tensors, {missing[0]!r} first: the file does not fit.")
    return loaded.eval()


def sketch_model(model: str, revision: str = "main") -> PreTrainedModel:
    """The model's structure on the `meta` device: shapes without weights, in no time and no memory."""
    config = load_config(model, revision)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False).eval()
    except ValueError as error:
        raise ModelError(f"{model!r} ({config.model_type}) is no causal language model of transformers: {error}") from None


def fingerprint(model: str, revision: str = "main") -> str:
    """SHA-256 of a local model's configuration and weights, or the hub's commit."""
    where = Path(locate(model))
    if not where.is_dir():
        commit = getattr(load_config(model, revision), "_commit_hash", None)
        return f"{model}@{commit or revision}"
    digest = hashlib.sha256()
    config = json.loads((where / "config.json").read_bytes())
    digest.update(json.dumps({k: v for k, v in config.items() if k != "transformers_version"}, sort_keys=True).encode())
    for path in sorted(where.glob("*.safetensors")):
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()


_PROBE = "Don\u2019t  stop\u2014it\u2019s 3.5 million:\nNa\u00efve caf\u00e9s re-open, \u20ac12 each.\tA\u00a0B \U0001f642"


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of the vocabulary, the special tokens, and the ids of a text that tells normalisers and splitters apart.

    It holds across releases of the tokenizers package, which a hash of its own serialisation does not.
    """
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    state = [sorted(tokenizer.get_vocab().items()), special, tokenizer(_PROBE, verbose=False)["input_ids"]]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def is_synthetic(model: str) -> bool:
    """Whether results of this model say nothing about real language."""
    known = registered(EmbeddedModel).get(model)
    return known is not None and known.synthetic


def _hub(where: str) -> AbstractContextManager[None]:
    """The way to what is read: the hub as far as it answers, where it is no folder."""
    return nullcontext() if Path(where).is_dir() else caches_alone_without_a_hub()


def _unreachable(model: str, what: str, error: Exception) -> ModelError:
    if Path(locate(model)).is_dir():
        return ModelError(f"The {what} in {model!r} cannot be read: {_first_line(error)}")
    return ModelError(
        f"The {what} of {model!r} cannot be had from the hub: {_first_line(error)}\n"
        "Give --model a local transformers folder, or set HF_HOME to a cache that holds it, or check the name."
        f"{nearest(model, registered(EmbeddedModel)) if '/' not in model else ''}"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

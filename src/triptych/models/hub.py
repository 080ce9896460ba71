"""Any causal language model of transformers: embedded, a local folder, or by its hub name. Safetensors only, no remote
code."""

import hashlib
import json
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import find_adapter_config_file, is_gguf_available

from triptych.contracts import EmbeddedModel
from triptych.errors import ModelError, nearest, shorten
from triptych.models import weights
from triptych.models.connection import caches_alone_without_a_hub
from triptych.models.tokens import native_failures
from triptych.registry import registered
from triptych.results import store

ADAPTER_CONFIG = "adapter_config.json"
MOST_BLOCKS = 10_000  # ten times what any model has; a configuration that asks for more would fill the memory
_TOKENIZER_FILES = (
    "tokenizer*",
    "*vocab*",
    "*.model",
    "merges.txt",
    "*.tiktoken",
    "tekken.json",
    "spiece*",
    "sentencepiece*",
)


@dataclass(frozen=True)
class Place:
    """Where a model is.

    Attributes:
        where: a folder, or a name on the hub.
        gguf: the GGUF file that holds configuration, tokenizer and weights, or None.
    """

    where: str
    gguf: Path | None = None

    @property
    def is_local(self) -> bool:
        """It is on this machine, and no hub is asked."""
        return self.gguf is not None or Path(self.where).is_dir()

    @property
    def arguments(self) -> dict[str, Any]:
        """What transformers' `from_pretrained` is given beside the place."""
        return {} if self.gguf is None else {"gguf_file": str(self.gguf)}


def locate(model: str) -> str:
    """Where transformers finds the model: the folder of an embedded or local one, a GGUF file, else its hub name.

    Raises:
        ModelError: a folder that is missing or holds no transformers model with safetensors.
    """
    place = _place(model)
    return place.where if place.gguf is None else str(place.gguf)


def _place(model: str) -> Place:
    embedded = registered(EmbeddedModel)
    if model in embedded:
        folder = embedded[model]().folder()
        if not folder.is_dir():
            raise ModelError(
                f"{model!r} is an embedded model, and its folder {str(folder)!r} is missing. In a bundle it lies in "
                f"models/base/{model}: give --model models/base/{model} from the bundle's folder."
            )
        return Place(str(folder))
    path = store.locate(model)
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


def _gguf(file: Path) -> Place:
    if not is_gguf_available():
        raise ModelError(
            f"{str(file)!r} is a GGUF file, which needs the package gguf: pip install 'triptych[gguf]'. Or give the "
            "folder that it was made from."
        )
    return Place(str(file.parent), file.resolve())


def _folder(path: Path) -> Place:
    if any(file.exists() and not file.is_file() and not file.is_dir() for file in path.iterdir()):
        raise ModelError(
            f"The folder {str(path)!r} holds a device or a pipe, which could be read for ever; files are needed."
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
    weights.files(path)
    return Place(str(path))


def _base_of(folder: Path) -> str:
    """` of BASE` for an adapter that names its base."""
    try:
        base = json.loads((folder / ADAPTER_CONFIG).read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f" of {shorten(repr(base))}" if base and isinstance(base, str) else ""


def load_tokenizer(model: str, revision: str = "main") -> PreTrainedTokenizerBase:
    """The model's own tokenizer.

    Raises:
        ModelError: it cannot be found or read, or there is none.
    """
    place = _place(model)
    folder = Path(place.where)
    if place.gguf is None and place.is_local and not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        raise ModelError(f"The folder {str(folder)!r} holds no tokenizer files. {_ADD_TOKENIZER}")
    try:
        with _hub(place), native_failures():
            tokenizer = AutoTokenizer.from_pretrained(
                place.where, revision=revision, trust_remote_code=False, **place.arguments
            )
            tokenizer("a")  # a setting of the wrong type is told by its first use
    except Exception as error:
        raise _unreachable(model, place, "tokenizer", error) from error
    if not set(tokenizer.get_vocab()) - set(tokenizer.get_added_vocab()):
        raise ModelError(
            f"The tokenizer of {model!r} has no vocabulary: its files are missing or empty. {_ADD_TOKENIZER}"
        )
    return tokenizer


_ADD_TOKENIZER = (
    "A Trainer's checkpoint often lacks them: save the base model's there with "
    "AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER)."
)


def load_config(model: str, revision: str = "main"):
    """The model's configuration, checked to be a causal language model's.

    Raises:
        ModelError: it cannot be read, is an encoder-decoder, is quantised, or needs remote code.
    """
    place = _place(model)
    try:
        with _hub(place):
            config = AutoConfig.from_pretrained(
                place.where, revision=revision, trust_remote_code=False, **place.arguments
            )
            adapter = find_adapter_config_file(place.where, revision=revision) if place.gguf is None else None
        text = config.get_text_config()
        attention = {str(part._attn_implementation) for part in (config, text)}
    except Exception as error:
        raise _unreachable(model, place, "configuration", error) from error
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{model!r} is an encoder-decoder ({config.model_type}); Triptych compares causal language models."
        )
    if adapter is not None:  # transformers would load it unasked, pickled too
        raise ModelError(
            f"{model!r} holds an adapter beside its model: then nothing is untouched. Give the model alone."
        )
    if any("/" in name for name in attention):
        asked = shorten(str(attention))
        raise ModelError(f"{model!r} wants attention code of a hub, {asked}: no code of others is run. Remove the key.")
    quantised = next((q for part in (config, text) if (q := getattr(part, "quantization_config", None))), None)
    if quantised is not None:
        method = (
            quantised.get("quant_method") if isinstance(quantised, dict) else getattr(quantised, "quant_method", None)
        )
        raise ModelError(
            f"The weights of {model!r} are quantised "
            f"({shorten(str(getattr(method, 'value', method) or 'method not named'))}): packed integers cannot be "
            "trained, and their rows would not be comparable. Give the model that was quantised, in fp32, bf16 or "
            "fp16; for 4-bit files a GGUF of it can be read, too."
        )
    if getattr(config, "transformers_weights", None) is not None:
        raise ModelError(
            f"The config.json of {model!r} says where its weights are (transformers_weights). Remove the key and name "
            f"the file {weights.SINGLE}, or keep {weights.INDEX} beside the files that it lists."
        )
    blocks = getattr(text, "num_hidden_layers", 0)
    if not isinstance(blocks, int) or not 0 < blocks <= MOST_BLOCKS:
        raise ModelError(
            f"{model!r} says that it has {shorten(repr(blocks))} blocks; from 1 to {MOST_BLOCKS} are needed."
        )
    return config


def load_model(model: str, revision: str = "main") -> PreTrainedModel:
    """The model with its weights, in fp32 and eval mode, without any setting of its own for generation.

    Raises:
        ModelError: it cannot be found or read, weights are missing from the file, or hold NaN or infinite values.
    """
    place, config = _place(model), load_config(model, revision)
    try:
        with _hub(place):
            if not place.is_local:
                weights.check_hub(place.where, revision)
            pair: Any = AutoModelForCausalLM.from_pretrained(
                place.where,
                config=config,
                revision=revision,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                generation_config=GenerationConfig(),
                ignore_mismatched_sizes=True,
                **place.arguments,
            )
    except Exception as error:
        raise _unreachable(model, place, "weights", error) from error
    loaded, report = pair
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"The weights of {model!r} lack {len(missing)} tensors, {missing[0]!r} first: the file does not fit."
        )
    if report["mismatched_keys"]:
        name, found, needed = sorted(report["mismatched_keys"], key=str)[0]
        raise ModelError(
            f"The weights of {model!r} do not fit its configuration: {name!r} is {tuple(found)} in the file and "
            f"{tuple(needed)} by the configuration."
        )
    # One decoding for every row: whatever generation_config.json or config.json say, transformers would fill in
    # unasked.
    loaded.generation_config = GenerationConfig()
    for name, parameter in loaded.named_parameters():
        if not math.isfinite(float(parameter.detach().sum(dtype=torch.float64))):
            raise ModelError(
                f"The weights of {model!r} hold NaN or infinite values, in {name!r} first: the model is damaged. Give "
                "another copy of it, or undo the merge or conversion that made it."
            )
    return loaded.eval()


def check_weights(model: str, revision: str = "main") -> None:
    """What `load_model` would refuse of the numbers in the files, found by reading them a tensor at a time.

    Weights of the hub are downloaded where the cache lacks them. Those of a GGUF file are checked where they are
    loaded.

    Raises:
        ModelError: the weights hold NaN or infinite values, or cannot be read.
    """
    place = _place(model)
    if place.gguf is not None:
        return
    if place.is_local:
        _, files = weights.files(Path(place.where))
    else:
        with _hub(place):
            files = weights.hub_files(place.where, revision)
    if not all(map(weights.is_finite, files)):
        load_model(model, revision)  # which says what is wrong; a tensor that the model does not use may hold anything


def sketch_model(model: str, revision: str = "main") -> PreTrainedModel:
    """The model's structure on the `meta` device: shapes without weights, in no time and no memory."""
    config = load_config(model, revision)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False).eval()
    except ValueError as error:
        raise ModelError(
            f"{model!r} ({config.model_type}) is no causal language model of transformers: {error}"
        ) from None


def fingerprint(model: str, revision: str = "main") -> str:
    """SHA-256 of a local model's configuration and of every file that its weights are read from, or the hub's
    commit."""
    place = _place(model)
    if not place.is_local:
        commit = getattr(load_config(model, revision), "_commit_hash", None)
        return f"{model}@{commit or revision}"
    digest = hashlib.sha256()
    if place.gguf is not None:
        files = [place.gguf]
    else:
        folder = Path(place.where)
        config = json.loads((folder / "config.json").read_bytes())
        digest.update(
            json.dumps({k: v for k, v in config.items() if k != "transformers_version"}, sort_keys=True).encode()
        )
        index, files = weights.files(folder)
        if index:
            digest.update(json.dumps(index, sort_keys=True).encode())
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()


PROBE = (
    "Don\u2019t  stop\u2014it\u2019s 3.5 million:\nNa\u00efve caf\u00e9s re-open, \u20ac12 each.\tA\u00a0B \U0001f642"
)


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of the vocabulary, the special tokens, and the ids of a text that tells normalisers and splitters apart.

    It holds across releases of the tokenizers package, which a hash of its own serialisation does not.
    """
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    state = [sorted(tokenizer.get_vocab().items()), special, tokenizer(PROBE, verbose=False)["input_ids"]]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def is_synthetic(model: str) -> bool:
    """Whether results of this model say nothing about real language."""
    known = registered(EmbeddedModel).get(model)
    return known is not None and known.synthetic


def _hub(place: Place) -> AbstractContextManager[None]:
    """The way to what is read: the hub as far as it answers, where it is not on this machine."""
    return nullcontext() if place.is_local else caches_alone_without_a_hub()


def _unreachable(model: str, place: Place, what: str, error: Exception) -> ModelError:
    if isinstance(error, ModelError):
        return error
    if place.is_local:
        return ModelError(f"The {what} in {model!r} cannot be read: {_first_line(error)}")
    hint = nearest(model, registered(EmbeddedModel)).partition(" Known:")[0]
    return ModelError(
        f"There is no folder {model!r} here, and the {what} of that name cannot be had from the hub: "
        f"{_first_line(error)}\n"
        f"Give --model a local transformers folder, or set HF_HOME to a cache that holds it, or check the name.{hint}"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

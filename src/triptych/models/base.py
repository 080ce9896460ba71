"""The base model as one object: place, configuration, tokenizer, structure, weights and fingerprints."""

import copy
import math
from dataclasses import dataclass, replace
from functools import cached_property
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
from transformers.utils import find_adapter_config_file

from triptych.config.schema import Quantization, Suite
from triptych.contracts import EmbeddedModel
from triptych.errors import ModelError, shorten
from triptych.models import fingerprints, hub_access, quantization, weights
from triptych.models.dropout import with_dropout
from triptych.models.parts import usable_positions
from triptych.models.place import Place, cannot_read, find_place
from triptych.models.tokens import native_failures
from triptych.registry import registered

MOST_BLOCKS = 10_000  # ten times as many as any model has; a configuration with more could exhaust the memory
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
_ADD_TOKENIZER = (
    "A Trainer's checkpoint often lacks them: save the base model's there with "
    "AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER)."
)


@dataclass(frozen=True)
class BaseModel:
    """A causal language model of transformers, read from safetensors or GGUF without running remote code.

    Everything is read lazily. Place, configuration, tokenizer and fingerprints are cached; `load` and `structure`
    return a new model each time, because methods change the model they get.

    Attributes:
        name: an embedded model, a transformers folder, a GGUF file, or a name on the Hub.
        revision: branch, tag or commit on the Hub; unused for local models.
        quantization: how `load` stores the matrices, see `models.quantization`.
    """

    name: str
    revision: str = "main"
    quantization: Quantization = "none"

    @classmethod
    def of(cls, suite: Suite) -> "BaseModel":
        """The base model of a suite."""
        return cls(suite.model, suite.model_revision, suite.model_quantization)

    @cached_property
    def place(self) -> Place:
        """Where the model is.

        Raises:
            ModelError: a folder or file is missing, or contains no transformers model with safetensors.
        """
        return find_place(self.name)

    @cached_property
    def _commit(self) -> str:
        """The commit at which every file is read: the Hub's for the revision; for a local model, the revision itself.

        To be called inside `place.reading()`.
        """
        if self.place.is_local:
            return self.revision
        return hub_access.find_commit(self.place.where, self.revision, "model", "config.json")

    @cached_property
    def config(self) -> Any:
        """The configuration, checked to describe a causal language model that can be trained.

        Raises:
            ModelError: it cannot be read, is an encoder-decoder, is quantized, or needs remote code.
        """
        place = self.place
        try:
            with place.reading():
                config = AutoConfig.from_pretrained(
                    place.where, revision=self._commit, trust_remote_code=False, **place.arguments
                )
                has_adapter = (
                    place.gguf is None and find_adapter_config_file(place.where, revision=self._commit) is not None
                )
            attention = {str(part._attn_implementation) for part in (config, config.get_text_config())}
        except Exception as error:
            raise cannot_read(self.name, place, "configuration", error) from error
        _check_config(self.name, config, has_adapter, attention)
        return config

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's own tokenizer.

        Raises:
            ModelError: it is missing or cannot be read.
        """
        place, folder = self.place, Path(self.place.where)
        if place.gguf is None and place.is_local and not any(any(folder.glob(name)) for name in _TOKENIZER_FILES):
            raise ModelError(f"The folder {str(folder)!r} holds no tokenizer files. {_ADD_TOKENIZER}")
        try:
            with place.reading(), native_failures():
                tokenizer = AutoTokenizer.from_pretrained(
                    place.where, revision=self._commit, trust_remote_code=False, **place.arguments
                )
                tokenizer("a")  # a setting of the wrong type fails on first use
        except Exception as error:
            raise cannot_read(self.name, place, "tokenizer", error) from error
        if not set(tokenizer.get_vocab()) - set(tokenizer.get_added_vocab()):
            raise ModelError(
                f"The tokenizer of {self.name!r} has no vocabulary: its files are missing or empty. {_ADD_TOKENIZER}"
            )
        return tokenizer

    @property
    def commit(self) -> str | None:
        """The commit of a model on the Hub; None for a local one.

        Raises:
            ModelError: the configuration cannot be read.
        """
        if self.place.is_local:
            return None
        _ = self.config  # raises a clear error if the commit cannot be looked up
        return self._commit

    @property
    def context_length(self) -> int | None:
        """Maximum number of positions for a document, its summary and virtual tokens together; None: no fixed limit."""
        return usable_positions(self.config)

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids in the configuration."""
        return self.config.get_text_config().vocab_size

    @property
    def is_synthetic(self) -> bool:
        """Whether the model is synthetic, so that its results say nothing about real language."""
        embedded = registered(EmbeddedModel).get(self.name)
        return embedded is not None and embedded.synthetic

    @property
    def is_published(self) -> bool:
        """Whether others get the very same weights by the model's name: it is from the Hub and not quantized here."""
        return not self.place.is_local and self.quantization == quantization.NONE

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of a local model's configuration and weights, or `NAME@COMMIT` of a model on the Hub.

        A quantized model counts as a different model: `+` and its quantization are appended.
        """
        stored = "" if self.quantization == quantization.NONE else f"+{self.quantization}"
        if self.place.is_local:
            return f"{fingerprints.files_fingerprint(self.place)}{stored}"
        return f"{self.name}@{self.commit}{stored}"

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of the tokenizer's behavior, see `fingerprints.tokenizer_fingerprint`."""
        return fingerprints.tokenizer_fingerprint(self.tokenizer)

    def structure(self) -> PreTrainedModel:
        """A new model on the `meta` device: shapes without weights, which takes almost no time or memory.

        Raises:
            ModelError: the configuration cannot be used, or transformers has no causal language model of its kind.
        """
        try:
            with torch.device("meta"):
                return AutoModelForCausalLM.from_config(
                    copy.deepcopy(self.config), dtype=torch.float32, trust_remote_code=False
                ).eval()
        except ValueError as error:
            raise ModelError(
                f"{self.name!r} ({self.config.model_type}) is not a causal language model of transformers: {error}"
            ) from None

    def check_quantization(self) -> None:
        """Check that the model can be quantized as requested, before its weights are read.

        Raises:
            ModelError: the library is missing, or the model's file or family cannot be quantized.
        """
        if self.quantization == quantization.NONE:
            return
        quantization.require_library(self.quantization)
        if self.place.gguf is not None:
            raise quantization.refuse_gguf(self.name)
        quantization.check_structure(self.name, self.structure())

    def load(self, dropout: float | None = None, device: torch.device | str = "cpu") -> PreTrainedModel:
        """A new model with its weights, in fp32 and eval mode, without its generation settings.

        Args:
            dropout: the rate of every dropout in training mode; None: the configuration's rates.
            device: the device for quantized models; other models are loaded into CPU memory.

        Raises:
            ModelError: weights cannot be found or read, are missing from the file, contain NaN or infinite values, or
                cannot be quantized.
        """
        self.check_quantization()
        is_quantized = self.quantization != quantization.NONE
        place, config = self.place, copy.deepcopy(self.config)
        config = config if dropout is None else with_dropout(config, dropout)
        try:
            with place.reading():
                if not place.is_local:
                    weights.hub_files(place.where, self._commit)
                pair: Any = AutoModelForCausalLM.from_pretrained(
                    place.where,
                    config=config,
                    revision=self._commit,
                    trust_remote_code=False,
                    use_safetensors=True,
                    dtype=torch.float32,
                    output_loading_info=True,
                    generation_config=GenerationConfig(),
                    ignore_mismatched_sizes=True,
                    **place.arguments,
                    **(quantization.loading_arguments(self.quantization, device) if is_quantized else {}),
                )
        except Exception as error:
            raise cannot_read(self.name, place, "weights", error) from error
        model, report = pair
        _check_loaded(self.name, model, report)
        if is_quantized:
            quantization.settle(self.name, model)
        # The same decoding for every method: transformers would apply settings from generation_config.json or
        # config.json.
        model.generation_config = GenerationConfig()
        return model.eval()

    def load_plain(self) -> PreTrainedModel:
        """Like `load`, but with plain matrices: those stored in 4 bits get their dequantized values.

        Raises:
            ModelError: as for `load`.
        """
        plain = replace(self, quantization=quantization.NONE).load()
        if self.quantization != quantization.NONE:
            quantization.unpack_into(plain, self.load())
        return plain

    def check_weights(self) -> None:
        """Refuse weights whose numbers `load` would refuse, by reading them one tensor at a time.

        Weights on the Hub are downloaded if they are not cached. Those of a GGUF file are checked when they are loaded.

        Raises:
            ModelError: the weights contain NaN or infinite values, or cannot be read.
        """
        place = self.place
        if place.gguf is not None:
            return
        try:
            with place.reading():
                if place.is_local:
                    _, files = weights.weight_files(Path(place.where))
                else:
                    files = weights.hub_files(place.where, self._commit)
        except Exception as error:
            raise cannot_read(self.name, place, "weights", error) from error
        if not all(map(weights.is_finite, files)):
            # `load` says what is wrong; tensors that the model does not use may contain anything
            replace(self, quantization=quantization.NONE).load()


def _check_config(name: str, config: Any, has_adapter: bool, attention: set[str]) -> None:
    """Refuse a configuration that cannot be trained, or that would load files or code from elsewhere.

    Args:
        name: the model's name, for the error message.
        config: the transformers configuration.
        has_adapter: whether an adapter is next to the model; transformers would load it automatically, even if pickled.
        attention: the attention implementations it requests.
    """
    text = config.get_text_config()
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name!r} is an encoder-decoder ({config.model_type}); Triptych compares causal language models."
        )
    if has_adapter:
        raise ModelError(
            f"{name!r} has an adapter next to its model, so that no untouched model is left. Give only the model."
        )
    if any("/" in each for each in attention):
        asked = shorten(str(attention))
        raise ModelError(
            f"{name!r} wants attention code from the Hub, {asked}: remote code is never run. Remove the key."
        )
    quantized = next((q for part in (config, text) if (q := getattr(part, "quantization_config", None))), None)
    if quantized is not None:
        method = (
            quantized.get("quant_method") if isinstance(quantized, dict) else getattr(quantized, "quant_method", None)
        )
        raise ModelError(
            f"The weights of {name!r} are quantized "
            f"({shorten(str(getattr(method, 'value', method) or 'method not named'))}): packed integers cannot be "
            "trained, and their results would not be comparable. Give the model that was quantized, in fp32, bf16 or "
            'fp16: model_quantization = "nf4" stores it in 4 bits for methods that leave its weights as they are. A '
            "4-bit GGUF file of it can be read as well."
        )
    if getattr(config, "transformers_weights", None) is not None:
        raise ModelError(
            f"The config.json of {name!r} says where its weights are (transformers_weights). Remove the key and name "
            f"the file {weights.SINGLE}, or keep {weights.INDEX} next to the files that it lists."
        )
    blocks = getattr(text, "num_hidden_layers", 0)
    if not isinstance(blocks, int) or not 0 < blocks <= MOST_BLOCKS:
        raise ModelError(f"{name!r} declares {shorten(repr(blocks))} blocks; it must have from 1 to {MOST_BLOCKS}.")


def _check_loaded(name: str, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Refuse weights that do not fit the model according to transformers' report, or that are not finite."""
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"The weights of {name!r} lack {len(missing)} tensors, {missing[0]!r} first: the file does not fit."
        )
    if report["mismatched_keys"]:
        tensor, found, needed = sorted(report["mismatched_keys"], key=str)[0]
        raise ModelError(
            f"The weights of {name!r} do not fit its configuration: {tensor!r} is {tuple(found)} in the file and "
            f"{tuple(needed)} in the configuration."
        )
    for tensor, parameter in model.named_parameters():
        if not math.isfinite(float(parameter.detach().sum(dtype=torch.float64))):
            raise ModelError(
                f"The weights of {name!r} hold NaN or infinite values, in {tensor!r} first: the model is damaged. Give "
                "another copy of it, or undo the merge or conversion that made it."
            )

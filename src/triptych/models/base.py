"""The base model, as one object: place, configuration, tokenizer, structure, weights and fingerprints."""

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
_ADD_TOKENIZER = (
    "A Trainer's checkpoint often lacks them: save the base model's there with "
    "AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER)."
)


@dataclass(frozen=True)
class BaseModel:
    """A causal language model of transformers, read from safetensors or GGUF and without running anybody's code.

    Nothing is read before it is asked for. Place, configuration, tokenizer and fingerprints are then kept; `load` and
    `structure` give a new model each time, since methods change what they get.

    Attributes:
        name: an embedded model, a transformers folder, a GGUF file, or a name on the Hub.
        revision: branch, tag or commit on the Hub; local models have none.
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
            ModelError: a folder or file that is missing, or holds no transformers model with safetensors.
        """
        return find_place(self.name)

    @cached_property
    def _commit(self) -> str:
        """What every file is read at: the commit of the Hub that the revision names; of a local model the revision.

        It is looked up inside `place.reading()`.
        """
        if self.place.is_local:
            return self.revision
        return hub_access.find_commit(self.place.where, self.revision, "model", "config.json")

    @cached_property
    def config(self) -> Any:
        """The configuration, checked to be that of a causal language model that can be trained.

        Raises:
            ModelError: it cannot be read, is an encoder-decoder, is quantised, or needs remote code.
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
        _ = self.config  # says what is wrong where the commit cannot be looked up
        return self._commit

    @property
    def context_length(self) -> int | None:
        """Positions that a text, its summary and virtual tokens may take together; None: no fixed limit."""
        return usable_positions(self.config)

    @property
    def vocabulary_size(self) -> int:
        """Token ids that the configuration has room for."""
        return self.config.get_text_config().vocab_size

    @property
    def is_synthetic(self) -> bool:
        """Whether results of this model say nothing about real language."""
        embedded = registered(EmbeddedModel).get(self.name)
        return embedded is not None and embedded.synthetic

    @property
    def is_published(self) -> bool:
        """Whether others get the very same weights by the model's name: from the Hub, and not quantised here."""
        return not self.place.is_local and self.quantization == quantization.NONE

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of a local model's configuration and weights, or `NAME@COMMIT` of one on the Hub.

        A quantised model is another model: `+` and its quantization follow.
        """
        stored = "" if self.quantization == quantization.NONE else f"+{self.quantization}"
        if self.place.is_local:
            return f"{fingerprints.files_fingerprint(self.place)}{stored}"
        return f"{self.name}@{self.commit}{stored}"

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of what the tokenizer does with texts."""
        return fingerprints.tokenizer_fingerprint(self.tokenizer)

    def structure(self) -> PreTrainedModel:
        """A new model on the `meta` device: shapes without weights, in no time and no memory.

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
        """Make sure that the model can be quantised as asked, before its weights are read.

        Raises:
            ModelError: the library is missing, or the model's file or family cannot be quantised.
        """
        if self.quantization == quantization.NONE:
            return
        quantization.require_library(self.quantization)
        if self.place.gguf is not None:
            raise quantization.refuse_gguf(self.name)
        quantization.check_structure(self.name, self.structure())

    def load(self, dropout: float | None = None, device: torch.device | str = "cpu") -> PreTrainedModel:
        """A new model with its weights, in fp32 and eval mode, without its own settings for generation.

        Args:
            dropout: the rate of every dropout in training mode; None: those of the configuration.
            device: where matrices are quantised, if they are; otherwise the model is in the CPU's memory.

        Raises:
            ModelError: weights cannot be found or read, are missing from the file, or hold NaN or infinite values; or
                they cannot be quantised.
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
        # One decoding for every method: transformers would fill in unasked whatever generation_config.json or
        # config.json say.
        model.generation_config = GenerationConfig()
        return model.eval()

    def load_plain(self) -> PreTrainedModel:
        """As `load` does, in plain matrices: those that are stored in 4 bits hold their dequantised values.

        Raises:
            ModelError: as for `load`.
        """
        plain = replace(self, quantization=quantization.NONE).load()
        if self.quantization != quantization.NONE:
            quantization.unpack_into(plain, self.load())
        return plain

    def check_weights(self) -> None:
        """Refuse what `load` would refuse of the numbers in the files, by reading them one tensor at a time.

        Weights on the Hub are downloaded where the cache lacks them. Those of a GGUF file are checked when they are
        loaded.

        Raises:
            ModelError: the weights hold NaN or infinite values, or cannot be read.
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
            # which says what is wrong; a tensor that the model does not use may hold anything
            replace(self, quantization=quantization.NONE).load()


def _check_config(name: str, config: Any, has_adapter: bool, attention: set[str]) -> None:
    """Refuse a configuration that cannot be trained, or that would load files or code from elsewhere.

    Args:
        name: the model's name, for the message.
        config: of transformers.
        has_adapter: an adapter lies next to the model; transformers would load it unasked, pickled too.
        attention: the attention implementations that it asks for.
    """
    text = config.get_text_config()
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name!r} is an encoder-decoder ({config.model_type}); Triptych compares causal language models."
        )
    if has_adapter:
        raise ModelError(
            f"{name!r} holds an adapter in addition to its model: then nothing is untouched. Give the model alone."
        )
    if any("/" in each for each in attention):
        asked = shorten(str(attention))
        raise ModelError(f"{name!r} wants attention code of a hub, {asked}: no code of others is run. Remove the key.")
    quantised = next((q for part in (config, text) if (q := getattr(part, "quantization_config", None))), None)
    if quantised is not None:
        method = (
            quantised.get("quant_method") if isinstance(quantised, dict) else getattr(quantised, "quant_method", None)
        )
        raise ModelError(
            f"The weights of {name!r} are quantised "
            f"({shorten(str(getattr(method, 'value', method) or 'method not named'))}): packed integers cannot be "
            "trained, and their results would not be comparable. Give the model that was quantised, in fp32, bf16 or "
            'fp16: model_quantization = "nf4" stores it in 4 bits for methods that leave its weights as they are. For '
            "4-bit files a GGUF of it can be read, too."
        )
    if getattr(config, "transformers_weights", None) is not None:
        raise ModelError(
            f"The config.json of {name!r} says where its weights are (transformers_weights). Remove the key and name "
            f"the file {weights.SINGLE}, or keep {weights.INDEX} next to the files that it lists."
        )
    blocks = getattr(text, "num_hidden_layers", 0)
    if not isinstance(blocks, int) or not 0 < blocks <= MOST_BLOCKS:
        raise ModelError(
            f"{name!r} says that it has {shorten(repr(blocks))} blocks; from 1 to {MOST_BLOCKS} are needed."
        )


def _check_loaded(name: str, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Refuse weights that do not fit the model, by transformers' report, or that are not finite."""
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"The weights of {name!r} lack {len(missing)} tensors, {missing[0]!r} first: the file does not fit."
        )
    if report["mismatched_keys"]:
        tensor, found, needed = sorted(report["mismatched_keys"], key=str)[0]
        raise ModelError(
            f"The weights of {name!r} do not fit its configuration: {tensor!r} is {tuple(found)} in the file and "
            f"{tuple(needed)} by the configuration."
        )
    for tensor, parameter in model.named_parameters():
        if not math.isfinite(float(parameter.detach().sum(dtype=torch.float64))):
            raise ModelError(
                f"The weights of {name!r} hold NaN or infinite values, in {tensor!r} first: the model is damaged. Give "
                "another copy of it, or undo the merge or conversion that made it."
            )

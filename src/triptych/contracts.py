"""What a plug-in implements: `Method`, `Baseline`, `Dataset`, `Metric`, `EmbeddedModel` or `Family`.

Shapes: B batch, T tokens, D hidden, L layers, V vocabulary, P virtual tokens, H key-value heads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from triptych.registry import Plugin

if TYPE_CHECKING:  # a metric or a data set needs neither
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Example:
    """A document and its summary, as text."""

    id: str
    document: str
    summary: str


@dataclass
class ModelParts:
    """The parts of a transformers causal language model, so that a method works on every family."""

    model: PreTrainedModel
    trunk: nn.Module  # token embeddings [B, T, D] in, final hidden states [B, T, D] out
    token_embedding: nn.Embedding  # [V, D]
    blocks: nn.ModuleList  # L blocks
    final_norm: nn.Module | None
    head: nn.Linear  # [V, D]
    tied: bool  # the head's weight is the token embedding's
    hidden_size: int
    vocabulary_size: int
    max_positions: int | None  # None: no fixed limit
    attention_projections: tuple[str, ...]  # name endings of all matrices that compute queries, keys and values

    @property
    def device(self) -> torch.device:
        """The device that the model is on; `meta` while a suite is planned."""
        return self.token_embedding.weight.device


@dataclass(frozen=True)
class Context:
    """What a method may use besides the model."""

    tokenizer: PreTrainedTokenizerBase
    generator: torch.Generator  # on the CPU, seeded by the run; the only source of random numbers
    frequent_tokens: Tensor  # token ids in order of decreasing frequency in the training documents


@dataclass
class AdaptedModel:
    """What a method returns: the model and its learned inputs, with `requires_grad` set on exactly what is trained.

    Attributes:
        parts: the model, changed in place or not.
        virtual_tokens: an embedding [P, D] inserted into every input sequence, or None.
        placement: whether the virtual tokens come "before" the document or "after" it.
        prefix: learned keys and values that every layer sees before the sequence, or None; its `forward()`, without
            arguments, returns them as one tensor [L, 2, H, P, D / heads].
        peft_config: PEFT's configuration of the adapter, if PEFT has one.
        notes: further facts about the adaptation for the record, by name.
    """

    parts: ModelParts
    virtual_tokens: nn.Embedding | None = None
    placement: Literal["before", "after"] = "before"
    prefix: nn.Module | None = None
    peft_config: Any = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def num_virtual_tokens(self) -> int:
        """P; 0 if there are none."""
        return self.virtual_tokens.num_embeddings if self.virtual_tokens is not None else 0

    @property
    def prefix_length(self) -> int:
        """P of the prefix, the positions before the first embedding; 0 if there is none."""
        return self.prefix().shape[3] if self.prefix is not None else 0

    def learned_inputs(self) -> tuple[nn.Module, ...]:
        """The virtual tokens and the prefix, if any; they are not part of the model."""
        return tuple(each for each in (self.virtual_tokens, self.prefix) if each is not None)

    def modules(self) -> tuple[nn.Module, ...]:
        """All modules with parameters: the model and its learned inputs."""
        return (self.parts.model, *self.learned_inputs())

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that require a gradient, by name; tied parameters appear once.

        Virtual tokens are named `virtual_tokens`, names of prefix parameters begin with `prefix.`, and all others keep
        their name in the model.
        """
        named = dict(self.parts.model.named_parameters())
        if self.virtual_tokens is not None:
            (named["virtual_tokens"],) = self.virtual_tokens.parameters()
        if self.prefix is not None:
            named |= {f"prefix.{name}": parameter for name, parameter in self.prefix.named_parameters()}
        return {name: parameter for name, parameter in named.items() if parameter.requires_grad}


class Method(Plugin):
    """A fine-tuning method. Its fields are its hyperparameters; `adapt` is all it does.

    Saving and measuring (parameters, time, memory, FLOPs) happen elsewhere, so that no method measures itself.
    """

    contract: ClassVar[str] = "method"
    trains: ClassVar[bool] = True
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate if there is no search")
    learning_rates: tuple[float, ...] = Field((), description="the grid a search may try, in increasing order")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")

    @abstractmethod
    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Adapt the model: add what the method needs, and set `requires_grad` on exactly what is to be trained.

        Args:
            parts: the untouched model, which may be changed in place; on the `meta` device while a suite is planned.
            context: tokenizer, seeded generator and token frequencies.

        Raises:
            ConfigError: the options do not fit this model.
        """

    def num_virtual_tokens_added(self) -> int:
        """P of the virtual tokens or prefix, known before a model is loaded: they must fit into the context window."""
        return 0

    def own_prompt(self) -> dict[str, Any]:
        """The prompt of an untrained method, if it is not the suite's: `before`, `separator` and `chat`, if given.

        Methods that train all use the suite's prompt and must return an empty dictionary.
        """
        return {}


class Baseline(Plugin):
    """A reference for the methods, which summarizes without a model."""

    contract: ClassVar[str] = "baseline"

    @abstractmethod
    def predict(self, documents: Sequence[str]) -> list[str]:
        """Return a summary for each document, one sentence per line."""


class Dataset(Plugin):
    """Documents with summaries, in named splits."""

    contract: ClassVar[str] = "data set"
    synthetic: ClassVar[bool] = False

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The names of the splits: `train`, `validation` and `test`, or other names if the data has yet to be split."""

    @abstractmethod
    def examples(self, split: str) -> Iterator[Example]:
        """Iterate over the examples of a split in their original order, reading them lazily.

        Raises:
            DataError: the source cannot be read; the message says where.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """A text that changes whenever the examples may: from file names, sizes and times, or a generator's options."""

    def columns_read(self) -> dict[str, str]:
        """The columns read as `document`, `summary` and, if there is one, `id`; empty if the source has no columns."""
        return {}

    def commit_read(self) -> str | None:
        """The commit of the repository that is read; None if the source is not a repository."""
        return None

    def notes(self) -> tuple[str, ...]:
        """Sentences about how the source is read where this is not obvious, such as which of its files are skipped."""
        return ()


class Metric(Plugin):
    """Scores a prediction against its reference, document by document.

    A metric with a field `language` is given the language chosen for ROUGE, one of
    `triptych.text.languages.LANGUAGES` except "auto".
    """

    contract: ClassVar[str] = "metric"
    of_document: ClassVar[tuple[str, ...]] = ()  # names of scores that are meaningless without the document

    @abstractmethod
    def score(self, prediction: str, reference: str, document: str) -> dict[str, float]:
        """Score one prediction; returns the scores by name: finite numbers, the same names for every document.

        Args:
            prediction: the generated summary.
            reference: the reference summary.
            document: the document; empty if it is not known, as for another tool's outputs: scores named in
                `of_document` are then dropped.
        """

    @abstractmethod
    def signature(self) -> str:
        """Everything the scores depend on, in one line."""


class EmbeddedModel(Plugin):
    """A model that ships with the package or a plug-in."""

    contract: ClassVar[str] = "model"
    synthetic: ClassVar[bool] = True

    @abstractmethod
    def folder(self) -> Path:
        """A transformers folder: config, safetensors and tokenizer."""


class Family(Plugin):
    """How to take apart models of a type whose structure does not show the parts."""

    contract: ClassVar[str] = "model type"
    model_types: ClassVar[tuple[str, ...]]  # `model_type` of the configurations it handles

    @abstractmethod
    def take_apart(self, model: PreTrainedModel) -> ModelParts:
        """Identify the parts of a model, which may be on the `meta` device, without changing it.

        Every run checks that the head applied to the trunk's output gives the model's own logits; if it does not, the
        plain path through the model's own `forward` is used.

        Raises:
            ModelError: this model cannot be used; the message says why.
        """

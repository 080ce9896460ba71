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
    """A causal language model of transformers taken apart, so that a method works on every family."""

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
    attention_projections: tuple[str, ...]  # name endings of all matrices that make queries, keys and values

    @property
    def device(self) -> torch.device:
        """The device that the model is on; `meta` while a suite is planned."""
        return self.token_embedding.weight.device


@dataclass(frozen=True)
class Context:
    """What a method may use besides the model."""

    tokenizer: PreTrainedTokenizerBase
    generator: torch.Generator  # of the CPU, seeded by the run; the only source of random numbers
    frequent_tokens: Tensor  # token ids by falling frequency in the training documents


@dataclass
class AdaptedModel:
    """What a method returns: the parts to train, with `requires_grad` set exactly.

    Attributes:
        parts: the model, changed in place or not.
        virtual_tokens: an embedding [P, D] put into every input sequence, or None.
        placement: of the virtual tokens: "before" the document, or "after" it.
        prefix: learned keys and values that every layer sees before the sequence, or None: its `forward()`, without
            arguments, gives them as one tensor [L, 2, H, P, D / heads].
        peft_config: PEFT's own description of the adapter, where PEFT has one.
        notes: what else a reader of the record may want to know of the adaptation, by name.
    """

    parts: ModelParts
    virtual_tokens: nn.Embedding | None = None
    placement: Literal["before", "after"] = "before"
    prefix: nn.Module | None = None
    peft_config: Any = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def num_virtual_tokens(self) -> int:
        """P, 0 where there are none."""
        return self.virtual_tokens.num_embeddings if self.virtual_tokens is not None else 0

    @property
    def prefix_length(self) -> int:
        """P of the prefix, 0 where there is none: positions before the first embedding."""
        return self.prefix().shape[3] if self.prefix is not None else 0

    def learned_inputs(self) -> tuple[nn.Module, ...]:
        """The virtual tokens and the prefix, where there are any: they are not part of the model."""
        return tuple(each for each in (self.virtual_tokens, self.prefix) if each is not None)

    def modules(self) -> tuple[nn.Module, ...]:
        """Everything with parameters: the model, and its learned inputs."""
        return (self.parts.model, *self.learned_inputs())

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that require a gradient, by name; a tied one once.

        Virtual tokens are `virtual_tokens`, the parameters of a prefix begin with `prefix.`, all others have the name
        that they have in the model.
        """
        named = dict(self.parts.model.named_parameters())
        if self.virtual_tokens is not None:
            (named["virtual_tokens"],) = self.virtual_tokens.parameters()
        if self.prefix is not None:
            named |= {f"prefix.{name}": parameter for name, parameter in self.prefix.named_parameters()}
        return {name: parameter for name, parameter in named.items() if parameter.requires_grad}


class Method(Plugin):
    """A way to fine-tune. Its fields are its hyper-parameters; `adapt` is all it does.

    Saving, counting, timing, memory and FLOPs are taken from outside, so that no method can measure itself.
    """

    contract: ClassVar[str] = "method"
    trains: ClassVar[bool] = True
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate, where no search is made")
    learning_rates: tuple[float, ...] = Field((), description="the grid a search may try, in increasing order")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")

    @abstractmethod
    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Put into the model what is to be trained, and set `requires_grad` on exactly that.

        Args:
            parts: the untouched model; it may be changed in place. On the `meta` device when a suite is planned.
            context: tokenizer, seeded generator and token frequencies.

        Raises:
            ConfigError: the options do not fit this model.
        """

    def num_virtual_tokens_added(self) -> int:
        """P of virtual tokens or of a prefix, known before a model is loaded: it must fit into the window."""
        return 0

    def own_prompt(self) -> dict[str, Any]:
        """The prompt of an untrained method, where it is not the suite's: `before`, `separator` and `chat`, if given.

        All methods that train use the same prompt; there it must be empty.
        """
        return {}


class Baseline(Plugin):
    """What methods are compared with: it summarizes without a model."""

    contract: ClassVar[str] = "baseline"

    @abstractmethod
    def predict(self, documents: Sequence[str]) -> list[str]:
        """One summary for each document, sentences on lines."""


class Dataset(Plugin):
    """Documents with summaries, in named splits."""

    contract: ClassVar[str] = "data set"
    synthetic: ClassVar[bool] = False

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits there are: `train`, `validation` and `test`, or other names for data to be cut."""

    @abstractmethod
    def examples(self, split: str) -> Iterator[Example]:
        """The examples of a split in their own order, read as they are asked for.

        Raises:
            DataError: the source cannot be read; the message says where.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes whenever the examples may: names, sizes and times of files, or options of a generator."""

    def columns_read(self) -> dict[str, str]:
        """Which column is read as `document`, `summary` and, if there is one, `id`; empty: the source has none."""
        return {}

    def commit_read(self) -> str | None:
        """The commit of the repository that is read; None: the source is none."""
        return None

    def notes(self) -> tuple[str, ...]:
        """Sentences on how the source is read that are not plain to see, such as which of its files are not."""
        return ()


class Metric(Plugin):
    """Scores a prediction against its reference, document by document.

    A metric with a field `language` is given the language that the suite counts, one of
    `triptych.text.languages.LANGUAGES` except "auto".
    """

    contract: ClassVar[str] = "metric"
    of_document: ClassVar[tuple[str, ...]] = ()  # its scores that mean nothing where the document is not known

    @abstractmethod
    def score(self, prediction: str, reference: str, document: str) -> dict[str, float]:
        """Named scores of one document.

        Args:
            prediction: the generated summary.
            reference: the reference summary.
            document: empty if it is not known, as for outputs of another tool; scores named in `of_document` are then
                dropped.
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
    """How models of a type are taken apart, where their structure does not show it."""

    contract: ClassVar[str] = "model type"
    model_types: ClassVar[tuple[str, ...]]  # `model_type` of the configurations it is asked about

    @abstractmethod
    def take_apart(self, model: PreTrainedModel) -> ModelParts:
        """Name the parts of a model, which may be on the `meta` device; nothing is changed.

        Whether the head applied to the trunk's output is the model's own logits is checked in every run: where it is
        not, the plain path through the model's own forward is taken.

        Raises:
            ModelError: this model cannot be used; the message says why.
        """

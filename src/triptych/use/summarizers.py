"""Load trained runs and adapters to summarize with; those with the same base model share it in memory."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import torch
from transformers import PreTrainedModel

from triptych.config.schema import Suite
from triptych.contracts import AdaptedModel, Baseline, Context, ModelParts
from triptych.corpus.sequence import Template
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import generate
from triptych.engine.model import Change, EngineModel
from triptych.engine.savings.ready import LOW_PRECISION, cast_frozen_matrices, make_ready
from triptych.errors import ConfigError, DataError, ModelError, ResultsError, shorten
from triptych.machine import Machine, start_machine
from triptych.models.base import BaseModel
from triptych.models.prompts import Prompt
from triptych.models.sharing import own_trained_tensors, share_tensors
from triptych.models.tokens import RunningText
from triptych.results.bundled import base_in_bundle, record_folder
from triptych.results.reading import read_finished, settings_of
from triptych.run import scoring
from triptych.run.adapters import check_belongs, check_origin, load_tensors, read_manifest
from triptych.run.corpus import longest_prompt, prompt_of, reserved_positions
from triptych.run.entries import SuiteEntry, recorded_entry, suite_entries
from triptych.use import peft_adapters
from triptych.use.find_run import WHAT

CHUNK = 256  # documents sorted by length together


@dataclass(frozen=True)
class Summary:
    """A summary, and how much of its document was read.

    Attributes:
        text: the summary without special tokens and surrounding whitespace.
        num_tokens: tokens generated; None without a model.
        at_cap: whether it has the maximum number of tokens, and so may be unfinished.
        document_tokens: tokens of the whole document; None without a model.
        read_tokens: how many of them, from the beginning, were read.
    """

    text: str
    num_tokens: int | None = None
    at_cap: bool = False
    document_tokens: int | None = None
    read_tokens: int | None = None

    @property
    def truncated(self) -> bool:
        """Whether the document is longer than what was read."""
        return self.document_tokens != self.read_tokens


class Trained(ABC):
    """A trained run, a baseline or an adapter, ready to summarize.

    Attributes:
        label: the label of the run; for an adapter saved by peft, the folder's name.
        kind: the method or baseline.
        folder: where it was loaded from.
        suite: its settings.
    """

    def __init__(self, label: str, kind: str, folder: Path, suite: Suite):
        self.label, self.kind, self.folder, self.suite = label, kind, folder, suite

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.label!r} ({self.kind}) from {str(self.folder)!r}>"

    @overload
    def summarize(self, documents: str) -> str: ...  # type: ignore[overload-overlap]  # a string is an iterable of strings

    @overload
    def summarize(self, documents: Iterable[str]) -> list[str]: ...

    def summarize(self, documents: str | Iterable[str]) -> str | list[str]:
        """Summarize one document, or several in order.

        A document longer than `limits.document_tokens` or than the room in the model's context is cut at its end.

        Args:
            documents: a text, or several.

        Returns:
            The summary of a text; a list for several.

        Raises:
            DataError: a document is empty.
            TypeError: `documents` is neither a text nor several.
        """
        if isinstance(documents, str):
            return self.summarize([documents])[0]
        texts = list(documents) if isinstance(documents, Iterable) else [documents]
        for number, text in enumerate(texts, 1):
            if not isinstance(text, str):
                raise TypeError(
                    f"summarize takes a text, or several as a list, but document {number} of {len(texts)} is "
                    f"{shorten(repr(text))} ({type(text).__name__})."
                )
            if not text.strip():
                raise DataError(f"Document {number} of {len(texts)} is empty: there is nothing to summarize.")
        found = dict(self.stream(texts))
        return [found[index].text for index in range(len(texts))]

    @abstractmethod
    def stream(self, documents: Sequence[str]) -> Iterator[tuple[int, Summary]]:
        """Yield `(index, summary)` of each document as soon as its batch is done, longest documents first."""


class TrainedBaseline(Trained):
    """A baseline, which summarizes without a model."""

    def __init__(self, entry: SuiteEntry, baseline: Baseline, folder: Path, suite: Suite):
        super().__init__(entry.label, entry.kind, folder, suite)
        self._baseline = baseline

    def stream(self, documents: Sequence[str]) -> Iterator[tuple[int, Summary]]:
        """Yield `(index, summary)` of every document, in order."""
        for index, document in enumerate(documents):
            yield index, Summary(self._baseline.predict([document])[0])


@dataclass(frozen=True)
class LoadedBase:
    """A base model in memory on a machine; all runs trained on it share its tensors."""

    base: BaseModel
    model: PreTrainedModel
    machine: Machine

    def assemble(self, change: Change, prompt: Prompt) -> EngineModel:
        """Build a changed model of the same structure; what is not trained shares the base's tensors.

        Args:
            change: function that puts the trained parts into the model.
            prompt: the text around each document.
        """
        template = Template.of(RunningText.of(self.base.tokenizer, prompt))
        return EngineModel.assemble(share_tensors(self.model), change, template, self.machine)


class TrainedModel(Trained):
    """A model changed by a method; its frozen tensors are the base's, shared with the other loaded runs."""

    def __init__(
        self,
        label: str,
        kind: str,
        folder: Path,
        suite: Suite,
        loaded: LoadedBase,
        model: EngineModel,
        entries: Sequence[SuiteEntry],
        prompt: Prompt,
    ):
        super().__init__(label, kind, folder, suite)
        self.loaded, self.base, self.machine = loaded, loaded.base, loaded.machine
        self.model, self.adapted, self.template = model, model.adapted, model.template
        self.decoding = DecodingPlan(**suite.decoding.model_dump())
        self.prompt, self.text = prompt, RunningText.of(self.base.tokenizer, prompt)
        self._reserved = max(reserved_positions(entries), self.adapted.num_virtual_tokens)
        self._around = max(longest_prompt(suite, entries, self.base), self.template.length)

    @property
    def is_prompt(self) -> bool:
        """Whether a prompt or prefix was trained, which is not part of a layer and cannot be merged."""
        return self.adapted.virtual_tokens is not None or self.adapted.prefix is not None

    @property
    def max_document_tokens(self) -> int:
        """Tokens of a document that are read: `limits.document_tokens`, or the room in the context if that is less.

        Raises:
            ConfigError: the context has no room for a document.
        """
        wanted, length = self.suite.limits.document_tokens, self.adapted.parts.max_positions
        if length is None:
            return wanted
        left = length - self._reserved - self._around - self.decoding.max_new_tokens
        if left < 1:
            raise ConfigError(
                f"{str(self.folder)!r}: {self._reserved} virtual + {self._around} prefix, separator and EOS + "
                f"{self.decoding.max_new_tokens} summary tokens leave no room for a document in {length} positions."
            )
        return min(wanted, left)

    def decoding_as(self, num_beams: int | None = None, max_new_tokens: int | None = None) -> "TrainedModel":
        """The same model with different decoding.

        Args:
            num_beams: beams; None: as in the run.
            max_new_tokens: maximum tokens of a summary; None: as in the run.
        """
        other, most = copy.copy(self), max_new_tokens or self.decoding.max_new_tokens
        other.decoding = replace(
            self.decoding,
            num_beams=num_beams or self.decoding.num_beams,
            max_new_tokens=most,
            min_new_tokens=min(most, self.decoding.min_new_tokens),
        )
        return other

    def stream(self, documents: Sequence[str]) -> Iterator[tuple[int, Summary]]:
        """Yield `(index, summary)` batch by batch; test documents of a suite are batched as in its runs."""
        longest = self.max_document_tokens
        encoded = self.text.document_ids(documents)
        read = [np.array(ids[:longest], dtype=np.int32) for ids in encoded]
        order = sorted(range(len(read)), key=lambda i: (-len(read[i]), i))
        for start in range(0, len(order), self.decoding.batch_size):
            batch = order[start : start + self.decoding.batch_size]
            new = generate(self.model, [read[i] for i in batch], self.decoding)
            for index, ids in zip(batch, new, strict=True):
                text = scoring.to_text(self.base.tokenizer, ids)
                at_cap = len(ids) >= self.decoding.max_new_tokens
                yield index, Summary(text, len(ids), at_cap, len(encoded[index]), len(read[index]))


def load_summarizer(
    folder: Path,
    model: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    plain: bool = False,
) -> Trained:
    """Load a run or an adapter, ready to summarize.

    Args:
        folder: `OUT/runs/LABEL/SEED`, or an adapter saved by peft.
        model: the base model, if it is not available under its recorded name.
        device: cpu, cuda or mps; None: the best available.
        precision: fp32, bf16 or fp16, instead of the run's own.
        plain: load a quantized base model as plain matrices with its dequantized values.

    Raises:
        InputError: there is nothing to load, a file was changed, or the model or tokenizer is not the one used in
            training.
    """
    return SummarizerLoader(model, device, precision, plain).load(Path(folder))


def load_summarizers(folders: Sequence[Path], model: str | None = None, device: str | None = None) -> list[Trained]:
    """Load several runs or adapters, in order; each base model is in memory once.

    Raises:
        InputError: as for `load_summarizer`.
    """
    loader = SummarizerLoader(model, device)
    return [loader.load(Path(folder)) for folder in folders]


def summarize_all(
    loaded: Sequence[Trained], documents: Iterable[tuple[str, str]]
) -> Iterator[tuple[Trained, str, Summary]]:
    """Yield `(run, id, summary)` of every document by every loaded run; memory does not grow with the documents.

    Args:
        loaded: the loaded runs.
        documents: `(id, text)` of each document.

    Raises:
        DataError: a document is empty.
    """
    source = iter(documents)
    while chunk := list(islice(source, CHUNK)):
        for name, text in chunk:
            if not text.strip():
                raise DataError(f"The document {name!r} is empty: there is nothing to summarize.")
        for trained in loaded:
            for index, summary in trained.stream([text for _, text in chunk]):
                yield trained, chunk[index][0], summary


@dataclass
class SummarizerLoader:
    """Load runs one after another, keeping the base models in memory.

    Attributes:
        model: the base model, if it is not available under its recorded name.
        device: cpu, cuda or mps; None: the best available.
        precision: fp32, bf16 or fp16, instead of the runs' own.
        plain: load a quantized base model as plain matrices with its dequantized values.
        bases: the base models loaded so far.
    """

    model: str | None
    device: str | None
    precision: str | None = None
    plain: bool = False
    bases: dict[tuple[BaseModel, str], LoadedBase] = field(default_factory=dict)

    def load(self, folder: Path) -> Trained:
        """Load a run or an adapter; see `load_summarizer`."""
        if peft_adapters.is_peft_folder(folder):
            return self._adapter(folder)
        if not (record_folder(folder) / "record.json").is_file():
            raise ResultsError(f"{str(folder)!r} is neither {WHAT}.")
        return self._run(folder)

    def _run(self, folder: Path) -> Trained:
        record = read_finished(record_folder(folder))
        suite = settings_of(record, folder)
        entry = recorded_entry(record)
        if isinstance(entry.plugin, Baseline):
            return TrainedBaseline(entry, entry.plugin, folder, suite)
        model_name = self.model or base_in_bundle(folder, suite.model) or suite.model
        revision = suite.model_revision if model_name == suite.model else record.config.get("model_revision", "main")
        base = BaseModel(model_name, revision, suite.model_quantization)
        loaded = self._base(base, suite.training.precision)
        recorded = record.provenance.model_fingerprint if record.provenance else None
        if recorded not in (None, loaded.base.fingerprint):
            raise ResultsError(
                f"{str(folder)!r} was made with another model than {model_name!r} is now: weights or "
                "configuration differ. Give the same one with --model."
            )
        method = entry.plugin

        def change(parts: ModelParts) -> AdaptedModel:
            generator = torch.Generator().manual_seed(record.seed)
            return method.adapt(parts, Context(loaded.base.tokenizer, generator, torch.arange(parts.vocabulary_size)))

        prompt = prompt_of(suite, entry)
        model = loaded.assemble(change, prompt)
        if entry.trains:
            origin, tensors = read_manifest(folder / "adapter")
            check_belongs(origin, record, folder / "adapter")
            check_origin(origin, loaded.base, folder / "adapter")
            own_trained_tensors(model.adapted)
            load_tensors(model.adapted, tensors, folder / "adapter")
        model = model if suite.engine.plain else make_ready(model)
        return TrainedModel(entry.label, entry.kind, folder, suite, loaded, model, suite_entries(suite), prompt)

    def _adapter(self, folder: Path) -> Trained:
        adapter = peft_adapters.read_peft_folder(folder)
        name = self.model or adapter.model
        if not name:
            raise ModelError(f"The adapter in {str(folder)!r} names no base model: give it with --model.")
        stored = adapter.origin.model_quantization if adapter.origin is not None else "none"
        suite = Suite(model=name, model_revision=adapter.revision, model_quantization=stored)
        loaded = self._base(BaseModel.of(suite), suite.training.precision)
        if adapter.origin is not None:
            check_origin(adapter.origin, loaded.base, folder)
        peft_adapters.check_tokenizer(folder, loaded.base.tokenizer)
        prompt = prompt_of(suite)
        model = make_ready(loaded.assemble(lambda parts: peft_adapters.insert_adapter(parts, adapter), prompt))
        label = folder.resolve().name
        return TrainedModel(label, adapter.kind, folder, suite, loaded, model, (), prompt)

    def _base(self, base: BaseModel, precision: str) -> LoadedBase:
        key = (base, self.precision or precision)
        if key not in self.bases:
            machine = start_machine(self.device, key[1])
            try:
                _ = base.tokenizer  # report a missing tokenizer before reading the weights
                model = base.load_plain() if self.plain else base.load(device=machine.device)
            except ModelError as error:
                if self.model is not None:
                    raise
                hint = "This was the base model. If it has moved, give its location with --model."
                raise ModelError(f"{error}\n{hint}") from error
            model.requires_grad_(False)
            if machine.precision in LOW_PRECISION:
                cast_frozen_matrices(model, LOW_PRECISION[machine.precision])  # once, so that all runs share it
            model.to(machine.device)  # type: ignore[arg-type]
            self.bases[key] = LoadedBase(base, model, machine)
        return self.bases[key]

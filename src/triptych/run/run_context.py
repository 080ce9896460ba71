"""What every stage of a run works with: machine, clocks, data, and functions for losses and summaries."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from triptych.config.schema import Suite
from triptych.contracts import Method
from triptych.corpus.prepare import Corpus
from triptych.corpus.sequence import Pair
from triptych.engine.batch_size import PROVISIONAL_BATCH_SIZE
from triptych.engine.evaluation import SplitLoss, split_loss
from triptych.engine.forward import not_finite
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import check_generation, generate
from triptych.engine.model import EngineModel
from triptych.engine.savings.trunk_cache import TrunkCache
from triptych.errors import ModelError
from triptych.machine import Machine, start_machine
from triptych.measure.clocks import Clocks
from triptych.models import quantization
from triptych.models.base import BaseModel
from triptych.models.dropout import has_dropout
from triptych.results import layout
from triptych.results.records import Prediction
from triptych.run import provenance, scoring
from triptych.run.adapters import Origin
from triptych.run.corpus import corpus_of_entry, load_corpus
from triptych.run.entries import SuiteEntry, suite_entries
from triptych.run.events import Listener, NoteEvent, ProgressEvent, RunEvent, RunId, StageEvent, StageName
from triptych.run.models import ready_model, target_matrices
from triptych.storage.cache_place import cache_folder
from triptych.storage.given_documents import name_in_folder
from triptych.text import languages

DECISIVE = ("triptych", "torch", "transformers", "peft")  # packages whose versions a training run depends on


@dataclass
class RunContext:
    """A run's machine, clocks and data.

    Attributes:
        micro_batch: documents per forward pass.
        recomputes: whether blocks are recomputed in the backward pass because memory ran out otherwise.
    """

    suite: Suite
    entry: SuiteEntry
    seed: int
    out: Path
    machine: Machine
    clocks: Clocks
    base: BaseModel
    corpus: Corpus
    listener: Listener
    micro_batch: int
    recomputes: bool = False

    @classmethod
    def begin(
        cls, suite: Suite, entry: SuiteEntry, seed: int, out: Path, device: str | None, listener: Listener
    ) -> "RunContext":
        """Set up machine, base model and data; the clocks count from the start of the process."""
        machine = start_machine(device, suite.training.precision)
        clocks = Clocks(machine.synchronize, base="startup")
        listener(RunId(entry.label, seed), StageEvent(stage="preparation"))
        with clocks.time("preparation"):
            base = BaseModel.of(suite)
            cache = cache_folder()
            corpus = load_corpus(suite, suite_entries(suite), base, cache)
            corpus = corpus_of_entry(suite, entry, base, corpus, cache)
        asked = suite.training.micro_batch_size
        micro_batch = PROVISIONAL_BATCH_SIZE if asked == "auto" else asked
        return cls(suite, entry, seed, out, machine, clocks, base, corpus, listener, micro_batch)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything except the seed that the run's results depend on; files kept by other runs are used if it matches.

        It leaves out the suite's other methods and seeds, so that these can be added later: the run depends on the
        other methods only through the tokens of its documents, and on the seeds only through the first, with which
        rates are searched.
        """
        entry = self.entry
        packages = (*DECISIVE, *quantization.packages(self.base.quantization))
        config = self.suite.model_dump(mode="json", exclude={"methods", "method", "seeds", "design", "report"})
        config["data"] = name_in_folder(config["data"])  # relative, since the results folder may be moved
        first = self.suite.seeds[0]
        settings = {"config": config, "first_seed": first, "kind": entry.kind, "options": entry.options}
        return {
            "settings": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
            "row": entry.label,
            "data": self.corpus.data.fingerprint,
            "tokens": self.corpus.data.token_fingerprint,
            "model": self.base.fingerprint,
            "tokenizer": self.base.tokenizer_fingerprint,
            "precision": self.machine.precision,
            "device": self.machine.device.type,
            "versions": {name: provenance.version_of(name) for name in packages},
        }

    @property
    def shards(self) -> bool:
        """Whether the model is sharded over the processes of this run; a single process has nothing to shard."""
        return self.suite.engine.sharding != "none" and self.machine.num_processes > 1

    @cached_property
    def language(self) -> languages.Language:
        """The language used for scoring summaries."""
        return scoring.choose_language(self.suite, self.corpus)

    @property
    def folder(self) -> Path:
        """`OUT/runs/LABEL/SEED`."""
        return layout.run_folder(self.out, self.entry.label, self.seed)

    def origin(self) -> Origin:
        """The run and base model that the adapter belongs to."""
        entry, base = self.entry, self.base
        model = base.name, base.commit or base.revision, base.fingerprint, base.tokenizer_fingerprint
        return Origin(entry.label, entry.kind, entry.options, *model, self.seed, base.quantization)

    def emit(self, event: RunEvent) -> None:
        """Report an event of this run."""
        self.listener(RunId(self.entry.label, self.seed), event)

    def stage(self, name: StageName) -> AbstractContextManager[None]:
        """Report that a stage begins, and return a context manager in which its clock runs."""
        self.emit(StageEvent(stage=name))
        return self.clocks.time(name)

    def show_progress(self, done: int, total: int) -> None:
        """Report the progress of a stage."""
        self.emit(ProgressEvent(done=done, total=total))

    def note(self, message: str) -> None:
        """Report a message for the reader of the run's output."""
        self.emit(NoteEvent(message=message))

    def fresh_model(self, method: Method, seed: int) -> EngineModel:
        """A fresh model, changed by the method and prepared for the engine; notes what its family does not support."""
        model = ready_model(self.suite, self.base, method, self.corpus, seed, self.machine, self.shards)
        dropout = self.suite.training.dropout
        if dropout and method.trains and not has_dropout(self.base.config):
            self.note(f"training.dropout = {dropout:g} has no effect: this family has no dropout")
        for message in model.can.notes:
            self.note(message)
        if targets := target_matrices(model.adapted):
            self.note(f"adapts the matrices {', '.join(targets)}")
        check_generation(model, DecodingPlan(**self.suite.decoding.model_dump()))
        return model

    def loss(
        self, model: EngineModel, split: Sequence[Pair], quiet: bool = False, cache: TrunkCache | None = None
    ) -> SplitLoss:
        """The loss of a split, from the trunk cache of its pairs if there is one."""
        progress = None if quiet else self.show_progress
        return split_loss(model, split, self.micro_batch, progress, cache.losses if cache else None)

    def untouched_loss(self, model: EngineModel) -> float:
        """The validation loss before training.

        Raises:
            ModelError: it is not finite.
        """
        loss = self.loss(model, self.corpus.validation).mean
        if not math.isfinite(loss):
            raise ModelError(not_finite(self.suite.model, "losses"))
        return loss

    def predict(self, model: EngineModel, test: SplitLoss) -> list[Prediction]:
        """Generate and score a summary of every test document."""
        split, cap = self.corpus.test, self.suite.decoding.max_new_tokens
        documents = [split.document_ids(i) for i in range(len(split))]
        with self.stage("generation"):
            new = self.generate(model, documents, self.show_progress)
        with self.stage("evaluation"):
            texts = [scoring.to_text(self.base.tokenizer, ids) for ids in new]
            return scoring.score_predictions(split, texts, [len(ids) for ids in new], cap, test, self.language.name)

    def generate(
        self, model: EngineModel, documents: Sequence[np.ndarray], progress: Callable[[int, int], None] | None = None
    ) -> list[list[int]]:
        """Generate new tokens for each document with the suite's decoding; the ranks share the documents.

        If the model is sharded, every rank needs the same number: a rank with fewer repeats the first document.
        """
        decoding = DecodingPlan(**self.suite.decoding.model_dump())
        own = [i for i in range(len(documents)) if self.machine.owns(i)]
        if model.is_sharded and self.machine.is_left_out(len(documents)):
            own.append(0)
        new = generate(model, [documents[i] for i in own], decoding, progress)
        tokens = dict(self.machine.collect(list(zip(own, new, strict=True))))
        return [tokens[i] for i in range(len(documents))]

    def latency(self, summarize: Callable[[int], object]) -> float:
        """Seconds for summarizing a single document, the test document of median length."""
        test = self.corpus.test
        by_length = sorted(range(len(test)), key=lambda i: len(test.document_ids(i)))
        before = self.clocks.read()["generation"]
        with self.clocks.time("generation"):
            summarize(by_length[len(test) // 2])
        return self.clocks.read()["generation"] - before

"""Everything that can be found wrong before work begins is found here, and nothing is written to OUT."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych import experiment, meter, runtime
from triptych.config import Suite
from triptych.contracts import Method
from triptych.corpus import Corpus
from triptych.engine.generation import DecodingPlan, generate
from triptych.engine.training import TrainingState, train_step
from triptych.errors import ConfigError, DataError
from triptych.models import hub
from triptych.records import Parameters
from triptych.rows import Row, planned_runs


@dataclass
class Plan:
    """A suite that can be carried out."""

    suite: Suite
    rows: list[Row]
    corpus: Corpus
    parameters: dict[str, Parameters]
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def runs(self) -> list[tuple[Row, int]]:
        """The runs in order."""
        return planned_runs(self.suite, self.rows)


def check(suite: Suite, rows: Sequence[Row], device: str | None, cache: Path) -> Plan:
    """Make sure that model, data, every row's options and the device fit together.

    Raises:
        InputError: something does not; the message says what to do.
    """
    runtime.choose_precision(suite.training.precision, runtime.available(device))
    tokenizer = hub.load_tokenizer(suite.model, suite.model_revision)
    _check_window(suite, rows)
    parameters, notes = {}, {}
    base = meter.count_parameters(hub.sketch_model(suite.model, suite.model_revision)).total
    for row in rows:
        if not isinstance(row.plugin, Method):
            continue
        try:
            adapted = experiment.sketch(suite, row.plugin, tokenizer)
        except ConfigError as error:
            raise ConfigError(f"[method.{row.label}] {error}") from None
        parameters[row.label] = experiment.count(adapted, base)
        notes[row.label] = adapted.notes
    corpus = experiment.load_corpus(suite, tokenizer, experiment.reserved_positions(rows), cache)
    vocabulary = hub.load_config(suite.model, suite.model_revision).get_text_config().vocab_size
    corpus.token_frequencies(vocabulary)
    for name, split in (("train", corpus.train), ("validation", corpus.validation), ("test", corpus.test)):
        if not len(split):
            raise DataError(f"The {name} split of {suite.data!r} has no usable pair.")
    return Plan(suite, list(rows), corpus, parameters, notes)


@contextmanager
def temporary_cache() -> Iterator[Path]:
    """A cache that is gone afterwards, for a dry run."""
    with tempfile.TemporaryDirectory(prefix="triptych-") as folder:
        yield Path(folder)


def _check_window(suite: Suite, rows: Sequence[Row]) -> None:
    """A prompt, the document and what is generated must fit into the model's window."""
    config = hub.load_config(suite.model, suite.model_revision).get_text_config()
    window = getattr(config, "max_position_embeddings", None)
    virtual = experiment.reserved_positions(rows)
    new = max(suite.limits.summary_tokens, suite.decoding.max_new_tokens)
    needed = virtual + suite.limits.document_tokens + new
    if window is not None and needed > window:
        raise ConfigError(
            f"{virtual} virtual + limits.document_tokens {suite.limits.document_tokens} + {new} summary tokens make {needed} "
            f"positions, and the model has {window}: lower limits.document_tokens, limits.summary_tokens, "
            "decoding.max_new_tokens or num_virtual_tokens."
        )


@dataclass(frozen=True)
class RowEstimate:
    """What a run of a row will take, in seconds; training from two measured steps."""

    train_seconds: float
    evaluation_seconds: float
    generation_seconds: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.train_seconds + self.evaluation_seconds + self.generation_seconds


def estimate(plan: Plan, device: str | None) -> dict[str, RowEstimate]:
    """Measure two optimizer steps (the first warms up, the second counts), and a batch of summaries, for every row.

    Training is assumed to last all its epochs, and a summary to use all its tokens, so that the estimate is an upper one.
    """
    return {row.label: _estimate_row(plan, row, device) for row in plan.rows}


def _estimate_row(plan: Plan, row: Row, device: str | None) -> RowEstimate:
    if not isinstance(row.plugin, Method):
        return RowEstimate(0.0, 0.0, 0.0)
    suite, corpus = plan.suite, plan.corpus
    machine = runtime.start(device, suite.training.precision)
    with tempfile.TemporaryDirectory() as nowhere:
        run = experiment.Run.begin(suite, row, suite.seeds[0], Path(nowhere), machine, lambda event: None)
        run.tokenizer = hub.load_tokenizer(suite.model, suite.model_revision)
        adapted, modes, _ = run.adapt(row.plugin, corpus, suite.seeds[0])
        recipe = run.plan(row.plugin, row.plugin.learning_rate)
        size = min(recipe.global_batch_size, len(corpus.train))
        step = 0.0
        if row.trains:
            state = TrainingState.begin(adapted, recipe)
            modes.train(adapted.parts.model)
            for _ in range(2):
                step = _timed(machine, lambda: train_step(
                    adapted, corpus.train, list(range(size)), corpus.template, recipe, state, machine, 0.0,
                    lambda *shape: (0.0, 0.0),
                ))
            modes.eval(adapted.parts.model)
        few = [corpus.validation[i] for i in range(min(suite.training.micro_batch_size, len(corpus.validation)))]
        loss = _timed(machine, lambda: run.loss(adapted, few, corpus)) / len(few)
        d = suite.decoding
        documents = [corpus.test[i].document_ids for i in range(min(d.batch_size, len(corpus.test)))]
        tokens = min(8, d.max_new_tokens)
        decoding = DecodingPlan(d.num_beams, tokens, d.no_repeat_ngram_size, d.length_penalty, d.batch_size)
        generation = _timed(machine, lambda: generate(adapted, documents, corpus.template, machine, decoding))
        generation *= d.max_new_tokens / tokens / len(documents)
    steps = -(-len(corpus.train) // recipe.global_batch_size)
    epochs = recipe.max_epochs if row.trains else 0
    trials = suite.search.trials if row.trains and suite.search.trials > 1 else 0
    trial_steps = -(-min(len(corpus.train), suite.search.train_documents) // recipe.global_batch_size) * suite.search.epochs
    trial_validation = min(len(corpus.validation), suite.search.validation_documents) * suite.search.epochs
    return RowEstimate(
        train_seconds=step * steps * epochs + trials * (step * trial_steps + loss * trial_validation),
        evaluation_seconds=loss * (len(corpus.validation) * (epochs + 2) + len(corpus.test)),
        generation_seconds=generation * len(corpus.test),
    )


def _timed(machine: runtime.Runtime, work) -> float:
    machine.synchronize()
    start = time.perf_counter()
    work()
    machine.synchronize()
    return time.perf_counter() - start

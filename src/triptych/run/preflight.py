"""Everything that can be found wrong before work begins is found here, and nothing is written to OUT."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from triptych.config.schema import Suite
from triptych.contracts import Method
from triptych.corpus.prepare import Corpus
from triptych.corpus.sequence import Template
from triptych.engine.compute import make_ready
from triptych.engine.evaluation import split_loss
from triptych.engine.generation import DecodingPlan, check_generation, generate
from triptych.engine.memory import UNTIL_FOUND
from triptych.engine.model import EngineModel
from triptych.engine.training import Loop, TrainingState
from triptych.errors import ConfigError, ModelError
from triptych.machine import Machine, choose_device, choose_precision, start_machine
from triptych.measure import meter
from triptych.models.base import BaseModel
from triptych.models.parts import is_recurrent
from triptych.results.records import Parameters
from triptych.run import scoring, setup, tracking
from triptych.run.entries import Row, planned_runs, smaller_suite
from triptych.run.recipe import training_plan
from triptych.text import languages


@dataclass
class Plan:
    """A suite that can be carried out."""

    suite: Suite
    rows: list[Row]
    base: BaseModel
    corpus: Corpus
    parameters: dict[str, Parameters]
    language: languages.Language
    targets: dict[str, tuple[str, ...]]  # by label: the matrices that something is put next to, by name endings
    scaled: dict[int, "Plan"] = field(default_factory=dict)  # by the number of training documents

    @property
    def runs(self) -> list[tuple[Row, int]]:
        """The runs in order."""
        return planned_runs(self.suite, self.rows)


def check(suite: Suite, rows: Sequence[Row], device: str | None, cache: Path, only: Row | None = None) -> Plan:
    """Make sure that model, data, every row's options and the device fit together.

    Args:
        suite: the resolved suite.
        rows: all its rows; how documents are cut depends on all of them.
        device: cpu, cuda or mps; None: the best there is.
        cache: folder of prepared data.
        only: the one row that will be run, and so checked; None: every row.

    Raises:
        InputError: something does not; the message says what to do.
    """
    tracking.check_tracker(suite)
    choose_precision(suite.training.precision, choose_device(device))
    setup.open_data(suite)  # a missing folder is told before anything else of the data and model
    base = BaseModel.of(suite)
    _check_window(suite, rows, base)
    parameters: dict[str, Parameters] = {}
    targets: dict[str, tuple[str, ...]] = {}
    untouched = base.structure()
    size = meter.count_parameters(untouched).total
    checked = list(rows) if only is None else [only]
    for row in checked:
        if not isinstance(row.plugin, Method):
            continue
        try:
            adapted = setup.sketch(base, row.plugin)
        except ConfigError as error:
            raise ConfigError(f"[method.{row.label}] {error}") from None
        except (AttributeError, NotImplementedError) as error:
            if not is_recurrent(untouched):
                raise
            raise ModelError(
                f"[method.{row.label}] {type(untouched).__name__} cannot be adapted so ({error}): leave this row out."
            ) from error
        parameters[row.label] = setup.count_parameters(adapted, size)
        if adapted.notes.get("target_modules"):
            targets[row.label] = setup.endings(adapted.notes["target_modules"])
    if any(isinstance(row.plugin, Method) for row in checked):
        base.check_weights()
    corpus = setup.load_corpus(suite, rows, base, cache)
    language = scoring.choose_language(suite, corpus)
    if is_recurrent(untouched):
        _try_generating(suite, checked, base, corpus, device)
    scaled = {}
    for size in suite.scaling.train_documents:
        if size >= len(corpus.train):
            raise ConfigError(
                f"scaling.train_documents has {size:,}, and the suite trains on {len(corpus.train):,} documents, "
                "which is the last point of the curve by itself: give smaller numbers."
            )
        smaller = smaller_suite(suite, rows, size)
        if only is None or only.trains:
            scaled[size] = check(smaller, [row for row in rows if row.trains], device, cache, only)
    return Plan(suite, list(rows), base, corpus, parameters, language, targets, scaled)


def _try_generating(suite: Suite, rows: Sequence[Row], base: BaseModel, corpus: Corpus, device: str | None) -> None:
    """Let each row of a recurrent family write a few tokens: what transformers cannot do there shows in no
    configuration.

    Raises:
        ModelError: a row cannot, with its label.
    """
    machine = start_machine(device, suite.training.precision)
    decoding = DecodingPlan(**suite.decoding.model_dump())
    for row in rows:
        if isinstance(row.plugin, Method):
            model = setup.prepare_model(base, row.plugin, corpus, suite.seeds[0], machine)
            try:
                check_generation(model, decoding)
            except ModelError as error:
                raise ModelError(f"[method.{row.label}] {error}") from error


@contextmanager
def temporary_cache() -> Iterator[Path]:
    """A cache that is gone afterwards, for a dry run."""
    with tempfile.TemporaryDirectory(prefix="triptych-") as folder:
        yield Path(folder)


def _check_window(suite: Suite, rows: Sequence[Row], base: BaseModel) -> None:
    """A prompt, the document and what is generated must fit into the model's window."""
    template = Template.of(base.tokenizer, suite.separator)
    window, virtual = base.context_length, setup.reserved_positions(rows)
    new = max(suite.limits.summary_tokens, suite.decoding.max_new_tokens)
    needed = virtual + suite.limits.document_tokens + new + template.length
    if window is not None and needed > window:
        most = getattr(base.config.get_text_config(), "max_position_embeddings", window)
        reason = (
            ""
            if most == window
            else (
                f" that are safe to use of its {most}: beyond them LongRoPE reads every document of a batch in "
                "another way"
            )
        )
        raise ConfigError(
            f"{virtual} virtual + limits.document_tokens {suite.limits.document_tokens} + {new} summary + "
            f"{template.length} "
            f"prefix, separator and EOS tokens make {needed} positions, and the model has {window}{reason}: lower "
            "limits.document_tokens, limits.summary_tokens, decoding.max_new_tokens or num_virtual_tokens."
        )


@dataclass(frozen=True)
class RowEstimate:
    """What a run of a row will take, in seconds; training from two measured steps.

    Attributes:
        train_seconds: all epochs, and the learning-rate search.
        evaluation_seconds: validation before, after every epoch and at the end, and the test split.
        generation_seconds: of the test split.
        search_seconds: the part of `train_seconds` that the search takes, once for all seeds.
        document_seconds: of training on one document.
        loss_seconds: of taking the loss of one document.
        summary_seconds: of generating one summary.
    """

    train_seconds: float
    evaluation_seconds: float
    generation_seconds: float
    search_seconds: float
    document_seconds: float
    loss_seconds: float
    summary_seconds: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.train_seconds + self.evaluation_seconds + self.generation_seconds


def estimate(plan: Plan, device: str | None) -> dict[str, RowEstimate]:
    """Measure two optimizer steps (the first warms up, the second counts), and a batch of summaries, for every row.

    Training is assumed to last all its epochs, and a summary to use all its tokens, so that the estimate is an upper
    one.
    """
    return {row.label: _estimate_row(plan, row, device) for row in plan.rows}


def _estimate_row(plan: Plan, row: Row, device: str | None) -> RowEstimate:
    if not isinstance(row.plugin, Method):
        return RowEstimate(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    suite, corpus = plan.suite, plan.corpus
    machine = start_machine(device, suite.training.precision)
    model = setup.prepare_model(plan.base, row.plugin, corpus, suite.seeds[0], machine)
    model = model if suite.engine.plain else make_ready(model)
    t, d = suite.training, suite.decoding
    micro = UNTIL_FOUND if t.micro_batch_size == "auto" else t.micro_batch_size
    step = _seconds_a_step(plan, row.plugin, model, micro) if row.trains else 0.0
    few = [corpus.validation[i] for i in range(min(micro, len(corpus.validation)))]
    loss = _timed(machine, lambda: split_loss(model, few, len(few))) / len(few)
    documents = [corpus.test.document_ids(i) for i in range(min(d.batch_size, len(corpus.test)))]
    tokens = min(8, d.max_new_tokens)
    decoding = DecodingPlan(**d.model_dump() | {"max_new_tokens": tokens})
    generation = _timed(machine, lambda: generate(model, documents, decoding))
    generation *= d.max_new_tokens / tokens / len(documents)
    steps = -(-len(corpus.train) // t.global_batch_size)
    epochs = t.max_epochs if row.trains else 0
    trials = suite.search.trials if row.trains and suite.search.trials > 1 else 0
    trial_steps = -(-min(len(corpus.train), suite.search.train_documents) // t.global_batch_size) * suite.search.epochs
    trial_validation = min(len(corpus.validation), suite.search.validation_documents) * suite.search.epochs
    search = trials * (step * trial_steps + loss * trial_validation)
    return RowEstimate(
        train_seconds=step * steps * epochs + search,
        evaluation_seconds=loss * (len(corpus.validation) * (epochs + 2) + len(corpus.test)),
        generation_seconds=generation * len(corpus.test),
        search_seconds=search,
        document_seconds=step / min(t.global_batch_size, len(corpus.train)),
        loss_seconds=loss,
        summary_seconds=generation,
    )


def _seconds_a_step(plan: Plan, method: Method, model: EngineModel, micro: int) -> float:
    """The second of two optimizer steps over a full global batch; the first warms up."""
    corpus, t = plan.corpus, plan.suite.training
    recipe = training_plan(plan.suite, method, 0.0, 0, micro)  # at this rate the weights stay as they are
    recipe = replace(recipe, max_epochs=2, patience=1, warmup_fraction=0.0, schedule="constant")  # one step an epoch
    batch = [corpus.train[i] for i in range(min(t.global_batch_size, len(corpus.train)))]
    loop = Loop(model, batch, recipe, TrainingState.begin(model.adapted, recipe, model.machine.loss_scaler()))
    _timed(model.machine, loop.step)
    loop.end_epoch(0.0)
    seconds = _timed(model.machine, loop.step)
    model.eval()
    return seconds


def _timed(machine: Machine, work) -> float:
    machine.synchronize()
    start = time.perf_counter()
    work()
    machine.synchronize()
    return time.perf_counter() - start

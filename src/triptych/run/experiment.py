"""A run from start to finish: set up, adapt the model, train, evaluate, generate, score, save, record."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.config.schema import Suite
from triptych.contracts import Baseline, Method
from triptych.engine.sharding import whole_tensors
from triptych.errors import ConfigError, NonFiniteLoss
from triptych.results import integrity, json_files
from triptych.results.records import Cost, Loss, Parameters, Prediction, Record
from triptych.results.resuming import options_for
from triptych.run import provenance, scoring
from triptych.run.adapters import save_adapter
from triptych.run.corpus import notes_on_prompt
from triptych.run.entries import SuiteEntry
from triptych.run.events import Event, Listener, RunId
from triptych.run.models import describe_parameters
from triptych.run.notes import notes_on_base, notes_on_sharding, notes_on_training
from triptych.run.run_context import RunContext
from triptych.run.tracking import Tracker
from triptych.run.training import TrainingOutcome, train_model
from triptych.run.trials import make_trial

NOT_TRAINED = "not measured: nothing is trained"


@dataclass
class RunOutcome:
    """The outcome of a run.

    Attributes:
        predictions: one scored prediction per test document.
        cost: the cost of training; the clocks are added when the record is written.
        loss: loss on the validation and test splits; empty without a model.
        parameters: None without a model.
        training: the outcome of training; None if nothing is trained.
        notes: further information for the reader, by name.
    """

    predictions: list[Prediction]
    cost: Cost
    loss: Loss = field(default_factory=Loss)
    parameters: Parameters | None = None
    training: TrainingOutcome | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def run_experiment(
    suite: Suite,
    entry: SuiteEntry,
    seed: int,
    out: Path,
    device: str | None,
    listener: Listener,
    plugins: Sequence[str] = (),
) -> Record:
    """Execute a run and write all its files, `record.json` last.

    Args:
        suite: the resolved suite.
        entry: one of its entries.
        seed: one of its seeds.
        out: the results folder.
        device: cpu, cuda or mps; None: the best available.
        listener: called with every event of the run.
        plugins: files from which plug-ins were loaded; the record's command includes them.

    Raises:
        TriptychError: the run failed.
    """
    context = RunContext.begin(suite, entry, seed, out, device, listener)
    tracker = Tracker(suite, f"{entry.label}-{seed}", out / "tracking")

    def listen(run: RunId | None, event: Event) -> None:
        listener(run, event)
        tracker.follow(event)

    context.listener = listen
    if isinstance(entry.plugin, Baseline):
        outcome = run_baseline(context, entry.plugin)
    else:
        outcome = run_method(context, entry.plugin)
    record = make_record(context, outcome, plugins)
    if context.machine.is_main:
        write_run(context, outcome, record)
    tracker.finish(record)
    return record


def run_trial(suite: Suite, entry: SuiteEntry, rate: float, out: Path, device: str | None, listener: Listener) -> None:
    """Make one trial of a method's learning-rate search, to be found by the run that makes the search.

    Args:
        suite: as for `run_experiment`.
        entry: an entry that is trained.
        rate: one of the search's learning rates.
        out: as for `run_experiment`.
        device: as for `run_experiment`.
        listener: as for `run_experiment`.

    Raises:
        TriptychError: the trial could not be made.
    """
    if not entry.trains:
        raise ConfigError(f"{entry.label!r} is not trained: it has no search.")
    assert isinstance(entry.plugin, Method)
    context = RunContext.begin(suite, entry, suite.seeds[0], out, device, listener)
    make_trial(context, entry.plugin, context.fresh_model(entry.plugin, context.seed), rate)


def run_baseline(context: RunContext, baseline: Baseline) -> RunOutcome:
    """Predict and score without a model."""
    test = context.corpus.test
    with context.stage("generation"):
        texts = baseline.predict([test.document(i) for i in range(len(test))])
    with context.stage("evaluation"):
        cap = context.suite.decoding.max_new_tokens
        predictions = scoring.score_predictions(test, texts, None, cap, None, context.language.name)
    latency = context.latency(lambda i: baseline.predict([test.document(i)]))
    return RunOutcome(
        predictions, Cost(energy_note=NOT_TRAINED, busy_note=NOT_TRAINED, generation_latency_seconds=latency)
    )


def run_method(context: RunContext, method: Method) -> RunOutcome:
    """Adapt the model, train, evaluate, generate, score and save.

    Raises:
        NonFiniteLoss: training diverged, or the numbers of a document overflow.
    """
    test = context.corpus.test
    model = context.fresh_model(method, context.seed)
    parameters = describe_parameters(model.adapted, model.num_base_parameters)
    training = train_model(context, method, model) if method.trains else None
    with context.stage("evaluation"):
        validation = training.best_loss if training else context.untouched_loss(model)
        test_loss = context.loss(model, test)
    if not math.isfinite(validation + test_loss.mean):
        raise NonFiniteLoss(
            f"The loss is {validation} on the validation split and {test_loss.mean} on the test split: a "
            "document makes the model's numbers overflow. Set training.precision=fp32, or leave the document out."
        )
    initial = training.initial_loss if training else validation
    predictions = context.predict(model, test_loss)
    cost = training.cost if training else Cost(energy_note=NOT_TRAINED, busy_note=NOT_TRAINED)
    cost.generation_latency_seconds = context.latency(lambda i: context.generate(model, [test.document_ids(i)]))
    if training:
        with context.stage("checkpoint"):
            trained = whole_tensors(model.adapted.trained_parameters(), keep=context.machine.is_main)
            if context.machine.is_main:
                folder, origin = context.folder / "adapter", context.origin()
                parameters.stored_bytes = save_adapter(model.adapted, folder, origin, trained)
    notes = notes_on_prompt(context.suite, context.entry) | model.adapted.notes
    notes |= notes_on_base(model, context.base) | notes_on_sharding(model)
    notes |= {**training.notes, **notes_on_training(model)} if training else {}
    losses = Loss(initial=initial, validation=validation, test=test_loss.mean)
    return RunOutcome(predictions, cost, losses, parameters, training, notes)


def make_record(context: RunContext, outcome: RunOutcome, plugins: Sequence[str]) -> Record:
    """The record of a run, except for its clocks and the digests of its files."""
    entry, training = context.entry, outcome.training
    words = ["triptych", "train", entry.label, "OUT/suite.json", "--seeds", str(context.seed), "--out", "OUT"]
    command = [*words, "--device", context.machine.device.type]
    command += options_for(plugins)
    fingerprint = context.base.fingerprint if isinstance(entry.plugin, Method) else None
    return Record(
        label=entry.label,
        kind=entry.kind,
        seed=context.seed,
        status="done",
        config=context.suite.of_runs(),
        options=entry.options,
        parameters=outcome.parameters,
        loss=outcome.loss,
        rouge=scoring.rouge(outcome.predictions, context.language),
        text_shape=scoring.text_shape(outcome.predictions),
        further_scores=scoring.further_scores(outcome.predictions),
        signatures=scoring.signatures(context.language.name),
        cost=outcome.cost,
        data=context.corpus.data,
        search=training.search if training else None,
        training=training.summary if training else None,
        notes=outcome.notes,
        provenance=provenance.collect(command, context.base, fingerprint, context.machine),
    )


def write_run(context: RunContext, outcome: RunOutcome, record: Record) -> None:
    """Write predictions and history, then the record with its clocks; a run with a record is done."""
    folder, predictions = context.folder, outcome.predictions
    with context.stage("checkpoint"):
        json_files.write_json_lines(
            folder / "predictions.jsonl", [prediction.model_dump() for prediction in predictions]
        )
        json_files.write_json_lines(folder / "history.jsonl", outcome.training.history if outcome.training else [])
    seconds = context.clocks.read()
    generation = seconds["generation"] - (record.cost.generation_latency_seconds or 0.0)
    measured = {
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "wall_seconds": context.clocks.wall_seconds(),
        "documents_per_second": len(predictions) / generation,
    }
    record.cost = record.cost.model_copy(update=measured)
    record.files = integrity.digests(folder)
    json_files.write_json(folder / "record.json", record.sealed())
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)

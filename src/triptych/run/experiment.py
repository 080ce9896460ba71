"""One run, top to bottom: seed, data, model, adapt, tune, evaluate, generate, save, record."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config.schema import Suite
from triptych.contracts import Baseline, Method
from triptych.errors import ConfigError, NonFiniteLoss
from triptych.results import integrity, json_files
from triptych.results.records import Cost, Loss, Parameters, Prediction, Record
from triptych.run import provenance, scoring, setup
from triptych.run.adapters import save_adapter
from triptych.run.entries import Row
from triptych.run.events import Event, Listener, RunId
from triptych.run.tracking import Tracker
from triptych.run.training import TrainingOutcome, train_model
from triptych.run.trials import make_trial
from triptych.run.workbench import Workbench

NOT_TRAINED = "not measured: nothing is trained"


def run(
    suite: Suite, row: Row, seed: int, out: Path, device: str | None, listener: Listener, plugins: Sequence[str] = ()
) -> Record:
    """Carry out one run and write everything it leaves, `record.json` last.

    Args:
        suite: the resolved suite.
        row: one of its rows.
        seed: one of its seeds.
        out: the results folder.
        device: the device asked for, or None.
        listener: called with each event of the run.
        plugins: files that plug-ins were loaded from; the record's command names them.

    Raises:
        TriptychError: the run could not be carried out.
    """
    bench = Workbench.begin(suite, row, seed, out, device, listener)
    tracker = Tracker(suite, f"{row.label}-{seed}", out / "tracking")

    def listen(run: RunId | None, event: Event) -> None:
        listener(run, event)
        tracker.follow(event)

    bench.listener = listen
    this = Run(bench, plugins)
    record = this.baseline(row.plugin) if isinstance(row.plugin, Baseline) else this.method(row.plugin)
    tracker.finish(record)
    return record


def try_rate(suite: Suite, row: Row, rate: float, out: Path, device: str | None, listener: Listener) -> None:
    """Make one trial of a row's search alone; the run that makes the search finds it.

    Args:
        rate: one of the search's learning rates.

    Raises:
        TriptychError: it could not be made.
    """
    if not row.trains:
        raise ConfigError(f"The row {row.label!r} is not trained: it has no search.")
    assert isinstance(row.plugin, Method)
    bench = Workbench.begin(suite, row, suite.seeds[0], out, device, listener)
    make_trial(bench, row.plugin, bench.fresh_model(row.plugin, bench.seed), rate)


@dataclass
class Run:
    """A run on its workbench."""

    bench: Workbench
    plugins: Sequence[str]

    def baseline(self, baseline: Baseline) -> Record:
        """A row without a model: predict, score, record."""
        bench, test = self.bench, self.bench.corpus.test
        with bench.stage("generation"):
            texts = baseline.predict([test.document(i) for i in range(len(test))])
        with bench.stage("evaluation"):
            predictions = scoring.score_predictions(
                test, texts, None, bench.suite.decoding.max_new_tokens, None, bench.language.name
            )
        latency = bench.latency(lambda i: baseline.predict([test.document(i)]))
        cost = Cost(energy_note=NOT_TRAINED, busy_note=NOT_TRAINED, generation_latency_seconds=latency)
        return self.write(self.record(predictions, cost), predictions, [])

    def method(self, method: Method) -> Record:
        """A row with a model: adapt, count, tune, evaluate, generate, save, record."""
        bench, test = self.bench, self.bench.corpus.test
        model = bench.fresh_model(method, bench.seed)
        parameters = setup.count_parameters(model.adapted, model.num_base_parameters)
        tuned = train_model(bench, method, model) if method.trains else None
        with bench.stage("evaluation"):
            validation = bench.loss(model, bench.corpus.validation).mean if tuned else bench.untouched_loss(model)
            split_test = bench.loss(model, test)
        if not math.isfinite(validation + split_test.mean):
            raise NonFiniteLoss(
                f"The loss is {validation} on the validation split and {split_test.mean} on the test split: a "
                "document makes the model's numbers overflow. Set training.precision=fp32, or leave the document out."
            )
        loss = Loss(initial=tuned.initial_loss if tuned else validation, validation=validation, test=split_test.mean)
        predictions = bench.predict(model, split_test)
        cost = tuned.cost if tuned else Cost(energy_note=NOT_TRAINED, busy_note=NOT_TRAINED)
        cost.generation_latency_seconds = bench.latency(lambda i: bench.generate(model, [test.document_ids(i)]))
        if tuned and bench.machine.is_main:
            with bench.stage("checkpoint"):
                parameters.stored_bytes = save_adapter(model.adapted, bench.folder / "adapter", bench.origin())
        notes = model.adapted.notes | (tuned.notes if tuned else {})
        record = self.record(predictions, cost, parameters, loss, tuned, notes)
        return self.write(record, predictions, tuned.history if tuned else [])

    def record(
        self,
        predictions: list[Prediction],
        cost: Cost,
        parameters: Parameters | None = None,
        loss: Loss | None = None,
        tuned: TrainingOutcome | None = None,
        notes: dict[str, Any] | None = None,
    ) -> Record:
        """Put the record together; its clocks are read when it is written."""
        bench = self.bench
        command = [
            "triptych",
            "train",
            bench.row.label,
            "OUT/suite.json",
            "--seeds",
            str(bench.seed),
            "--out",
            "OUT",
            "--device",
            bench.machine.device.type,
        ]
        command += [part for plugin in self.plugins for part in ("--plugin", plugin)]
        return Record(
            label=bench.row.label,
            kind=bench.row.kind,
            seed=bench.seed,
            status="done",
            config=bench.suite.model_dump(mode="json"),
            options=bench.row.options,
            parameters=parameters,
            loss=loss or Loss(),
            rouge=scoring.rouge(predictions, bench.language),
            text_shape=scoring.text_shape(predictions),
            further_scores=scoring.further_scores(predictions),
            signatures=scoring.signatures(bench.language.name),
            cost=cost,
            data=bench.corpus.data,
            search=tuned.search if tuned else None,
            training=tuned.summary if tuned else None,
            notes=notes or {},
            provenance=provenance.collect(command, bench.base, bench.base.fingerprint if loss else None, bench.machine),
        )

    def write(self, record: Record, predictions: list[Prediction], history: list[dict[str, Any]]) -> Record:
        """Write predictions and history, then the record: where it stands, the run is done."""
        bench = self.bench
        if not bench.machine.is_main:
            return record
        with bench.stage("checkpoint"):
            json_files.write_json_lines(bench.folder / "predictions.jsonl", [p.model_dump() for p in predictions])
            json_files.write_json_lines(bench.folder / "history.jsonl", history)
        seconds = bench.clocks.read()
        clocks = {f"{name}_seconds": value for name, value in seconds.items()}
        generation = seconds["generation"] - (record.cost.generation_latency_seconds or 0.0)
        record.cost = record.cost.model_copy(
            update={
                **clocks,
                "wall_seconds": bench.clocks.wall_seconds(),
                "documents_per_second": len(predictions) / generation,
            }
        )
        record.files = integrity.digests(bench.folder)
        json_files.write_json(bench.folder / "record.json", record.sealed())
        shutil.rmtree(bench.folder / "checkpoint", ignore_errors=True)
        return record

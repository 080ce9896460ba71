"""One run, top to bottom: seed, data, model, adapt, measure, search, train, evaluate, record."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from triptych import materials, meter, provenance, runtime, scoring, store
from triptych.adapters import Origin, save_adapter
from triptych.checkpoints import Checkpoint, Checkpoints
from triptych.config import Suite
from triptych.contracts import AdaptedModel, Baseline, Method
from triptych.corpus import Corpus, Pair
from triptych.engine.compute import make_ready
from triptych.engine.evaluation import SplitLoss, split_loss
from triptych.engine.generation import DecodingPlan, generate
from triptych.engine.memory import UNTIL_FOUND, fitting_micro_batch
from triptych.engine.training import Hooks, TrainingPlan, TrainingState, train
from triptych.engine.trunk_cache import TrunkCache, open_cache, usable_from
from triptych.engine.work import entering_flops, training_flops
from triptych.errors import NonFiniteLoss
from triptych.models import hub
from triptych.records import Cost, Loss, Parameters, Prediction, Record, SearchResult, TrainingSummary, Trial
from triptych.rows import Row, suite_rows
from triptych.search import read as read_search
from triptych.search import sample, search, spread
from triptych.tracking import Tracker

Emit = Callable[[dict[str, Any]], None]
NOT_TRAINED = "not measured: nothing is trained"
FlopModels = dict[bool, meter.FlopModel]  # by whether it is the plain path


@dataclass(frozen=True)
class Trunk:
    """The trunk cache of a split, the FLOPs of a training pass from it and of making it; or none."""

    cache: TrunkCache | None = None
    step: meter.FlopModel | None = None
    flops: float = 0.0


def run(
    suite: Suite, row: Row, seed: int, out: Path, device: str | None, emit: Emit, plugins: Sequence[str] = ()
) -> Record:
    """Carry out one run and write everything it leaves, `record.json` last.

    Args:
        suite: the resolved suite.
        row: one of its rows.
        seed: one of its seeds.
        out: the results folder.
        device: the device asked for, or None.
        emit: told what happens, as events.
        plugins: files that plug-ins were loaded from; the record's command names them.

    Raises:
        TriptychError: the run could not be carried out.
    """
    this = Run.begin(suite, row, seed, out, device, emit)
    this.plugins = plugins
    tracker = Tracker(suite, f"{row.label}-{seed}", out / "tracking")

    def told(event: dict[str, Any]) -> None:
        emit(event)
        tracker.follow(event)

    this.emit = told
    record = this.baseline(row.plugin) if isinstance(row.plugin, Baseline) else this.method(row.plugin)
    tracker.finish(record)
    return record


@dataclass
class Run:
    """What every stage of a run needs."""

    suite: Suite
    row: Row
    seed: int
    out: Path
    machine: runtime.Runtime
    clocks: meter.Clocks
    tokenizer: PreTrainedTokenizerBase
    corpus: Corpus
    emit: Emit
    plain: bool  # every logit computed, through the model's own forward
    micro_batch: int = UNTIL_FOUND  # documents a forward pass
    plugins: Sequence[str] = ()

    @classmethod
    def begin(cls, suite: Suite, row: Row, seed: int, out: Path, device: str | None, emit: Emit) -> "Run":
        """A run with its machine, tokenizer and data; its clocks count from the start of the process."""
        machine = runtime.start(device, suite.training.precision)
        clocks = meter.Clocks(machine.synchronize, base="startup")
        emit({"event": "stage", "stage": "preparation"})
        with clocks.time("preparation"):
            tokenizer = hub.load_tokenizer(suite.model, suite.model_revision)
            corpus = materials.load_corpus(suite, suite_rows(suite), tokenizer, materials.cache_folder())
        asked = suite.training.micro_batch_size
        micro_batch = UNTIL_FOUND if asked == "auto" else asked
        return cls(suite, row, seed, out, machine, clocks, tokenizer, corpus, emit, suite.engine.plain, micro_batch)

    def baseline(self, baseline: Baseline) -> Record:
        """A row without a model: predict, score, record."""
        test = self.corpus.test
        with self.stage("generation"):
            texts = baseline.predict([test.document(i) for i in range(len(test))])
        with self.stage("evaluation"):
            predictions = scoring.score(test, texts, None, self.suite.decoding.max_new_tokens, None)
        latency = self.latency(lambda i: baseline.predict([test.document(i)]))
        cost = Cost(energy_note=NOT_TRAINED, busy_note=NOT_TRAINED, generation_latency_seconds=latency)
        return self.write(self.record(predictions, cost), predictions, [])

    def method(self, method: Method) -> Record:
        """A row with a model: adapt, count, search, train, evaluate, generate, save, record."""
        prepared = self.adapt(method, self.seed)
        adapted = prepared.adapted
        parameters = materials.count_parameters(adapted, prepared.base)
        checkpoints = self.checkpoints()
        resumed = self.resume(checkpoints) if method.trains else None
        with self.stage("evaluation"):
            initial = resumed.facts["initial_loss"] if resumed else self.loss(adapted, self.corpus.validation).mean
        loss = Loss(initial=initial)
        history: list[dict[str, Any]] = []
        search, summary, notes = None, None, dict(adapted.notes)
        cost = Cost(energy_note=NOT_TRAINED, busy_note=NOT_TRAINED)
        if method.trains:
            with self.stage("preparation"):
                flops = self.flops(method, adapted)
                self.find_micro_batch(prepared)
            search, search_flops = self.search(method, flops, resumed)
            before = adapted.virtual_tokens.weight.detach().clone() if adapted.virtual_tokens is not None else None
            with self.stage("preparation"):
                trunk = self.trunk(adapted, method, self.corpus.train)
            if trunk.cache is not None:
                notes["trunk_cache"] = {"first_block": trunk.cache.first, "bytes": trunk.cache.num_bytes, "flops": trunk.flops}
            before_training = {"initial_loss": initial, "search_flops": search_flops}
            plan = self.plan(method, search)
            summary, cost = self.train(prepared, plan, flops, trunk, history, checkpoints, resumed, before_training)
            cost.search_flops = search_flops if flops else None
            if before is not None:
                notes |= scoring.describe_prompt(adapted, before, self.tokenizer)
        with self.stage("evaluation"):
            loss.validation = self.loss(adapted, self.corpus.validation).mean if method.trains else loss.initial
            test = self.loss(adapted, self.corpus.test)
            loss.test = test.mean
        predictions = self.predict(adapted, test)
        cost.generation_latency_seconds = self.latency(lambda i: self.generate(adapted, [self.corpus.test[i].document_ids]))
        if method.trains and self.machine.is_main:
            with self.stage("checkpoint"):
                parameters.stored_bytes = save_adapter(adapted, self.folder / "adapter", self.origin())
        return self.write(self.record(predictions, cost, parameters, loss, search, summary, notes), predictions, history)

    @cached_property
    def model_fingerprint(self) -> str:
        """SHA-256 of the untouched model."""
        return hub.fingerprint(self.suite.model, self.suite.model_revision)

    @property
    def folder(self) -> Path:
        """`OUT/runs/LABEL/SEED`."""
        return store.run_folder(self.out, self.row.label, self.seed)

    def stage(self, name: str, **facts: Any) -> AbstractContextManager[None]:
        """Say that a stage begins; its clock runs inside."""
        self.emit({"event": "stage", "stage": name, **facts})
        return self.clocks.time(name)

    def adapt(self, method: Method, seed: int) -> materials.Prepared:
        """A fresh model as the method changes it, made ready for the engine; what its family rules out is said."""
        prepared = materials.adapt(self.suite, method, self.tokenizer, self.corpus, seed, self.machine.device)
        if not self.plain:
            ready = make_ready(prepared.adapted, prepared.modes, self.machine)
            self.plain = not ready.exact
            for message in ready.notes:
                self.emit({"event": "note", "message": message})
        return prepared

    def plan(self, method: Method, search: SearchResult | None) -> TrainingPlan:
        """The recipe, at the learning rate found or given."""
        t = self.suite.training
        return TrainingPlan(
            learning_rate=search.chosen if search else method.learning_rate, weight_decay=method.weight_decay,
            max_epochs=t.max_epochs, patience=t.patience, global_batch_size=t.global_batch_size,
            micro_batch_size=self.micro_batch, max_grad_norm=t.max_grad_norm, warmup_fraction=t.warmup_fraction,
            schedule=t.schedule, optimizer=t.optimizer, seed=self.seed, plain=self.plain,
        )  # fmt: skip

    def find_micro_batch(self, prepared: materials.Prepared) -> None:
        """With "auto", what the row's first run found to fit on every rank; else the suite's own number."""
        t, file = self.suite.training, self.folder.parent / "micro_batch.json"
        if t.micro_batch_size != "auto":
            return
        if file.is_file():
            self.micro_batch = store.read_json(file)["micro_batch_size"]
            return
        found = fitting_micro_batch(
            prepared.adapted, prepared.modes, self.corpus.train, self.corpus.template, self.machine,
            most=t.global_batch_size, plain=self.plain,
        )  # fmt: skip
        self.micro_batch = min(self.machine.collect([found]))
        if self.machine.is_main:
            store.write_json(file, {"micro_batch_size": self.micro_batch})

    def flops(self, method: Method, adapted: AdaptedModel) -> FlopModels:
        """FLOPs of a training pass by its shape, on the path that is run and on the plain one; none if uncountable."""
        sketch = materials.sketch(self.suite, method, self.tokenizer)
        sketch.prunes_training = adapted.prunes_training
        try:
            return {plain: training_flops(sketch, plain=plain) for plain in {self.plain, True}}
        except (ArithmeticError, RuntimeError) as error:  # a family that looks at values, or whose work follows no formula
            self.emit({"event": "note", "message": f"FLOPs are not measured: they cannot be counted without weights ({error})"})
            return {}

    def search(
        self, method: Method, flops: FlopModels, resumed: Checkpoint | None
    ) -> tuple[SearchResult | None, float]:
        """The learning-rate search under the suite's first seed, and the FLOPs that this run spent on it.

        Every seed of a row uses the same result: the first run that needs it makes it and is charged, the others read it. Each
        trial is kept when it ends, so that a search that was interrupted goes on; what its trials had cost is carried over.
        """
        budget, first_seed = self.suite.search, self.suite.seeds[0]
        grid = spread(method.learning_rates, budget.trials)
        if len(grid) <= 1:
            return None, 0.0
        file, kept = self.folder.parent / "search.json", self.folder.parent / "trials.json"
        if file.is_file():
            result = read_search(file)
            if resumed is not None:
                return result, resumed.facts["search_flops"]
            if result.charged_to != self.seed:
                return result, 0.0
            self.clocks.carry("search", result.seconds)
            return result, result.flops
        finished = [Trial.model_validate(trial) for trial in store.read_json(kept)] if kept.is_file() else []
        self.clocks.carry("search", sum(trial.search_seconds for trial in finished))
        train_set = sample(self.corpus.train, budget.train_documents, first_seed)
        validation_set = sample(self.corpus.validation, budget.validation_documents, first_seed)

        def try_rate(rate: float) -> Trial:
            before = self.clocks.read()["search"]
            prepared = self.adapt(method, first_seed)
            plan = replace(self.plan(method, None), learning_rate=rate, max_epochs=budget.epochs, seed=first_seed)
            trunk = self.trunk(prepared.adapted, method, train_set)
            state = TrainingState.begin(prepared.adapted, plan, self.machine.loss_scaler())
            state.progress.train_flops = trunk.flops
            hooks = Hooks(
                validate=lambda: self.loss(prepared.adapted, validation_set).mean,
                on_step=lambda *_: None,
                on_epoch=lambda *_: None,
                step_clock=lambda: self.clocks.time("search"),
                flops=self.count_flops(flops, trunk.step),
            )
            try:
                train(
                    prepared.adapted, prepared.modes, train_set, self.corpus.template, plan, state, self.machine, hooks,
                    trunk.cache,
                )  # fmt: skip
                loss = state.progress.best_loss
            except NonFiniteLoss:
                loss = None
            seconds, work = self.clocks.read()["search"] - before, state.progress.train_flops
            return Trial(learning_rate=rate, validation_loss=loss, search_seconds=seconds, search_flops=work)

        def keep(trials: Sequence[Trial]) -> None:
            if self.machine.is_main:
                store.write_json(kept, [trial.model_dump() for trial in trials])
            rate, loss = trials[-1].learning_rate, trials[-1].validation_loss
            self.emit({"event": "trial", "learning_rate": rate, "validation_loss": loss})

        with self.stage("search", total=len(grid)):
            result = search(grid, try_rate, finished, keep, charged_to=self.seed)
        if self.machine.is_main:
            store.write_json(file, result.model_dump())
            kept.unlink(missing_ok=True)
        return result, result.flops

    def checkpoints(self) -> Checkpoints:
        """Those of this run, and of no run with other settings, data or weights."""
        identity = {
            "config": self.suite.model_dump(mode="json"), "label": self.row.label, "options": self.row.options,
            "seed": self.seed, "data": self.corpus.data.fingerprint, "model": self.origin().model_fingerprint,
        }  # fmt: skip
        return Checkpoints(self.folder / "checkpoint", identity)

    def resume(self, checkpoints: Checkpoints) -> Checkpoint | None:
        """The checkpoint to go on from; its clocks are carried over."""
        found = checkpoints.latest()
        if found is not None:
            for name, seconds in found.facts["clocks"].items():
                self.clocks.carry(name, seconds)
            self.emit({"event": "note", "message": f"goes on from the checkpoint after step {found.step}"})
        return found

    def train(
        self, prepared: materials.Prepared, plan: TrainingPlan, flops: FlopModels, trunk: Trunk,
        history: list[dict[str, Any]], checkpoints: Checkpoints, resumed: Checkpoint | None, before_training: dict[str, float],
    ) -> tuple[TrainingSummary, Cost]:  # fmt: skip
        """Train; the training clock, the memory peak and the energy counter cover the optimizer steps alone.

        Args:
            history: gets a line a step and evaluation.
            resumed: the checkpoint to go on from.
            before_training: what was found out before, kept with every checkpoint.
        """
        total = -(-len(self.corpus.train) // plan.global_batch_size) * plan.max_epochs
        self.emit({"event": "stage", "stage": "train", "epochs": plan.max_epochs, "total": total})
        state = TrainingState.begin(prepared.adapted, plan, self.machine.loss_scaler())
        state.progress.train_flops = trunk.flops
        meters = meter.TrainingMeters(self.machine.device, self.machine.num_processes)
        if resumed is not None:
            state.load_state_dict(resumed.tensors, resumed.facts["progress"])
            history.extend(resumed.facts["history"])
            meters.load_state_dict(resumed.facts["meters"])

        def save() -> None:
            with self.clocks.time("checkpoint"):
                tensors, progress = state.state_dict()
                checkpoints.save(progress["step"], tensors, {
                    "progress": progress, "history": history, "clocks": self.clocks.read(), "meters": meters.state_dict(),
                    **before_training,
                })  # fmt: skip

        def step_clock() -> ExitStack:
            stack = ExitStack()
            stack.enter_context(meters.phase())
            stack.enter_context(self.clocks.time("train"))
            return stack

        def facts() -> dict[str, Any]:
            now = state.progress
            return {"epoch": now.epoch, "step": now.step, "tokens": now.tokens, "energy_joules": meters.energy.joules,
                    "train_flops": now.train_flops if flops else None,
                    "train_seconds": self.clocks.read()["train"]}  # fmt: skip

        def log(line: dict[str, Any]) -> None:
            history.append(line)
            self.emit({**line, "total": total})

        def validate() -> float:
            with self.clocks.time("evaluation"):
                return self.loss(prepared.adapted, self.corpus.validation, quiet=True).mean

        def on_step(_: TrainingState, loss: float, rate: float) -> None:
            log({"event": "step", "loss": loss, "learning_rate": rate, **facts()})
            if self.machine.is_main and checkpoints.due():
                save()

        hooks = Hooks(
            validate=validate,
            on_step=on_step,
            on_epoch=lambda _, loss, validation: log(
                {"event": "evaluation", "train_loss": loss, "validation_loss": validation, **facts()}
            ),
            step_clock=step_clock,
            flops=self.count_flops(flops, trunk.step),
        )
        train(
            prepared.adapted, prepared.modes, self.corpus.train, self.corpus.template, plan, state, self.machine, hooks,
            trunk.cache,
        )  # fmt: skip
        if self.machine.is_main:
            save()
        now = state.progress
        summary = TrainingSummary(
            epochs=now.epoch, steps=now.step, best_epoch=now.best_epoch, stopped_early=now.stopped, tokens=now.tokens,
            targets=now.targets, documents=now.documents, micro_batch_size=now.micro_batch_size or plan.micro_batch_size,
        )  # fmt: skip
        seconds = self.clocks.read()["train"]
        return summary, Cost(
            train_flops=now.train_flops if flops else None, plain_flops=now.plain_flops if flops else None,
            tokens_per_second=now.tokens / seconds, **self.over_ranks(meters.readings(seconds)),
        )  # fmt: skip

    def over_ranks(self, readings: dict[str, Any]) -> dict[str, Any]:
        """Of memory, the rank that used most; of energy the sum over GPUs (a CPU's counter is the whole machine's)."""
        peak = self.machine.collect([readings["peak_memory_bytes"]])
        joules = self.machine.collect([readings["energy_joules"]])
        if self.machine.device.type == "cuda" and None not in joules:
            readings["energy_joules"] = sum(joules)
        return {**readings, "peak_memory_bytes": max(peak)}

    def trunk(self, adapted: AdaptedModel, method: Method, split: Sequence[Pair]) -> Trunk:
        """The trunk cache of a split where there is one for this model; its FLOPs are charged to the run, whoever made it."""
        first = None if self.plain else usable_from(adapted)
        if first is None:
            return Trunk()
        sketch = materials.sketch(self.suite, method, self.tokenizer)
        sketch.prunes_training = adapted.prunes_training
        entering = entering_flops(sketch, first)
        cache = open_cache(
            adapted, split, self.corpus.template, self.machine, model=self.origin().model_fingerprint,
            folder=materials.cache_folder() / "trunk", max_bytes=int(self.suite.cache.max_gigabytes * 1e9),
            batch_size=self.micro_batch, flops=entering.count,
            progress=self.show_progress,
        )  # fmt: skip
        if cache is None:
            self.emit({"event": "note", "message": "no trunk cache: it is larger than cache.max_gigabytes, or not exact here"})
            return Trunk()
        return Trunk(cache, training_flops(sketch, plain=False, first=first), cache.flops)

    def count_flops(
        self, flops: FlopModels, cached: meter.FlopModel | None = None
    ) -> Callable[[int, int, int], tuple[float, float]]:
        """`(executed, plain)` FLOPs of a pass by its rows, positions and targets; `cached`: of a pass from the trunk cache."""

        def count(rows: int, positions: int, targets: int) -> tuple[float, float]:
            if not flops:
                return 0.0, 0.0
            everywhere = rows * positions
            executed = (cached or flops[self.plain]).count(rows, positions, everywhere if self.plain else targets)
            return executed, flops[True].count(rows, positions, everywhere)

        return count

    def loss(self, adapted: AdaptedModel, split: Sequence[Pair], quiet: bool = False) -> SplitLoss:
        """The loss of a split."""
        return split_loss(
            adapted, split, self.corpus.template, self.machine, batch_size=self.micro_batch,
            plain=self.plain, progress=None if quiet else self.show_progress,
        )  # fmt: skip

    def predict(self, adapted: AdaptedModel, test: SplitLoss) -> list[Prediction]:
        """Generate and score a summary of every test document."""
        split, cap = self.corpus.test, self.suite.decoding.max_new_tokens
        documents = [split[i].document_ids for i in range(len(split))]
        with self.stage("generation"):
            new = self.generate(adapted, documents, self.show_progress)
        with self.stage("evaluation"):
            texts = [scoring.to_text(self.tokenizer, ids) for ids in new]
            return scoring.score(split, texts, [len(ids) for ids in new], cap, test)

    def generate(
        self, adapted: AdaptedModel, documents: Sequence[np.ndarray], progress: Callable[[int, int], None] | None = None
    ) -> list[list[int]]:
        """New tokens for each document, by the suite's decoding; the documents are shared out among the ranks."""
        d = self.suite.decoding
        decoding = DecodingPlan(d.num_beams, d.max_new_tokens, d.no_repeat_ngram_size, d.length_penalty, d.batch_size)
        own = [i for i in range(len(documents)) if self.machine.owns(i)]
        new = generate(adapted, [documents[i] for i in own], self.corpus.template, self.machine, decoding, progress)
        tokens = dict(self.machine.collect(list(zip(own, new, strict=True))))
        return [tokens[i] for i in range(len(documents))]

    def latency(self, summarize: Callable[[int], object]) -> float:
        """Seconds that a summary takes when its document comes alone: the test document of median length."""
        test = self.corpus.test
        by_length = sorted(range(len(test)), key=lambda i: len(test[i].document_ids))
        before = self.clocks.read()["generation"]
        with self.clocks.time("generation"):
            summarize(by_length[len(test) // 2])
        return self.clocks.read()["generation"] - before

    def show_progress(self, done: int, total: int) -> None:
        """Say how far a stage is."""
        self.emit({"event": "progress", "done": done, "total": total})

    def origin(self) -> Origin:
        """What the adapter belongs to."""
        suite, row, tokens = self.suite, self.row, hub.tokenizer_fingerprint(self.tokenizer)
        return Origin(row.label, row.kind, row.options, suite.model, suite.model_revision, self.model_fingerprint, tokens)

    def record(
        self,
        predictions: list[Prediction],
        cost: Cost,
        parameters: Parameters | None = None,
        loss: Loss | None = None,
        search: SearchResult | None = None,
        training: TrainingSummary | None = None,
        notes: dict[str, Any] | None = None,
    ) -> Record:
        """Put the record together; its clocks are read when it is written."""
        command = ["triptych", "train", self.row.label, "OUT/suite.json", "--seeds", str(self.seed), "--out", "OUT",
                   "--device", self.machine.device.type]  # fmt: skip
        command += [part for plugin in self.plugins for part in ("--plugin", plugin)]
        return Record(
            label=self.row.label, kind=self.row.kind, seed=self.seed, status="done",
            config=self.suite.model_dump(mode="json"), options=self.row.options, parameters=parameters, loss=loss or Loss(),
            rouge=scoring.rouge(predictions), text_shape=scoring.text_shape(predictions),
            further_scores=scoring.further_scores(predictions), signatures=scoring.signatures(), cost=cost,
            data=self.corpus.data, search=search, training=training, notes=notes or {},
            provenance=provenance.take(
                command, self.suite.model, self.model_fingerprint if loss else None, self.machine
            ),
        )  # fmt: skip

    def write(self, record: Record, predictions: list[Prediction], history: list[dict[str, Any]]) -> Record:
        """Write predictions and history, then the record: where it stands, the run is done."""
        if not self.machine.is_main:
            return record
        with self.clocks.time("checkpoint"):
            store.write_lines(self.folder / "predictions.jsonl", [p.model_dump() for p in predictions])
            store.write_lines(self.folder / "history.jsonl", history)
        seconds = self.clocks.read()
        clocks = {f"{name}_seconds": value for name, value in seconds.items()}
        generation = seconds["generation"] - (record.cost.generation_latency_seconds or 0.0)
        record.cost = record.cost.model_copy(
            update={**clocks, "wall_seconds": self.clocks.wall_seconds(), "documents_per_second": len(predictions) / generation}
        )
        store.write_json(self.folder / "record.json", record.model_dump(mode="json"))
        self.checkpoints().clear()
        return record

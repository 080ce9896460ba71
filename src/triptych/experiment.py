"""One run, top to bottom: seed, data, model, adapt, measure, search, train, evaluate, record."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from triptych import materials, meter, provenance, runtime, scoring, store
from triptych.adapters import Origin, save_adapter
from triptych.config import Suite
from triptych.contracts import AdaptedModel, Baseline, Method
from triptych.corpus import Corpus, Pair
from triptych.engine.evaluation import SplitLoss, split_loss
from triptych.engine.forward import head_is_plain
from triptych.engine.generation import DecodingPlan, generate
from triptych.engine.training import Hooks, TrainingPlan, TrainingState, train
from triptych.engine.work import training_flops
from triptych.errors import NonFiniteLoss
from triptych.models import hub
from triptych.records import Cost, Loss, Parameters, Prediction, Record, SearchResult, TrainingSummary
from triptych.rows import Row, suite_rows
from triptych.search import read as read_search
from triptych.search import sample, search, spread

Emit = Callable[[dict[str, Any]], None]
FlopModels = dict[bool, meter.FlopModel]  # by whether it is the plain path


def run(suite: Suite, row: Row, seed: int, out: Path, device: str | None, emit: Emit) -> Record:
    """Carry out one run and write everything it leaves, `record.json` last.

    Args:
        suite: the resolved suite.
        row: one of its rows.
        seed: one of its seeds.
        out: the results folder.
        device: the device asked for, or None.
        emit: told what happens, as events.

    Raises:
        TriptychError: the run could not be carried out.
    """
    this = Run.begin(suite, row, seed, out, device, emit)
    return this.baseline(row.plugin) if isinstance(row.plugin, Baseline) else this.method(row.plugin)


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

    @classmethod
    def begin(cls, suite: Suite, row: Row, seed: int, out: Path, device: str | None, emit: Emit) -> "Run":
        """A run with its machine, tokenizer and data; its clocks count from the start of the process."""
        machine = runtime.start(device, suite.training.precision)
        clocks = meter.Clocks(machine.synchronize, base="startup")
        emit({"event": "stage", "stage": "preparation"})
        with clocks.time("preparation"):
            tokenizer = hub.load_tokenizer(suite.model, suite.model_revision)
            corpus = materials.load_corpus(suite, suite_rows(suite), tokenizer, materials.cache_folder())
        return cls(suite, row, seed, out, machine, clocks, tokenizer, corpus, emit, suite.engine.plain)

    def baseline(self, baseline: Baseline) -> Record:
        """A row without a model: predict, score, record."""
        test = self.corpus.test
        with self.stage("generation"):
            texts = baseline.predict([test.document(i) for i in range(len(test))])
        with self.stage("evaluation"):
            predictions = scoring.score(test, texts, None, self.suite.decoding.max_new_tokens, None)
        return self.write(self.record(predictions, cost=Cost(energy_note="not measured: nothing is trained")), predictions, [])

    def method(self, method: Method) -> Record:
        """A row with a model: adapt, count, search, train, evaluate, generate, save, record."""
        prepared = self.adapt(method, self.seed)
        adapted = prepared.adapted
        parameters = materials.count_parameters(adapted, prepared.base)
        with self.stage("evaluation"):
            loss = Loss(initial=self.loss(adapted, self.corpus.validation).mean)
        history: list[dict[str, Any]] = []
        search, summary, notes, cost = None, None, dict(adapted.notes), Cost(energy_note="not measured: nothing is trained")
        if method.trains:
            with self.stage("preparation"):
                flops = self.flops(method)
            search, search_flops = self.search(method, flops)
            before = adapted.virtual_tokens.weight.detach().clone() if adapted.virtual_tokens is not None else None
            summary, cost = self.train(prepared, self.plan(method, search), flops, history)
            cost.search_flops = search_flops
            if before is not None:
                notes |= scoring.describe_prompt(adapted, before, self.tokenizer)
        with self.stage("evaluation"):
            loss.validation = self.loss(adapted, self.corpus.validation).mean if method.trains else loss.initial
            test = self.loss(adapted, self.corpus.test)
            loss.test = test.mean
        predictions = self.predict(adapted, test)
        if method.trains and self.machine.is_main:
            with self.stage("checkpoint"):
                parameters.stored_bytes = save_adapter(adapted, self.folder / "adapter", self.origin())
        return self.write(self.record(predictions, cost, parameters, loss, search, summary, notes), predictions, history)

    @property
    def folder(self) -> Path:
        """`OUT/runs/LABEL/SEED`."""
        return store.run_folder(self.out, self.row.label, self.seed)

    def stage(self, name: str, **facts: Any) -> AbstractContextManager[None]:
        """Say that a stage begins; its clock runs inside."""
        self.emit({"event": "stage", "stage": name, **facts})
        return self.clocks.time(name)

    def adapt(self, method: Method, seed: int) -> materials.Prepared:
        """A fresh model as the method changes it; a family whose logits are more than its head's takes the plain path."""
        prepared = materials.adapt(self.suite, method, self.tokenizer, self.corpus, seed, self.machine.device)
        if not self.plain and not head_is_plain(prepared.adapted):
            self.emit({"event": "note", "message": "this family's logits are scaled or capped: the plain path is taken"})
            self.plain = True
        return prepared

    def plan(self, method: Method, search: SearchResult | None) -> TrainingPlan:
        """The recipe, at the learning rate found or given."""
        t = self.suite.training
        return TrainingPlan(
            learning_rate=search.chosen if search else method.learning_rate, weight_decay=method.weight_decay,
            max_epochs=t.max_epochs, patience=t.patience, global_batch_size=t.global_batch_size,
            micro_batch_size=t.micro_batch_size, max_grad_norm=t.max_grad_norm, warmup_fraction=t.warmup_fraction,
            schedule=t.schedule, optimizer=t.optimizer, seed=self.seed, plain=self.plain,
        )  # fmt: skip

    def flops(self, method: Method) -> FlopModels:
        """FLOPs of a training pass by its shape, on the path that is run and on the plain one."""
        sketch = materials.sketch(self.suite, method, self.tokenizer)
        return {plain: training_flops(sketch, plain=plain) for plain in {self.plain, True}}

    def search(self, method: Method, flops: FlopModels) -> tuple[SearchResult | None, float]:
        """The learning-rate search under the suite's first seed, and the FLOPs spent on it here.

        Every seed of a row uses the same result: the first run that needs it makes it, the others read it.
        """
        budget, first_seed = self.suite.search, self.suite.seeds[0]
        grid = spread(method.learning_rates, budget.trials)
        if len(grid) <= 1:
            return None, 0.0
        file = self.folder.parent / "search.json"
        if file.is_file():
            return read_search(file), 0.0
        spent = 0.0
        train_set = sample(self.corpus.train, budget.train_documents, first_seed)
        validation_set = sample(self.corpus.validation, budget.validation_documents, first_seed)

        def try_rate(rate: float) -> float | None:
            nonlocal spent
            prepared = self.adapt(method, first_seed)
            plan = replace(self.plan(method, None), learning_rate=rate, max_epochs=budget.epochs, seed=first_seed)
            state = TrainingState.begin(prepared.adapted, plan)
            hooks = Hooks(
                validate=lambda: self.loss(prepared.adapted, validation_set).mean,
                on_step=lambda *_: None,
                on_epoch=lambda *_: None,
                step_clock=lambda: self.clocks.time("search"),
                flops=self.count_flops(flops),
            )
            try:
                train(prepared.adapted, prepared.modes, train_set, self.corpus.template, plan, state, self.machine, hooks)
                loss = state.progress.best_loss
            except NonFiniteLoss:
                loss = None
            spent += state.progress.train_flops
            self.emit({"event": "trial", "learning_rate": rate, "validation_loss": loss})
            return loss

        with self.stage("search", total=len(grid)):
            result = search(grid, try_rate)
        store.write_json(file, result.model_dump())
        return result, spent

    def train(
        self, prepared: materials.Prepared, plan: TrainingPlan, flops: FlopModels, history: list[dict[str, Any]]
    ) -> tuple[TrainingSummary, Cost]:
        """Train; the training clock, the memory peak and the energy counter cover the optimizer steps alone."""
        total = -(-len(self.corpus.train) // plan.global_batch_size) * plan.max_epochs
        self.emit({"event": "stage", "stage": "train", "epochs": plan.max_epochs, "total": total})
        state = TrainingState.begin(prepared.adapted, plan)
        memory, energy = meter.PeakMemory(self.machine.device), meter.Energy(self.machine.device)

        def step_clock() -> ExitStack:
            stack = ExitStack()
            stack.enter_context(memory.phase())
            stack.enter_context(energy.phase())
            stack.enter_context(self.clocks.time("train"))
            return stack

        def facts() -> dict[str, Any]:
            now = state.progress
            return {"epoch": now.epoch, "step": now.step, "tokens": now.tokens, "train_flops": now.train_flops,
                    "energy_joules": energy.joules, "train_seconds": self.clocks.read()["train"]}  # fmt: skip

        def log(line: dict[str, Any]) -> None:
            history.append(line)
            self.emit({**line, "total": total})

        def validate() -> float:
            with self.clocks.time("evaluation"):
                return self.loss(prepared.adapted, self.corpus.validation, quiet=True).mean

        hooks = Hooks(
            validate=validate,
            on_step=lambda _, loss, rate: log({"event": "step", "loss": loss, "learning_rate": rate, **facts()}),
            on_epoch=lambda _, loss, validation: log(
                {"event": "evaluation", "train_loss": loss, "validation_loss": validation, **facts()}
            ),
            step_clock=step_clock,
            flops=self.count_flops(flops),
        )
        train(
            prepared.adapted, prepared.modes, self.corpus.train, self.corpus.template, plan, state, self.machine, hooks
        )
        now = state.progress
        summary = TrainingSummary(
            epochs=now.epoch, steps=now.step, best_epoch=now.best_epoch, stopped_early=now.stopped, tokens=now.tokens,
            targets=now.targets, documents=now.documents,
        )  # fmt: skip
        return summary, Cost(
            train_flops=now.train_flops, plain_flops=now.plain_flops, peak_memory_bytes=memory.peak_bytes,
            peak_memory_kind=memory.kind, energy_joules=energy.joules, energy_note=energy.note,
            tokens_per_second=now.tokens / self.clocks.read()["train"],
        )  # fmt: skip

    def count_flops(self, flops: FlopModels) -> Callable[[int, int, int], tuple[float, float]]:
        """`(executed, plain)` FLOPs of a pass by its rows, positions and targets."""

        def count(rows: int, positions: int, targets: int) -> tuple[float, float]:
            everywhere = rows * positions
            executed = flops[self.plain].count(rows, positions, everywhere if self.plain else targets)
            return executed, flops[True].count(rows, positions, everywhere)

        return count

    def loss(self, adapted: AdaptedModel, split: Sequence[Pair], quiet: bool = False) -> SplitLoss:
        """The loss of a split."""
        return split_loss(
            adapted, split, self.corpus.template, self.machine, batch_size=self.suite.training.micro_batch_size,
            plain=self.plain, progress=None if quiet else self.show_progress,
        )  # fmt: skip

    def predict(self, adapted: AdaptedModel, test: SplitLoss) -> list[Prediction]:
        """Generate and score a summary of every test document."""
        d, split = self.suite.decoding, self.corpus.test
        decoding = DecodingPlan(d.num_beams, d.max_new_tokens, d.no_repeat_ngram_size, d.length_penalty, d.batch_size)
        documents = [split[i].document_ids for i in range(len(split))]
        with self.stage("generation"):
            new = generate(adapted, documents, self.corpus.template, self.machine, decoding, self.show_progress)
        with self.stage("evaluation"):
            texts = [scoring.to_text(self.tokenizer, ids) for ids in new]
            return scoring.score(split, texts, [len(ids) for ids in new], d.max_new_tokens, test)

    def show_progress(self, done: int, total: int) -> None:
        """Say how far a stage is."""
        self.emit({"event": "progress", "done": done, "total": total})

    def origin(self) -> Origin:
        """What the adapter belongs to."""
        fingerprint = hub.fingerprint(self.suite.model, self.suite.model_revision)
        return Origin(self.row.label, self.row.kind, self.row.options, self.suite.model, self.suite.model_revision, fingerprint)

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
        return Record(
            label=self.row.label, kind=self.row.kind, seed=self.seed, status="done",
            config=self.suite.model_dump(mode="json"), options=self.row.options, parameters=parameters, loss=loss or Loss(),
            rouge=scoring.rouge(predictions), text_shape=scoring.text_shape(predictions), cost=cost, data=self.corpus.data,
            search=search, training=training, notes=notes or {},
            provenance=provenance.take(
                command, self.suite.model, self.origin().model_fingerprint, self.machine.device, self.machine.precision
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
        generation = seconds["generation"]
        record.cost = record.cost.model_copy(
            update={**clocks, "wall_seconds": meter.process_seconds(), "documents_per_second": len(predictions) / generation}
        )
        store.write_json(self.folder / "record.json", record.model_dump(mode="json"))
        return record

"""One run, top to bottom: seed, data, model, adapt, measure, search, train, evaluate, record."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triptych import meter, provenance, runtime, store
from triptych.adapters import Origin, save_adapter
from triptych.config import Suite
from triptych.contracts import AdaptedModel, Baseline, Context, Method, Metric
from triptych.corpus import Corpus, Pair, prepare
from triptych.datasets import open_dataset
from triptych.engine.batching import epoch_order
from triptych.engine.evaluation import SplitLoss, split_loss
from triptych.engine.forward import head_is_plain
from triptych.engine.generation import DecodingPlan, generate
from triptych.engine.modes import TrainingModes
from triptych.engine.training import Hooks, TrainingPlan, TrainingState, train
from triptych.engine.work import training_flops
from triptych.errors import NonFiniteLoss
from triptych.models import hub
from triptych.models.parts import take_apart
from triptych.records import (
    Cost,
    Loss,
    Parameters,
    Prediction,
    Record,
    Rouge,
    SearchResult,
    TextShape,
    TrainingSummary,
    Trial,
)
from triptych.registry import find
from triptych.rows import Row, suite_rows

Emit = Callable[[dict[str, Any]], None]
ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def run(suite: Suite, row: Row, seed: int, out: Path, device: str | None, emit: Emit) -> Record:
    """Carry out one run and write everything it leaves, `record.json` last.

    Args:
        suite: the resolved suite.
        row: one of its rows.
        seed: the run's seed.
        out: the results folder.
        device: the device asked for, or None.
        emit: told what happens, as events.

    Raises:
        TriptychError: the run could not be carried out.
    """
    this = Run.begin(suite, row, seed, out, runtime.start(device, suite.training.precision), emit)
    return this.baseline(row.plugin) if isinstance(row.plugin, Baseline) else this.method(row.plugin)


@dataclass
class Run:
    """The parts of a run that every stage needs."""

    suite: Suite
    row: Row
    seed: int
    folder: Path
    out: Path
    machine: runtime.Runtime
    clocks: meter.Clocks
    emit: Emit

    @classmethod
    def begin(cls, suite: Suite, row: Row, seed: int, out: Path, machine: runtime.Runtime, emit: Emit) -> "Run":
        """A run before its first stage; its clocks count from the start of the process."""
        clocks = meter.Clocks(machine.synchronize, base="startup")
        return cls(suite, row, seed, store.run_folder(out, row.label, seed), out, machine, clocks, emit)

    def baseline(self, baseline: Baseline) -> Record:
        """A row without a model."""
        corpus = self.data()
        with self.stage("generation"):
            texts = baseline.predict([corpus.test.document(i) for i in range(len(corpus.test))])
        predictions = self.score(corpus, texts, None, None)
        record = self.record(corpus, predictions, parameters=None, cost=Cost(energy_note="not measured: no training"))
        return self.write(record, predictions, [])

    def method(self, method: Method) -> Record:
        """A row with a model."""
        corpus = self.data()
        adapted, modes, base = self.adapt(method, corpus, self.seed)
        parameters = count(adapted, base)
        flops = self.flops(method)
        with self.stage("evaluation"):
            initial = self.loss(adapted, corpus.validation, corpus).mean
        history: list[dict[str, Any]] = []
        cost, search, summary, notes = Cost(), None, None, dict(adapted.notes)
        if method.trains:
            before = adapted.virtual_tokens.weight.detach().clone() if adapted.virtual_tokens is not None else None
            search, search_flops = self.search(method, corpus, flops)
            plan = self.plan(method, search.chosen if search else method.learning_rate)
            memory, energy = meter.PeakMemory(self.machine.device), meter.Energy(self.machine.device)
            state = TrainingState.begin(adapted, plan)
            self.train(adapted, modes, corpus, plan, state, flops, history, memory, energy)
            summary, cost = self.training_cost(state, memory, energy, search_flops, flops is not None)
            if before is not None:
                notes |= describe_prompt(adapted, before, self.tokenizer)
        with self.stage("evaluation"):
            validation = self.loss(adapted, corpus.validation, corpus).mean if method.trains else initial
            test = self.loss(adapted, corpus.test, corpus)
        predictions = self.predict(adapted, corpus, test)
        with self.stage("checkpoint"):
            parameters.stored_bytes = save_adapter(adapted, self.folder / "adapter", self.origin()) if method.trains else 0
        losses = Loss(initial=initial, validation=validation, test=test.mean)
        record = self.record(corpus, predictions, parameters, cost, losses, search, summary, notes)
        return self.write(record, predictions, history)

    # The stages, in the order in which they happen

    def stage(self, name: str, **facts: Any):
        """Run the clock `name` and say so."""
        self.emit({"event": "stage", "stage": name, **facts})
        return self.clocks.time(name)

    def data(self) -> Corpus:
        """Tokenizer and corpus: the same for every run of the suite."""
        with self.stage("preparation"):
            self.tokenizer = hub.load_tokenizer(self.suite.model, self.suite.model_revision)
            return load_corpus(self.suite, self.tokenizer, reserved_positions(suite_rows(self.suite)), cache_folder())

    def adapt(self, method: Method, corpus: Corpus, seed: int) -> tuple[AdaptedModel, TrainingModes, int]:
        """Load the untouched model and let the method change it; also the untouched model's parameter count."""
        generator = runtime.seed_everything(seed)
        model = hub.load_model(self.suite.model, self.suite.model_revision).to(self.machine.device)
        parts, modes = take_apart(model), TrainingModes(model)
        base = meter.count_parameters(model).total
        frequent = frequent_tokens(corpus, parts.vocabulary_size)
        adapted = method.adapt(parts, Context(self.tokenizer, generator, frequent))
        if adapted.virtual_tokens is not None:
            adapted.virtual_tokens.to(self.machine.device)
        modes.eval(model)
        self.plain = self.suite.engine.plain or not head_is_plain(adapted)
        return adapted, modes, base

    def flops(self, method: Method) -> dict[bool, meter.FlopModel] | None:
        """FLOPs of a training pass by its shape, on the path that is run and on the plain one (key: plain)."""
        if not method.trains:
            return None
        with self.stage("preparation"):
            empty = sketch(self.suite, method, self.tokenizer)
            return {plain: training_flops(empty, plain=plain) for plain in sorted({self.plain, True})}

    def loss(self, adapted: AdaptedModel, split: Sequence[Pair], corpus: Corpus) -> SplitLoss:
        """The loss of a split."""
        size = self.suite.training.micro_batch_size
        return split_loss(
            adapted, split, corpus.template, self.machine, batch_size=size, plain=self.plain,
            progress=lambda done, total: self.emit({"event": "progress", "done": done, "total": total}),
        )

    def plan(self, method: Method, learning_rate: float) -> TrainingPlan:
        """The recipe at one learning rate."""
        t = self.suite.training
        return TrainingPlan(
            learning_rate=learning_rate, weight_decay=method.weight_decay, max_epochs=t.max_epochs, patience=t.patience,
            global_batch_size=t.global_batch_size, micro_batch_size=t.micro_batch_size, max_grad_norm=t.max_grad_norm,
            warmup_fraction=t.warmup_fraction, schedule=t.schedule, optimizer=t.optimizer, seed=self.seed, plain=self.plain,
        )

    def search(self, method: Method, corpus: Corpus, flops) -> tuple[SearchResult | None, float]:
        """Try the method's learning rates on a short budget, under the suite's first seed; the lowest validation loss wins.

        Every seed of a row uses the same result: the first run that needs it makes it, the others read it.
        """
        budget, first_seed = self.suite.search, self.suite.seeds[0]
        grid = spread(method.learning_rates, budget.trials)
        if budget.trials <= 1 or len(grid) <= 1:
            return None, 0.0
        file = self.folder.parent / "search.json"
        if file.is_file():
            return SearchResult.model_validate(store.read_json(file)), 0.0
        trials, spent = [], 0.0
        with self.stage("search", total=len(grid)):
            train_set = sample(corpus.train, budget.train_documents, first_seed)
            validation_set = sample(corpus.validation, budget.validation_documents, first_seed)
            for rate in grid:
                adapted, modes, _ = self.adapt(method, corpus, first_seed)
                plan = replace(self.plan(method, rate), max_epochs=budget.epochs, patience=budget.epochs, seed=first_seed)
                state = TrainingState.begin(adapted, plan)
                hooks = self.hooks(adapted, corpus, validation_set, flops, [], quiet=True)
                try:
                    train(adapted, modes, train_set, corpus.template, plan, state, self.machine, hooks)
                    reached = state.progress.best_loss
                except NonFiniteLoss:
                    reached = None
                spent += state.progress.train_flops
                trials.append(Trial(learning_rate=rate, validation_loss=reached))
                self.emit({"event": "trial", "learning_rate": rate, "validation_loss": reached})
        best = min((t for t in trials if t.validation_loss is not None), key=lambda t: t.validation_loss, default=None)
        if best is None:
            raise NonFiniteLoss(f"Every learning rate of {list(grid)} diverged; give lower ones in learning_rates.")
        result = SearchResult(
            trials=trials, chosen=best.learning_rate, at_edge=best.learning_rate in (grid[0], grid[-1])
        )
        store.write_json(file, result.model_dump())
        return result, spent

    def hooks(self, adapted, corpus, validation_set, flops, history: list[dict], quiet: bool, phase=None) -> Hooks:
        """What the training loop tells and asks of the outside."""

        def validate() -> float:
            with self.clocks.time("search" if quiet else "evaluation"):
                return self.loss(adapted, validation_set, corpus).mean

        def on_step(state: TrainingState, loss: float, rate: float) -> None:
            line = {"event": "step", "step": state.progress.step, "epoch": state.progress.epoch, "loss": loss,
                    "learning_rate": rate, "tokens": state.progress.tokens, "train_flops": state.progress.train_flops}
            if not quiet:
                line["train_seconds"] = self.clocks.read().get("train", 0.0)
                history.append(line)
            self.emit({**line, "event": "trial-step" if quiet else "step"})

        def on_epoch(state: TrainingState, train_loss: float, validation: float) -> None:
            if quiet:
                return
            line = {"event": "evaluation", "epoch": state.progress.epoch, "step": state.progress.step, "train_loss": train_loss,
                    "validation_loss": validation, "tokens": state.progress.tokens,
                    "train_flops": state.progress.train_flops, "train_seconds": self.clocks.read().get("train", 0.0)}
            history.append(line)
            self.emit(line)

        def count(rows: int, length: int, logits: int) -> tuple[float, float]:
            everywhere = rows * length
            executed = flops[self.plain].count(rows, length, everywhere if self.plain else logits)
            return executed, flops[True].count(rows, length, everywhere)

        clock = (lambda: self.clocks.time("search")) if quiet else phase
        return Hooks(validate=validate, on_step=on_step, on_epoch=on_epoch, step_clock=clock, flops=count)

    def train(self, adapted, modes, corpus, plan, state, flops, history, memory, energy) -> None:
        """The training itself: its clock, memory and energy cover the optimizer steps alone."""
        steps = -(-len(corpus.train) // plan.global_batch_size)
        self.emit({"event": "stage", "stage": "train", "epochs": plan.max_epochs, "steps": steps,
                   "learning_rate": plan.learning_rate})
        phase = StepPhase(self.clocks, memory, energy)
        hooks = self.hooks(adapted, corpus, corpus.validation, flops, history, quiet=False, phase=phase.enter)
        train(adapted, modes, corpus.train, corpus.template, plan, state, self.machine, hooks)

    def training_cost(self, state, memory, energy, search_flops: float, has_flops: bool) -> tuple[TrainingSummary, Cost]:
        """What training took, without the clocks that are still running."""
        now = state.progress
        summary = TrainingSummary(
            epochs=now.epoch, steps=now.step, best_epoch=now.best_epoch, stopped_early=now.stopped, tokens=now.tokens,
            targets=now.targets, documents=now.documents,
        )
        cost = Cost(
            train_flops=now.train_flops if has_flops else None,
            plain_flops=now.plain_flops if has_flops else None,
            search_flops=search_flops,
            peak_memory_bytes=memory.peak_bytes,
            peak_memory_kind=memory.kind,
            energy_joules=energy.joules,
            energy_note=energy.note,
            tokens_per_second=now.tokens / self.clocks.read()["train"],
        )
        return summary, cost

    def predict(self, adapted: AdaptedModel, corpus: Corpus, test: SplitLoss) -> list[Prediction]:
        """Generate and score a summary of every test document."""
        d = self.suite.decoding
        decoding = DecodingPlan(d.num_beams, d.max_new_tokens, d.no_repeat_ngram_size, d.length_penalty, d.batch_size)
        documents = [corpus.test[i].document_ids for i in range(len(corpus.test))]
        with self.stage("generation"):
            new = generate(
                adapted, documents, corpus.template, self.machine, decoding,
                progress=lambda done, total: self.emit({"event": "progress", "done": done, "total": total}),
            )
        texts = [to_text(self.tokenizer, ids) for ids in new]
        return self.score(corpus, texts, [len(ids) for ids in new], test)

    def score(self, corpus: Corpus, texts: list[str], lengths: list[int] | None, test: SplitLoss | None) -> list[Prediction]:
        """Score every prediction, in file order of the test split."""
        metrics = [find(Metric, name)() for name in ("rouge", "text-shape")]
        predictions = []
        with self.stage("evaluation"):
            for i, text in enumerate(texts):
                reference, document = corpus.test.reference(i), corpus.test.document(i)
                scores = {k: v for metric in metrics for k, v in metric.score(text, reference, document).items()}
                if test is not None:
                    scores |= {"loss": float(test.nats[i] / test.targets[i]), "targets": float(test.targets[i])}
                count = lengths[i] if lengths is not None else None
                capped = count is not None and count >= self.suite.decoding.max_new_tokens
                predictions.append(Prediction(id=corpus.test[i].id, prediction=text, reference=reference, scores=scores,
                                              num_tokens=count, at_cap=capped))
        return predictions

    def origin(self) -> Origin:
        """What the adapter belongs to."""
        fingerprint = hub.fingerprint(self.suite.model, self.suite.model_revision)
        return Origin(self.row.label, self.row.kind, self.row.options, self.suite.model, self.suite.model_revision, fingerprint)

    def record(
        self, corpus: Corpus, predictions: list[Prediction], parameters: Parameters | None, cost: Cost,
        loss: Loss | None = None, search: SearchResult | None = None, training: TrainingSummary | None = None,
        notes: dict[str, Any] | None = None,
    ) -> Record:
        """Put the record together; its clocks are read when it is written."""
        means = {name: float(np.mean([p.scores[name] for p in predictions])) for name in ROUGE_TYPES}
        has_model = isinstance(self.row.plugin, Method)
        return Record(
            label=self.row.label, kind=self.row.kind, seed=self.seed, status="done",
            config=self.suite.model_dump(mode="json"), options=self.row.options, parameters=parameters, loss=loss or Loss(),
            rouge=Rouge(**means, signature=find(Metric, "rouge")().signature()), text_shape=text_shape(predictions),
            cost=cost, data=corpus.data, search=search, training=training, notes=notes or {},
            provenance=provenance.take(
                self.command(), self.suite.model, self.origin().model_fingerprint if has_model else None,
                self.machine.device, self.machine.precision,
            ),
        )

    def command(self) -> list[str]:
        """The one command that reproduces this run."""
        return ["triptych", "train", self.row.label, str(self.out / "suite.json"), "--seeds", str(self.seed), "--out", "OUT",
                "--device", self.machine.device.type]

    def write(self, record: Record, predictions: list[Prediction], history: list[dict[str, Any]]) -> Record:
        """Write predictions and history, then the record: where it stands, the run is done."""
        if not self.machine.is_main:
            return record
        with self.clocks.time("checkpoint"):
            store.write_lines(self.folder / "predictions.jsonl", [p.model_dump() for p in predictions])
            store.write_lines(self.folder / "history.jsonl", history)
        seconds = self.clocks.read()
        for name, value in seconds.items():
            setattr(record.cost, f"{name}_seconds", value)
        record.cost.wall_seconds = sum(seconds.values())
        generation = record.cost.generation_seconds
        record.cost.documents_per_second = len(predictions) / generation if generation > 0 else None
        store.write_json(self.folder / "record.json", record.model_dump(mode="json"))
        return record


class StepPhase:
    """What runs while an optimizer step runs: the training clock, the memory peak and the energy counter."""

    def __init__(self, clocks: meter.Clocks, memory: meter.PeakMemory, energy: meter.Energy):
        self.clocks, self.memory, self.energy = clocks, memory, energy

    def enter(self):
        """A context around one optimizer step."""
        from contextlib import ExitStack

        stack = ExitStack()
        stack.enter_context(self.memory.phase())
        stack.enter_context(self.energy.phase())
        stack.enter_context(self.clocks.time("train"))
        return stack


def cache_folder() -> Path:
    """Where prepared data is kept: `$TRIPTYCH_CACHE`, else `~/.cache/triptych`."""
    return Path(os.environ.get("TRIPTYCH_CACHE") or Path.home() / ".cache" / "triptych")


def reserved_positions(rows: Sequence[Row]) -> int:
    """Positions that virtual tokens take in the row that has most: documents are cut the same for all."""
    return max((row.plugin.num_virtual_tokens_added() for row in rows if isinstance(row.plugin, Method)), default=0)


def count(adapted: AdaptedModel, base: int) -> Parameters:
    """Parameters by unique storage, after freezing; `base` is the count of the untouched model."""
    counts = meter.count_parameters(adapted.parts.model, adapted.virtual_tokens)
    return Parameters(
        num_base_parameters=base, num_added_parameters=counts.total - base, num_trainable_parameters=counts.trainable,
        num_total_parameters=counts.total, stored_bytes=0,
    )


def load_corpus(suite: Suite, tokenizer, reserved: int, cache: Path) -> Corpus:
    """The suite's documents, tokenised, from the cache where they are in it."""
    dataset = open_dataset(
        suite.data, data_config=suite.data_config, data_revision=suite.data_revision, columns=suite.columns
    )
    config = hub.load_config(suite.model, suite.model_revision).get_text_config()
    return prepare(
        dataset, tokenizer, source=suite.data, limits=suite.limits, split=suite.split, separator=suite.separator,
        window=getattr(config, "max_position_embeddings", None), reserved=reserved, cache=cache,
        max_cache_bytes=int(suite.cache.max_gigabytes * 1e9),
    )


def frequent_tokens(corpus: Corpus, vocabulary_size: int) -> torch.Tensor:
    """Token ids by falling frequency in the training documents; ties by id; those that never occur last."""
    counts = corpus.token_frequencies(vocabulary_size)
    return torch.from_numpy(np.argsort(-counts, kind="stable"))


def sample(split: Sequence[Pair], size: int, seed: int) -> list[Pair]:
    """At most `size` pairs of a split, drawn from the seed, in file order."""
    chosen = sorted(epoch_order(len(split), seed, 0)[:size].tolist())
    return [split[i] for i in chosen]


def spread(grid: Sequence[float], trials: int) -> tuple[float, ...]:
    """`trials` values of a grid, evenly spread over it, its ends included."""
    if trials >= len(grid):
        return tuple(grid)
    places = np.linspace(0, len(grid) - 1, trials) if trials > 0 else []
    return tuple(grid[round(place)] for place in places)


def sketch(suite: Suite, method: Method, tokenizer) -> AdaptedModel:
    """The adapted model on the `meta` device: every shape, no weights.

    Raises:
        ConfigError: the method's options do not fit the model.
        ModelError: the model cannot be found or taken apart.
    """
    model = hub.sketch_model(suite.model, suite.model_revision)
    model.set_attn_implementation("eager")
    parts = take_apart(model)
    return method.adapt(parts, Context(tokenizer, torch.Generator().manual_seed(0), torch.arange(parts.vocabulary_size)))


def describe_prompt(adapted: AdaptedModel, before: torch.Tensor, tokenizer) -> dict[str, Any]:
    """How far virtual tokens moved, and the vocabulary entries they now lie nearest to (by cosine)."""
    after = adapted.virtual_tokens.weight.detach().float()
    table = adapted.parts.token_embedding.weight.detach().float()
    cosine = torch.nn.functional.normalize(after, dim=1) @ torch.nn.functional.normalize(table, dim=1).T
    nearest = cosine.argmax(dim=1).tolist()
    return {
        "distance_moved": float((after - before.float()).norm(dim=1).mean()),
        "initial_norm": float(before.float().norm(dim=1).mean()),
        "nearest_tokens": [tokenizer.decode([token]) for token in nearest],
    }


def to_text(tokenizer, ids: list[int]) -> str:
    """Generated tokens as text, without special tokens and outer white space."""
    return tokenizer.decode(ids, skip_special_tokens=True).strip()


def text_shape(predictions: list[Prediction]) -> TextShape:
    """Means over the test split of what the predictions look like."""

    def mean(name: str) -> float:
        return float(np.mean([p.scores[name] for p in predictions]))

    return TextShape(
        prediction_words=mean("prediction_words"), reference_words=mean("reference_words"),
        share_at_cap=float(np.mean([p.at_cap for p in predictions])), share_empty=mean("empty"),
        novel_bigrams=mean("novel_bigrams"), longest_copied_words=mean("longest_copied_words"),
        repeated_trigrams=mean("repeated_trigrams"),
    )

"""One row tuned: its learning-rate search, training under the meters, and the checkpoints from which it goes on."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerBase

from triptych.contracts import AdaptedModel, Method
from triptych.corpus.prepare import Pair
from triptych.engine.memory import fitting_micro_batch
from triptych.engine.training import Hooks, TrainingPlan, TrainingState, train
from triptych.engine.trunk_cache import TrunkCache, open_cache, usable_from
from triptych.engine.work import entering_flops, training_flops
from triptych.errors import ConfigError, NonFiniteLoss
from triptych.measure import meter
from triptych.results import layout
from triptych.results.records import Cost, Part, SearchResult, TrainingSummary, Trial
from triptych.run import kept, setup
from triptych.run.checkpoints import Checkpoint, Checkpoints
from triptych.run.events import EvaluationEvent, NoteEvent, StageEvent, StepEvent, TrialEvent
from triptych.run.search import keep_trial, read_trials, sample, search, spread
from triptych.run.search import read as read_search
from triptych.run.workbench import Workbench


class MicroBatch(Part):
    """`micro_batch.json`: documents a forward pass that the row's first run found to fit."""

    micro_batch_size: Annotated[int, Field(ge=1, strict=True)]


FlopModels = dict[bool, meter.FlopModel]  # by whether it is the plain path


@dataclass(frozen=True)
class Trunk:
    """The trunk cache of a split, the FLOPs of a training pass from it and of making it; or none."""

    cache: TrunkCache | None = None
    step: meter.FlopModel | None = None
    flops: float = 0.0


@dataclass
class Tuned:
    """What tuning leaves beside the trained tensors, which are in place.

    Attributes:
        initial_loss: of the validation split, before the first step.
        history: a line a step and evaluation.
        notes: what else a reader may want to know.
    """

    initial_loss: float
    search: SearchResult | None
    summary: TrainingSummary
    cost: Cost
    history: list[dict[str, Any]]
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Tuning:
    """Tunes a model as one method changed it."""

    bench: Workbench
    method: Method

    def carry_out(self, prepared: setup.Prepared) -> Tuned:
        """Search a learning rate, train; from the last checkpoint where there is one."""
        bench, adapted = self.bench, prepared.adapted
        checkpoints = self.checkpoints()
        resumed = self.resume(checkpoints)
        with bench.stage("evaluation"):
            initial = resumed.facts["initial_loss"] if resumed else bench.untouched_loss(adapted)
        with bench.stage("preparation"):
            flops = self.flops(adapted)
            self.find_micro_batch(prepared)
        found, search_flops = self.search(flops, resumed)
        with bench.stage("preparation"):
            trunk = self.trunk(adapted, bench.corpus.train)
        before = adapted.virtual_tokens.weight.detach().clone() if adapted.virtual_tokens is not None else None
        tuned = self.train(
            prepared,
            found,
            flops,
            trunk,
            checkpoints,
            resumed,
            {"initial_loss": initial, "search_flops": search_flops, "search": found.model_dump() if found else None},
        )
        tuned.cost.search_flops = search_flops if flops else None
        if trunk.cache is not None:
            tuned.notes["trunk_cache"] = {
                "first_block": trunk.cache.first,
                "bytes": trunk.cache.num_bytes,
                "flops": trunk.flops,
                "making_seconds": trunk.cache.seconds,
            }
        if before is not None:
            tuned.notes |= _describe_prompt(adapted, before, bench.base.tokenizer)
        return tuned

    def plan(self, found: SearchResult | None) -> TrainingPlan:
        """The recipe, at the learning rate found or given."""
        bench = self.bench
        t = bench.suite.training
        return TrainingPlan(
            learning_rate=found.chosen if found else self.method.learning_rate,
            weight_decay=self.method.weight_decay,
            max_epochs=t.max_epochs,
            patience=t.patience,
            global_batch_size=t.global_batch_size,
            micro_batch_size=bench.micro_batch,
            max_grad_norm=t.max_grad_norm,
            warmup_fraction=t.warmup_fraction,
            schedule=t.schedule,
            optimizer=t.optimizer,
            seed=bench.seed,
            plain=bench.plain,
        )

    def find_micro_batch(self, prepared: setup.Prepared) -> None:
        """With "auto", what the row's first run found to fit on every rank; else the suite's own number."""
        bench = self.bench
        t, file = bench.suite.training, bench.folder.parent / "micro_batch.json"
        if t.micro_batch_size != "auto":
            return
        made_with = {**bench.identity, "memory": bench.machine.memory()}
        known = kept.find(file, MicroBatch, "micro-batch size", made_with, self.note)
        on_every_rank = min(bench.machine.collect([known.micro_batch_size if known else 0]))
        if on_every_rank:
            bench.micro_batch = on_every_rank
            return
        found = fitting_micro_batch(
            prepared.adapted,
            prepared.modes,
            bench.corpus.train,
            bench.corpus.template,
            bench.machine,
            most=t.global_batch_size,
            plain=bench.plain,
        )
        bench.micro_batch = min(bench.machine.collect([found]))
        if bench.machine.is_main:
            kept.keep(file, MicroBatch(micro_batch_size=bench.micro_batch), made_with)

    def note(self, message: str) -> None:
        """Report something that a reader of the run's output should know."""
        self.bench.emit(NoteEvent(message=message))

    def sketch(self, adapted: AdaptedModel) -> AdaptedModel:
        """The model without weights, for counting what a pass over `adapted` computes."""
        sketch = setup.sketch(self.bench.base, self.method)
        sketch.prunes_training = adapted.prunes_training
        return sketch

    def flops(self, adapted: AdaptedModel) -> FlopModels:
        """FLOPs of a training pass by its shape, on the path that is run and on the plain one; none if uncountable."""
        bench = self.bench
        sketch = self.sketch(adapted)
        try:
            return {plain: training_flops(sketch, plain=plain) for plain in {bench.plain, True}}
        # a family that looks at values, or whose work follows no formula
        except (ArithmeticError, RuntimeError) as error:
            reason = f"FLOPs are not measured: they cannot be counted without weights ({error})"
            bench.emit(NoteEvent(message=reason))
            return {}

    def trunk(self, adapted: AdaptedModel, split: Sequence[Pair]) -> Trunk:
        """The trunk cache of a split where there is one for this model; its FLOPs are charged to the run, whoever made
        it."""
        bench = self.bench
        first = None if bench.plain else usable_from(adapted)
        if first is None:
            return Trunk()
        sketch = self.sketch(adapted)
        entering = entering_flops(sketch, first)
        cache = open_cache(
            adapted,
            split,
            bench.corpus.template,
            bench.machine,
            model=bench.base.fingerprint,
            folder=setup.cache_folder() / "trunk",
            max_bytes=int(bench.suite.cache.max_gigabytes * 1e9),
            batch_size=bench.micro_batch,
            flops=entering.count,
            progress=bench.show_progress,
        )
        if cache is None:
            bench.emit(NoteEvent(message="no trunk cache: it is larger than cache.max_gigabytes, or not exact here"))
            return Trunk()
        return Trunk(cache, training_flops(sketch, plain=False, first=first), cache.flops)

    def count_flops(
        self, flops: FlopModels, cached: meter.FlopModel | None = None
    ) -> Callable[[int, int, int, int], tuple[float, float]]:
        """`(executed, plain)` FLOPs of a pass by the four numbers of its `meter.WorkShape`.

        Args:
            flops: of passes from the embeddings; empty where they cannot be counted.
            cached: of a pass from the trunk cache, where one is used.
        """
        bench = self.bench

        def count(rows: int, positions: int, targets: int, chosen: int) -> tuple[float, float]:
            if not flops:
                return 0.0, 0.0
            plain = flops[True].count(rows, positions, rows * positions)
            return plain if bench.plain else (cached or flops[False]).count(rows, positions, targets, chosen), plain

        return count

    def search(self, flops: FlopModels, resumed: Checkpoint | None) -> tuple[SearchResult | None, float]:
        """The learning-rate search under the suite's first seed, and the FLOPs that this run spent on it.

        Every seed of a row uses the same result: the first run that needs it makes it and is charged, the others read
        it. Each trial is kept when it ends, so that a search that was interrupted goes on, and those that were made
        elsewhere are used; what they had cost is carried over.
        """
        bench = self.bench
        grid = self.rates
        if len(grid) <= 1:
            return None, 0.0
        if resumed is not None:  # the rate that its checkpoint was trained at, whatever search.json says now
            return SearchResult.model_validate(resumed.facts["search"]), resumed.facts["search_flops"]
        file = layout.search_file(bench.out, bench.row.label)
        result = read_search(file, bench.identity, self.note)
        if result is not None:
            if result.charged_to != bench.seed:
                return result, 0.0
            bench.clocks.carry("search", result.seconds)
            return result, result.flops
        finished = read_trials(self.trials_folder, grid, bench.identity, self.note)
        bench.clocks.carry("search", sum(trial.search_seconds for trial in finished))

        def tell(trial: Trial) -> None:
            bench.emit(TrialEvent(learning_rate=trial.learning_rate, validation_loss=trial.validation_loss))

        with bench.stage("search"):
            result = search(grid, lambda rate: self.try_rate(rate, flops), finished, tell, charged_to=bench.seed)
        if bench.machine.is_main:
            kept.keep(file, result, bench.identity)
            shutil.rmtree(self.trials_folder, ignore_errors=True)
        return result, result.flops

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates of the search."""
        return spread(self.method.learning_rates, self.bench.suite.search.trials)

    @property
    def trials_folder(self) -> Path:
        """Where finished trials of the row lie until the search has ended."""
        return layout.trials_folder(self.bench.out, self.bench.row.label)

    def try_one(self, prepared: setup.Prepared, rate: float) -> None:
        """Make one trial of the search and keep it.

        Raises:
            ConfigError: the search has no such learning rate.
        """
        if rate not in self.rates:
            there = ", ".join(f"{rate:g}" for rate in self.rates) or "none"
            raise ConfigError(f"The search of {self.bench.row.label!r} has no trial at {rate:g}; it has {there}.")
        with self.bench.stage("preparation"):
            flops = self.flops(prepared.adapted)
            self.find_micro_batch(prepared)
        with self.bench.stage("search"):
            self.try_rate(rate, flops)

    def try_rate(self, rate: float, flops: FlopModels) -> Trial:
        """Train a fresh model on the search's budget, under the suite's first seed, and keep the trial."""
        bench = self.bench
        budget, seed = bench.suite.search, bench.suite.seeds[0]
        train_set = sample(bench.corpus.train, budget.train_documents, seed)
        validation_set = sample(bench.corpus.validation, budget.validation_documents, seed)
        before = bench.clocks.read()["search"]
        prepared = bench.adapt(self.method, seed)
        plan = replace(self.plan(None), learning_rate=rate, max_epochs=budget.epochs, seed=seed)
        steps = -(-len(train_set) // plan.global_batch_size) * plan.max_epochs
        trunk = self.trunk(prepared.adapted, train_set)
        state = TrainingState.begin(prepared.adapted, plan, bench.machine.loss_scaler())
        state.progress.train_flops = trunk.flops
        hooks = Hooks(
            validate=lambda: bench.loss(prepared.adapted, validation_set).mean,
            on_step=lambda now, *_: bench.show_progress(now.progress.step, steps),
            on_epoch=lambda *_: None,
            step_clock=lambda: bench.clocks.time("search"),
            flops=self.count_flops(flops, trunk.step),
        )
        try:
            train(
                prepared.adapted,
                prepared.modes,
                train_set,
                bench.corpus.template,
                plan,
                state,
                bench.machine,
                hooks,
                trunk.cache,
            )
            loss = state.progress.best_loss
        except NonFiniteLoss:
            loss = None
        seconds, work = bench.clocks.read()["search"] - before, state.progress.train_flops
        trial = Trial(learning_rate=rate, validation_loss=loss, search_seconds=seconds, search_flops=work)
        if bench.machine.is_main:
            keep_trial(self.trials_folder, trial, bench.identity)
        return trial

    def checkpoints(self) -> Checkpoints:
        """Those of this run, and of no run with other settings, data, weights or versions."""
        bench = self.bench
        return Checkpoints(bench.folder / "checkpoint", {**bench.identity, "seed": bench.seed})

    def resume(self, checkpoints: Checkpoints) -> Checkpoint | None:
        """The checkpoint to go on from; its clocks are carried over."""
        bench = self.bench
        found = checkpoints.latest()
        if found is not None:
            for name, seconds in found.facts["clocks"].items():
                bench.clocks.carry(name, seconds)
            bench.emit(NoteEvent(message=f"resumes from the checkpoint after step {found.step}"))
        return found

    def train(
        self,
        prepared: setup.Prepared,
        found: SearchResult | None,
        flops: FlopModels,
        trunk: Trunk,
        checkpoints: Checkpoints,
        resumed: Checkpoint | None,
        before_training: dict[str, Any],
    ) -> Tuned:
        """Train; the training clock, the memory peak and the energy counter cover the optimizer steps alone.

        Args:
            found: what the search found.
            resumed: the checkpoint to go on from.
            before_training: what was found out before, kept with every checkpoint.
        """
        bench = self.bench
        plan = self.plan(found)
        history: list[dict[str, Any]] = []
        total = -(-len(bench.corpus.train) // plan.global_batch_size) * plan.max_epochs
        bench.emit(StageEvent(stage="train", epochs=plan.max_epochs, total=total))
        state = TrainingState.begin(prepared.adapted, plan, bench.machine.loss_scaler())
        state.progress.train_flops = trunk.flops
        meters = meter.TrainingMeters(bench.machine.device, bench.machine.num_processes)
        if resumed is not None:
            state.load_state_dict(resumed.tensors, resumed.facts["progress"])
            history.extend(resumed.facts["history"])
            meters.load_state_dict(resumed.facts["meters"])
        with bench.clocks.time("preparation"):
            meters.begin()

        @contextmanager
        def leaving_no_memory() -> Iterator[None]:
            """What runs between two steps is not part of the memory that the next one is measured with."""
            yield
            meter.release_free_memory(bench.machine.device)

        def save() -> None:
            with bench.clocks.time("checkpoint"), leaving_no_memory():
                tensors, progress = state.state_dict()
                checkpoints.save(
                    progress["step"],
                    tensors,
                    {
                        "progress": progress,
                        "history": history,
                        "clocks": bench.clocks.read(),
                        "meters": meters.state_dict(),
                        **before_training,
                    },
                )

        def step_clock() -> ExitStack:
            stack = ExitStack()
            stack.enter_context(meters.phase())
            stack.enter_context(bench.clocks.time("train"))
            return stack

        def facts() -> dict[str, Any]:
            now = state.progress
            return {
                "epoch": now.epoch,
                "step": now.step,
                "tokens": now.tokens,
                "energy_joules": meters.energy.joules,
                "train_flops": now.train_flops if flops else None,
                "train_seconds": bench.clocks.read()["train"],
                "total": total,
            }

        def log(event: StepEvent | EvaluationEvent) -> None:
            history.append(event.history_line())
            bench.emit(event)

        def validate() -> float:
            with bench.clocks.time("evaluation"), leaving_no_memory():
                return bench.loss(prepared.adapted, bench.corpus.validation, quiet=True).mean

        def on_step(_: TrainingState, loss: float, rate: float) -> None:
            log(StepEvent(loss=loss, learning_rate=rate, **facts()))
            if bench.machine.is_main and checkpoints.due():
                save()

        hooks = Hooks(
            validate=validate,
            on_step=on_step,
            on_epoch=lambda _, loss, validation: log(
                EvaluationEvent(train_loss=loss, validation_loss=validation, **facts())
            ),
            step_clock=step_clock,
            flops=self.count_flops(flops, trunk.step),
        )
        train(
            prepared.adapted,
            prepared.modes,
            bench.corpus.train,
            bench.corpus.template,
            plan,
            state,
            bench.machine,
            hooks,
            trunk.cache,
        )
        if bench.machine.is_main:
            save()
        now = state.progress
        summary = TrainingSummary(
            epochs=now.epoch,
            steps=now.step,
            best_epoch=now.best_epoch,
            stopped_early=now.epoch < plan.max_epochs,
            tokens=now.tokens,
            targets=now.targets,
            documents=now.documents,
            micro_batch_size=now.micro_batch_size or plan.micro_batch_size,
        )
        seconds = bench.clocks.read()["train"]
        cost = Cost(
            train_flops=now.train_flops if flops else None,
            plain_flops=now.plain_flops if flops else None,
            tokens_per_second=now.tokens / seconds,
            **self.over_ranks(meters.readings(seconds)),
        )
        return Tuned(before_training["initial_loss"], found, summary, cost, history)

    def over_ranks(self, readings: dict[str, Any]) -> dict[str, Any]:
        """Of memory, the rank that used most; of energy the sum over GPUs (a CPU's counter is the whole machine's)."""
        bench = self.bench
        memory = {
            name: max(bench.machine.collect([readings[name]]))
            for name in ("peak_memory_bytes", "added_peak_memory_bytes")
        }
        joules = bench.machine.collect([readings["energy_joules"]])
        if bench.machine.device.type == "cuda" and None not in joules:
            readings["energy_joules"] = sum(joules)
        return {**readings, **memory}


def _describe_prompt(adapted: AdaptedModel, before: torch.Tensor, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """How far virtual tokens moved, and the vocabulary entries they now lie nearest to (by cosine).

    Args:
        before: the virtual tokens before training, [P, D].
    """
    assert adapted.virtual_tokens is not None
    after = adapted.virtual_tokens.weight.detach().float()
    table = adapted.parts.token_embedding.weight.detach().float()
    nearest = (normalize(after, dim=1) @ normalize(table, dim=1).T).argmax(dim=1).tolist()
    return {
        "distance_moved": float((after - before.float()).norm(dim=1).mean()),
        "initial_norm": float(before.float().norm(dim=1).mean()),
        "nearest_tokens": [tokenizer.decode([token]) for token in nearest],
    }

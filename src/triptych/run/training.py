"""Train a run: its search, its metered optimizer steps, and the checkpoints it resumes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerBase

from triptych.contracts import AdaptedModel, Method
from triptych.engine.model import EngineModel
from triptych.engine.sharding import whole_tensors
from triptych.engine.training import Loop, TrainingState
from triptych.measure.memory import release_free_memory
from triptych.measure.training_meters import TrainingMeters
from triptych.results.records import Cost, SearchResult, TrainingSummary
from triptych.run.checkpoints import Checkpoint, Checkpoints
from triptych.run.events import EvaluationEvent, StageEvent, StepEvent
from triptych.run.passes import RECOMPUTED, Trunk, find_micro_batch, fit_flop_models, open_trunk
from triptych.run.recipe import training_plan
from triptych.run.run_context import RunContext
from triptych.run.trials import RateSearch

RESTARTED = (
    "the decay did not improve the validation loss: training restarted from the untrained weights, with a shorter "
    "schedule that ends after as many steps as had led to the best weights"
)


@dataclass
class TrainingOutcome:
    """The outcome of training, besides the trained tensors, which are in the model.

    Attributes:
        initial_loss: validation loss before the first step, in nats per target token.
        best_loss: validation loss of the weights in the model.
        search: the result of the learning-rate search; None if there was none.
        summary: a summary of training.
        cost: the cost of training.
        history: one line per step and evaluation.
        notes: further information for the reader, by name.
    """

    initial_loss: float
    best_loss: float
    search: SearchResult | None
    summary: TrainingSummary
    cost: Cost
    history: list[dict[str, Any]]
    notes: dict[str, Any]


def train_model(context: RunContext, method: Method, model: EngineModel) -> TrainingOutcome:
    """Search for a learning rate and train with it, from the last checkpoint if there is one.

    Training clock, memory peak and energy counter cover only the optimizer steps.

    Args:
        context: the run.
        method: the method to train.
        model: the prepared model, which gets the best weights.

    Raises:
        NonFiniteLoss: training diverged.
    """
    checkpoints = Checkpoints(context.folder / "checkpoint", {**context.identity, "seed": context.seed})
    resumed = resume(context, checkpoints)

    # Before the first step
    with context.stage("evaluation"):
        initial_loss = resumed.facts["initial_loss"] if resumed else context.untouched_loss(model)
    with context.stage("preparation"):
        flops = fit_flop_models(context, method, model)
        find_micro_batch(context, model)
        trunk = open_trunk(context, method, model, flops)
    found, search_flops = RateSearch(context, method, model, flops, trunk).result(resumed)
    prompt = model.adapted.virtual_tokens
    prompt_before = prompt.weight.detach().clone() if prompt is not None else None

    # The state, new or from the checkpoint
    rate = found.chosen if found else method.learning_rate
    plan = training_plan(context.suite, method, rate, context.seed, context.micro_batch, context.recomputes)
    state = TrainingState.begin(model.adapted, plan, context.machine.loss_scaler())
    state.progress.train_flops = trunk.flops
    loop = Loop(model, context.corpus.train, plan, state, trunk.counter(flops), trunk.cache)
    state.keep_untouched(initial_loss, to_restart=loop.schedule.decays_on_plateau)
    meters = TrainingMeters(context.machine.device, context.machine.num_processes)
    log = TrainingLog(context, loop, meters, flops is not None)
    if resumed is not None:
        state.load_state_dict(resumed.tensors, resumed.facts["progress"])
        log.history.extend(resumed.facts["history"])
        meters.load_state_dict(resumed.facts["meters"])
    kept = {"initial_loss": initial_loss, "search_flops": search_flops, "search": found.model_dump() if found else None}
    with context.clocks.time("preparation"):
        meters.begin()

    # Optimizer steps and evaluations
    context.emit(StageEvent(stage="train", epochs=plan.max_epochs, total=loop.total_steps))
    while not loop.finished:
        if loop.evaluation_due:
            with context.clocks.time("evaluation"):
                validation_loss = context.loss(
                    model, context.corpus.validation, quiet=True, cache=trunk.validation
                ).mean
                release_free_memory(context.machine.device)  # keep it out of the next step's memory
            restarted = state.progress.restarted_at
            evaluation = loop.evaluate(validation_loss)
            if state.progress.restarted_at != restarted:
                context.note(RESTARTED)
            log.add(EvaluationEvent(**evaluation._asdict(), **log.progress()))
        else:
            recomputed = loop.recomputes
            with meters.phase(), context.clocks.time("train"):
                step = loop.step()
            if loop.recomputes and not recomputed:
                context.note(RECOMPUTED)
            log.add(StepEvent(loss=step.loss, learning_rate=step.rate, **log.progress()))
            if is_due(checkpoints, context, model):
                save(checkpoints, log, kept)
    if context.machine.is_main or model.is_sharded:
        save(checkpoints, log, kept)

    # Outcome
    now, train_seconds = state.progress, context.clocks.read()["train"]
    assert now.best_loss is not None
    cost = Cost(
        train_flops=now.train_flops if flops else None,
        plain_flops=now.plain_flops if flops else None,
        search_flops=search_flops if flops else None,
        tokens_per_second=now.tokens / train_seconds,
        **over_ranks(context, meters.readings(train_seconds)),
    )
    notes = notes_on_loop(loop, trunk)
    if prompt_before is not None:
        notes |= describe_prompt(model.adapted, prompt_before, context.base.tokenizer)
    summary = summarize_training(loop, log.history)
    return TrainingOutcome(initial_loss, now.best_loss, found, summary, cost, log.history, notes)


def summarize_training(loop: Loop, history: Sequence[Mapping[str, Any]]) -> TrainingSummary:
    """Summarize training that has ended.

    Args:
        loop: the loop after training.
        history: the lines of its history.
    """
    now = loop.state.progress
    return TrainingSummary(
        epochs=in_epochs(now.step, loop.steps_per_epoch),
        steps=now.step,
        evaluations=now.evaluations,
        best_epoch=in_epochs(now.best_step, loop.steps_per_epoch),
        best_step=now.best_step,
        best_rate=rate_of(history, now.best_step),
        decay_start=now.decay_start,
        restarted_at=now.restarted_at or None,
        stopped_early=now.step < loop.total_steps,
        tokens=now.tokens,
        targets=now.targets,
        documents=now.documents,
        micro_batch_size=now.micro_batch_size or loop.plan.micro_batch_size,
        recomputed=loop.recomputes,
    )


def notes_on_loop(loop: Loop, trunk: Trunk) -> dict[str, Any]:
    """Notes for the record on training that has ended: whether it restarted, recomputed blocks or used a cache."""
    notes: dict[str, Any] = {}
    if loop.recomputes:
        notes["recomputed_blocks"] = RECOMPUTED
    if loop.state.progress.restarted_at:
        notes["restarted"] = RESTARTED
    if trunk.cache is not None:
        notes["trunk_cache"] = {
            "first_block": trunk.cache.first,
            "bytes": trunk.cache.num_bytes,
            "flops": trunk.flops,
            "making_seconds": trunk.cache.seconds,
        }
    return notes


def in_epochs(steps: int, steps_per_epoch: int) -> int | float:
    """Convert steps to epochs, an int if they are whole epochs."""
    return steps // steps_per_epoch if steps % steps_per_epoch == 0 else steps / steps_per_epoch


def rate_of(history: Sequence[Mapping[str, Any]], step: int) -> float | None:
    """The learning rate of a step; None for step 0, before the first."""
    return next((line["learning_rate"] for line in history if line["event"] == "step" and line["step"] == step), None)


@dataclass
class TrainingLog:
    """The lines of `history.jsonl`; each is sent as an event when added.

    Attributes:
        context: the run.
        loop: the training loop.
        meters: the meters of training.
        counts_flops: whether FLOPs can be counted; otherwise they are None.
        history: the lines so far.
    """

    context: RunContext
    loop: Loop
    meters: TrainingMeters
    counts_flops: bool
    history: list[dict[str, Any]] = field(default_factory=list)

    def progress(self) -> dict[str, Any]:
        """The progress of training, for its events."""
        now = self.loop.state.progress
        return {
            "epoch": now.step // self.loop.steps_per_epoch,  # by steps taken, since a decay goes back in the data
            "step": now.step,
            "tokens": now.tokens,
            "energy_joules": self.meters.energy.joules,
            "train_flops": now.train_flops if self.counts_flops else None,
            "train_seconds": self.context.clocks.read()["train"],
            "total": self.loop.total_steps,
        }

    def add(self, event: StepEvent | EvaluationEvent) -> None:
        """Add a training event and send it."""
        self.history.append(event.history_line())
        self.context.emit(event)


def resume(context: RunContext, checkpoints: Checkpoints) -> Checkpoint | None:
    """The checkpoint to resume from, if any; its clock readings are carried over."""
    found = checkpoints.latest()
    if found is not None:
        for name, seconds in found.facts["clocks"].items():
            context.clocks.carry(name, seconds)
        context.note(f"resumes from the checkpoint after step {found.step}")
    return found


def is_due(checkpoints: Checkpoints, context: RunContext, model: EngineModel) -> bool:
    """Whether this rank saves a checkpoint now: the main process decides; all ranks take part for a sharded model."""
    due = context.machine.is_main and checkpoints.due()
    return context.machine.collect([due])[0] if model.is_sharded else due


def save(checkpoints: Checkpoints, log: TrainingLog, kept: dict[str, Any]) -> None:
    """Write a checkpoint; the ranks of a sharded model send their pieces to the main process.

    Args:
        checkpoints: the checkpoints of this run.
        log: the log whose state, meters, clocks and history go into the checkpoint.
        kept: facts determined before training that go into every checkpoint.
    """
    context = log.context
    with context.clocks.time("checkpoint"):
        tensors, progress = log.loop.state.state_dict(keep=context.machine.is_main)
        facts = {
            "progress": progress,
            "history": log.history,
            "clocks": context.clocks.read(),
            "meters": log.meters.state_dict(),
            **kept,
        }
        if context.machine.is_main:
            checkpoints.save(progress["step"], tensors, facts)
        release_free_memory(context.machine.device)  # keep it out of the next step's memory


def over_ranks(context: RunContext, readings: dict[str, Any]) -> dict[str, Any]:
    """Readings with the largest memory of any rank, and energy summed over GPUs (a CPU counter covers the machine)."""
    machine = context.machine
    memory = {name: max(machine.collect([readings[name]])) for name in ("peak_memory_bytes", "added_peak_memory_bytes")}
    joules = machine.collect([readings["energy_joules"]])
    if machine.device.type == "cuda" and None not in joules:
        readings["energy_joules"] = sum(joules)
    return {**readings, **memory}


def describe_prompt(adapted: AdaptedModel, before: torch.Tensor, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """How far virtual tokens moved, and their nearest vocabulary entries by cosine similarity.

    Args:
        adapted: the trained model.
        before: the virtual tokens before training, [P, D].
        tokenizer: the tokenizer that decodes the vocabulary entries.
    """
    assert adapted.virtual_tokens is not None
    after = adapted.virtual_tokens.weight.detach().float()
    table = whole_tensors({"table": adapted.parts.token_embedding.weight})["table"].to(after.device).float()
    nearest = (normalize(after, dim=1) @ normalize(table, dim=1).T).argmax(dim=1).tolist()
    return {
        "distance_moved": float((after - before.float()).norm(dim=1).mean()),
        "initial_norm": float(before.float().norm(dim=1).mean()),
        "nearest_tokens": [tokenizer.decode([token]) for token in nearest],
    }

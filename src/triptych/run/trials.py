"""The learning-rate search of a run: trials are trained one by one, kept when they end, and reused."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from triptych.contracts import Method
from triptych.engine.model import EngineModel
from triptych.engine.training import Loop, TrainingPlan, TrainingState
from triptych.errors import ConfigError, NonFiniteLoss
from triptych.results import layout
from triptych.results.records import SearchResult, Trial
from triptych.run.checkpoints import Checkpoint
from triptych.run.events import TrialEvent
from triptych.run.kept import keep
from triptych.run.passes import FlopModels, Trunk, find_micro_batch, fit_flop_models, open_trunk
from triptych.run.recipe import training_plan
from triptych.run.run_context import RunContext
from triptych.run.search import (
    Budget,
    budget_of,
    first_rates,
    keep_trial,
    read_search,
    read_trial,
    sample,
    search_rates,
)

# with a run's own share, such short trials choose too low a rate for LoRA; with a decay over all their steps, too high
# a rate for full fine-tuning: measured in docs/recipe.md
TRIAL_DECAY_SHARE = 2.0


@dataclass(frozen=True)
class RateSearch:
    """The search for a method's learning rate, shared by all its seeds.

    A trial is a short run with the suite's first seed: the same documents in the same order and the same schedule over
    its own number of steps, except that `warmup_stable_decay` lowers the rate over the last two thirds of them.

    Attributes:
        context: the run that makes or reads the search.
        method: the method to train.
        model: the run's untrained model, which is left unchanged.
        flops: FLOPs of a training pass; None if they cannot be counted.
        trunk: the trunk caches.
    """

    context: RunContext
    method: Method
    model: EngineModel
    flops: FlopModels | None
    trunk: Trunk

    @cached_property
    def untrained(self) -> EngineModel:
        """The model that every trial starts with, from the suite's first seed."""
        context, first = self.context, self.context.suite.seeds[0]
        return self.model if context.seed == first else context.fresh_model(self.method, first)

    @property
    def grid(self) -> tuple[float, ...]:
        """The learning rates of the first round."""
        return first_rates(self.context.suite, self.method)

    @property
    def budget(self) -> Budget:
        """The optimizer steps of all trials and of each one."""
        return budget_of(self.context.suite, self.method, len(self.context.corpus.train))

    @property
    def trials_folder(self) -> Path:
        """The folder of finished trials, kept until the search has ended."""
        return layout.trials_folder(self.context.out, self.context.entry.label)

    def result(self, resumed: Checkpoint | None) -> tuple[SearchResult | None, float]:
        """The result of the search, None if there is nothing to search, and the FLOPs that this run is charged for it.

        The first run that needs the search makes it, with the suite's first seed, and is charged for it; the others
        read it. Each trial is kept when it ends, so that an interrupted search resumes and trials made elsewhere are
        used; their cost is carried over.

        Args:
            resumed: the checkpoint that the run resumes from; its rate is kept, whatever `search.json` says now.
        """
        context = self.context
        if len(self.grid) <= 1:
            return None, 0.0
        if resumed is not None:
            return SearchResult.model_validate(resumed.facts["search"]), resumed.facts["search_flops"]
        file = layout.search_file(context.out, context.entry.label)
        result = read_search(file, context.identity, context.note)
        if result is not None:
            if result.charged_to != context.seed:
                return result, 0.0
            context.clocks.carry("search", result.seconds)
            return result, result.flops
        with context.stage("search"):
            result = search_rates(self.grid, self.budget, self.find_trial, self.report, charged_to=context.seed)
        if context.machine.is_main:
            keep(file, result, context.identity)
            shutil.rmtree(self.trials_folder, ignore_errors=True)
        return result, result.flops

    def report(self, trial: Trial) -> None:
        """Send a finished trial as an event."""
        self.context.emit(TrialEvent(learning_rate=trial.learning_rate, validation_loss=trial.validation_loss))

    def find_trial(self, rate: float, steps: int) -> Trial:
        """Find a trial made by an interrupted search or elsewhere, or make a new one."""
        made = read_trial(self.trials_folder, rate, steps, self.context.identity, self.context.note)
        on_every_rank = all(
            self.context.machine.collect([made is not None])
        )  # the main process may have just written it
        if made is None or not on_every_rank:
            return self.make_trial(rate, steps)
        self.context.clocks.carry("search", made.search_seconds)
        return made

    def make_trial(self, rate: float, steps: int) -> Trial:
        """Train the model for a number of steps, keep the trial, and restore the model."""
        context, seed = self.context, self.context.suite.seeds[0]
        judged = sample(len(context.corpus.validation), context.suite.search.validation_documents, seed)
        before = context.clocks.read()["search"]
        run = training_plan(context.suite, self.method, rate, seed, context.micro_batch, context.recomputes)
        plan = trial_plan(run, steps)
        with self.untrained.put_back():
            state = TrainingState.begin(self.untrained.adapted, plan, context.machine.loss_scaler())
            loss = self.train(plan, state, judged)
        trial = Trial(
            learning_rate=rate,
            validation_loss=loss,
            documents=state.progress.documents,
            search_seconds=context.clocks.read()["search"] - before,
            search_flops=state.progress.train_flops,
        )
        if context.machine.is_main:
            keep_trial(self.trials_folder, trial, steps, context.identity)
        return trial

    def train(self, plan: TrainingPlan, state: TrainingState, judged: Sequence[int]) -> float | None:
        """Train a trial and return its final loss on these validation pairs; None if it diverged."""
        context, model, validation = self.context, self.untrained, self.trunk.validation
        pairs = [context.corpus.validation[i] for i in judged]
        cache = validation.only(judged) if validation else None
        loop = Loop(model, context.corpus.train, plan, state, self.trunk.counter(self.flops), self.trunk.cache)
        try:
            while not loop.finished:
                if loop.evaluation_due:
                    loop.evaluate(context.loss(model, pairs, cache=cache).mean)
                else:
                    with context.clocks.time("search"):
                        loop.step()
                    context.show_progress(state.progress.step, loop.total_steps)
        except NonFiniteLoss:
            return None
        return state.progress.best_loss


def trial_plan(run: TrainingPlan, steps: int) -> TrainingPlan:
    """The recipe of a trial with this number of steps, evaluated once at its end, derived from a run's recipe."""
    return replace(run, max_epochs=1, max_steps=steps, eval_every=1.0, decay_share=TRIAL_DECAY_SHARE)


def make_trial(context: RunContext, method: Method, model: EngineModel, rate: float) -> None:
    """Make one trial of the search's first round and keep it for the run that makes the search.

    Args:
        context: the run for which the trial is made.
        method: the method to train.
        model: the prepared model, used to determine FLOPs and the micro-batch.
        rate: one of the search's learning rates.

    Raises:
        ConfigError: the search has no such learning rate.
    """
    grid = first_rates(context.suite, method)
    if rate not in grid:
        there = ", ".join(f"{rate:g}" for rate in grid) or "none"
        raise ConfigError(f"The search of {context.entry.label!r} has no trial at {rate:g}; it has {there}.")
    with context.stage("preparation"):
        flops = fit_flop_models(context, method, model)
        find_micro_batch(context, model)
        trunk = open_trunk(context, method, model, flops)
    search = RateSearch(context, method, model, flops, trunk)
    with context.stage("search"):
        search.find_trial(rate, search.budget.first)

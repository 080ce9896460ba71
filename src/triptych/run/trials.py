"""The learning-rate search of a run: its trials trained one by one, kept when they end, and read again."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from triptych.contracts import Method
from triptych.engine.model import EngineModel
from triptych.engine.training import Loop, TrainingState
from triptych.errors import ConfigError, NonFiniteLoss
from triptych.results import layout
from triptych.results.records import SearchResult, Trial
from triptych.run.checkpoints import Checkpoint
from triptych.run.events import TrialEvent
from triptych.run.kept import keep
from triptych.run.passes import FlopModels, find_micro_batch, fit_flop_models, open_trunk
from triptych.run.recipe import training_plan
from triptych.run.search import keep_trial, read_search, read_trials, sample_pairs, search_rates, spread
from triptych.run.workbench import Workbench


@dataclass(frozen=True)
class RateSearch:
    """The search for the learning rate of a method, which all its seeds share.

    Attributes:
        bench: the run that makes or reads it.
        method: what is trained.
        flops: FLOPs of a training pass; None where they cannot be counted.
    """

    bench: Workbench
    method: Method
    flops: FlopModels | None

    @property
    def grid(self) -> tuple[float, ...]:
        """The learning rates that are tried."""
        return spread(self.method.learning_rates, self.bench.suite.search.trials)

    @property
    def trials_folder(self) -> Path:
        """Where finished trials are kept until the search has ended."""
        return layout.trials_folder(self.bench.out, self.bench.entry.label)

    def result(self, resumed: Checkpoint | None) -> tuple[SearchResult | None, float]:
        """What the search found, and the FLOPs that this run is charged for it; None where there is nothing to search.

        The search is made under the suite's first seed by the first run that needs it, which is charged; the others
        read it. Each trial is kept when it ends, so that a search that was interrupted resumes, and trials that were
        made elsewhere are used; what they cost is carried over.

        Args:
            resumed: the checkpoint that the run resumes from: its rate is kept, whatever `search.json` says now.
        """
        bench = self.bench
        if len(self.grid) <= 1:
            return None, 0.0
        if resumed is not None:
            return SearchResult.model_validate(resumed.facts["search"]), resumed.facts["search_flops"]
        file = layout.search_file(bench.out, bench.entry.label)
        result = read_search(file, bench.identity, bench.note)
        if result is not None:
            if result.charged_to != bench.seed:
                return result, 0.0
            bench.clocks.carry("search", result.seconds)
            return result, result.flops
        finished = read_trials(self.trials_folder, self.grid, bench.identity, bench.note)
        bench.clocks.carry("search", sum(trial.search_seconds for trial in finished))
        with bench.stage("search"):
            result = search_rates(self.grid, self.try_rate, finished, self.report, charged_to=bench.seed)
        if bench.machine.is_main:
            keep(file, result, bench.identity)
            shutil.rmtree(self.trials_folder, ignore_errors=True)
        return result, result.flops

    def report(self, trial: Trial) -> None:
        """Send a finished trial as an event."""
        self.bench.emit(TrialEvent(learning_rate=trial.learning_rate, validation_loss=trial.validation_loss))

    def try_rate(self, rate: float) -> Trial:
        """Train a fresh model on the search's budget, under the suite's first seed, and keep the trial."""
        bench = self.bench
        budget, seed = bench.suite.search, bench.suite.seeds[0]
        train_set = sample_pairs(bench.corpus.train, budget.train_documents, seed)
        validation_set = sample_pairs(bench.corpus.validation, budget.validation_documents, seed)
        before = bench.clocks.read()["search"]
        model = bench.fresh_model(self.method, seed)
        plan = training_plan(bench.suite, self.method, rate, seed, bench.micro_batch)
        plan = replace(plan, max_epochs=budget.epochs)
        trunk = open_trunk(bench, self.method, model, train_set)
        state = TrainingState.begin(model.adapted, plan, bench.machine.loss_scaler())
        state.progress.train_flops = trunk.flops
        loop = Loop(model, train_set, plan, state, trunk.counter(self.flops), trunk.cache)
        try:
            while not loop.finished:
                if loop.at_epoch_end:
                    loop.end_epoch(bench.loss(model, validation_set).mean)
                else:
                    with bench.clocks.time("search"):
                        loop.step()
                    bench.show_progress(state.progress.step, loop.total_steps)
            loss = state.progress.best_loss
        except NonFiniteLoss:
            loss = None
        seconds, work = bench.clocks.read()["search"] - before, state.progress.train_flops
        trial = Trial(learning_rate=rate, validation_loss=loss, search_seconds=seconds, search_flops=work)
        if bench.machine.is_main:
            keep_trial(self.trials_folder, trial, bench.identity)
        return trial


def make_trial(bench: Workbench, method: Method, model: EngineModel, rate: float) -> None:
    """Make one trial of the search and keep it; the run that makes the search finds it.

    Args:
        bench: the run that the trial is made for.
        method: what is trained.
        model: the prepared model, by which FLOPs and the micro-batch are found.
        rate: one of the search's learning rates.

    Raises:
        ConfigError: the search has no such learning rate.
    """
    grid = RateSearch(bench, method, None).grid
    if rate not in grid:
        there = ", ".join(f"{rate:g}" for rate in grid) or "none"
        raise ConfigError(f"The search of {bench.entry.label!r} has no trial at {rate:g}; it has {there}.")
    with bench.stage("preparation"):
        flops = fit_flop_models(bench, method, model)
        find_micro_batch(bench, model)
    with bench.stage("search"):
        RateSearch(bench, method, flops).try_rate(rate)

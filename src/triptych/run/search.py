"""The learning-rate search, the same for every method: all rates on short trials, then the best two on longer ones."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from triptych.config.schedule import WARMUP_STABLE_DECAY, evaluation_step
from triptych.config.schema import Suite
from triptych.contracts import Method
from triptych.engine.batching import epoch_order
from triptych.engine.training import TrainingPlan, steps_per_epoch
from triptych.errors import NonFiniteLoss, ResultsError
from triptych.results.records import SearchResult, Trial
from triptych.run.kept import Note, find_kept, keep
from triptych.run.recipe import training_plan

FINALISTS = 2  # rates that get a second, longer trial
MAX_WIDENINGS = 2  # rates beyond the grid that may be tried
WIDENING_STEPS = 3  # minimum of a short trial: after one or two steps, the highest rate leads even if it diverges later


class Budget(NamedTuple):
    """The optimizer steps available for a method's trials.

    Attributes:
        total: steps of all trials together.
        first: steps of a trial in the first round.
        most: maximum steps of any trial, those of one epoch.
        widenings: number of rates beyond the grid that may be tried.
    """

    total: int
    first: int
    most: int
    widenings: int

    def of_finalist(self, first_trials: int) -> int:
        """Steps per trial of the second round after that many first trials; `first` if there is no second round."""
        return min(self.most, max(self.first, (self.total - first_trials * self.first) // FINALISTS))


def search_budget(plan: TrainingPlan, documents: int, share: float, rates: int) -> Budget:
    """The budget of a search: a share of the steps of the shortest run that lowers the loss.

    That run improves until its first evaluation and then stops after `patience` evaluations; with
    `warmup_stable_decay`, its decay follows. The search thus takes at most this share of the steps of any such run,
    unless that is less than one step per trial, the minimum.

    Args:
        plan: the recipe of the run.
        documents: number of training pairs.
        share: the share of that run's steps.
        rates: number of learning rates in the first round.
    """
    epoch = steps_per_epoch(documents, plan)
    gain, stop = (evaluation_step(number, plan.eval_every, epoch) for number in (1, 1 + plan.patience))
    shortest = stop
    if plan.schedule == WARMUP_STABLE_DECAY:
        schedule = plan.schedule_of(epoch, epoch * plan.max_epochs)
        shortest += schedule.decay_steps(gain)
    total = int(share * min(shortest, epoch * plan.max_epochs))
    # trials of the second round have at least three times the steps of the first
    first = max(1, total // (rates + MAX_WIDENINGS + 3 * FINALISTS))
    widenings = MAX_WIDENINGS if first >= WIDENING_STEPS else 0
    if rates <= FINALISTS and not widenings:  # all are finalists, so a first round would decide nothing
        first = max(1, total // rates)
    return Budget(total, min(first, epoch), epoch, widenings)


def planned_trials(suite: Suite, method: Method, documents: int) -> list[int]:
    """The optimizer steps of each trial of a search, if the grid is not extended; empty without a search.

    Args:
        suite: the suite.
        method: a method that trains.
        documents: number of training pairs.
    """
    rates = len(first_rates(suite, method))
    if rates <= 1:
        return []
    budget = budget_of(suite, method, documents)
    longer = budget.of_finalist(rates)
    return [budget.first] * rates + [longer] * (FINALISTS if longer > budget.first else 0)


def budget_of(suite: Suite, method: Method, documents: int) -> Budget:
    """The budget of a method's search with this number of training pairs."""
    plan = training_plan(suite, method, method.learning_rate, 0, 1)
    return search_budget(plan, documents, suite.search.share, len(first_rates(suite, method)))


def first_rates(suite: Suite, method: Method) -> tuple[float, ...]:
    """The learning rates in the first round of a method's search; with only one, there is no search."""
    return spread(method.learning_rates, suite.search.trials)


def spread(grid: Sequence[float], trials: int) -> tuple[float, ...]:
    """Choose `trials` evenly spaced values of an ascending grid, including both ends."""
    if trials >= len(grid):
        return tuple(grid)
    return tuple(grid[round(place)] for place in np.linspace(0, len(grid) - 1, trials))


def search_rates(
    grid: Sequence[float],
    budget: Budget,
    try_rate: Callable[[float, int], Trial],
    report: Callable[[Trial], None] = lambda trial: None,
    charged_to: int = 0,
) -> SearchResult:
    """Successive halving (Jamieson and Talwalkar 2016): every rate on a short trial, the best two on a longer one.

    If the best rate of the first round is at an end of the grid, the grid is extended there as often as the budget
    allows. The total number of steps is the same whether or not it was extended. If the steps do not allow longer
    trials than in the first round, the first round decides.

    Args:
        grid: at least two learning rates, ascending.
        budget: the optimizer steps available.
        try_rate: trains a fresh model at a rate for a number of steps, or finds an earlier trial.
        report: called with every trial.
        charged_to: the seed of the run that makes the search.

    Raises:
        NonFiniteLoss: every rate diverged.
    """
    trials: list[Trial] = []

    def try_all(rates: Sequence[float], steps: int) -> dict[float, float]:
        """The losses of the rates that did not diverge."""
        for rate in rates:
            trials.append(try_rate(rate, steps))
            report(trials[-1])
        tried = trials[len(trials) - len(rates) :]
        return {t.learning_rate: t.validation_loss for t in tried if t.validation_loss is not None}

    rates = list(grid)
    reached = try_all(rates, budget.first)
    if not reached:
        raise NonFiniteLoss(
            f"Every learning rate of {', '.join(f'{rate:g}' for rate in grid)} diverged; give lower ones."
        )
    for _ in range(budget.widenings):
        best = min(reached, key=lambda rate: reached[rate])
        if best == rates[0]:
            rates.insert(0, next_rate(rates[0], rates[1]))
            reached |= try_all(rates[:1], budget.first)
        elif best == rates[-1]:
            rates.append(next_rate(rates[-1], rates[-2]))
            reached |= try_all(rates[-1:], budget.first)
    longer = budget.of_finalist(len(trials))
    if longer > budget.first:
        finalists = sorted(sorted(reached, key=lambda rate: reached[rate])[:FINALISTS])
        reached = try_all(finalists, longer)
        if not reached:
            raise NonFiniteLoss(f"Longer trials of {', '.join(f'{rate:g}' for rate in finalists)} diverged.")
    chosen = min(sorted(reached), key=lambda rate: reached[rate])
    return SearchResult(trials=trials, chosen=chosen, at_edge=chosen in (rates[0], rates[-1]), charged_to=charged_to)


def next_rate(end: float, neighbor: float) -> float:
    """The next rate beyond an end of a grid, by the ratio to its neighbor, rounded to two digits."""
    return float(f"{end * end / neighbor:.2g}")


def sample(pairs: int, size: int, seed: int) -> list[int]:
    """Draw at most `size` of `pairs` pairs by seed; return their indices in file order."""
    return sorted(epoch_order(pairs, seed, 0)[:size].tolist())


def read_search(path: Path, made_with: Mapping[str, Any], note: Note = lambda message: None) -> SearchResult | None:
    """Read the search of an earlier run of the entry; None if there is none or it was made with something else.

    Args:
        path: `search.json`.
        made_with: everything the search depends on.
        note: called with a sentence if a search exists but is not used.

    Raises:
        ResultsError: the file is malformed or contains no search.
    """
    return find_kept(path, SearchResult, "search", made_with, note)


def keep_trial(folder: Path, trial: Trial, steps: int, made_with: Mapping[str, Any]) -> None:
    """Write a finished trial for the run that makes the search."""
    keep(_file_of(folder, trial.learning_rate, steps), trial, made_with)


def read_trial(
    folder: Path,
    rate: float,
    steps: int,
    made_with: Mapping[str, Any] | None = None,
    note: Note = lambda message: None,
) -> Trial | None:
    """Read a trial kept in a folder; None if there is none or it was made with something else.

    Args:
        folder: the folder of trials.
        rate: its learning rate.
        steps: its optimizer steps.
        made_with: everything it depends on; None: anything is accepted.
        note: called with a sentence if a trial exists but is not used.

    Raises:
        ResultsError: the file is malformed or contains no trial of this learning rate.
    """
    trial = find_kept(file := _file_of(folder, rate, steps), Trial, "trial", made_with, note)
    if trial is not None and trial.learning_rate != rate:
        raise ResultsError(f"{str(file)!r} contains a trial of {trial.learning_rate:g}. Delete it to make it again.")
    return trial


def _file_of(folder: Path, rate: float, steps: int) -> Path:
    return folder / f"{rate!r}-{steps}.json"

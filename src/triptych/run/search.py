"""The learning-rate search: the same number of trials, on the same short budget, for every method."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triptych.corpus.sequence import Pair
from triptych.engine.batching import epoch_order
from triptych.errors import NonFiniteLoss, ResultsError
from triptych.results.records import SearchResult, Trial
from triptych.run.kept import Note, find_kept, keep


def spread(grid: Sequence[float], trials: int) -> tuple[float, ...]:
    """Choose `trials` values of a rising grid, evenly spaced, both ends included."""
    if trials >= len(grid):
        return tuple(grid)
    return tuple(grid[round(place)] for place in np.linspace(0, len(grid) - 1, trials))


def search_rates(
    grid: Sequence[float],
    try_rate: Callable[[float], Trial],
    finished: Sequence[Trial] = (),
    report: Callable[[Trial], None] = lambda trial: None,
    charged_to: int = 0,
) -> SearchResult:
    """Try every rate; the lowest validation loss wins.

    Args:
        grid: learning rates, rising.
        try_rate: trains a fresh model on the short budget.
        finished: trials made before, by a search that was interrupted or elsewhere; they are not repeated.
        report: called with each trial.
        charged_to: the seed of the run that makes the search.

    Raises:
        NonFiniteLoss: every rate diverged.
    """
    known = {trial.learning_rate: trial for trial in finished}
    trials: list[Trial] = []
    for rate in grid:
        trials.append(known.get(rate) or try_rate(rate))
        report(trials[-1])
    reached = {t.learning_rate: t.validation_loss for t in trials if t.validation_loss is not None}
    if not reached:
        raise NonFiniteLoss(
            f"Every learning rate of {', '.join(f'{rate:g}' for rate in grid)} diverged; give lower ones."
        )
    chosen = min(reached, key=lambda rate: reached[rate])
    return SearchResult(trials=trials, chosen=chosen, at_edge=chosen in (grid[0], grid[-1]), charged_to=charged_to)


def sample_pairs(split: Sequence[Pair], size: int, seed: int) -> list[Pair]:
    """Draw at most `size` pairs of a split by the seed, in file order."""
    return [split[i] for i in sorted(epoch_order(len(split), seed, 0)[:size].tolist())]


def read_search(path: Path, made_with: Mapping[str, Any], note: Note = lambda message: None) -> SearchResult | None:
    """Read what an earlier run of the entry found; None where there is no search, or one made with something else.

    Args:
        path: `search.json`.
        made_with: everything that the search depends on.
        note: called with a sentence where there is a search and it is not used.

    Raises:
        ResultsError: the file is malformed or contains no search.
    """
    return find_kept(path, SearchResult, "search", made_with, note)


def keep_trial(folder: Path, trial: Trial, made_with: Mapping[str, Any]) -> None:
    """Write a finished trial to where the run that makes the search finds it."""
    keep(_file_of(folder, trial.learning_rate), trial, made_with)


def read_trials(
    folder: Path, grid: Sequence[float], made_with: Mapping[str, Any] | None = None, note: Note = lambda message: None
) -> list[Trial]:
    """Read the trials of a grid that are kept in a folder.

    Args:
        folder: where they are.
        grid: learning rates.
        made_with: everything that they depend on; trials made with something else are left out. None: all are read.
        note: called with a sentence for each that is left out.

    Raises:
        ResultsError: a file is malformed or contains no trial of its learning rate.
    """
    found = []
    for rate in grid:
        trial = find_kept(file := _file_of(folder, rate), Trial, "trial", made_with, note)
        if trial is None:
            continue
        if trial.learning_rate != rate:
            raise ResultsError(
                f"{str(file)!r} contains a trial of {trial.learning_rate:g}. Delete it to make it again."
            )
        found.append(trial)
    return found


def _file_of(folder: Path, rate: float) -> Path:
    return folder / f"{rate!r}.json"

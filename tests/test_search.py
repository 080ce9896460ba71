"""The learning-rate search: the same number of trials for all, on the same budget; interrupted, it goes on."""

import pytest

from triptych.contracts import Method
from triptych.corpus import Pair
from triptych.errors import NonFiniteLoss, ResultsError
from triptych.records import Trial
from triptych.registry import build, registered
from triptych.search import keep_trial, read_trials, sample, search, spread

GRID = (0.1, 0.2, 0.3, 0.4)


def trial(losses: dict[float, float | None], made: list[float]):
    """A trial whose loss is looked up, and which is noted."""

    def try_rate(rate: float) -> Trial:
        made.append(rate)
        return Trial(learning_rate=rate, validation_loss=losses[rate])

    return try_rate


def test_every_tuned_kind_gets_the_same_number_of_rates():
    """Each registered method that trains has a rising grid of at least the four rates that a search may try by default."""
    for name, kind in registered(Method).items():
        if kind.trains:
            grid = build(kind, {}, name).learning_rates
            assert list(grid) == sorted(set(grid)), name
            assert [len(spread(grid, trials)) for trials in (1, 2, 3, 4)] == [1, 2, 3, 4], name


def test_fewer_trials_still_span_the_grid():
    """With fewer trials than rates they lie evenly over the grid, both ends included."""
    assert spread((1, 2, 3, 4, 5), 3) == (1, 3, 5) and spread(GRID, 9) == GRID


@pytest.mark.parametrize(("losses", "chosen", "at_edge"), [
    ((3.0, 2.0, 2.5, 2.6), 0.2, False), ((1.0, 2.0, 2.5, 2.6), 0.1, True), ((3.0, 2.0, 2.5, 1.0), 0.4, True),
    ((3.0, 2.0, None, None), 0.2, False), ((2.0, 2.0, 3.0, 3.0), 0.1, True),
])  # fmt: skip
def test_the_lowest_validation_loss_wins(losses, chosen, at_edge):
    """The rate of the lowest loss is chosen, the lower rate of two alike; at an end of the grid it is marked so."""
    result = search(GRID, trial(dict(zip(GRID, losses, strict=True)), []))
    assert (result.chosen, result.at_edge) == (chosen, at_edge) and len(result.trials) == 4


def test_a_search_in_which_all_diverges_is_an_error():
    """Where every rate diverged there is nothing to choose, and the rates are named."""
    with pytest.raises(NonFiniteLoss, match=r"0\.1, 0\.2, 0\.3, 0\.4"):
        search(GRID, trial(dict.fromkeys(GRID), []))


def test_an_interrupted_search_goes_on():
    """A second attempt makes the missing trials alone, comes to the unbroken result, and tells every trial in order."""
    losses = dict(zip(GRID, (3.0, 2.0, 1.5, 2.6), strict=True))
    kept: list[Trial] = []
    told: list[Trial] = []
    made: list[float] = []

    def die(rate: float) -> Trial:
        if rate == 0.3:
            raise KeyboardInterrupt
        return trial(losses, made)(rate)

    with pytest.raises(KeyboardInterrupt):
        search(GRID, die, tell=kept.append)
    assert [t.learning_rate for t in kept] == [0.1, 0.2]
    assert search(GRID, trial(losses, made), finished=kept, tell=told.append) == search(GRID, trial(losses, []))
    assert made == [0.1, 0.2, 0.3, 0.4] == [t.learning_rate for t in told]


def test_kept_trials_are_read_by_the_rates_of_the_grid(tmp_path):
    """Each trial is a file of its own, so that several may be made at once; those of other rates are left alone."""
    for rate in (0.3, 0.1, 0.7):
        keep_trial(tmp_path, Trial(learning_rate=rate, validation_loss=1 / 3))
    assert [t.learning_rate for t in read_trials(tmp_path, GRID)] == [0.1, 0.3]
    assert read_trials(tmp_path / "none", GRID) == []
    (tmp_path / "0.3.json").rename(tmp_path / "0.2.json")
    with pytest.raises(ResultsError, match=r"trial of 0\.3"):
        read_trials(tmp_path, GRID)


def test_the_budget_of_a_trial_is_a_seeded_sample():
    """A trial's documents depend on the seed alone, come in file order, and a smaller budget lies within a larger one."""
    split = [Pair(str(i), None, None) for i in range(50)]
    ten, thirty = ([int(p.id) for p in sample(split, size, 3)] for size in (10, 30))
    assert ten == sorted(ten) and set(ten) < set(thirty) and len(ten) == 10
    assert ten == [int(p.id) for p in sample(split, 10, 3)] != [int(p.id) for p in sample(split, 10, 4)]
    assert len(sample(split, 99, 0)) == 50

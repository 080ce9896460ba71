"""The learning rate of each step, as a share of its peak."""

import math

import pytest

from triptych.config.schedule import Schedule, evaluation_step, num_evaluations


def test_schedules_by_hand():
    """Step k of w warms to (k + 1) / w, never 0; then the share falls linearly, follows a cosine, or stays."""
    linear = Schedule("linear", 0.2, 5, 10)
    assert [linear.share(k) for k in range(10)] == pytest.approx(
        [1 / 2, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    )
    cosine = Schedule("cosine", 0.0, 4, 4)
    assert [cosine.share(k) for k in range(4)] == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, 0.1464466])
    assert [Schedule("constant", 0.05, 3, 3).share(k) for k in range(3)] == [1, 1, 1]


def test_the_late_decay_by_hand():
    """The share stays at its peak until the decay begins, and falls linearly in the given steps."""
    late = Schedule("warmup_stable_decay", 0.1, 10, 20)
    assert [late.share(k) for k in (0, 1, 2, 12)] == [0.5, 1, 1, 1]
    assert [late.share(k, 13, 7) for k in range(13, 20)] == pytest.approx([n / 7 for n in range(7, 0, -1)])
    assert late.latest_decay_start == 13


def test_the_late_decay_hardly_depends_on_the_epochs():
    """From two epochs on, the warm-up has the same steps, so runs are equal until one of them decays."""
    runs = [Schedule("warmup_stable_decay", 0.05, 100, 100 * epochs) for epochs in (2, 3, 10, 50)]
    assert [run.warmup_steps for run in runs] == [10, 10, 10, 10]
    assert Schedule("linear", 0.05, 100, 1000).warmup_steps == 50


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant", "warmup_stable_decay"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 0.99])
def test_no_step_is_wasted(kind, warmup):
    """No step has a rate of 0 or above the peak, however short the training; a forced decay ends with it."""
    for total in (1, 2, 3, 7, 100):
        schedule = Schedule(kind, warmup, 3, total)
        start = schedule.latest_decay_start
        assert 0 <= start < total
        for step in range(total):
            began = start if step >= start else None
            assert 0 < schedule.share(step, began, total - start) <= 1 + 1e-12


@pytest.mark.parametrize(("epochs", "every", "expected"), [(2, 0.3, 8), (3, 0.25, 12), (10, 1.0, 10), (1, 0.07, 15)])
def test_evaluations_are_counted_with_the_end_of_every_epoch(epochs, every, expected):
    """With 0.3, an epoch is evaluated at 0.3, 0.6, 0.9 and at its end."""
    assert num_evaluations(epochs, every) == expected


@pytest.mark.parametrize(
    ("every", "steps", "expected"),
    [
        (1.0, 10, [10, 20, 30]),
        (0.3, 10, [3, 6, 9, 10, 13]),
        (0.75, 10, [8, 10, 18]),
        (0.07, 100, [7, 14]),
        (0.1, 1, [1, 2]),
    ],
)
def test_evaluations_come_where_training_makes_them(every, steps, expected):
    """Evaluations happen at whole multiples of the interval within an epoch, and at its end."""
    assert [evaluation_step(number + 1, every, steps) for number in range(len(expected))] == expected

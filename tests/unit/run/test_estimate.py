"""Time estimates for a suite: a few timed documents of typical length, scaled to every run."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from support.worlds import World
from triptych.config.schema import make_suite
from triptych.contracts import Baseline, Method
from triptych.registry import find
from triptych.run.entries import SuiteEntry
from triptych.run.estimate import PROCESS_SECONDS, MethodTimes, estimate_run
from triptych.run.timing import (
    PATIENCE_SECONDS,
    TIMED_SECONDS,
    TrainingTimes,
    Usual,
    growing,
    now,
    stamps_of,
    time_loss,
)


def made_up(train: int, validation: int, test: int, **settings) -> SimpleNamespace:
    """A checked suite with this many documents, without a model."""
    corpus = SimpleNamespace(train=range(train), validation=range(validation), test=range(test))
    return SimpleNamespace(suite=make_suite(settings), corpus=corpus)


def entry(kind: str) -> SuiteEntry:
    """A method with its default options."""
    contract = Baseline if kind == "lead-3" else Method
    return SuiteEntry(kind, kind, find(contract, kind)())


TIMES = MethodTimes(loading=2.0, loss=0.1, summary=0.5, training=TrainingTimes(document=0.3, update=0.7, keeping=0.05))


def test_times_of_documents_are_scaled_to_a_run():
    """Passes scale with documents, updates with steps, losses with validations, summaries with test documents."""
    checked = made_up(100, 10, 20, training={"max_epochs": 3, "global_batch_size": 32}, search={"trials": 0})
    found = estimate_run(checked, entry("lora"), TIMES)
    assert found.train_seconds == pytest.approx(3 * (100 * 0.3 + 4 * 0.7) + 100 * 0.05)
    assert found.generation_seconds == pytest.approx(20 * 0.5) and found.search_seconds == 0
    assert found.start_seconds == PROCESS_SECONDS + 2.0
    assert found.document_seconds == pytest.approx(0.3 + 0.7 / 32)
    assert found.seconds == pytest.approx(
        found.start_seconds + found.train_seconds + found.evaluation_seconds + found.generation_seconds
    )
    more = estimate_run(made_up(200, 10, 20, training={"max_epochs": 3}, search={"trials": 0}), entry("lora"), TIMES)
    assert more.train_seconds > 1.9 * found.train_seconds and more.generation_seconds == found.generation_seconds


def test_evaluations_from_the_trunk_cache_are_estimated():
    """The losses before training and on the test split use the whole model; the validation states are then computed
    once, and each evaluation and trial reads them."""
    settings = {"training": {"max_epochs": 3, "global_batch_size": 10}, "search": {"trials": 4}}
    checked = made_up(100, 10, 20, **settings)
    plain = estimate_run(checked, entry("last-layers"), TIMES)
    found = estimate_run(checked, entry("last-layers"), replace(TIMES, training=replace(TIMES.training, judging=0.01)))
    assert plain.evaluation_seconds == pytest.approx(0.1 * (4 * 10 + 20))
    assert found.evaluation_seconds == pytest.approx(0.1 * (10 + 20) + 10 * (0.05 + 3 * 0.01))
    assert plain.search_seconds - found.search_seconds == pytest.approx(6 * 10 * (0.1 - 0.01))


def test_a_row_that_is_not_trained_takes_its_evaluation_and_summaries():
    """There is no training and no search; without a model only the start of a process counts."""
    checked = made_up(100, 10, 20)
    untuned = estimate_run(checked, entry("untuned"), MethodTimes(loading=2.0, loss=0.1, summary=0.5))
    assert untuned.train_seconds == 0 and untuned.evaluation_seconds == pytest.approx(0.1 * (10 + 20))
    assert estimate_run(checked, entry("lead-3"), MethodTimes()).seconds == PROCESS_SECONDS


def test_a_timing_grows_until_it_is_long_enough_or_has_all_documents():
    """Work is doubled while it is short, the first timing is left out, and of short timings the shortest counts."""
    asked = []

    def measure(seconds: float):
        def work(size: int) -> float:
            asked.append(size)
            return seconds * size * (10 if len(asked) == 1 else 1)

        return work

    assert growing(measure(TIMED_SECONDS / 3), 8) == (2, pytest.approx(2 * TIMED_SECONDS / 3)) and asked == [1, 1, 2]
    asked.clear()
    assert growing(measure(TIMED_SECONDS), 8) == (1, TIMED_SECONDS) and asked == [1, 1]
    asked.clear()
    size, seconds = growing(measure(0.01), 6)
    assert (size, seconds) == (6, pytest.approx(0.06)) and asked[:5] == [1, 1, 2, 4, 6] and set(asked[5:]) == {6}


@pytest.mark.parametrize(("waits", "sizes"), [(PATIENCE_SECONDS, [1]), (PATIENCE_SECONDS / 2.5, [1, 1, 2])])
def test_a_timing_that_takes_long_by_the_wall_is_not_repeated(waits, sizes, monkeypatch):
    """On a busy machine little is computed in much time: what was measured by then counts, even if it is only the first
    timing."""
    wall, asked = [0.0], []
    monkeypatch.setattr("triptych.run.timing.time.monotonic", lambda: wall[0])

    def measure(size: int) -> float:
        asked.append(size)
        wall[0] += waits
        return 0.01 * size

    assert growing(measure, 8) == (sizes[-1], 0.01 * sizes[-1]) and asked == sizes


def test_documents_of_usual_length_are_timed(gpt2: World):
    """The documents closest to the mean length are timed, and their time is scaled to the mean."""
    usual = Usual.of(gpt2.pairs, 3)
    lengths = sorted(abs(len(p.document_ids) + len(p.summary_ids) - usual.tokens) for p in gpt2.pairs)
    mine = [abs(len(p.document_ids) + len(p.summary_ids) - usual.tokens) for p in usual.pairs]
    assert mine == lengths[:3]
    tokens = sum(len(p.document_ids) + len(p.summary_ids) for p in usual.pairs[:2])
    assert usual.each(6.0, 2) == pytest.approx(6.0 * usual.tokens / tokens)


def test_a_model_is_timed_as_it_is(world: World):
    """A loss takes more than zero time, passes through the blocks are noted in order, and no hook is left."""
    model = world.model(find(Method, "untuned")())
    assert time_loss(model, world.pairs, 4) > 0
    with stamps_of(model) as stamps:
        time_loss(model, world.pairs, 2)
    assert stamps == sorted(stamps) and stamps and now(model.machine) >= stamps[-1]
    assert not model.parts.blocks[0]._forward_pre_hooks

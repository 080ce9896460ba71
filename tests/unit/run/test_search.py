"""The learning-rate search: the same number of trials for all, on the same budget; interrupted, it goes on."""

import json
from types import SimpleNamespace

import pytest
import torch

from triptych.config import reading
from triptych.contracts import Method
from triptych.corpus.sequence import Pair
from triptych.errors import NonFiniteLoss, ResultsError
from triptych.registry import build, registered
from triptych.results.records import SearchResult, Trial
from triptych.run import entries, kept
from triptych.run.passes import MicroBatch
from triptych.run.search import keep_trial, read_search, read_trials, sample_pairs, search_rates, spread
from triptych.run.workbench import Workbench

MADE_WITH = {"settings": "5e771", "data": "da7a", "model": "60de1", "versions": {"torch": "2.9.0"}}
GRID = (0.1, 0.2, 0.3, 0.4)


def trial(losses: dict[float, float | None], made: list[float]):
    """A trial whose loss is looked up, and which is noted."""

    def try_rate(rate: float) -> Trial:
        made.append(rate)
        return Trial(learning_rate=rate, validation_loss=losses[rate])

    return try_rate


def test_every_tuned_kind_gets_the_same_number_of_rates():
    """Each registered method that trains has a rising grid of at least the four rates that a search may try by
    default."""
    for name, kind in registered(Method).items():
        if kind.trains:
            grid = build(kind, {}, name).learning_rates
            assert list(grid) == sorted(set(grid)), name
            assert [len(spread(grid, trials)) for trials in (1, 2, 3, 4)] == [1, 2, 3, 4], name


def test_fewer_trials_still_span_the_grid():
    """With fewer trials than rates they lie evenly over the grid, both ends included."""
    assert spread((1, 2, 3, 4, 5), 3) == (1, 3, 5) and spread(GRID, 9) == GRID


@pytest.mark.parametrize(
    ("losses", "chosen", "at_edge"),
    [
        ((3.0, 2.0, 2.5, 2.6), 0.2, False),
        ((1.0, 2.0, 2.5, 2.6), 0.1, True),
        ((3.0, 2.0, 2.5, 1.0), 0.4, True),
        ((3.0, 2.0, None, None), 0.2, False),
        ((2.0, 2.0, 3.0, 3.0), 0.1, True),
    ],
)
def test_the_lowest_validation_loss_wins(losses, chosen, at_edge):
    """The rate of the lowest loss is chosen, the lower rate of two alike; at an end of the grid it is marked so."""
    result = search_rates(GRID, trial(dict(zip(GRID, losses, strict=True)), []))
    assert (result.chosen, result.at_edge) == (chosen, at_edge) and len(result.trials) == 4


def test_a_search_in_which_all_diverges_is_an_error():
    """Where every rate diverged there is nothing to choose, and the rates are named."""
    with pytest.raises(NonFiniteLoss, match=r"0\.1, 0\.2, 0\.3, 0\.4"):
        search_rates(GRID, trial(dict.fromkeys(GRID), []))


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
        search_rates(GRID, die, report=kept.append)
    assert [t.learning_rate for t in kept] == [0.1, 0.2]
    assert search_rates(GRID, trial(losses, made), finished=kept, report=told.append) == search_rates(
        GRID, trial(losses, [])
    )
    assert made == [0.1, 0.2, 0.3, 0.4] == [t.learning_rate for t in told]


def test_kept_trials_are_read_by_the_rates_of_the_grid(tmp_path):
    """Each trial is a file of its own, so that several may be made at once; those of other rates are left alone."""
    for rate in (0.3, 0.1, 0.7):
        keep_trial(tmp_path, Trial(learning_rate=rate, validation_loss=1 / 3), MADE_WITH)
    assert [t.learning_rate for t in read_trials(tmp_path, GRID)] == [0.1, 0.3]
    assert read_trials(tmp_path / "none", GRID) == []
    (tmp_path / "0.3.json").rename(tmp_path / "0.2.json")
    with pytest.raises(ResultsError, match=r"trial of 0\.3"):
        read_trials(tmp_path, GRID)


@pytest.mark.parametrize(
    "other",
    [
        {"data": "changed"},
        {"settings": "changed"},
        {"model": "changed"},
        {"versions": {"torch": "2.13.0"}},
        {"device": "cuda"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_search_made_with_something_else_is_made_again(tmp_path, other):
    """A search, trial or micro-batch size of other data, settings, weights or versions is not used, and that is
    reported."""
    trial_ = Trial(learning_rate=0.1, validation_loss=2.0)
    found = SearchResult(trials=[trial_], chosen=0.1, at_edge=True)
    size = MicroBatch(micro_batch_size=8)
    kept.keep(tmp_path / "search.json", found, MADE_WITH)
    kept.keep(tmp_path / "micro_batch.json", size, MADE_WITH)
    keep_trial(tmp_path, trial_, MADE_WITH)

    def read_all(made_with, tell):
        return [
            read_search(tmp_path / "search.json", made_with, tell),
            read_trials(tmp_path, GRID, made_with, tell),
            kept.find_kept(tmp_path / "micro_batch.json", MicroBatch, "size", made_with, tell),
        ]

    told: list[str] = []
    assert read_all(MADE_WITH, told.append) == [found, [trial_], size] and told == []
    assert read_all(MADE_WITH | other, told.append) == [None, [], None]
    assert len(told) == 3 and all(f"made with other {next(iter(other))} than" in line for line in told)


def test_a_search_that_does_not_say_what_it_was_made_with_is_made_again(tmp_path):
    """A file of an earlier version, which kept no such note, is not used."""
    content = {"trials": [{"learning_rate": 0.1, "validation_loss": 2.0}], "chosen": 0.1, "at_edge": True}
    (tmp_path / "search.json").write_text(json.dumps(content))
    assert read_search(tmp_path / "search.json", MADE_WITH) is None


@pytest.fixture
def bench_of(tmp_path):
    """Makes workbenches without a machine: fingerprints are those of names."""

    def make(
        row="lora",
        seed=0,
        data="news",
        tokens="cut",
        model="tiny",
        precision="fp32",
        tokenizer="words",
        rank=8,
        **settings,
    ):
        made = reading.preset_settings("demo") | {"model": model, "methods": [row], "method": {"lora": {"rank": rank}}}
        rows = dict.fromkeys([row, *settings.pop("rows", [])])
        suite, table = entries.resolve(reading.merge_tables(made, settings), list(rows))
        machine = SimpleNamespace(precision=precision, device=torch.device("cpu"))
        corpus = SimpleNamespace(data=SimpleNamespace(fingerprint=data, token_fingerprint=tokens))
        base = SimpleNamespace(
            fingerprint=f"fingerprint of {model}", tokenizer_fingerprint=f"fingerprint of {tokenizer}"
        )
        return Workbench(suite, table[0], seed, tmp_path, machine, None, base, corpus, print, 8)

    return make


def test_what_a_row_depends_on_is_its_whole_identity(bench_of):
    """The identity changes with a document, its tokens, a setting, an option, the weights, the tokenizer, the device
    and the search's seed, and with nothing between two runs of one row, other rows and further seeds included."""
    first = bench_of().identity
    assert first == bench_of(seed=1).identity == bench_of(rows=["full", "lead-3"], seeds=[0, 1, 2]).identity
    changes = [
        bench_of(tokens="cut shorter"),
        bench_of(seeds=[1, 0]),
        bench_of(limits={"train_documents": 9}),
        bench_of(row="full"),
        bench_of(rank=2),
        bench_of(data="other"),
        bench_of(model="llama"),
        bench_of(precision="bf16"),
        bench_of(tokenizer="letters"),
    ]
    seen = [json.dumps(made.identity, sort_keys=True) for made in changes]
    assert len({json.dumps(first, sort_keys=True), *seen}) == len(changes) + 1


def test_the_budget_of_a_trial_is_a_seeded_sample():
    """A trial's documents depend on the seed alone, come in file order, and a smaller budget lies within a larger
    one."""
    split = [Pair(str(i), None, None) for i in range(50)]
    ten, thirty = ([int(p.id) for p in sample_pairs(split, size, 3)] for size in (10, 30))
    assert ten == sorted(ten) and set(ten) < set(thirty) and len(ten) == 10
    assert ten == [int(p.id) for p in sample_pairs(split, 10, 3)] != [int(p.id) for p in sample_pairs(split, 10, 4)]
    assert len(sample_pairs(split, 99, 0)) == 50

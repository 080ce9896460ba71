"""The learning-rate search: the same trials for all methods, with the same budget."""

import json
from types import SimpleNamespace

import pytest
import torch

from triptych.config import reading
from triptych.config.schema import make_suite
from triptych.contracts import Method
from triptych.engine.training import Loop, Step, TrainingPlan, TrainingState
from triptych.errors import NonFiniteLoss, ResultsError
from triptych.registry import build, registered
from triptych.results.records import SearchResult, Trial
from triptych.run import entries, kept
from triptych.run.passes import MicroBatch
from triptych.run.run_context import RunContext
from triptych.run.search import (
    Budget,
    budget_of,
    first_rates,
    keep_trial,
    next_rate,
    planned_trials,
    read_search,
    read_trial,
    sample,
    search_budget,
    search_rates,
    spread,
)
from triptych.run.trials import trial_plan

MADE_WITH = {"settings": "5e771", "data": "da7a", "model": "60de1", "versions": {"torch": "2.9.0"}}
GRID = (0.1, 0.2, 0.3, 0.4)
BUDGET = Budget(total=120, first=10, most=1000, widenings=2)


Losses = dict[float, float | None]


def trial(losses: Losses, made: list[tuple[float, int]], later: Losses | None = None):
    """Look up a trial's loss, in the second round in `later` if it is there, and note the trial."""

    def try_rate(rate: float, steps: int) -> Trial:
        made.append((rate, steps))
        found = later if later and steps > BUDGET.first and rate in later else losses
        return Trial(learning_rate=rate, validation_loss=found.get(rate, 9.0), documents=steps)

    return try_rate


def test_every_tuned_kind_gets_the_same_number_of_rates():
    """Each registered method that trains has an increasing grid with at least the four rates that a search may try by
    default."""
    for name, kind in registered(Method).items():
        if kind.trains:
            grid = build(kind, {}, name).learning_rates
            assert list(grid) == sorted(set(grid)), name
            assert [len(spread(grid, trials)) for trials in (1, 2, 3, 4)] == [1, 2, 3, 4], name


def test_fewer_trials_still_span_the_grid():
    """With fewer trials than rates, they are spread evenly over the grid, including both ends."""
    assert spread((1, 2, 3, 4, 5), 3) == (1, 3, 5) and spread(GRID, 9) == GRID


def test_the_best_two_rates_are_tried_for_longer():
    """All rates get short trials and the best two longer ones, of which the lowest loss is chosen; all steps are
    spent."""
    made: list[tuple[float, int]] = []
    losses = dict(zip(GRID, (3.0, 2.0, 2.5, 2.6), strict=True))
    result = search_rates(GRID, BUDGET, trial(losses, made, {0.2: 1.9, 0.3: 1.8}))
    assert made == [(0.1, 10), (0.2, 10), (0.3, 10), (0.4, 10), (0.2, 40), (0.3, 40)]
    assert sum(steps for _, steps in made) == BUDGET.total
    assert (result.chosen, result.at_edge) == (0.3, False)
    assert [t.learning_rate for t in result.last_round] == [0.2, 0.3] and result.ends == (0.1, 0.4)


def test_of_two_equal_rates_the_lower_is_chosen():
    """Of two equally good rates, the lower is chosen."""
    assert search_rates(GRID, BUDGET, trial(dict(zip(GRID, (3.0, 2.0, 2.0, 3.0), strict=True)), [])).chosen == 0.2


def test_a_best_rate_at_an_edge_widens_the_grid():
    """If the best rate is at an end, at most two rates beyond it are tried within the same budget."""
    made: list[tuple[float, int]] = []
    losses = {1e-4: 3.0, 3e-4: 2.9, 1e-3: 2.8, 3e-3: 2.5, 9e-3: 2.4, 0.027: 2.6}
    result = search_rates((1e-4, 3e-4, 1e-3, 3e-3), BUDGET, trial(losses, made, {9e-3: 2.0, 3e-3: 2.1}))
    assert [rate for rate, _ in made] == [1e-4, 3e-4, 1e-3, 3e-3, 9e-3, 0.027, 3e-3, 9e-3]
    assert sum(steps for _, steps in made) == BUDGET.total
    assert (result.chosen, result.at_edge) == (9e-3, False)
    falling = {rate: rate for rate in (*GRID, 0.05, 0.025)}
    low = search_rates(GRID, BUDGET, trial(falling, []))
    assert low.ends[0] == 0.025 and low.chosen == 0.025 and low.at_edge


def test_of_two_rates_the_better_is_at_no_edge_where_one_beyond_is_worse():
    """A grid of two rates has only ends; it is continued beyond the better one like any other."""
    found = search_rates((0.1, 0.2), BUDGET, trial({0.1: 2.0, 0.2: 1.5, 0.4: 1.8}, []))
    assert (found.chosen, found.ends, found.at_edge) == (0.2, (0.1, 0.4), False)


def test_trials_of_a_step_or_two_say_nothing_beyond_the_grid():
    """After a step or two the highest rate leads regardless of its merit, so the grid is not continued."""
    made: list[tuple[float, int]] = []
    budget = search_budget(plan_of(max_epochs=1), 480, 0.35, 4)
    assert budget == Budget(total=21, first=1, most=60, widenings=0)
    result = search_rates(GRID, budget._replace(total=20, first=2), trial({rate: -rate for rate in GRID}, made))
    assert made == [(0.1, 2), (0.2, 2), (0.3, 2), (0.4, 2), (0.3, 6), (0.4, 6)]
    assert (result.chosen, result.at_edge) == (0.4, True)


def test_rates_that_diverge_are_not_chosen():
    """A rate that diverged in either round is not chosen; if the grid's upper end diverged, it is not widened."""
    losses = dict(zip(GRID, (3.0, 2.0, None, None), strict=True))
    made: list[tuple[float, int]] = []
    assert search_rates(GRID, BUDGET, trial(losses, made, {0.2: None})).chosen == 0.1
    assert max(rate for rate, _ in made) == 0.4


def test_a_search_in_which_all_diverges_is_an_error():
    """If every rate diverged there is nothing to choose, and the rates are named."""
    with pytest.raises(NonFiniteLoss, match=r"0\.1, 0\.2, 0\.3, 0\.4"):
        search_rates(GRID, BUDGET, trial(dict.fromkeys(GRID), []))
    with pytest.raises(NonFiniteLoss, match=r"[Ll]onger trials of 0\.1, 0\.2"):
        search_rates(GRID, BUDGET, trial(dict.fromkeys(GRID, 1.0), [], dict.fromkeys(GRID)))


def test_the_rate_beyond_an_end():
    """A grid is continued by the ratio of its last two rates, to two digits."""
    assert [next_rate(3e-3, 1e-3), next_rate(1e-4, 3e-4), next_rate(0.3, 0.1)] == [0.009, 3.3e-5, 0.9]


def plan_of(**changes) -> TrainingPlan:
    recipe = {"max_epochs": 10, "eval_every": 1.0, "patience": 2, "schedule": "warmup_stable_decay"}
    others = dict.fromkeys(("learning_rate", "weight_decay", "micro_batch_size", "max_grad_norm", "seed"), 1)
    return TrainingPlan(
        **{**others, "global_batch_size": 8, "warmup_fraction": 0, "optimizer": "adamw", **recipe, **changes}
    )


def test_of_two_rates_each_is_at_an_edge():
    """A warning that a better rate may lie beyond the edge needs three rates or more, whatever the number of rounds."""
    twice = [Trial(learning_rate=rate, validation_loss=2.0 - rate) for rate in (0.1, 0.3, 0.3, 0.1)]
    third = Trial(learning_rate=0.2, validation_loss=1.9)
    two, three = (SearchResult(trials=trials, chosen=0.3, at_edge=True) for trials in (twice, [*twice, third]))
    assert (two.rates, two.better_beyond) == ([0.1, 0.3], False)
    assert (three.rates, three.better_beyond) == ([0.1, 0.2, 0.3], True)


class Played(Loop):
    """Training without a model: only what follows from its validation losses."""

    def step(self) -> Step:
        """Count a step, after the point where the decay may begin."""
        now = self.state.progress
        if self.schedule.decays_on_plateau and now.decay_start is None and now.step >= self.schedule.latest_decay_start:
            self._begin_decay()
        now.cursor, now.step, now.nats_targets = now.cursor + 1, now.step + 1, 1
        return Step(0.0, 0.0)


def steps_of_the_shortest_run(plan: TrainingPlan, epoch: int) -> int:
    """The first evaluation improves, later ones do not, and the decay's end, if there is one, improves again."""
    weights = [torch.nn.Parameter(torch.zeros(1))]
    state = TrainingState({}, torch.optim.SGD(weights))
    state.keep_untouched(2.0, to_restart=False)
    pairs: list = [None] * epoch * plan.global_batch_size
    loop = Played(SimpleNamespace(eval=lambda: None), pairs, plan, state)  # type: ignore[arg-type]
    while not loop.finished:
        if loop.evaluation_due:
            now = state.progress
            loop.evaluate(1.0 if now.evaluations == 0 else 0.5 if now.decay_start is not None else 1.5)
        else:
            loop.step()
    return state.progress.step


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": "linear"},
        {"eval_every": 0.25},
        {"eval_every": 0.75},
        {"eval_every": 0.9, "patience": 1},
        {"eval_every": 0.6, "schedule": "linear"},
        {"patience": 1},
        {"max_epochs": 2},
        {"max_epochs": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("documents", [800, 2000, 21000])
@pytest.mark.parametrize("widened", [0, 1, 2])
def test_a_search_costs_at_most_its_share_of_a_run(changes, documents, widened):
    """All trials together take at most `share` of the steps of the shortest run that improves, however often the grid
    was widened; finalists are trained at least three times as long as the others."""
    plan = plan_of(**changes)
    epoch = documents // 8
    shortest = steps_of_the_shortest_run(plan, epoch)
    budget = search_budget(plan, documents, 0.35, 4)
    spent = budget.first * (4 + widened) + 2 * budget.of_finalist(4 + widened)
    assert 0.3 * shortest <= spent <= 0.35 * shortest
    assert budget.of_finalist(6) >= 3 * budget.first


def test_a_trial_lowers_its_rate_over_the_last_two_thirds():
    """A trial decays over its last two thirds; a run decays over the last third, which in few steps would favor too low
    a rate."""
    run = plan_of(schedule="warmup_stable_decay")
    assert run.schedule_of(10, 30).latest_decay_start == 20
    trial = trial_plan(run, 30)
    assert trial.max_steps == 30 and trial.schedule_of(10, 30).latest_decay_start == 10


def test_a_search_on_few_documents_takes_a_step_each():
    """If a share of the run is less than a step per trial, every trial takes one step."""
    budget = search_budget(plan_of(max_epochs=1), 8, 0.35, 4)
    assert (budget.first, budget.of_finalist(4)) == (1, 1)


@pytest.mark.parametrize("documents, steps", [(200, 4), (8, 1)])
def test_two_rates_are_tried_once_where_the_grid_is_not_continued(documents, steps):
    """Both would be tried again in any case, so the whole budget goes into one round; if the grid may be continued,
    there are two."""
    plan = plan_of(max_epochs=1)
    made: list[tuple[float, int]] = []
    budget = search_budget(plan, documents, 0.35, 2)
    result = search_rates((0.1, 0.2), budget, trial({0.1: 1.5, 0.2: 2.0}, made))
    assert made == [(0.1, steps), (0.2, steps)] and (result.chosen, result.at_edge) == (0.1, True)
    assert 2 * steps <= max(0.35 * documents / 8, 2)
    long = search_budget(plan, 1000, 0.35, 2)
    assert (long.first, long.widenings) == (4, 2) and long.of_finalist(3) > long.first


def test_trials_are_not_made_again_at_the_same_length():
    """If the budget allows finalists no more steps than the others had, the first round decides; of equals the lower
    rate wins."""
    made: list[tuple[float, int]] = []
    budget = search_budget(plan_of(max_epochs=1), 8, 0.35, 4)
    result = search_rates(GRID, budget, trial({0.1: 2.0, 0.2: 2.0}, made))
    assert made == [(rate, 1) for rate in GRID] and result.chosen == 0.1


@pytest.mark.parametrize("documents, trials", [(8, 4), (200, 2), (200, 4), (2000, 4)])
def test_the_planned_trials_are_those_that_are_made(documents, trials):
    """The trials counted by estimate and plan are those of a search that does not continue its grid."""
    suite = make_suite({"methods": ["lora"], "training": {"max_epochs": 1}, "search": {"trials": trials}})
    (entry,) = entries.suite_entries(suite)
    rates = first_rates(suite, entry.plugin)
    made: list[tuple[float, int]] = []
    search_rates(rates, budget_of(suite, entry.plugin, documents), trial({rates[len(rates) // 2]: 1.0}, made))
    assert planned_trials(suite, entry.plugin, documents) == [steps for _, steps in made]


def test_kept_trials_are_read_by_rate_and_steps(tmp_path):
    """Each trial is a separate file, so several can run at once; files with other lengths are ignored."""
    for rate, steps in ((0.3, 10), (0.1, 10), (0.1, 40)):
        keep_trial(tmp_path, Trial(learning_rate=rate, validation_loss=rate / steps), steps, MADE_WITH)
    assert read_trial(tmp_path, 0.1, 40).validation_loss == 0.1 / 40
    assert read_trial(tmp_path, 0.3, 40) is None and read_trial(tmp_path / "none", 0.1, 10) is None
    (tmp_path / "0.3-10.json").rename(tmp_path / "0.2-10.json")
    with pytest.raises(ResultsError, match=r"trial of 0\.3"):
        read_trial(tmp_path, 0.2, 10)


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
    """A search, trial or micro-batch size from other data, settings, weights or versions is not used, and this is
    reported."""
    trial_ = Trial(learning_rate=0.1, validation_loss=2.0)
    found = SearchResult(trials=[trial_], chosen=0.1, at_edge=True)
    size = MicroBatch(micro_batch_size=8)
    kept.keep(tmp_path / "search.json", found, MADE_WITH)
    kept.keep(tmp_path / "micro_batch.json", size, MADE_WITH)
    keep_trial(tmp_path, trial_, 10, MADE_WITH)

    def read_all(made_with, tell):
        return [
            read_search(tmp_path / "search.json", made_with, tell),
            read_trial(tmp_path, 0.1, 10, made_with, tell),
            kept.find_kept(tmp_path / "micro_batch.json", MicroBatch, "size", made_with, tell),
        ]

    told: list[str] = []
    assert read_all(MADE_WITH, told.append) == [found, trial_, size] and told == []
    assert read_all(MADE_WITH | other, told.append) == [None, None, None]
    assert len(told) == 3 and all(f"made with other {next(iter(other))} than" in line for line in told)


def test_a_search_that_does_not_say_what_it_was_made_with_is_made_again(tmp_path):
    """A file of an earlier version, which had no such note, is not used."""
    content = {"trials": [{"learning_rate": 0.1, "validation_loss": 2.0}], "chosen": 0.1, "at_edge": True}
    (tmp_path / "search.json").write_text(json.dumps(content))
    assert read_search(tmp_path / "search.json", MADE_WITH) is None


@pytest.fixture
def context_of(tmp_path):
    """Make contexts without a machine, with fingerprints derived from names."""

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
            fingerprint=f"fingerprint of {model}",
            tokenizer_fingerprint=f"fingerprint of {tokenizer}",
            quantization="none",
        )
        return RunContext(suite, table[0], seed, tmp_path, machine, None, base, corpus, print, 8)

    return make


def test_what_a_row_depends_on_is_its_whole_identity(context_of):
    """The identity changes with a document, its tokens, a setting, an option, the weights, the tokenizer, the device
    and the search's seed, but not between two runs of one method, nor with other methods and further seeds."""
    first = context_of().identity
    assert first == context_of(seed=1).identity == context_of(rows=["full", "lead-3"], seeds=[0, 1, 2]).identity
    changes = [
        context_of(tokens="cut shorter"),
        context_of(seeds=[1, 0]),
        context_of(limits={"train_documents": 9}),
        context_of(row="full"),
        context_of(rank=2),
        context_of(data="other"),
        context_of(model="llama"),
        context_of(precision="bf16"),
        context_of(tokenizer="letters"),
    ]
    seen = [json.dumps(made.identity, sort_keys=True) for made in changes]
    assert len({json.dumps(first, sort_keys=True), *seen}) == len(changes) + 1


def test_what_a_trial_is_judged_on_is_a_seeded_sample():
    """A trial's validation documents depend only on the seed, are in file order, and a smaller sample is part of a
    larger."""
    ten, thirty = sample(50, 10, 3), sample(50, 30, 3)
    assert ten == sorted(ten) and set(ten) < set(thirty) and len(ten) == 10
    assert ten == sample(50, 10, 3) != sample(50, 10, 4)
    assert sample(50, 99, 0) == list(range(50))

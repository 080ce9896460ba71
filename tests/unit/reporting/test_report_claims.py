"""No sentence of the report contradicts a table, whatever the numbers are."""

import csv
import io
import random
import re

import pytest

from support.made_up import make_comparison, make_results
from triptych.analysis.flags import comparison_flags
from triptych.analysis.verdict import find_test, is_significant
from triptych.reporting.claims import Sentence, claims
from triptych.reporting.claims.selection import cell
from triptych.reporting.export import to_csv
from triptych.reporting.tables import cost
from triptych.results.records import Comparison, Estimate
from triptych.text import formats

RESULTS = make_results(seeds=(0, 1), failed=(("lora", 1),))
COMPARISON = make_comparison(RESULTS)


def shuffle(comparison: Comparison, seed: int) -> Comparison:
    """Reassign the methods' contents among the labels at random, with some numbers changed and some missing."""
    generator = random.Random(seed)
    labels = list(comparison.rows)
    contents = [row.model_copy(deep=True) for row in comparison.rows.values()]
    generator.shuffle(contents)
    for label, row in zip(labels, contents, strict=True):
        row.label = label
        for metric in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
            if getattr(row, metric) is not None:
                mean = generator.choice([20.0, generator.uniform(0, 60)])
                half = generator.choice([None, generator.uniform(0, 4)])
                low, high = (None, None) if half is None else (mean - half, mean + half)
                setattr(row, metric, Estimate(mean=mean, low=low, high=high))
        if row.loss.test is not None:
            row.loss.test = row.loss.mean = generator.choice([3.0, generator.uniform(1, 5)])
        for name, value in row.cost.items():
            row.cost[name] = generator.choice([None, value, 7.0, generator.uniform(1, 1e13)])
        if row.text_shape is not None and generator.random() < 0.2:
            row.text_shape = None
        if generator.random() < 0.15:
            row.failed_seeds, row.rouge1, row.loss.test = [0, 1], None, None
    there = [label for label in labels if contents[labels.index(label)].rouge1 is not None]
    tests = [
        test.model_copy(
            update={
                "difference": generator.uniform(-9, 9),
                "low": generator.uniform(-9, 0),
                "high": generator.uniform(-1, 9),
                "p_value_adjusted": generator.random() ** 4,
                "decision": generator.choice(["different", "equivalent", "undecided"]),
            }
        )
        for test in comparison.tests
        if test.a in there and test.b in there
    ]
    return comparison.model_copy(
        update={
            "rows": dict(zip(labels, contents, strict=True)),
            "tests": tests,
            "verdict": f"Verdict {generator.random()}.",
            "pareto": generator.sample(there, k=min(2, len(there))),
            "num_documents": generator.randrange(1, 9999),
            "inference": comparison.inference.model_copy(
                update={
                    "detectable": {
                        "rouge1": generator.uniform(0, 9),
                        "loss": generator.choice([None, generator.random()]),
                    }
                }
            ),
        }
    )


@pytest.mark.parametrize("seed", range(40))
def test_numbers_in_sentences_about_rows_are_cells_of_those_rows(seed: int) -> None:
    """Each score and loss in a sentence is in the table, in a row named by the sentence.

    The check reads the words alone.
    """
    changed = shuffle(COMPARISON, seed)
    for claim in claims(RESULTS, changed):
        if claim.name not in ("best-rouge", "method-order", "best-loss", "against-lead", "theory-lora"):
            continue
        named = [label for label in changed.rows if re.search(rf"(?<![\w-]){re.escape(label)}(?![\w-])", claim.text)]
        paths = ("loss.test", "loss.low", "loss.high", "rouge1.mean", "rouge1.low", "rouge1.high")
        cells = {cell(changed, label, path) for label in named for path in paths}
        assert set(re.findall(r"-?\d+\.\d{2,4}", claim.text)) <= cells, claim.text


@pytest.mark.parametrize("seed", range(40))
def test_highest_row_named_is_the_highest(seed: int) -> None:
    """No method of the table has a higher mean R-1 than the one called highest."""
    changed = shuffle(COMPARISON, seed)
    claim = find(claims(RESULTS, changed), "best-rouge")
    means = {label: row.rouge1.mean for label, row in changed.rows.items() if row.rouge1 is not None}
    if claim is None:
        assert len(means) < 2
    else:
        best = [label for label, mean in means.items() if mean == max(means.values())]
        assert claim.text.startswith(("All methods", f"The highest mean test R-1 is that of {formats.listed(best)}, "))


COSTS = {
    "training time": ("cost", "train_seconds"),
    "training compute": ("cost", "train_flops"),
    "peak memory during training": ("cost", "peak_memory_bytes"),
    "energy": ("cost", "energy_joules"),
    "number of trainable parameters": ("parameters", "num_trainable_parameters"),
}


@pytest.mark.parametrize("seed", range(40))
def test_cheapest_row_named_is_the_cheapest(seed: int) -> None:
    """Parsed from its words, a sentence on a cost names the methods that are lowest and highest in the table."""
    changed = shuffle(COMPARISON, seed)
    pattern = r"Among the trained methods, (.*) (?:has|have) the lowest (.*) \(.*\) and (.*) the highest \(.*\)\."
    for claim in claims(RESULTS, changed):
        words = re.fullmatch(pattern, claim.text)
        if words is None:
            continue
        part, field = COSTS[words[2]]
        values = {}
        for label, row in changed.rows.items():
            if row.rouge1 is not None and row.parameters is not None and row.parameters.num_trainable_parameters:
                value = row.cost[field] if part == "cost" else getattr(row.parameters, field)
                if value is not None:
                    values[label] = value
        for named, extreme in ((words[1], min), (words[3], max)):
            best = extreme(values.values())
            assert set(re.split(", | and ", named)) == {label for label, value in values.items() if value == best}


@pytest.mark.parametrize("seed", range(40))
def test_counts_of_rows_are_those_of_the_table(seed: int) -> None:
    """The number of trained methods above Lead-3, or below the untuned loss, in a sentence agrees with the table."""
    changed = shuffle(COMPARISON, seed)
    made = claims(RESULTS, changed)
    assert [claim.name for claim in made if not claim.text.endswith(".")] == []
    trained = [
        row
        for row in changed.rows.values()
        if row.rouge1 is not None and row.parameters is not None and row.parameters.num_trainable_parameters
    ]
    lead = next((row for row in changed.rows.values() if row.kind == "lead-3" and row.rouge1 is not None), None)
    claim = find(made, "against-lead")
    if claim is not None:
        above = sum(row.rouge1.mean > lead.rouge1.mean for row in trained)
        said = re.search(r"\((\d+) of the (\d+) trained methods\)", claim.text)
        if above in (0, len(trained)):
            assert said is None and ("No trained method" in claim.text) == (above == 0)
        else:
            assert (int(said[1]), int(said[2])) == (above, len(trained))
    claim = find(made, "against-untuned")
    if claim is not None:
        base = next(row for row in changed.rows.values() if row.kind == "untuned" and row.rouge1 is not None)
        known = [row for row in trained if row.loss.test is not None]
        tests = {row.label: find_test(changed.tests, "loss", row.label, base.label) for row in known}
        shown = [
            row
            for row in known
            if row.loss.test < base.loss.test and tests[row.label] is not None and is_significant(tests[row.label])
        ]
        said = re.search(r"^(\d+|None) of the (\d+) trained methods (has|have) ", claim.text)
        if len(shown) == len(known) or len(known) == 1:
            assert said is None and claim.text.startswith((f"All {len(known)} trained", "Both trained", known[0].label))
        else:
            assert (said[1], int(said[2])) == (str(len(shown) or None), len(known))


def test_time_is_the_reason_only_where_the_whole_job_would_take_too_long() -> None:
    """Ten epochs on all pairs at the measured speed are compared with the time spent, and given as the reason if they
    take a day or more."""
    assert find(claims(RESULTS, COMPARISON), "whole-job") is None  # 900 pairs: minutes would do, so time is no reason
    slow = make_results()
    for run in slow.runs:
        if run.record.data is not None:
            run.record.data.splits["train"].not_sampled = 1_000_000
    claim = find(claims(slow, make_comparison(slow)), "whole-job")
    trained = [run for run in slow.runs if run.trained]
    pace = sum(run.record.cost.train_seconds / run.record.training.documents for run in trained)
    counts = trained[0].record.data.splits["train"]
    total = formats.seconds(pace * (counts.used + 1_000_000) * 10)
    spent = formats.seconds(sum(run.record.cost.train_seconds for run in trained))
    assert f"all 1,000,512 training pairs would take {total} for all methods" in claim.text and claim.text.endswith(
        f"{spent}."
    )


def test_the_whole_corpus_is_that_of_the_known_data_set() -> None:
    """If a file has part of CNN/DailyMail, the full job uses all its 287,113 training pairs."""
    part = make_results(data="./cnn_dailymail", seeds=(0, 1, 2))
    claim = find(claims(part, make_comparison(part)), "whole-job")
    assert "all 287,113 training pairs of CNN/DailyMail 3.0.0 would take" in claim.text


def test_the_search_is_told_in_all() -> None:
    """A search made by one run for three seeds is reported with its total time in sentence, table, JSON and CSV."""
    searched = make_results(("lora", "full"), seeds=(0, 1, 2))
    for run in searched.runs:
        first = run.record.seed == 0
        run.record.cost.search_seconds, run.record.cost.search_flops = (60.0, 6e12) if first else (0.0, 0.0)
    comparison = make_comparison(searched)
    assert "it took: lora 60.0 s, full 60.0 s." in find(claims(searched, comparison), "search").text
    assert comparison.rows["lora"].cost["search_seconds"] == 60 and comparison.rows["lora"].cost["search_flops"] == 6e12
    assert [cell.text for cell in cost.clocks_table(comparison).rows[0]][-2:] == ["60.0 s", "6.00 TFLOP"]
    assert next(csv.DictReader(io.StringIO(to_csv(comparison))))["search_seconds"] == "60.0"


def test_without_a_search_no_default_is_claimed() -> None:
    """Rates may be set in the suite: the sentence says that they were set, not by whom."""
    plain = make_results(("lora",))
    plain.runs[0].record.cost.search_seconds = 0.0
    text = find(claims(plain, make_comparison(plain)), "search").text
    assert text == "There was no learning-rate search: each method was trained with one rate set in advance."


def test_what_differs_between_methods_follows_from_their_settings() -> None:
    """Methods are said to differ only in gradients if learning rates, weight decay and positions are the same."""
    same = make_results(("lora", "full"))
    text = find(claims(same, make_comparison(same)), "differences").text
    assert text == "The trained methods differ in which parameters are trained."
    other = make_results(("prompt-tuning", "full"))
    run = other.runs[1]
    run.record.options["weight_decay"] = 0.01
    run.record.search.chosen = 0.5
    assert find(claims(other, make_comparison(other)), "differences").text == (
        "The trained methods differ in which parameters are trained, and also in their learning rate and weight decay "
        "and in the positions that virtual tokens take up."
    )


def test_sentences_on_training_follow_the_records() -> None:
    """The best epochs in a sentence are those of the runs."""
    claim = find(claims(RESULTS, COMPARISON), "epochs")
    assert claim is not None and "full 3 of 3, 3 of 3" in claim.text
    for run in RESULTS.of("full"):
        run.record.training.best_epoch = 1
    try:
        assert "full 1 of 3, 1 of 3" in find(claims(RESULTS, COMPARISON), "epochs").text
    finally:
        for run in RESULTS.of("full"):
            run.record.training.best_epoch = 3


def test_missing_meter_is_named() -> None:
    """A meter that the machine lacks is named as not measured."""
    results = make_results(meters=False)
    claim = find(claims(results, make_comparison(results)), "missing-meters")
    assert claim is not None and "energy" in claim.text and "peak memory" in claim.text


def find(made: list[Sentence], name: str) -> Sentence | None:
    """The claim with this name."""
    return next((claim for claim in made if claim.name == name), None)


@pytest.mark.parametrize(("max_epochs", "early"), [(10, True), (3, False)])
def test_training_that_went_to_the_last_epoch_was_not_stopped_early(max_epochs: int, early: bool) -> None:
    """Patience that runs out in the last epoch is not early stopping."""
    results = make_results(training={"max_epochs": max_epochs})
    text = {claim.name: claim.text for claim in claims(results, make_comparison(results))}["epochs"]
    assert ("lora 3 of 3 (stopped early)" in text) == early and "lora 3 of 3" in text


def test_what_a_trunk_cache_took_stands_beside_the_training_time() -> None:
    """The seconds are a mean over seeds, the operations those of every run; another's note with that name is
    ignored."""
    results = make_results(seeds=(0, 1))
    notes = [run.record.notes for run in results.of("last-layers")]
    notes[0]["trunk_cache"] = {**notes[0]["trunk_cache"], "making_seconds": 40.0}
    notes[1]["trunk_cache"] = {**notes[1]["trunk_cache"], "making_seconds": 20.0}
    results.of("lora")[0].record.notes["trunk_cache"] = "none"
    text = {claim.name: claim.text for claim in claims(results, make_comparison(results))}["trunk-cache"]
    assert "Building the cache took: last-layers 30.0 s and 2.00 TFLOP." in text


def test_a_pair_not_shown_to_differ_by_loss_is_named_where_loss_and_rouge_disagree() -> None:
    """A lower loss that may be due to chance does not count as disagreement with ROUGE."""
    results = make_results()
    comparison = make_comparison(results)
    rows = comparison.rows
    rows["lora"].loss.test, rows["full"].loss.test = 2.5, 2.4
    rows["lora"].rouge1.mean, rows["full"].rouge1.mean = 40.0, 39.0
    for test in comparison.tests:
        if test.metric == "loss" and {test.a, test.b} == {"lora", "full"}:
            test.p_value_adjusted, test.decision = 0.6, "undecided"
    text = {claim.name: claim.text for claim in claims(results, comparison)}["loss-and-rouge"]
    assert "lora and full, whose losses do not differ significantly" in text


def test_the_size_of_the_model_is_told_with_its_name() -> None:
    """The model's size is given with its name, since a folder's name does not show what it contains."""
    results = make_results()
    comparison = make_comparison(results)
    count = formats.count(comparison.rows["lora"].parameters.num_base_parameters)
    text = {claim.name: claim.text for claim in claims(results, comparison)}["setting"]
    assert f"with the model {comparison.model} ({count} parameters)" in text


def test_peaks_of_memory_measured_in_two_ways_are_not_compared() -> None:
    """If an older record's peak also counted mapped files, no method is called the lowest, and a flag says why."""
    results = make_results()
    assert find(claims(results, make_comparison(results)), "memory") is not None
    results.of("full")[0].record.cost.peak_memory_kind = "anonymous"
    assert find(claims(results, make_comparison(results)), "memory") is None
    assert any("Peak memory was measured in 2 ways (anonymous, rss)" in flag for flag in comparison_flags(results))


OF_MODELS = " With one training seed, this is about the trained models, not the methods."


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("name", ["best-rouge", "best-loss", "method-order", "loss-order"])
def test_an_order_of_one_seed_is_of_the_trained_models(name: str, seeds: int) -> None:
    """With one training seed, sentences that name a highest, a lowest or an order end by saying that they are about the
    trained models."""
    results = make_results(seeds=tuple(range(seeds)))
    claim = find(claims(results, make_comparison(results)), name)
    assert claim is not None and claim.text.endswith(OF_MODELS) == (seeds == 1)


def test_orders_name_the_neighbors_that_are_not_shown_to_differ() -> None:
    """An order by R-1 or loss says which neighbors are not shown to differ, or that each differs from the next."""
    comparison = make_comparison(make_results(seeds=(0, 1, 2)))
    order = ["prompt-tuning", "last-layers", "lora"]

    def deciding(undecided: list[set[str]]) -> Comparison:
        decide = {True: "undecided", False: "different"}
        tests = [
            test.model_copy(update={"decision": decide[{test.a, test.b} in undecided]}) for test in comparison.tests
        ]
        return comparison.model_copy(update={"tests": tests})

    apart = {claim.name: claim.text for claim in claims(RESULTS, deciding([]))}
    close = {claim.name: claim.text for claim in claims(RESULTS, deciding([{"lora", "last-layers"}]))}
    means = ", ".join(f"{label} ({comparison.rows[label].rouge1.mean:.2f})" for label in order)
    start = f"By mean test R-1, the three methods under study rank, from lowest to highest: {means}; "
    assert apart["method-order"] == start + "each differs significantly from the next."
    assert close["method-order"] == start + "these neighbors do not differ significantly: last-layers and lora."
    assert apart["loss-order"].endswith("; each differs significantly from the next.")
    assert close["loss-order"].endswith("; these neighbors do not differ significantly: lora and last-layers.")
    assert "not differ significantly" not in apart["best-loss"] + apart["against-lead"]
    near = claims(RESULTS, deciding([{"full", "lora"}, {"full", "last-layers"}]))
    assert find(near, "best-loss").text.endswith("; lora and last-layers do not differ significantly.")

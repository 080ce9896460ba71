"""A plan's promises agree with the decisions; its costs add up from records; a budget's design is recorded and
resumed."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import nct, t

import triptych
import verdict_simulation as simulate
from simulated_scores import NOISE_SD, ROW_SD
from support.commands import suite_settings
from support.folders import edit_record, put, write_results
from support.interpreters import TORCHLESS
from support.simulation import within
from triptych import cli
from triptych.analysis.chance import ASSUMED, Chance, noise_of, pairs_of, seed_variance
from triptych.analysis.comparison import compare_results
from triptych.analysis.costs import RowCost, Size, measured, of_suite
from triptych.analysis.inference import Seeds
from triptych.analysis.planning import Planner, enough_pairs
from triptych.analysis.power import StudyDesign
from triptych.errors import ConfigError, ResultsError
from triptych.planning import planner
from triptych.planning.planner import parse_duration, plan
from triptych.results.json_files import read_json
from triptych.results.reading import read_results
from triptych.run import preflight
from triptych.run.estimate import RunEstimate

SIMULATED = Chance(2 * ROW_SD**2, (NOISE_SD**2,) * 2, (0.3**2,) * 2)
OWN = Size(21_000, 6_000, 3_000, 10, 3)
COSTS = {
    "a": RowCost(True, 10, 100, 2_000, 0.001, 0.0005, 0.1),
    "b": RowCost(True, 10, 100, 2_000, 0.002, 0.0005, 0.1),
    "lead": RowCost(False, 1, 0, 0, 0, 0, 0.001),
}


def planner_of(**changes) -> Planner:
    """A simulated suite of four trained methods."""
    made = Planner(SIMULATED, 6, 2.0, OWN, 11_490, COSTS)
    return replace(made, **changes)


# Power


@pytest.mark.parametrize(("seeds", "seed_sd", "difference"), [(3, 0.2, 1.2), (4, 0.3, 1.2), (5, 0.5, 1.5)])
def test_the_documents_that_are_needed_find_the_difference_four_times_in_five(seeds, seed_sd, difference):
    """With the planned number of documents, 76 to 84% of simulated comparisons call the pair different."""
    made = planner_of(chance=replace(SIMULATED, seeds=(seed_sd**2,) * 2), pairs=1, detect=difference)
    documents = made.least_documents(seeds)
    got = simulate.found(documents, seeds, seed_sd, NOISE_SD, difference, 500)
    assert within(got, 0.78, 0.82, 500)


def share_found(documents: int, seeds: int, seed_sd: float, shifts: list[float], number: int) -> float:
    """How often the first two methods of a table are called different."""
    generator = np.random.default_rng([8, documents, seeds])
    count = 0
    for _ in range(number):
        scores = simulate.samples(simulate.table(generator, documents, seeds, seed_sd, NOISE_SD, shifts))
        tests = simulate.paired_tests(scores, simulate.ANALYSIS, dict.fromkeys(scores, seeds), power=False)
        count += tests[0].decision == "different"
    return count / number


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "seed_sd", "difference"), [(3, 0.2, 2.0), (4, 0.3, 1.5), (5, 0.2, 1.0), (8, 0.5, 1.5)]
)
def test_the_planned_difference_is_found_in_a_table_of_four_rows(seeds, seed_sd, difference):
    """With four methods, corrected over six pairs, the best and the worst are found to differ in 76 to 84% of
    simulations if the other two lie between them; if three methods are equal it is more, since the first of three
    differences found eases the rest."""
    made = planner_of(chance=replace(SIMULATED, seeds=(seed_sd**2,) * 2), detect=difference)
    documents = made.least_documents(seeds)
    between = share_found(documents, seeds, seed_sd, [difference, 0.0, difference / 2, difference / 2], 1000)
    apart = share_found(documents, seeds, seed_sd, [difference, 0.0, 0.0, 0.0], 500)
    assert within(between, 0.78, 0.82, 1000) and apart > between - 0.03


def test_one_seed_has_the_power_of_a_paired_t_test():
    """If seeds do not matter, power is that of the noncentral t distribution, in a case worked out by hand."""
    documents, sd, difference, level = 400, 8.0, 1.2, 0.05 / 6
    noncentral, edge = difference / (sd / np.sqrt(documents)), t.ppf(1 - level / 2, documents - 1)
    expected = nct.sf(edge, documents - 1, noncentral) + nct.cdf(-edge, documents - 1, noncentral)
    got = Chance(sd**2, (0, 0), (1, 1)).design(documents, 1, level).power(difference)
    assert noncentral == pytest.approx(3.0) and got == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_seeds_alone_have_the_power_of_a_one_sample_t_test(seeds):
    """If documents do not matter, power against an untrained method is noncentral t with S - 1 degrees of freedom."""
    error, difference = 0.5 / np.sqrt(seeds), 1.0
    edge = t.ppf(0.975, seeds - 1)
    expected = nct.sf(edge, seeds - 1, difference / error) + nct.cdf(-edge, seeds - 1, difference / error)
    got = StudyDesign(1e-9, 10_000, (Seeds(error**2, 0.0, seeds - 1),), 0.05).power(difference)
    assert got == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("detect", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed_sd", [0.1, 0.3, 0.5])
def test_more_never_finds_less(seed_sd, detect):
    """More seeds never lower power nor need more documents; beyond the required documents, power stays sufficient up to
    the size of CNN/DailyMail's test split."""
    made = planner_of(chance=replace(ASSUMED, seeds=(seed_sd**2,) * 2), detect=detect)
    for documents in (50, 500, 3_000, 11_490):
        powers = [made.power(documents, seeds) for seeds in range(2, 11)]
        assert powers == sorted(powers)
    needs = [made.needs[seeds] or 10**9 for seeds in range(2, 11)]
    assert needs == sorted(needs, reverse=True) and list(made.needs) == list(range(2, 11))
    for seeds, least in made.needs.items():
        if least is not None and least < 11_490:
            sizes = [documents for documents in (least, 2 * least, 3 * least, 11_490) if documents <= 11_490]
            assert min(made.power(documents, seeds) for documents in sizes) >= 0.8
            assert least == 50 or made.power(least - 1, seeds) < 0.8


def test_documents_do_not_make_up_for_few_seeds():
    """With few seeds, four times as many documents hardly add power, as docs/planning.md says; a plan then takes the
    smaller number."""
    made = planner_of(chance=ASSUMED, detect=1.0, own=replace(OWN, seeds=3))
    assert [f"{made.power(documents, 3):.1%}" for documents in (3_000, 11_490)] == ["22.5%", "24.6%"]
    assert made.best(made.seconds(OWN)).size.test_documents < 11_490


def test_a_spread_of_seeds_that_documents_cannot_make_up_for_is_said():
    """If the seeds' spread dominates, no number of documents is enough with few seeds, and seeds are called the
    bottleneck."""
    made = planner_of(chance=replace(ASSUMED, seeds=(1.0, 1.0)), detect=1.0)
    assert made.needs[3] is None and made.bottleneck == "seeds"
    assert (
        planner_of(chance=replace(ASSUMED, seeds=(0.0, 0.0)), own=replace(OWN, test_documents=50)).bottleneck
        == "documents"
    )


def test_variances_are_taken_apart():
    """The document, seed and noise SDs used to draw made-up scores are recovered."""
    generator = np.random.default_rng(3)
    rows = {}
    common = generator.normal(40, 9, 20_000)
    for row in range(6):
        of_row = common + generator.normal(0, 3, 20_000)
        rows[f"row{row}"] = of_row + generator.normal(0, 0.5, (10, 1)) + generator.normal(0, 6, (10, 20_000))
    assert noise_of(rows["row0"]) == pytest.approx(36, rel=0.02)
    seeds = seed_variance(list(rows.values()))
    assert seeds.df == 54 and seeds.low < 0.25 < seeds.high and seeds.variance == pytest.approx(0.25, rel=0.4)
    assert pairs_of(rows, seeds.variance)["row0", "row1"].documents == pytest.approx(18, rel=0.05)
    assert seed_variance([values[:1] for values in rows.values()]) is None


# Costs and budgets


def test_costs_of_the_pilots_own_design_are_the_pilots_own(tmp_path):
    """Costs of made-up records add up: the pilot's design costs its wall clocks, and twice the documents double their
    part."""
    out = write_results(tmp_path / "pilot", ("lead-3", "lora", "full"), training={"max_epochs": 3})
    for label, seed in (("lora", 0), ("lora", 1), ("full", 0), ("full", 1)):
        costs = {
            "startup_seconds": 3,
            "train_seconds": 192,
            "evaluation_seconds": 40,
            "generation_seconds": 80,
            "search_seconds": 50 * (seed == 0),
            "wall_seconds": 330 + 50 * (seed == 0),
        }
        edit_record(out, f"{label}/{seed}", lambda record, costs=costs: record["cost"].update(costs))
    found = measured(read_results(out))
    lora = found["lora"]
    assert lora == RowCost(True, 18.0, 50.0, 64, 1.0, 1.0, 2.0)
    own = Size(64, 0, 40, 3, 2)
    assert of_suite(found, own) == {"lead-3": 60.0, "lora": 710.0, "full": 710.0}
    assert lora.seconds(replace(own, test_documents=80)) == 710 + 2 * 40 * 3
    assert lora.seconds(replace(own, train_documents=32, max_epochs=1)) == 2 * (18 + 32 + 40 + 80) + 25
    assert of_suite(found, own, [32])["lora"] == 710 + lora.seconds(replace(own, train_documents=32))


def test_a_budget_keeps_training_where_it_can():
    """Training is kept if the goal fits with three seeds; otherwise epochs are cut first, then training pairs, then
    seeds."""
    made = planner_of()
    enough = made.cheapest(OWN, 3)
    assert made.best(1.01 * enough.seconds) == enough and enough.size.max_epochs == 10 and enough.reaches
    smaller = made.best(0.8 * enough.seconds)
    assert (
        smaller.size.max_epochs < 10
        and smaller.size.train_documents == 21_000
        and smaller.seconds <= 0.8 * enough.seconds
    )
    least = made.cheapest(replace(OWN, max_epochs=2), 3).seconds
    tight = made.best(0.95 * least)
    assert tight.size.max_epochs == 2 and tight.size.train_documents < 21_000 and tight.size.seeds >= 3
    floor = replace(OWN, max_epochs=2, train_documents=2_100)
    out_of_reach = made.best(0.9 * made.cheapest(floor, 3).seconds)
    assert out_of_reach.size.train_documents == 2_100 and not out_of_reach.reaches
    with pytest.raises(ConfigError, match="one seed of every method on 2,100 training pairs, 2 epochs"):
        made.best(10.0)


def test_a_larger_budget_never_finds_less():
    """The smallest difference found does not grow with the budget, and each design fits its budget."""
    made = planner_of(detect=0.6)
    finds = []
    for budget in np.geomspace(600, 200_000, 12):
        best = made.best(budget)
        assert best.seconds <= budget and best.size.train_documents >= 2_100
        finds.append(0.0 if best.reaches else made.detectable(best.size.test_documents, best.size.seeds))
    assert all(later <= before * 1.001 for before, later in pairwise(finds)) and finds[-1] == 0 < finds[0]


def test_a_data_size_curve_says_how_many_pairs_are_enough():
    """The smallest size from which no method gains more than the margin is tried before epochs are cut."""
    curves = {"a": {100: 20.0, 300: 25.0, 1_000: 25.4}, "b": {100: 24.9, 300: 24.8, 1_000: 25.2}}
    assert enough_pairs(curves, 0.5) == 300 and enough_pairs(curves, 0.3) == 1_000
    assert enough_pairs({"a": {100: 1.0}}, 0.5) is None and enough_pairs({}, 0.5) is None
    made = planner_of(enough=5_000)
    best = made.best(0.6 * made.cheapest(OWN, 3).seconds)
    assert (best.size.train_documents, best.size.max_epochs) == (5_000, 10)


# The command


@pytest.fixture
def pilot(tmp_path) -> Path:
    """A finished comparison of five methods, three seeds, forty documents."""
    return write_results(tmp_path / "pilot", seeds=(0, 1, 2))


def test_a_plan_from_a_pilot_needs_no_torch(pilot):
    """`triptych plan OUT --json` reads only records, and the command it prints runs the design it names."""
    code = (
        TORCHLESS
        + f"from triptych.cli import main\nsys.exit(main(['plan', {str(pilot)!r}, '--json', '--within', '40min']))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    made = json.loads(found.stdout)
    assert made["pairs"] == 3 and made["level"] == pytest.approx(0.05 / 3) and made["detect"] == 1.0
    assert made["best"]["power"] >= 0.8 and made["best"]["seconds"] <= 2400
    assert sum(made["row_seconds"].values()) == pytest.approx(made["best"]["seconds"])
    program, command, *arguments = made["command"].split()
    assert arguments[0] == str(pilot)
    settings = suite_settings([command, str(pilot / "suite.json"), *arguments[1:]])
    assert settings["limits"]["test_documents"] == made["best"]["test_documents"]
    assert settings["seeds"] == made["best"]["seeds"] and (program, command) == ("triptych", "compare")


def test_a_plan_in_words(pilot, capsys):
    """The terminal says what is needed, what is missing, what it costs, and how certain the pilot is."""
    assert cli.main(["plan", str(pilot), "--detect", "0.5", "--within", "10min"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "the 40 available test documents are not enough" in said
        and "% of comparisons. Documents are the bottleneck" in said
    )
    assert "Within 10 min 00 s a difference of 0.5 points cannot be detected with 80% power" in said
    assert "2 epochs instead of 10; what more training would bring is not known without a [scaling] pilot" in said
    assert "(90%)" in said and "To run it: triptych compare" in said


def test_losses_of_documents_are_planned_for_too(pilot):
    """If every prediction has its loss, the plan gives the nats that the same design detects."""
    generator = np.random.default_rng(0)
    documents = generator.normal(3, 0.5, 40)
    for folder in pilot.glob("runs/*/*"):
        if "lead-3" in str(folder):
            continue
        lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        losses = documents + generator.normal(0, 0.02, 40)
        for line, loss in zip(lines, losses, strict=True):
            line["scores"] |= {"loss": float(loss), "targets": 10.0}
        (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        record = read_json(folder / "record.json")
        put(record, "loss.test", float(losses.mean()))
        (folder / "record.json").write_text(json.dumps(record))
    made = plan(pilots=[pilot])
    assert made.detect_loss == pytest.approx(0.04) and [one.measure for one in made.chance] == ["rouge1", "loss"]
    assert 0 < made.own.detectable_loss < 0.1 and any(
        "nats per target token" in sentence for sentence in made.sentences
    )
    of_loss = plan(pilots=[pilot], settings={"analysis": {"primary": "loss"}})
    assert of_loss.detect == 0.04 and of_loss.own.detectable == pytest.approx(made.own.detectable_loss)


def test_one_seed_of_a_pilot_is_not_taken_for_agreement(tmp_path):
    """A pilot with one seed assumes a seed SD and says so, and keeps all documents' variance whatever the seeds."""
    made = plan(pilots=[write_results(tmp_path / "pilot", seeds=(0,))])
    (chance,) = made.chance
    assert chance.seed_sd == 0.3 and chance.seed_sd_high is None and chance.noise_sd == 0
    assert any("one seed of every method" in sentence for sentence in made.sentences)
    assert (
        any("% of comparisons, but only between trained models: with one seed no method" in s for s in made.sentences)
        and min(need.seeds for need in made.needs) == 2
    )


def test_seeds_of_a_second_pilot_are_used_though_it_has_one_method(tmp_path):
    """One method under several seeds shows how seeds vary, whichever folder it is in."""
    first = write_results(tmp_path / "first", seeds=(0,))
    second = write_results(tmp_path / "second", methods=("lora",), seeds=(0, 1, 2))
    (chance,) = plan(pilots=[first, second]).chance
    assert chance.seed_sd_high > 0 and str(second) in chance.source
    (alone,) = plan(pilots=[first]).chance
    assert alone.pair == chance.pair and alone.document_sd == pytest.approx(chance.document_sd)
    with pytest.raises(ResultsError, match=r"two methods that train, of the suite of .*second"):
        plan(pilots=[second, first])


def test_what_is_lacking_is_the_same_in_every_sentence(tmp_path):
    """If no number of seeds would be enough with the available documents, seeds are not the only thing called
    lacking."""
    made = plan(pilots=[write_results(tmp_path / "pilot", seeds=(0,))], detect=0.5)
    needed = next(sentence for sentence in made.sentences if "are not enough" in sentence).split(": ")[-1].split()[0]
    (lacking,) = [sentence for sentence in made.sentences if "what is lacking" in sentence]
    assert f"lacking; documents are too few as well: even under 10 seeds {needed} are needed." in lacking


def test_scored_files_say_how_scores_vary(pilot, tmp_path):
    """A folder of scored predictions has variances and no costs; with a pilot both are used."""
    files = {name: [pilot / f"runs/{name}/{seed}/predictions.jsonl" for seed in range(3)] for name in ("lora", "full")}
    scored = tmp_path / "scored"
    triptych.score(files, out=scored, report=False)
    made = plan(pilots=[scored])
    assert made.own.seconds is None and made.command == "" and made.pairs == 1
    with pytest.raises(ConfigError, match="scored files do not say"):
        plan(pilots=[scored], within="8h")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--within", "8 parsecs"], "is not a duration above zero"),
        (["--within", "0h"], "is not a duration above zero"),
        (["--within=-3h"], "is not a duration above zero"),
        (["--within", "1s"], "is below the smallest design"),
        (["--detect", "0"], "must be a number above zero"),
        (["--detect", "nan"], "must be a number above zero"),
        (["--methods", "lora,untuned"], "two methods that train"),
        (["--methods", "lora,loro"], "has no method 'loro'. Did you mean 'lora'?"),
        (["--preset", "demo"], "A pilot brings its own suite"),
        (["--model", "gpt2"], "A pilot has its own model"),
        (["suite.toml"], "'suite.toml' is not a folder"),
        (["--set", "analysis.primary=loss"], "with loss of every document"),
    ],
)
def test_what_cannot_be_planned_is_one_message(arguments, said, pilot, capsys):
    """Bad durations, differences, methods and pilots end with status 2 and one line."""
    assert cli.main(["plan", str(pilot), *arguments]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1


def test_pilots_of_different_measures_are_refused(pilot, tmp_path):
    """Two pilots with different primary measures give no plan."""
    other = write_results(tmp_path / "other", analysis={"primary": "rouge2"})
    with pytest.raises(ResultsError, match=r"different measures: analysis\.primary is 'rouge1'"):
        plan(pilots=[pilot, other])


def test_pilots_that_no_table_could_show_are_refused(pilot, tmp_path):
    """A pilot given twice, or one whose methods have other documents, gives no plan."""
    with pytest.raises(ResultsError, match="was given twice"):
        plan(pilots=[pilot, pilot])
    file = pilot / "runs/lora/0/predictions.jsonl"
    file.write_text("\n".join(reversed(file.read_text().splitlines())) + "\n")
    edit_record(pilot, "lora/0", lambda record: None)
    with pytest.raises(ResultsError, match=r"predictions\.jsonl, line 1, id is"):
        plan(pilots=[pilot])


def test_training_stays_above_the_curve_of_the_suite():
    """Pairs that are enough may be a size of the curve, and a suite trains on more than each size of its curve."""
    made = planner_of(enough=8_000, scaling=(2_000, 8_000))
    assert [size.train_documents for size in made._trainings()][:2] == [21_000, 8_001]
    made = planner_of(enough=8_000, scaling=(2_000, 20_999))
    assert {size.train_documents for size in made._trainings()} == {21_000}


def test_more_seeds_than_are_planned_for_are_judged_by_their_own_need():
    """The table ends at ten seeds; a suite with twelve that lacks documents is not said to lack seeds."""
    made = planner_of(chance=replace(SIMULATED, seeds=(0.3**2,) * 2), own=replace(OWN, seeds=12, test_documents=20))
    assert 12 not in made.needs and made.needed(12) == made.least_documents(12) and made.needed(1) is None
    assert made.bottleneck == "documents"


def test_durations():
    """Seconds, minutes, hours and days."""
    assert [parse_duration(text) for text in ("90s", "30 min", "8h", "1.5d", ".5h")] == [90, 1800, 28800, 129600, 1800]


# Compare within a budget


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A small folder of documents, with a given cost for every step instead of waiting."""
    words = [f"word{i}" for i in range(60)]
    lines = [
        json.dumps({"document": " ".join(words[i % 40 : i % 40 + 20]) + f" {i}", "summary": f"{words[i % 50]} {i}"})
        for i in range(400)
    ]
    for name, part in (("train", lines[:200]), ("validation", lines[200:220]), ("test", lines[220:])):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.jsonl").write_text("\n".join(part) + "\n")
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def estimate(checked, device):
        one = RunEstimate(0, 0, 0, 0.0, document_seconds=0.1, loss_seconds=0.01, summary_seconds=0.2)
        return dict.fromkeys((row.label for row in checked.entries), one)

    monkeypatch.setattr("triptych.run.estimate.estimate_runs", estimate)
    return tmp_path


ARGUMENTS = [
    "compare",
    "--model",
    "tiny",
    "--data",
    "data",
    "--methods",
    "lead-3,lora,full",
    "--out",
    "out",
    "--set",
    "limits.document_tokens=64",
    "limits.summary_tokens=64",
    "decoding.max_new_tokens=8",
    "search.trials=0",
    "training.max_epochs=4",
]


def test_compare_runs_the_design_of_a_budget_and_keeps_it(folder, monkeypatch, capsys):
    """`compare --within` shows and records its design before the first run; the same command resumes it without
    planning."""
    carried = []

    def stop(made, *_):
        carried.append(made.suite)
        raise KeyboardInterrupt

    monkeypatch.setattr("triptych.suite.jobs.run_suite", stop)
    assert cli.main([*ARGUMENTS, "--within", "10min"]) == 130
    (first,) = carried
    assert "within" in capsys.readouterr().err
    design, recorded = first.design, read_json(folder / "out" / "suite.json")
    assert recorded["design"]["within_seconds"] == 600 and design.estimated_seconds <= 600
    assert design.seeds == len(first.seeds) >= 3 and design.test_documents == first.limits.test_documents
    assert design.max_epochs == first.training.max_epochs
    monkeypatch.setattr("triptych.run.estimate.estimate_runs", None)  # nothing is planned again
    assert cli.main([*ARGUMENTS, "--within", "600s"]) == 130 and carried[1] == first
    assert cli.main(["compare", "out/suite.json", "--out", "out"]) == 130 and carried[2] == first
    assert cli.main([*ARGUMENTS, "--within", "5min"]) == 2
    assert "design.within_seconds is 600.0 there and 300.0 here" in capsys.readouterr().err
    assert (
        cli.main(["compare", "out/suite.json", "--out", "other", "--seeds", "0"]) == 130 and carried[3].design is None
    )


def test_a_folder_without_a_design_is_not_planned_over(folder, monkeypatch, capsys):
    """--within is refused before anything is measured if the folder's suite was not planned."""
    monkeypatch.setattr("triptych.suite.jobs.run_suite", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.main(ARGUMENTS) == 130
    monkeypatch.setattr("triptych.run.estimate.estimate_runs", None)
    assert cli.main([*ARGUMENTS, "--within", "10min"]) == 2
    assert "was not planned for a budget" in capsys.readouterr().err


def test_a_suite_is_planned_from_measured_steps_and_assumptions(folder, capsys):
    """Without a pilot, costs are measured and score variances assumed, both are stated, and nothing is written."""
    (folder / "suite.toml").write_text('model = "tiny"\ndata = "data"\n')
    settings = [*ARGUMENTS[ARGUMENTS.index("--set") :], "--methods", "lora,full"]
    assert cli.main(["plan", "suite.toml", "--within", "10min", "--json", *settings]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["chance"][0]["source"] == "assumed, without a pilot" and made["own"]["test_documents"] == 180
    assert made["command"].startswith("triptych compare suite.toml --methods lora,full --set")
    assert "is assumed, not measured" in made["sentences"][0] and not (folder / "results").exists()
    one = (10 + 0.1 * 200 * 4 + 0.01 * (20 * 5 + 180) + 0.2 * 180) * 3
    assert made["own"]["seconds"] == pytest.approx(2 * one)
    assert cli.main(["plan", "suite.toml", *settings[:-1], "lora,untuned"]) == 2
    assert "A difference needs two methods that train, and the suite has 1" in capsys.readouterr().err
    assert cli.main(["plan", "suite.toml", *settings, "--set", "analysis.primary=loss"]) == 2
    assert "not known without a pilot" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["plan", "suite.toml"], ["compare", "suite.toml", "--within", "20s"]])
def test_what_the_arguments_say_already_is_refused_before_anything_is_prepared(folder, monkeypatch, capsys, command):
    """A suite that cannot be planned is refused before its documents are prepared."""
    monkeypatch.setattr(preflight, "check_suite", lambda *_, **__: pytest.fail("the suite was checked"))
    (folder / "suite.toml").write_text('model = "tiny"\ndata = "data"\n')
    assert cli.main([*command, "--methods", "lead-3,lora"]) == 2
    assert "A difference needs two methods that train, and the suite has 1" in capsys.readouterr().err


def test_report_and_comparison_say_that_a_design_was_chosen(tmp_path):
    """comparison.json has the design, and one of its flags says so."""
    design = {
        "within_seconds": 28_800,
        "estimated_seconds": 25_000,
        "detect": 1.0,
        "power": 0.82,
        "train_documents": 64,
        "max_epochs": 10,
        "test_documents": 40,
        "seeds": 2,
    }
    made = compare_results(read_results(write_results(tmp_path / "chosen", design=design)))
    assert made.design == design
    assert any("chosen before the first run for a budget of 8 h (--within): 2 seeds" in flag for flag in made.flags)
    assert compare_results(read_results(write_results(tmp_path / "own"))).design is None


def test_methods_and_seeds_of_a_plan_may_be_texts(pilot):
    """`plan` takes methods and seeds separated by commas, as `compare` does."""
    listed = planner.plan(pilots=[pilot], methods=["lora", "full"], settings={"seeds": [0, 1]})
    assert planner.plan(pilots=[pilot], methods="lora, full", settings={"seeds": "0,1"}).own == listed.own


def test_plan_is_public():
    """`triptych.plan` is the planner, and its result is typed."""
    assert triptych.plan is planner.plan and triptych.DesignPlan.__name__ == "DesignPlan"

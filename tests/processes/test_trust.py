"""What a reviewer would try: kill it, repeat it, score it with another tool, cheat, or mix what must not be mixed."""

import importlib.util
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from torch.utils.flop_counter import FlopCounterMode

from support.commands import suite_settings
from support.folders import edit_record, put, write_results
from support.paths import CHECKOUT
from triptych import cli
from triptych.config.reading import merge_tables, parse_setting, preset_settings
from triptych.contracts import AdaptedModel, Context, ModelParts
from triptych.engine.training import Loop, Step
from triptych.methods.lora import LoRA
from triptych.metrics.rouge import sentence_per_line
from triptych.results.records import READINGS, ROUGE_TYPES, Record
from triptych.run import entries, experiment, preflight, training
from triptych.run.entries import SuiteEntry
from triptych.run.events import ignore
from triptych.run.kept import MADE_WITH

SMALL = [
    "limits.train_documents=24",
    "limits.validation_documents=6",
    "limits.test_documents=4",
    "training.max_epochs=1",
    "training.global_batch_size=8",
    "decoding.max_new_tokens=12",
    "decoding.num_beams=1",
]
SEARCHED = [*SMALL, "search.trials=3", "scaling.train_documents=[8]"]
COMMAND = [sys.executable, "-m", "triptych"]


@pytest.fixture(scope="module")
def killed(workplace) -> tuple[Path, list[dict[str, Any]]]:
    """A suite killed in its learning-rate search after two trials, and these trials."""
    out = workplace / "killed"
    options = ["--preset", "demo", "--methods", "lora", "--out", str(out), "--set", *SEARCHED]
    suite, table = entries.resolve(suite_settings(["compare", *options]), ["lora"])
    preflight.check_suite(suite, table, "cpu", workplace / "cache")
    out.mkdir()
    (out / "suite.json").write_text(suite.model_dump_json())
    train = [*COMMAND, "train", "lora", str(out / "suite.json"), "--seeds", "0", "--out", str(out), "--events"]
    process = subprocess.Popen(train, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    trials = (line for line in process.stdout if json.loads(line)["event"] == "trial")
    next(trials), next(trials)
    process.kill()
    process.wait()
    process.stdout.close()
    kept = [json.loads(path.read_text()) for path in sorted((out / "runs/lora/trials").glob("*.json"))]
    return out, [{name: value for name, value in trial.items() if name != MADE_WITH} for trial in kept]


@pytest.fixture(scope="module")
def resumed(killed) -> Path:
    """The same suite, resumed and finished."""
    out, _ = killed
    assert cli.main(["compare", str(out / "suite.json"), "--out", str(out)]) == 0
    return out


def record(folder: Path) -> Record:
    return Record.model_validate_json((folder / "record.json").read_text())


def comparable(value: Any) -> Any:
    """Results without what may differ between two runs of one suite."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if not key.endswith(READINGS)}
    return [comparable(item) for item in value] if isinstance(value, list) else value


def test_a_killed_search_keeps_its_trials(killed, resumed):
    """Trials finished before `kill -9` are not repeated, to the bit, and their cost is in the record."""
    _, before = killed
    search, cost = record(resumed / "runs/lora/0").search, record(resumed / "runs/lora/0").cost
    assert len(before) == 2 and [trial.model_dump() for trial in search.trials[:2]] == before
    assert not (resumed / "runs/lora/trials").exists()
    assert cost.search_seconds >= sum(trial.search_seconds for trial in search.trials) > 0
    assert cost.search_flops == sum(trial.search_flops for trial in search.trials) > 0
    no_clocks = ("wall_seconds", "device_seconds", "busy_seconds", "generation_latency_seconds")
    clocks = [value for name, value in cost if name.endswith("_seconds") and name not in no_clocks]
    assert sum(clocks) == pytest.approx(cost.wall_seconds, rel=0.02)


@pytest.mark.slow
def test_a_trial_made_alone_is_that_of_the_search(resumed, workplace):
    """`train --trial` leaves what the search itself would find, for the run to use; a rate that is not in the search is
    refused."""
    trials, out = record(resumed / "runs/lora/0").search.trials, workplace / "alone"
    made = trials[0]
    alone = [*COMMAND, "train", "lora", str(resumed / "suite.json"), "--out", str(out), "--events", "--trial"]
    subprocess.run([*alone, repr(made.learning_rate)], check=True, capture_output=True)
    (kept,) = (out / "runs/lora/trials").glob("*.json")
    kept = {name: value for name, value in json.loads(kept.read_text()).items() if name != MADE_WITH}
    assert comparable(kept) == comparable(made.model_dump())
    for rate, label in (("0.5", "lora"), (repr(made.learning_rate), "untuned")):
        wrong = [*alone[:4], label, *alone[5:], rate]
        wrong[wrong.index(str(out))] = str(workplace / "nothing")
        done = subprocess.run(wrong, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and ("no trial at 0.5" in done.stderr or "has no search" in done.stderr)


def test_a_suite_leaves_its_curve(resumed):
    """[scaling] leaves a whole results folder for each size, whose runs saw that many documents and did their own
    search."""
    comparison = json.loads((resumed / "comparison.json").read_text())
    assert [point["train_documents"] for point in comparison["scaling"]] == [8, 24]
    smaller = record(resumed / "scaling/8/runs/lora/0")
    assert smaller.data.splits["train"].used == 8 and smaller.training.documents == 8 and smaller.search is not None
    assert list(comparison["scaling"][0]["rows"]) == ["lora"]


def test_every_meter_is_filled_or_says_why(resumed):
    """A trained method has every cost as a number, or a note on why it was not measured; only a GPU's are None."""
    cost = record(resumed / "runs/lora/0").cost
    assert 0 < cost.generation_latency_seconds < cost.generation_seconds and cost.documents_per_second > 0
    assert cost.busy_seconds > 0 and cost.busy_note is None and cost.device_seconds >= cost.train_seconds
    assert (cost.energy_joules is None) == (cost.energy_note is not None) == (cost.energy_kind is None)
    missing = {name for name, value in cost if value is None}
    assert missing <= {
        "energy_joules",
        "energy_kind",
        "energy_note",
        "busy_note",
        "shared_note",
        "reserved_peak_memory_bytes",
    }
    assert record(resumed / "runs/lora/0").provenance.hardware["num_processes"] == 1


@pytest.mark.slow
def test_a_suite_repeats_itself(resumed, workplace):
    """`compare OUT/suite.json`, and each record's own command, give the same records, predictions, weights and
    comparison."""
    again = workplace / "again"
    command = shlex.split(record(resumed / "runs/lora/0").provenance.command)
    assert command[0] == "triptych"
    named = {"OUT/suite.json": str(resumed / "suite.json"), "OUT": str(again)}
    subprocess.run([*COMMAND, *(named.get(word, word) for word in command[1:])], check=True, capture_output=True)
    before = (again / "runs/lora/0/record.json").stat().st_mtime_ns
    assert cli.main(["compare", str(resumed / "suite.json"), "--out", str(again)]) == 0
    assert (again / "runs/lora/0/record.json").stat().st_mtime_ns == before
    for name in ("runs/lora/0", "scaling/8/runs/lora/0"):
        assert (resumed / name / "predictions.jsonl").read_bytes() == (again / name / "predictions.jsonl").read_bytes()
        first, second = (json.loads((out / name / "record.json").read_text()) for out in (resumed, again))
        for each in (first, second):
            del each["provenance"]["time"], each["files"]["history.jsonl"]
        assert comparable(first) == comparable(second)
    tensors = [(out / "runs/lora/0/adapter/adapter_model.safetensors").read_bytes() for out in (resumed, again)]
    assert tensors[0] == tensors[1]
    first, second = (comparable(json.loads((out / "comparison.json").read_text())) for out in (resumed, again))
    assert first == second


def test_compare_refuses_a_record_of_other_data(resumed, capsys):
    """A finished record made on other data ends `compare` with status 2, the field and both values."""
    file = resumed / "scaling/8/runs/lora/0/record.json"
    before = file.read_text()
    edit_record(resumed / "scaling/8", "lora/0", lambda data: put(data, "config.separator", "other"))
    try:
        assert cli.main(["compare", str(resumed / "suite.json"), "--out", str(resumed)]) == 2
    finally:
        file.write_text(before)
    error = capsys.readouterr().err
    assert "config.separator" in error and "'other'" in error and "Traceback" not in error


def test_the_harness_gives_our_means(resumed):
    """The scoring code of lm-evaluation-harness's CNN/DailyMail task gives the record's ROUGE-1, -2 and -L."""
    if importlib.util.find_spec("lm_eval") is None:
        pytest.skip("lm-eval is not installed: pip install --no-deps lm-eval")
    check = CHECKOUT / "benchmarks/outside_rouge.py"
    done = subprocess.run([sys.executable, str(check), str(resumed)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "lm-evaluation-harness: largest difference" in done.stdout, done.stderr


def test_rouge_score_alone_gives_our_means(resumed):
    """The package rouge_score, given only predictions.jsonl with one sentence per line, gives the record's means to
    1e-6."""
    scorer = RougeScorer(list(ROUGE_TYPES), use_stemmer=True)
    lines = [json.loads(line) for line in (resumed / "runs/lora/0/predictions.jsonl").read_text().splitlines()]
    found = [scorer.score(*(sentence_per_line(line[key]) for key in ("reference", "prediction"))) for line in lines]
    rouge = record(resumed / "runs/lora/0").rouge
    for name in ROUGE_TYPES:
        mean = 100 * sum(scores[name].fmeasure for scores in found) / len(found)
        assert mean == pytest.approx(getattr(rouge, name), abs=1e-6)
    assert "stemmer:yes" in rouge.signature and "rouge_score:" in rouge.signature


# Meters and methods


def small_suite(*settings: str):
    """A suite of the embedded model with a few documents."""
    made = preset_settings("demo")
    for setting in [*SMALL, *settings]:
        made = merge_tables(made, parse_setting(setting))
    return entries.resolve(made)


@pytest.mark.parametrize("plain", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["executed", "plain"])
def test_flops_of_every_row_are_those_of_its_training(plain, workplace, monkeypatch):
    """For every tuned method the record's FLOPs are those counted by dispatch over the actual training."""
    suite, table = small_suite(
        f"engine.plain={str(plain).lower()}",
        "limits.train_documents=12",
        "limits.test_documents=1",
        "limits.validation_documents=1",
        "decoding.max_new_tokens=2",
    )
    counted: list[int] = []

    class CountedLoop(Loop):
        """The loop, with each step counted by dispatch."""

        def __init__(self, *arguments: Any):
            super().__init__(*arguments)
            counted.append(0)

        def step(self) -> Step:
            model = self.model.parts.model
            ours = model.config._attn_implementation
            model.set_attn_implementation("eager")  # all of its products are counted
            with FlopCounterMode(display=False) as counter:
                step = super().step()
            model.set_attn_implementation(ours)
            counted[-1] += counter.get_total_flops()
            return step

    monkeypatch.setattr(training, "Loop", CountedLoop)
    for row in table:
        if row.trains:
            record = experiment.run_experiment(suite, row, 0, workplace / f"flops-{plain}", "cpu", ignore)
            cost, cache = record.cost, record.notes.get("trunk_cache", {"flops": 0})  # made before training
            assert cost.train_flops == pytest.approx(counted[-1] + cache["flops"], rel=1e-6), row.label
            assert (
                cost.plain_flops == pytest.approx(counted[-1], rel=1e-6)
                if plain
                else cost.plain_flops > cost.train_flops
            )


def test_a_search_is_charged_once(workplace):
    """The run that made a search is charged with it, also if it was interrupted later and restarted; no other seed
    is."""
    suite, table = small_suite("search.trials=2", "seeds=[0, 1]", "limits.train_documents=8")
    row, out = next(row for row in table if row.label == "lora"), workplace / "charged"
    costs = []
    for seed in (1, 0, 1):
        costs.append(experiment.run_experiment(suite, row, seed, out, "cpu", ignore).cost)
        (out / f"runs/lora/{seed}/record.json").unlink()
    assert costs[0].search_flops == costs[2].search_flops > 0 == costs[1].search_flops
    trials = json.loads((out / "runs/lora/search.json").read_text())["trials"]
    assert costs[2].search_seconds == pytest.approx(sum(trial["search_seconds"] for trial in trials))
    assert costs[0].search_seconds > 0 == costs[1].search_seconds and costs[2].wall_seconds > costs[2].search_seconds


class Ticking:
    """A clock that advances by a second whenever it is read, and by more on request."""

    now = 0.0
    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME
    process_time, time, clock_gettime = map(staticmethod, (time.process_time, time.time, time.clock_gettime))

    @classmethod
    def perf_counter(cls) -> float:
        cls.now += 1
        return cls.now


class Boaster(LoRA):
    """LoRA that wastes time, allocates before training, runs its own timer and reports the cost it would like to
    have."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Waste, then adapt."""
        real = parts.device.type != "meta"
        Ticking.now += 1000 if real else 0
        block = torch.ones(400 * 2**18 if real else 1)
        del block
        adapted = super().adapt(parts, context)
        adapted.notes |= {"train_seconds": 0.0, "peak_memory_bytes": 1, "train_flops": 0}
        return adapted


def test_a_method_cannot_change_its_figures(workplace, monkeypatch):
    """A method that wastes time, allocates early or measures itself still has LoRA's time, memory, FLOPs and
    summaries."""
    suite, table = small_suite()
    lora = next(row for row in table if row.label == "lora")
    monkeypatch.setattr("triptych.measure.clocks.time", Ticking)
    made = [
        experiment.run_experiment(suite, row, 0, workplace / f"boast-{number}", "cpu", ignore, ("a file.py",))
        for number, row in enumerate((lora, SuiteEntry("lora", "lora", Boaster(**lora.plugin.model_dump()))))
    ]
    honest, boaster = (each.cost for each in made)
    assert boaster.train_seconds == honest.train_seconds > 0 and boaster.tokens_per_second == honest.tokens_per_second
    assert (boaster.train_flops, boaster.plain_flops) == (honest.train_flops, honest.plain_flops)
    assert abs(boaster.peak_memory_bytes - honest.peak_memory_bytes) < 150 * 2**20
    assert boaster.startup_seconds - honest.startup_seconds > 900  # it is charged to the clock it belongs to
    assert made[1].loss == made[0].loss and made[1].rouge == made[0].rouge
    # without it, the command would not know the method
    assert made[1].provenance.command.endswith("--plugin 'a file.py'")


# Refusals, through the command line


REFUSED = {
    "data": ("data.fingerprint", "other", "data.fingerprint"),
    "split": ("config.split.seed", 7, "config.split.seed"),
    "documents used": ("data.splits.train.used", 65, "data.splits.train.used"),
    "document length": ("config.limits.document_tokens", 99, "config.limits.document_tokens"),
    "summary length": ("config.limits.summary_tokens", 99, "config.limits.summary_tokens"),
    "beams": ("config.decoding.num_beams", 1, "config.decoding.num_beams"),
    "new tokens": ("config.decoding.max_new_tokens", 7, "config.decoding.max_new_tokens"),
    "epochs": ("config.training.max_epochs", 99, "config.training.max_epochs"),
    "search": ("config.search.trials", 9, "config.search.trials"),
    "metric": ("rouge.signature", "rouge|v:2", "rouge.signature"),
    "precision": ("provenance.precision", "bf16", "provenance.precision"),
    "model": ("provenance.model_fingerprint", "cafe", "provenance.model_fingerprint"),
}


@pytest.mark.parametrize("joined", [False, True], ids=["one", "joined"])
@pytest.mark.parametrize("case", REFUSED)
def test_report_refuses_what_differs(case, joined, tmp_path, capsys):
    """`report` ends with status 2, the field and both values if runs of one or two folders differ in what must be
    equal."""
    field, value, named = REFUSED[case]
    first, second = write_results(tmp_path / "first"), write_results(tmp_path / "second", ("full",))
    edit_record(second if joined else first, "full/0", lambda data: put(data, field, value))
    edit_record(second, "full/1", lambda data: put(data, field, value))
    edit_record(second, "full/0", lambda data: put(data, "loss.test", 2.5))
    there = [first, second] if joined else [first]
    assert cli.main(["report", *map(str, there), "--to", str(tmp_path / "to")]) == 2
    captured = capsys.readouterr()
    assert f"{named} is " in captured.err and repr(value) in captured.err
    assert "full (seed 0)" in captured.err or (joined and f"full in {str(second)!r} (seed 0)" in captured.err)
    assert captured.out == "" and not (tmp_path / "to").exists()


def test_report_refuses_bit_equal_losses(tmp_path, capsys):
    """Two tuned methods with a bit-equal test loss end `report` with status 2 and both names."""
    out = write_results(tmp_path / "out")
    edit_record(out, "lora/1", lambda data: put(data, "loss.test", 2.125))
    edit_record(out, "full/1", lambda data: put(data, "loss.test", 2.125))
    assert cli.main(["report", str(out)]) == 2
    error = capsys.readouterr().err
    assert "bit-equal" in error and "lora (seed 1)" in error and "full (seed 1)" in error


def test_report_joins_suites_that_pass(tmp_path, capsys):
    """`report OUT1 OUT2 --to DIR` writes one comparison of both suites, with the untrained methods they share."""
    first, second = (write_results(tmp_path / label, ("untuned", label)) for label in ("lora", "full"))
    assert cli.main(["report", str(first), str(second), "--to", str(tmp_path / "to")]) == 0
    comparison = json.loads((tmp_path / "to/comparison.json").read_text())
    assert list(comparison["rows"]) == ["untuned", "lora", "full"] and len(comparison["tests"]) == 12
    assert cli.main(["report", str(first), str(second)]) == 2 and "--to" in capsys.readouterr().err

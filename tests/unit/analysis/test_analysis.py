"""A results folder read, refused, flagged, compared, joined, drawn as curves and turned into advice."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.folders import DOCUMENTS, edit, edit_record, put, write_results, write_run
from triptych.analysis.advice import recommend
from triptych.analysis.comparison import compare_results, join_results
from triptych.analysis.curves import still_falling, validation_curves
from triptych.analysis.flags import row_flags
from triptych.analysis.inference import Sample
from triptych.analysis.power import detectable
from triptych.analysis.verdict import is_significant, pareto_front
from triptych.errors import ConfigError, ResultsError
from triptych.planning.planner import plan
from triptych.results import integrity
from triptych.results.reading import read_results
from triptych.results.records import ROUGE_TYPES, PairedTest


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_results(tmp_path / "first")


# Loading


def test_every_run_is_read_in_the_suites_order(out: Path):
    """A finished folder is read completely: methods and seeds in the suite's order, untrained methods once."""
    results = read_results(out)
    assert [(run.record.label, run.record.seed) for run in results.runs] == [
        ("untuned", 0),
        ("lead-3", 0),
        ("prompt-tuning", 0),
        ("prompt-tuning", 1),
        ("lora", 0),
        ("lora", 1),
        ("full", 0),
        ("full", 1),
    ]
    assert all(len(run.predictions) == DOCUMENTS for run in results.runs)
    assert [len(run.history) for run in results.of("lora")] == [4, 4]
    assert results.missing == ()


def cut_last_line(path: Path) -> None:
    path.write_text(path.read_text()[:-20])


def drop_last_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def spoil_line_three(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[2].replace(":", ";", 1), *lines[3:]]))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("suite.json", Path.unlink, "is missing"),
        ("suite.json", lambda path: path.write_text("{"), "line 1, is malformed"),
        ("suite.json", lambda path: path.write_text('{"sedes": [0]}'), "Did you mean 'seeds'"),
        ("runs/lora/1/record.json", lambda path: path.write_text("[]"), "not a JSON object"),
        (
            "runs/lora/1/record.json",
            lambda path: edit(path, lambda r: r.update(schema_version=7)),
            "has schema_version 7",
        ),
        ("runs/lora/1/record.json", lambda path: edit(path, lambda r: r.update(surprise=1)), "surprise: Extra inputs"),
        ("runs/lora/1/record.json", lambda path: edit(path, lambda r: r.update(seed=0)), "belongs to 'lora', seed 0"),
        ("runs/lora/1/record.json", lambda path: edit(path, lambda r: r.update(rouge=None)), "has no ROUGE"),
        ("runs/lora/1/predictions.jsonl", Path.unlink, "is missing"),
        ("runs/lora/1/predictions.jsonl", cut_last_line, f"line {DOCUMENTS}, does not end"),
        (
            "runs/lora/1/predictions.jsonl",
            drop_last_line,
            f"holds {DOCUMENTS - 1} documents, record.json says {DOCUMENTS}",
        ),
        ("runs/lora/1/predictions.jsonl", spoil_line_three, "line 3, is malformed"),
        ("runs/lora/1/predictions.jsonl", lambda path: path.write_bytes(b"\xff\n"), "cannot be read"),
        (
            "runs/lora/1/predictions.jsonl",
            lambda path: path.write_text(path.read_text().replace("rouge2", "rouge9")),
            "line 1, has no score 'rouge2'",
        ),
        (
            "runs/lora/1/predictions.jsonl",
            lambda path: path.write_text(path.read_text().replace('"rouge2": ', '"rouge2": 9')),
            "they are from different runs",
        ),
        ("runs/lora/1/predictions.jsonl", lambda path: path.write_text('{"id": NaN}\n'), "NaN is not a number"),
        ("runs/lora/1/history.jsonl", Path.unlink, "is missing"),
        ("runs/lora/1/history.jsonl", cut_last_line, "line 4, does not end"),
        ("runs/lora/1/history.jsonl", lambda path: path.write_text('{"step": 1}\n'), "line 1, has no 'event'"),
    ],
)
def test_damage_is_one_clear_error(out: Path, file: str, damage: Callable[[Path], Any], message: str):
    """A missing, truncated, malformed or foreign file is refused with its name, the problem and a remedy."""
    damage(out / file)
    with pytest.raises(ResultsError) as error:
        read_results(out)
    assert file in str(error.value) and message in str(error.value) and "Remedy: " in str(error.value)
    assert error.value.exit_status == 2


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    """A path without a results folder is bad input."""
    with pytest.raises(ResultsError, match="no results folder"):
        read_results(tmp_path / "nowhere")


def test_an_unfinished_suite_is_refused_or_flagged(out: Path):
    """Planned runs that are missing are named: an error by default, a flag when a partial table is requested."""
    (out / "runs/lora/1/record.json").unlink()
    with pytest.raises(ResultsError, match=r"has not finished.*lora/1.*triptych compare"):
        read_results(out)
    results = read_results(out, partial=True)
    assert results.missing == (("lora", 1),)
    assert any("Not in this comparison: lora (seed 1)" in flag for flag in compare_results(results).flags)


def test_a_run_outside_the_suite_is_refused(out: Path):
    """A run folder of a method that the suite does not name is not ignored."""
    write_run(out, json.loads((out / "suite.json").read_text()), "lora-all", 0, kind="lora")
    with pytest.raises(ResultsError, match=r"lora-all.*not in suite.json"):
        read_results(out)


def fail(out: Path, run: str) -> None:
    edit_record(
        out, run, lambda r: r.update(status="failed", rouge=None, error="Traceback\nNonFiniteLoss: loss is nan.")
    )
    (out / "runs" / run / "predictions.jsonl").unlink()


def test_a_failed_run_is_kept_as_failed(out: Path):
    """A failed seed is listed with its reason and enters no figure; a method with no finished seed has no estimates."""
    fail(out, "lora/1")
    fail(out, "full/0")
    fail(out, "full/1")
    comparison = compare_results(read_results(out))
    lora, full = comparison.rows["lora"], comparison.rows["full"]
    assert (lora.seeds, lora.failed_seeds) == ([0], [1]) and lora.rouge1 is not None
    assert any("Seed 1: The run failed: NonFiniteLoss: loss is nan." in flag for flag in lora.flags)
    assert (full.seeds, full.failed_seeds, full.rouge1, full.parameters) == ([], [0, 1], None, None)
    assert "full" not in comparison.pareto and not any("full" in (test.a, test.b) for test in comparison.tests)
    assert any("same number of finished seeds" in flag for flag in comparison.flags)


def test_a_suite_in_which_all_failed_is_refused(tmp_path: Path):
    """Without one finished run there is nothing to compare, and the first reason is given."""
    out = write_results(tmp_path / "all", methods=("lora",), seeds=(0,))
    fail(out, "lora/0")
    with pytest.raises(ResultsError, match=r"No run .* finished.*loss is nan"):
        compare_results(read_results(out))


# Files that do not belong together


def test_a_record_with_digests_refuses_every_other_file(out: Path):
    """History, predictions and adapter are refused by name if they belong to another seed or were truncated, emptied or
    changed."""
    for seed in (0, 1):
        folder = out / f"runs/lora/{seed}"
        history = (folder / "history.jsonl").read_text().replace('"loss": 3.0', f'"loss": {3 + seed / 8}')
        (folder / "history.jsonl").write_text(history)
        for name in ("triptych.json", "adapter_config.json"):
            (folder / "adapter").mkdir(exist_ok=True)
            (folder / "adapter" / name).write_text(json.dumps({"seed": seed, "name": name}))
        edit_record(out, f"lora/{seed}", lambda record, folder=folder: record.update(files=integrity.digests(folder)))
    assert read_results(out).of("lora")[1].record.files.keys() == {*integrity.TEXT_FILES, *integrity.ADAPTER_FILES}
    for name in (*integrity.TEXT_FILES, *integrity.ADAPTER_FILES):
        mine, other = out / "runs/lora/1" / name, out / "runs/lora/0" / name
        whole = mine.read_bytes()
        for content in (other.read_bytes(), b"", whole + whole[-1:], whole.replace(b"1", b"2", 1)):
            mine.write_bytes(content)
            with pytest.raises(ResultsError, match=rf"runs/lora/1/{name}.*Remedy: .*runs/lora/1"):
                read_results(out)
        mine.write_bytes(whole)
    read_results(out)
    shutil.rmtree(out / "runs/lora/1/adapter")  # a copy without adapters can still be reported
    read_results(out)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        drop_last_line,
        lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[1:2])),
        lambda path: path.write_bytes((path.parents[2] / "full/1/history.jsonl").read_bytes()),
    ],
    ids=["emptied", "cut at a line's end", "one line", "of another run"],
)
def test_a_history_that_is_not_the_records_is_refused_without_digests(out: Path, damage: Callable[[Path], Any]):
    """Records of earlier versions have no digests: their steps, epochs and best validation loss are compared
    instead."""
    damage(out / "runs/lora/1/history.jsonl")
    with pytest.raises(ResultsError, match=r"runs/lora/1/history\.jsonl' .*record\.json says"):
        read_results(out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_shape.share_at_cap": 0.5}, "text_shape.share_at_cap 0.5"),
        ({"search.at_edge": True}, "search.at_edge True"),
        ({"search.chosen": 0.7}, "search.chosen None"),
        ({"training.stopped_early": False}, "training.stopped_early False"),
        ({"parameters.num_total_parameters": 5}, "parameters.num_total_parameters 5"),
        ({"training.steps": 13}, "record.json says 13 steps"),
        ({"training.epochs": 2}, "record.json says 12 steps and 2 evaluations"),
        ({"options": {"rank": 64}}, "options.rank is 64 for lora (seed 1) and 8 in suite.json"),
        ({"kind": "full"}, "kind is 'full' for lora (seed 1) and 'lora' in suite.json"),
    ],
)
def test_figures_that_do_not_follow_from_their_run_are_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    """A figure that can be derived from a run's other files or from suite.json is refused if it differs."""
    out = write_results(tmp_path / "out", methods=("lora", "full"), method={"lora": {"kind": "lora", "rank": 8}})
    read_results(out)
    for field, value in changes.items():
        edit_record(out, "lora/1", lambda record, field=field, value=value: put(record, field, value))
    with pytest.raises(ResultsError) as error:
        read_results(out)
    assert message in str(error.value) and "Remedy: " in str(error.value)


@pytest.mark.parametrize("field", ["options", "kind"])
def test_seeds_of_a_row_are_of_one_kind_with_the_same_options(out: Path, field: str):
    """If suite.json does not say what a method is, its seeds are compared with each other."""
    edit_record(out, "lora/1", lambda record: record.update({field: {"options": {"rank": 64}, "kind": "full"}[field]}))
    with pytest.raises(ResultsError, match=f"cannot be compared in one table: {field}.*lora .seed 0.*lora .seed 1"):
        compare_results(read_results(out))


def test_joined_suites_may_have_rows_of_one_name_with_other_options(tmp_path: Path):
    """Methods of two suites are two methods: their options are not compared."""
    first, second = (write_results(tmp_path / name, methods=("lora",), seeds=(0,)) for name in ("first", "second"))
    edit_record(second, "lora/0", lambda record: record.update(options={"rank": 64}))
    edit_record(second, "lora/0", lambda record: put(record, "loss.test", 2.5))
    assert list(compare_results(join_results([read_results(first), read_results(second)])).rows) == [
        "lora@first",
        "lora@second",
    ]


def test_every_file_has_its_own_remedy(out: Path):
    """An unreadable suite.json is not answered with advice to delete a run; a damaged run file names the folder to
    delete."""
    for name, remedy in {
        "suite.json": "triptych compare SUITE --out",
        "runs/lora/1/record.json": f"delete the folder {out / 'runs/lora/1'} and resume",
        "runs/lora/1/history.jsonl": f"triptych compare {out}",
    }.items():
        whole = (out / name).read_bytes()
        (out / name).write_bytes(b"{")
        with pytest.raises(ResultsError) as error:
            read_results(out)
        assert remedy in str(error.value) and ("delete" in str(error.value)) == ("runs" in name)
        (out / name).write_bytes(whole)


# Refusals


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("config.separator", "\n\nSummary:"),
        ("config.split.seed", 5),
        ("config.limits.document_tokens", 256),
        ("config.limits.train_documents", 7),
        ("config.training.max_epochs", 3),
        ("config.training.patience", 9),
        ("config.training.global_batch_size", 4),
        ("config.training.max_grad_norm", 9.0),
        ("config.training.schedule", "cosine"),
        ("config.training.optimizer", "adafactor"),
        ("config.decoding.num_beams", 1),
        ("config.decoding.max_new_tokens", 9),
        ("config.search.trials", 8),
        ("provenance.model_fingerprint", "cafe"),
        ("provenance.precision", "bf16"),
        ("data.fingerprint", "d00d"),
        ("data.splits.train.used", 63),
        ("rouge.signature", "rouge|v:2"),
    ],
)
def test_what_must_be_equal_is_refused(out: Path, field: str, value: Any):
    """Runs that differ in model, data, limits, decoding, budget or metric are refused: the field and both values."""
    before = json.loads((out / "runs/lora/1/record.json").read_text())
    for key in field.split("."):
        before = before[key]
    edit_record(out, "lora/1", lambda record: put(record, field, value))
    with pytest.raises(ResultsError) as error:
        compare_results(read_results(out))
    message = str(error.value)
    assert all(part in message for part in (field, repr(before), repr(value), "lora (seed 1)"))


@pytest.mark.parametrize("field", ["id", "reference"])
def test_other_documents_are_refused(out: Path, field: str):
    """Runs on other test documents or references are refused with the line and both values."""
    path = out / "runs/full/0/predictions.jsonl"
    old = {"id": "d4", "reference": "Reference 4."}[field]
    path.write_text(path.read_text().replace(json.dumps(old), '"another"'))
    with pytest.raises(ResultsError) as error:
        compare_results(read_results(out))
    assert all(part in str(error.value) for part in ("line 5", field, old, "another", "full (seed 0)"))


@pytest.mark.parametrize(
    "field",
    ["engine.plain", "engine.sharding", "training.micro_batch_size", "decoding.batch_size", "cache.max_gigabytes"],
)
def test_what_changes_no_result_is_not_refused(out: Path, field: str):
    """Engine settings that change no result do not keep runs out of one table."""
    edit_record(out, "lora/1", lambda record: put(record["config"], field, 1))
    assert compare_results(read_results(out)).tests


def test_bit_equal_losses_of_two_tuned_rows_are_an_error(out: Path):
    """Two tuned methods with a bit-equal test loss under one seed are a bug, never a result (trap 21)."""
    loss = json.loads((out / "runs/lora/1/record.json").read_text())["loss"]["test"]
    edit_record(out, "full/1", lambda record: put(record, "loss.test", loss))
    with pytest.raises(ResultsError, match=r"lora \(seed 1\) and of full \(seed 1\) is bit-equal"):
        compare_results(read_results(out))


def test_rows_that_stayed_untouched_may_be_equal(out: Path):
    """Methods that never beat the untouched weights keep those weights: their equal losses are flagged, not refused."""
    loss = json.loads((out / "runs/lora/1/record.json").read_text())["loss"]
    for run in ("lora/1", "full/1"):
        history = json.loads((out / f"runs/{run}/record.json").read_text())["training"]["epochs"]
        for field, value in {
            "loss.test": loss["test"],
            "loss.validation": loss["initial"],
            "loss.initial": loss["initial"],
            "training.best_step": 0,
            "training.best_epoch": 0,
            "training.evaluations": history,
        }.items():
            edit_record(out, run, lambda record, field=field, value=value: put(record, field, value))
    comparison = compare_results(read_results(out))
    assert any("beat the untrained weights" in flag for flag in comparison.rows["full"].flags)


def test_a_bit_equal_loss_under_another_seed_is_no_error(out: Path):
    """The equality matters only under one seed; within a row it says that the seed has no effect."""
    loss = json.loads((out / "runs/lora/0/record.json").read_text())["loss"]["test"]
    edit_record(out, "lora/1", lambda record: put(record, "loss.test", loss))
    assert any("the seed has no effect" in flag for flag in compare_results(read_results(out)).rows["lora"].flags)


# Flags


def agree_with_record(folder: Path) -> None:
    """Make a run's history and predictions agree with its record."""
    record = json.loads((folder / "record.json").read_text())
    events = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    events[record["training"]["best_epoch"]]["validation_loss"] = record["loss"]["validation"]
    (folder / "history.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line["at_cap"] = number < record["text_shape"]["share_at_cap"] * len(lines)
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_metric_that_scored_only_some_methods_is_named(out: Path):
    """A column that a plug-in added later is empty for the methods before, which is not for lack of a meaning."""
    for run in ("lora/0", "lora/1"):
        edit_record(out, run, lambda record: put(record, "signatures", {"rouge": "r", "own": "o"}))
    for run in ("full/0", "full/1"):
        edit_record(out, run, lambda record: put(record, "signatures", {"rouge": "r"}))
    (flag,) = [flag for flag in compare_results(read_results(out)).flags if "metric" in flag]
    assert flag == "The metric own did not score full: triptych score OUT --metric own adds what is missing."


def test_a_loss_that_rose_is_flagged_for_the_whole_row(tmp_path: Path):
    """A loss that rose by more than 0.5% is reported as worse, a smaller rise as not moved, and never both."""
    for loss, worse in ((3.13, True), (3.11, False)):
        out = write_results(tmp_path / str(loss))
        for run in ("lora/0", "lora/1", "lora/2"):
            if (out / "runs" / run).is_dir():
                edit_record(out, run, lambda record, loss=loss: put(record, "loss.validation", loss))
                agree_with_record(out / "runs" / run)
        (flag,) = compare_results(read_results(out)).rows["lora"].flags
        assert flag.startswith("Training made the validation loss worse (3.1000 before, 3.1300 after)") == worse
        assert flag.startswith("The validation loss did not move (3.1000 before training, 3.1100 after)") != worse


def test_warnings_that_differ_in_their_numbers_are_one_with_ranges(out: Path):
    """Three seeds with the same trouble are one warning; two of them name their seeds."""
    results = read_results(out)
    (run,) = [run for run in results.of("lora") if run.record.seed == 1]

    def runs(losses, warnings):
        return [
            replace(
                run,
                record=run.record.model_copy(
                    update={
                        "seed": seed,
                        "loss": run.record.loss.model_copy(update={"validation": loss, "test": 3.0 + seed}),
                        "notes": {"warnings": [warning]},
                    }
                ),
            )
            for seed, (loss, warning) in enumerate(zip(losses, warnings, strict=True))
        ]

    worse, others = row_flags(
        runs((3.5, 4.2, 3.9), ("12 others used 1,000 MB.", "9 others used 980 MB.", "10 others used 1,000 MB."))
    )
    assert worse.startswith("Training made the validation loss worse (3.1000 before, 3.5000 to 4.2000 after): ")
    assert others == "9 to 12 others used 980 to 1,000 MB."
    *named, last = row_flags(runs((3.5, 3.0, 4.2), ("In bf16.", "In bf16.", "In fp32.")))
    assert named[0].startswith("Seeds 0 and 2: Training made the validation loss worse (3.1000 before, 3.5000 to 4.2")
    assert named[1:] == ["Seeds 0 and 1: In bf16."] and last == "Seed 2: In fp32."


@pytest.mark.parametrize(
    ("reached", "sentence"),
    [
        (
            4.2,
            "Training made the validation loss worse (3.1000 before, 4.2000 after): the learning rate is probably too",
        ),
        (
            3.1001,
            "The validation loss did not move (3.1000 before training, 3.1001 after). The learning rate is probably",
        ),
    ],
)
def test_a_run_that_kept_the_untouched_weights_says_where_its_training_went(out: Path, reached: float, sentence: str):
    """A run that kept the untouched weights reports from its history whether the rate was too high or too low."""
    folder = out / "runs/lora/1"
    for field in ("loss.validation", "training.best_step", "training.best_epoch"):
        value = 3.1 if field == "loss.validation" else 0
        edit_record(out, "lora/1", lambda record, field=field, value=value: put(record, field, value))
    events = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    for event in events:
        if event["event"] == "evaluation":
            event["validation_loss"] = reached
    (folder / "history.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    flags = compare_results(read_results(out)).rows["lora"].flags
    untouched = "Seed 1: No evaluation beat the untrained weights, so those were evaluated on the test split. "
    assert any(flag.startswith(untouched + sentence) for flag in flags)


def test_records_that_agree_on_other_settings_than_the_suites_are_refused(tmp_path: Path):
    """If every record says 50 epochs and suite.json says 2, the results are refused with both numbers."""
    out = write_results(tmp_path / "out", training={"max_epochs": 50})
    compare_results(read_results(out))
    edit(out / "suite.json", lambda suite: put(suite, "training.max_epochs", 2))
    with pytest.raises(ResultsError, match=r"config\.training\.max_epochs is 50 for .* and 2 in suite\.json"):
        compare_results(read_results(out))


def test_training_that_was_cut_off_by_its_budget_is_flagged(tmp_path: Path):
    """If the best epoch is the last one in the budget, every trained method is flagged."""
    rows = compare_results(read_results(write_results(tmp_path / "short", training={"max_epochs": 3}))).rows
    said = {label for label, row in rows.items() if any("was still falling" in flag for flag in row.flags)}
    assert said == {"prompt-tuning", "lora", "full"}


def test_training_that_was_cut_off_after_one_epoch_is_flagged_in_the_singular(tmp_path: Path):
    """The same flag says "1 epoch" if the budget was one."""
    results = read_results(write_results(tmp_path / "short", training={"max_epochs": 3}))
    one = {"epochs": 1.0, "best_epoch": 1.0}
    runs = [
        replace(run, record=run.record.model_copy(update={"training": run.record.training.model_copy(update=one)}))
        if run.record.training
        else run
        for run in results.runs
    ]
    flags = compare_results(replace(results, runs=runs)).rows["lora"].flags
    assert any("falling when training ended after 1 epoch: more epochs may lower it" in flag for flag in flags)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"loss.validation": 3.099}, "did not move (3.1000 before training, 3.0990 after)"),
        (
            {"loss.validation": 3.099, "notes": {"distance_moved": 0.0123, "nearest_tokens": [" the", "a"]}},
            "Distance moved: 0.0123. Nearest tokens: ' the', 'a'.",
        ),
        (
            {"loss.validation": 3.5},
            "Training made the validation loss worse (3.1000 before, 3.5000 after): the learning rate is probably "
            "too high.",
        ),
        ({"search.chosen": 0.1 * 3, "search.at_edge": True}, "0.3, is at the edge of the grid (0.1, 0.2, 0.3)"),
        ({"text_shape.share_at_cap": 0.4}, "40% of the summaries were cut off"),
        ({"text_shape.share_empty": 0.25}, "25% of the summaries are empty"),
        ({"training.recomputed": True}, "Memory ran out with one document per pass, so each block was recomputed"),
        (
            {"notes": {"sharding": {"ranks": 2}}},
            "The model was sharded over 2 processes: memory is that of the process",
        ),
    ],
)
def test_what_a_reader_must_know_of_a_row_is_said(out: Path, changes: dict[str, Any], sentence: str):
    """A method that did not train, search or write as it should is flagged with the figures and the seed."""
    for field, value in changes.items():
        edit_record(out, "prompt-tuning/1", lambda record, field=field, value=value: put(record, field, value))
    agree_with_record(out / "runs/prompt-tuning/1")
    rows = compare_results(read_results(out)).rows
    assert any(flag.startswith("Seed 1: ") and sentence in flag for flag in rows["prompt-tuning"].flags)
    assert rows["lora"].flags == []


@pytest.mark.parametrize(
    ("run", "changes", "sentence"),
    [
        ("lora/1", {"data.synthetic": True}, "The data are built in and synthetic"),
        ("lora/1", {"provenance.synthetic_model": True}, "The model is built in and synthetic"),
        ("lora/1", {"provenance.device": "cuda"}, "trained with different devices: their seconds"),
        ("lora/1", {"provenance.commit": "def"}, "made with different commits"),
        ("lora/1", {"provenance.dirty": True}, "made with uncommitted changes"),
        ("lora/1", {"config.training.micro_batch_size": 2}, "different micro-batch sizes"),
        ("lora/1", {"config.engine.sharding": "full"}, "different engine settings"),
    ],
)
def test_what_a_reader_must_know_of_the_whole_is_said(out: Path, run: str, changes: dict[str, Any], sentence: str):
    """Synthetic parts, other machines and other versions are stated beside the table."""
    assert compare_results(read_results(out)).flags == []
    for field, value in changes.items():
        edit_record(out, run, lambda record, field=field, value=value: put(record, field, value))
    comparison = compare_results(read_results(out))
    assert any(sentence in flag for flag in comparison.flags)
    assert comparison.synthetic == ("synthetic" in sentence)
    assert [part for part in ("model", "data") if f"{part} " in sentence and comparison.synthetic] == (
        comparison.synthetic_parts
    )


def test_records_from_before_a_setting_of_the_engine_have_its_default(out: Path):
    """A record of an earlier version without `engine.sharding` has the same engine settings as a current one."""
    edit_record(out, "lora/1", lambda record: record["config"]["engine"].pop("sharding"))
    assert compare_results(read_results(out)).flags == []


def test_an_unequal_search_is_flagged(out: Path):
    """A method that tried fewer learning rates than another is named with both counts."""
    for run in ("lora/0", "lora/1"):
        edit_record(out, run, lambda record: record["search"]["trials"].pop())
        edit_record(out, run, lambda record: put(record, "search.at_edge", True))
    assert any("prompt-tuning 3, lora 2, full 3" in flag for flag in compare_results(read_results(out)).flags)


def test_a_grid_that_was_continued_is_no_unequal_search(out: Path):
    """Searches must train on equally much, up to a step or two, but may try different numbers of rates."""
    for label, documents in (("prompt-tuning", (30, 30, 30)), ("lora", (20, 50, 21)), ("full", (40, 45, 5))):
        trials = [
            {"learning_rate": 0.1 * k, "validation_loss": 3.0, "documents": n} for k, n in enumerate(documents, 1)
        ]
        for seed in (0, 1):
            edit_record(out, f"{label}/{seed}", lambda record, trials=trials: record["search"].update(trials=trials))
    assert not [flag for flag in compare_results(read_results(out)).flags if "this favors those" in flag]
    edit_record(out, "full/0", lambda record: record["search"]["trials"][1].update(documents=90))
    (flag,) = [flag for flag in compare_results(read_results(out)).flags if "this favors those" in flag]
    assert "prompt-tuning 90, lora 91, full 135" in flag and "documents" in flag


def test_equal_summaries_are_flagged(out: Path):
    """Two methods that wrote the same summaries are named: one may not do what its name says (trap 21)."""
    (out / "runs/lora/1/predictions.jsonl").write_text((out / "runs/full/1/predictions.jsonl").read_text())
    rouge = json.loads((out / "runs/full/1/record.json").read_text())["rouge"]
    edit_record(out, "lora/1", lambda record: record.update(rouge=rouge))
    assert any(
        "lora and full wrote the same summaries (seed 1)" in flag for flag in compare_results(read_results(out)).flags
    )
    path = out / "runs/lora/1/predictions.jsonl"
    path.write_text(path.read_text().replace("full 1 writes 3.", "something else"))
    assert any(
        "lora and full have equal ROUGE from different summaries (seed 1)" in f
        for f in compare_results(read_results(out)).flags
    )


def test_one_seed_is_said(tmp_path: Path):
    """With one seed, a comparison says in its flags and verdict that the effect of retraining was not measured."""
    comparison = compare_results(read_results(write_results(tmp_path / "one", seeds=(0,))))
    assert any("has one seed" in flag for flag in comparison.flags)
    assert "pairs with a trained model differ on these documents" in comparison.verdict
    assert comparison.verdict.endswith("comparing the methods themselves requires more training seeds.")
    assert not {"best", "better", "winner"} & set(comparison.verdict.lower().replace(".", " ").split())


# Comparison


def test_the_comparison_is_deterministic(out: Path):
    """The same results give the same comparison, to the last bit."""
    assert compare_results(read_results(out)).model_dump_json() == compare_results(read_results(out)).model_dump_json()


def test_means_are_those_of_the_records(out: Path):
    """A method's figures are means over its seeds of the records' values."""
    results = read_results(out)
    comparison = compare_results(results)
    for label, row in comparison.rows.items():
        records = [run.record for run in results.of(label)]
        for metric in ROUGE_TYPES:
            estimate = getattr(row, metric)
            assert estimate.mean == pytest.approx(
                np.mean([getattr(record.rouge, metric) for record in records]), abs=1e-9
            )
            assert estimate.low < estimate.mean < estimate.high
        assert row.cost["train_seconds"] == np.mean([record.cost.train_seconds for record in records])
        assert row.cost["energy_joules"] is None
        if label != "lead-3":
            assert row.loss.test == row.loss.mean == pytest.approx(np.mean([record.loss.test for record in records]))
    assert comparison.rows["lead-3"].loss.test is None
    assert (comparison.num_documents, comparison.signature) == (DOCUMENTS, "rouge|v:1")


def test_the_loss_interval_is_over_seeds_or_absent(out: Path):
    """Without per-document losses, the test loss has Student's interval over seeds, and none from one run."""
    rows = compare_results(read_results(out)).rows
    assert rows["lora"].loss.low < rows["lora"].loss.mean < rows["lora"].loss.high
    assert rows["untuned"].loss.low is None


def write_losses(out: Path, run: str, losses: Any) -> None:
    """Give every document of a run a loss and a number of targets, and the record their ratio."""
    path = out / "runs" / run / "predictions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    targets = 10.0 + np.arange(len(lines)) % 7
    for line, loss, count in zip(lines, losses, targets, strict=True):
        line["scores"] |= {"loss": float(loss), "targets": float(count)}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    edit_record(out, run, lambda record: put(record, "loss.test", float(np.average(losses, weights=targets))))


def test_document_losses_give_the_loss_interval(out: Path):
    """Per-document losses give the test loss an interval, and must agree with the record."""
    write_losses(out, "untuned/0", np.arange(DOCUMENTS) % 3)
    loss = compare_results(read_results(out)).rows["untuned"].loss
    assert loss.low < loss.mean < loss.high
    edit_record(out, "untuned/0", lambda record: put(record, "loss.test", loss.test + 0.01))
    with pytest.raises(ResultsError, match=r"losses in predictions.jsonl of untuned \(seed 0\)"):
        compare_results(read_results(out))


def test_document_losses_are_tested_in_pairs(out: Path):
    """The test loss of two methods is compared document by document: a gain shared by all documents has no spread."""
    level = np.random.default_rng(3).normal(0, 0.5, DOCUMENTS)
    write_losses(out, "untuned/0", 3.0 + level)
    write_losses(out, "prompt-tuning/0", 2.9 + level)
    write_losses(out, "prompt-tuning/1", 2.9 + level + 1e-9)
    for seed in (0, 1):
        write_losses(out, f"lora/{seed}", 2.8 + level + np.random.default_rng(seed).normal(0, 0.1, DOCUMENTS))
    comparison = compare_results(read_results(out))
    tests = {(test.a, test.b): test for test in comparison.tests if test.metric == "loss"}
    assert len(tests) == 3  # each pair of methods whose documents have losses
    same = tests["untuned", "prompt-tuning"]
    assert same.low == pytest.approx(same.difference) == pytest.approx(same.high) == pytest.approx(0.1)
    for (a, b), test in tests.items():
        losses = comparison.rows[a].loss, comparison.rows[b].loss
        assert test.difference == pytest.approx(losses[0].test - losses[1].test)
        assert test.low <= test.difference <= test.high and test.p_value_adjusted < 0.05
    noisy = tests["untuned", "lora"]
    assert noisy.high - noisy.low < 0.2 * (losses[0].high - losses[0].low)


def test_every_pair_is_tested_on_every_metric(out: Path):
    """All pairs of finished methods are tested on the four ROUGE scores, with a correction over all of them."""
    comparison = compare_results(read_results(out))
    cases = {(test.a, test.b, test.metric) for test in comparison.tests}
    assert len(comparison.tests) == len(cases) == 10 * 4
    for test in comparison.tests:
        a, b = (getattr(comparison.rows[label], test.metric).mean for label in (test.a, test.b))
        assert test.difference == pytest.approx(a - b, abs=1e-9)
        assert test.low < test.difference < test.high
        assert test.p_value <= test.p_value_adjusted <= min(1, 40 * test.p_value)


def test_a_row_run_once_is_compared_with_each_seed(out: Path):
    """An untrained method is compared with each seed of the other: the difference is the mean of the two."""
    results = read_results(out)
    base, tuned = results.of("untuned"), results.of("lora")
    expected = np.mean([run.record.rouge.rouge1 - base[0].record.rouge.rouge1 for run in tuned])
    test = next(t for t in compare_results(results).tests if (t.a, t.b, t.metric) == ("untuned", "lora", "rouge1"))
    assert test.difference == pytest.approx(-expected, abs=1e-9)


def test_a_rows_interval_does_not_depend_on_the_other_rows(out: Path):
    """Taking a method out of the table does not change the intervals of the others."""
    before = compare_results(read_results(out)).rows
    edit(out / "suite.json", lambda suite: suite["methods"].remove("prompt-tuning"))
    (out / "runs/prompt-tuning").rename(out / "gone")
    after = compare_results(read_results(out)).rows
    for label, row in after.items():
        assert (row.rouge1.low, row.rouge1.high) == pytest.approx((before[label].rouge1.low, before[label].rouge1.high))


def test_the_verdict_names_a_winner_only_where_there_is_one(tmp_path: Path):
    """A clear lead gives a winner; a lead within chance gives none, and the verdict names the methods that cannot be
    told apart."""
    out = write_results(tmp_path / "three", seeds=(0, 1, 2))
    before = compare_results(read_results(out)).verdict
    assert before.startswith("No clear winner: lora (")
    assert before.endswith(" leads, but does not differ significantly from full.")
    suite = json.loads((out / "suite.json").read_text())
    for seed in (0, 1, 2):
        folder = out / "runs/full" / str(seed)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        write_run(out, suite, "full", seed, gain=14.0)
    assert "The best is full (" in compare_results(read_results(out)).verdict


def test_a_method_with_one_seed_keeps_all_methods_from_being_ranked(tmp_path: Path):
    """If the other seeds of a method failed, pairs that differ are reported as trained models, and none is called
    best."""
    results = read_results(write_results(tmp_path / "three", seeds=(0, 1, 2)))
    kept = tuple(run for run in results.runs if run.record.label != "lora" or run.record.seed == 0)
    comparison = compare_results(replace(results, runs=kept))
    assert "pairs with a trained model differ on these documents" in comparison.verdict
    assert comparison.verdict.endswith("comparing the methods themselves requires more training seeds of lora.")
    assert not {"best", "winner", "equivalent", "shown"} & set(comparison.verdict.lower().replace(".", " ").split())
    assert "lora has one training seed. Comparing the methods themselves requires more" in recommend(comparison).text


def test_more_epochs_are_advised_only_where_the_loss_was_falling_before_the_decay(tmp_path: Path):
    """A loss that rose at the peak rate and fell only in the decay is no sign that training was too short."""
    results = read_results(write_results(tmp_path / "one", seeds=(0,), training={"max_epochs": 3}))
    (run,) = (run for run in results.runs if run.record.label == "lora")
    run.record.training.decay_start = 2
    for losses, falling in (((3.0, 2.9, 2.8), True), ((3.0, 3.1, 2.8), False)):
        history = tuple(
            {"event": "evaluation", "step": step, "validation_loss": loss} for step, loss in enumerate(losses, 1)
        )
        assert still_falling(replace(run, history=history)) is falling


def test_the_verdict_judges_trained_rows_where_a_baseline_leads(out: Path):
    """If Lead-3 leads, the verdict says so, and the trained methods are judged among themselves."""
    edit(out / "suite.json", lambda suite: suite.update(methods=["lead-3", "prompt-tuning"]))
    for label in ("untuned", "lora", "full"):
        (out / "runs" / label).rename(out / label)
    suite = json.loads((out / "suite.json").read_text())
    edit(out / "suite.json", lambda data: data["methods"].append("lora"))
    for seed in (0, 1):
        write_run(out, suite, "lora", seed, gain=2.9)
    verdict = compare_results(read_results(out)).verdict
    assert (
        verdict.startswith("The best is lead-3")
        and "among the trained methods, no clear winner: prompt-tuning" in verdict
    )


def test_old_rows_differ_only_where_test_and_interval_agree():
    """In a file without decisions, a rejection does not separate methods if the interval over seeds includes zero."""
    base = {"a": "x", "b": "y", "metric": "rouge1", "difference": 1.0, "p_value": 0.001}
    assert is_significant(PairedTest(**base, p_value_adjusted=0.01, low=0.5, high=1.5))
    assert not is_significant(PairedTest(**base, p_value_adjusted=0.01, low=-0.5, high=2.5))
    assert not is_significant(PairedTest(**base, p_value_adjusted=0.2, low=0.5, high=1.5))


def test_one_document_gives_neither_tests_nor_intervals(tmp_path: Path):
    """A single test document is reported without intervals and tests, and the report says so."""
    out = write_results(tmp_path / "small", methods=("untuned", "lora"), seeds=(0,))
    for path in out.glob("runs/*/*/predictions.jsonl"):
        line = json.loads(path.read_text().splitlines()[0])
        path.write_text(json.dumps(line) + "\n")

        def shrink(record: dict[str, Any], line: dict[str, Any] = line) -> None:
            record["rouge"] |= line["scores"]
            record["data"]["splits"]["test"]["used"] = 1

        edit(path.parent / "record.json", shrink)
    comparison = compare_results(read_results(out))
    assert comparison.tests == [] and comparison.rows["lora"].rouge1.low is None
    assert any("one test document" in flag for flag in comparison.flags)


def test_the_pareto_front_is_by_hand():
    """A method is on the front unless another is at least as good in both and better in one; one of unknown cost is
    never on it."""
    points = {
        "cheap": (20.0, 1.0),
        "good": (30.0, 5.0),
        "worse": (29.0, 5.0),
        "dear": (30.0, 6.0),
        "twin": (30.0, 5.0),
        "unknown": (99.0, None),
    }
    assert pareto_front(points) == ["cheap", "good", "twin"]


def test_the_fronts_of_a_comparison(out: Path):
    """The fronts are by test ROUGE-1 against training seconds and against trainable parameters."""
    comparison = compare_results(read_results(out))
    assert comparison.pareto == comparison.pareto_parameters == ["lead-3", "lora"]


# Joining


def test_joined_suites_are_one_table(tmp_path: Path):
    """Compatible suites are joined: colliding labels get the suite's name, and an untrained method is kept once."""
    first = write_results(tmp_path / "one", methods=("untuned", "lora"))
    second = write_results(tmp_path / "two", methods=("untuned", "lora", "full"))
    for seed in (0, 1):
        edit_record(second, f"lora/{seed}", lambda record: put(record, "loss.test", record["loss"]["test"] + 0.01))
    joined = join_results([read_results(first), read_results(second)])
    comparison = compare_results(joined)
    assert list(comparison.rows) == ["untuned", "lora@one", "lora@two", "full"]
    assert comparison.suite == "one + two" and comparison.rows["lora@two"].label == "lora@two"
    assert compare_results(join_results([read_results(first)])) == compare_results(read_results(first))


def test_suites_of_one_name_are_told_apart_by_folder(tmp_path: Path):
    """If suites have the same name, the folders' names tell their methods apart."""
    folders = [write_results(tmp_path / name, methods=("lora",), name="same") for name in ("one", "two")]
    for seed in (0, 1):
        edit_record(folders[1], f"lora/{seed}", lambda record: put(record, "loss.test", record["loss"]["test"] + 0.01))
    assert join_results([read_results(folder) for folder in folders]).labels == ("lora@one", "lora@two")


def test_unequal_suites_are_not_joined(tmp_path: Path):
    """Suites that differ in what must be equal are refused with the field and both values."""
    first = write_results(tmp_path / "one", methods=("lora",))
    second = write_results(tmp_path / "two", methods=("full",), limits={"document_tokens": 128})
    with pytest.raises(ResultsError, match=r"document_tokens is 512 for lora in '.*one' .* and 128 for full in '"):
        join_results([read_results(first), read_results(second)])


def test_suites_of_other_data_are_not_joined_for_their_data(tmp_path: Path):
    """Different data are reported before anything else that differs as a consequence."""
    first = write_results(tmp_path / "one", methods=("lora",))
    second = write_results(tmp_path / "two", methods=("full",), data="else", limits={"document_tokens": 128})
    for seed in (0, 1):
        edit_record(second, f"full/{seed}", lambda record: put(record, "data.fingerprint", "beef"))
    with pytest.raises(ResultsError, match=r"config.data is '.*' for lora in '.*one' .* and 'else' for full"):
        join_results([read_results(first), read_results(second)])


def test_suites_that_are_judged_by_other_settings_are_not_joined(tmp_path: Path):
    """Folders with different [analysis] settings are refused with both values; made equal in suite.json, they are
    joined."""
    first = write_results(tmp_path / "one", methods=("lora",))
    second = write_results(tmp_path / "two", methods=("full",), analysis={"primary": "loss", "margin": 1.0})
    with pytest.raises(
        ResultsError, match=r"analysis.primary is 'rouge1' in '.*one' and 'loss' in '.*two'.*both suite.json"
    ):
        join_results([read_results(first), read_results(second)])
    suite = json.loads((second / "suite.json").read_text())
    wanted = json.loads((first / "suite.json").read_text())["analysis"]
    (second / "suite.json").write_text(json.dumps(suite | {"analysis": wanted}))
    assert compare_results(join_results([read_results(first), read_results(second)])).inference.primary == "rouge1"


def test_a_folder_given_twice_is_refused(out: Path):
    """A run cannot be compared with itself."""
    with pytest.raises(ResultsError, match="was given twice"):
        join_results([read_results(out), read_results(out)])


def test_a_run_copied_into_another_suite_is_refused(tmp_path: Path):
    """The same run in two suites is recognized by its bit-equal loss."""
    first = write_results(tmp_path / "one", methods=("lora",))
    second = write_results(tmp_path / "two", methods=("lora",))
    with pytest.raises(ResultsError, match="bit-equal"):
        compare_results(join_results([read_results(first), read_results(second)]))


# Curves


@pytest.mark.parametrize(
    ("axis", "spent"),
    [
        ("step", (0, 4, 8, 12)),
        ("tokens", (0, 400, 800, 1200)),
        ("train_seconds", (0, 5, 10, 15)),
        ("train_flops", (0, 1e9, 2e9, 3e9)),
    ],
)
def test_curves_hold_what_the_histories_measured(out: Path, axis: str, spent: tuple[float, ...]):
    """A curve has the loss before training and every validation loss, against what the run had spent by then."""
    curves = validation_curves(read_results(out), axis)
    assert [(line.label, line.seed) for line in curves.lines] == [
        ("prompt-tuning", 0),
        ("prompt-tuning", 1),
        ("lora", 0),
        ("lora", 1),
        ("full", 0),
        ("full", 1),
    ]
    lora = curves.lines[2]
    assert lora.spent == spent and lora.losses == pytest.approx([3.1, 3.1 - 0.4 / 3, 3.1 - 0.8 / 3, 2.7])
    assert curves.absent == ()


def test_what_was_not_measured_has_no_curve(out: Path):
    """Spending that a method did not record is named as missing, never derived."""
    assert validation_curves(read_results(out), "energy_joules").lines == ()
    assert validation_curves(read_results(out), "energy_joules").absent == ("prompt-tuning", "lora", "full")


def test_bad_axes_are_refused(out: Path):
    """An unknown axis and decreasing spending are errors with a remedy."""
    with pytest.raises(ResultsError, match="Did you mean 'tokens'"):
        validation_curves(read_results(out), "token")
    path = out / "runs/lora/0/history.jsonl"
    path.write_text(path.read_text().replace('"tokens": 800', '"tokens": 300'))
    with pytest.raises(ResultsError, match=r"lora \(seed 0\) has a falling tokens"):
        validation_curves(read_results(out), "tokens")


# Advice


def test_advice_is_the_best_row_within_the_budget(out: Path):
    """Among the methods within every limit, the one with the highest ROUGE-1 is named, with the reason why the others
    are not."""
    comparison = compare_results(read_results(out))
    assert recommend(comparison).best == "lora"
    advice = recommend(comparison, max_parameters=10_000)
    assert advice.best == "lead-3" and set(advice.refused) == {"lora", "full"}
    assert "24,576 trainable parameters; the limit is 10,000" in advice.refused["lora"]
    assert "Outside the budget, the mean ROUGE-1 of lora is better by " in advice.text
    assert recommend(comparison, max_parameters=10**9, max_seconds=12, max_memory=10**10).best == "lora"
    assert "full" in recommend(comparison, max_seconds=12).refused


def test_advice_gives_its_evidence_and_uncertainty(out: Path):
    """The difference to every other method is the comparison's test of that pair, with the matching sign."""
    comparison = compare_results(read_results(out))
    advice = recommend(comparison)
    assert {rival.label for rival in advice.rivals} == {"untuned", "lead-3", "prompt-tuning", "full"}
    for rival in advice.rivals:
        means = [comparison.rows[label].rouge1.mean for label in ("lora", rival.label)]
        assert (
            rival.difference == pytest.approx(means[0] - means[1], abs=1e-9)
            and rival.low < rival.difference < rival.high
        )
        assert (
            f"{rival.label}: {rival.difference:+.2f} [{rival.low:+.2f}, {rival.high:+.2f}], adjusted p" in advice.text
        )
    assert not next(rival for rival in advice.rivals if rival.label == "full").is_significant
    assert "full: " in advice.text and ": undecided" in advice.text and "2 seeds, 40 test documents" in advice.text
    assert "no cheaper method is shown to be as good" in advice.text


def test_advice_names_the_frugal_choice(tmp_path: Path):
    """A method that is not shown to differ from the best and trains fewer parameters is named."""
    out = write_results(tmp_path / "three", seeds=(0, 1, 2))
    for seed in (0, 1, 2):
        edit_record(out, f"lora/{seed}", lambda record: put(record, "parameters.num_trainable_parameters", 10**7))
    advice = recommend(compare_results(read_results(out)))
    assert advice.best == "lora" and advice.frugal == ("full",)
    assert (
        "full does not differ significantly from lora and trains 3,000,000 parameters instead of 10,000,000"
        in advice.text
    )


def test_advice_is_the_cheapest_row_that_is_not_worse(tmp_path: Path):
    """A cheaper method shown to be within the margin of the best is advised, and the best is named with the margin."""
    out = write_results(tmp_path / "close", methods=("prompt-tuning", "lora", "full"), seeds=(0, 1, 2))
    edit(out / "suite.json", lambda suite: suite.update(analysis={"margin": 3.0}))
    for seed in (0, 1, 2):
        edit_record(out, f"lora/{seed}", lambda record: put(record, "cost.train_seconds", 500.0))
    advice = recommend(compare_results(read_results(out)))
    assert advice.best == "lora" and advice.choice == "full"
    assert "Without a limit: full." in advice.text
    assert "cheapest method shown to be at most 3 points worse in ROUGE-1 than lora" in advice.text


def test_advice_from_one_seed_is_of_a_model(tmp_path: Path):
    """With one seed the advice says that it is about trained models, not methods."""
    text = recommend(compare_results(read_results(write_results(tmp_path / "one", seeds=(0,))))).text
    assert "have one training seed. Comparing the methods themselves requires more: no method is advised here" in text


def test_advice_for_what_trains_nothing_speaks_of_no_model(tmp_path: Path):
    """If only Lead-3 fits the budget, no model and nothing cheaper is advised, and the best trained method is named."""
    comparison = compare_results(read_results(write_results(tmp_path / "one", ("lead-3", "lora"), seeds=(0,))))
    alone = recommend(comparison, max_parameters=100)
    assert alone.choice == "lead-3" and "Nothing else is within the budget." in alone.text
    assert "only a model" not in alone.text and "seed" not in alone.text.split("Not within")[0].split("\n", 2)[2]
    comparison.rows["lead-3"].rouge1.mean, comparison.rows["lora"].rouge1.mean = 40.0, 39.0
    comparison.tests = [
        PairedTest(
            a="lead-3",
            b="lora",
            metric="rouge1",
            difference=1.0,
            low=-1.0,
            high=3.0,
            p_value=0.4,
            p_value_adjusted=0.4,
            decision="undecided",
        )
    ]
    text = recommend(comparison).text
    assert "and nothing is cheaper." in text and "only a model" not in text
    assert "The only trained method is lora." in text


def test_times_on_a_shared_device_decide_nothing(out: Path):
    """If others used the GPU during training, times are neither a budget's measure nor a reason to choose."""
    for seed in (0, 1):
        edit_record(out, f"lora/{seed}", lambda record: put(record, "cost.shared_note", "others worked on the GPU"))
    assert not any(row.shared_device for row in compare_results(read_results(out)).rows.values())  # of a CPU: a note
    for seed in (0, 1):
        edit_record(out, f"lora/{seed}", lambda record: put(record, "provenance.device", "cuda:0"))
    comparison = compare_results(read_results(out))
    assert [label for label, row in comparison.rows.items() if row.shared_device] == ["lora"]
    assert "lora" not in comparison.pareto
    assert any("Other jobs used the device" in sentence for sentence in plan(pilots=[out]).sentences)
    assert "other jobs shared the device" in recommend(comparison, max_seconds=1e9).refused["lora"]
    assert "of training on a GPU that others used, too" in recommend(comparison).text


def test_the_difference_that_ties_leave_open_is_not_called_found():
    """If nearly all documents tie, the detectable difference is at least as wide as the interval."""
    profile = np.zeros(40)
    profile[0] = 5.0
    one = Sample(0.125, profile, (), (-100.0, 100.0))
    low, high = one.interval(0.05)
    assert one.concentrated and detectable(one, 0.05) >= max(high - one.mean, one.mean - low)
    spread = Sample(0.0, np.random.default_rng(0).normal(0, 5, 40), (), (-100.0, 100.0))
    assert not spread.concentrated and 0 < detectable(spread, 0.05) < 4


def test_the_primary_measure_is_the_suites(out: Path):
    """`[analysis] primary` decides what the verdict and the advice rest on; the other of R-1 and loss is shown too."""
    level = np.random.default_rng(3).normal(0, 0.5, DOCUMENTS)
    for row, (label, mean) in enumerate((("untuned", 3.0), ("prompt-tuning", 2.2), ("lora", 2.8), ("full", 2.7))):
        for seed in (0,) if label == "untuned" else (0, 1):
            noise = np.random.default_rng([row, seed]).normal(0, 0.05, DOCUMENTS)
            write_losses(out, f"{label}/{seed}", mean + level + noise)
    by_rouge = compare_results(read_results(out))
    assert by_rouge.inference.primary == "rouge1" and by_rouge.verdict.index("ROUGE-1") < by_rouge.verdict.index(
        "test loss"
    )
    edit(out / "suite.json", lambda suite: suite.update(analysis={"primary": "loss"}))
    by_loss = compare_results(read_results(out))
    assert by_loss.verdict.index("test loss") < by_loss.verdict.index("ROUGE-1")
    assert recommend(by_loss).best == "prompt-tuning" and recommend(by_rouge).best == "lora"
    assert {test.role for test in by_loss.tests if test.metric == "loss"} == {"primary"}


def test_a_measure_that_not_all_methods_have_is_said(tmp_path: Path):
    """If only one method has a test loss, the verdict says that this measure was not tested, and judges ROUGE."""
    suite = {"analysis": {"primary": "loss"}}
    out = write_results(tmp_path / "out", methods=("lead-3", "lora"), **suite)
    comparison = compare_results(read_results(out))
    assert comparison.verdict.startswith("No two methods could be tested on the test loss, the primary measure. ")
    assert "ROUGE-1" in comparison.verdict and "nothing to compare" not in comparison.verdict
    advice = recommend(comparison, max_parameters=0)
    assert advice.refused["lead-3"] == "it has no test loss, which is the primary measure"
    alone = compare_results(read_results(write_results(tmp_path / "alone", methods=("lora",))))
    assert alone.verdict == "There is nothing to compare: there is only one method."


def test_losses_that_are_not_known_per_document_are_no_error(tmp_path: Path):
    """Methods with a loss as the primary measure, but without losses of their documents, are judged by ROUGE."""
    out = write_results(tmp_path / "out", methods=("lora", "full"), analysis={"primary": "loss"})
    comparison = compare_results(read_results(out))
    assert comparison.rows["lora"].loss.mean is not None and not [t for t in comparison.tests if t.metric == "loss"]
    assert comparison.verdict.startswith("No two methods could be tested on the test loss")
    assert recommend(comparison).best == "full"


def test_a_limit_and_what_is_needed_are_told_apart(out: Path):
    """Two amounts that look the same when rounded are written in full, and the smallest limit is enough."""
    for seed in (0, 1):
        edit_record(out, f"lora/{seed}", lambda record: put(record, "cost.peak_memory_bytes", 7_594_321_000))
    comparison = compare_results(read_results(out))
    refusal = recommend(comparison, max_memory="7.59GB").refused["lora"]
    assert refusal == "it needs 7,594,321,000 B of memory; the limit is 7.59 GB"
    tuned = comparison.model_copy(update={"rows": {"lora": comparison.rows["lora"]}})
    least = recommend(tuned, max_memory="1GB").text.splitlines()[-1]
    assert least == "The least any method needs is 7,594,321,000 B of memory."
    assert recommend(tuned, max_memory="7,594,321,000 B").best == "lora"


def test_advice_where_nothing_fits_or_nothing_is_known(tmp_path: Path):
    """If no method fits, the smallest sufficient budget is given; a cost that was not measured does not count as
    small."""
    out = write_results(tmp_path / "tuned", methods=("prompt-tuning", "lora"))
    nothing = recommend(compare_results(read_results(out)), max_parameters=100)
    assert nothing.best is None and "The least any method needs is 2,560 trainable parameters" in nothing.text
    for seed in (0, 1):
        edit_record(out, f"lora/{seed}", lambda record: put(record, "cost.peak_memory_bytes", None))
    advice = recommend(compare_results(read_results(out)), max_memory=10**12)
    assert advice.best == "prompt-tuning" and "was not measured" in advice.refused["lora"]


def test_advice_repeats_what_a_reader_must_know(out: Path):
    """The advice repeats the flags of the comparison and of the advised method."""
    edit_record(out, "lora/0", lambda record: record["search"].update(chosen=0.1, at_edge=True))
    edit_record(out, "full/0", lambda record: put(record, "data.synthetic", True))
    text = recommend(compare_results(read_results(out))).text
    assert "edge of the grid" in text and "synthetic" in text


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_a_limit_is_a_number_of_zero_or_more(out: Path, value: float):
    """A negative or non-numeric limit is bad input."""
    with pytest.raises(ConfigError, match="--max-seconds"):
        recommend(compare_results(read_results(out)), max_seconds=value)


# Layers


def test_analysis_needs_no_torch():
    """Importing all of analysis loads neither torch nor transformers."""
    code = (
        "import sys, pkgutil, importlib, triptych.analysis as a\n"
        "for m in pkgutil.iter_modules(a.__path__): importlib.import_module(f'triptych.analysis.{m.name}')\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_runs_share_their_ids_and_references(out: Path):
    """Ids and references are in memory once, whatever the number of runs, so a large table fits."""
    first, *others = [run for run in read_results(out).runs if run.done]
    for run in others:
        for one, other in zip(first.predictions, run.predictions, strict=True):
            assert one.id is other.id and one.reference is other.reference
    assert others

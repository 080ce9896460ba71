"""A whole suite in separate processes: what it leaves, how it resumes, how it fails."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from triptych import cli
from triptych.config import reading
from triptych.plugins import import_plugins
from triptych.results.reading import read_results
from triptych.results.records import READINGS, Comparison, Prediction, Record
from triptych.run import entries, experiment
from triptych.run.events import StepEvent, ignore
from triptych.suite import processes

SMALL = [
    "limits.train_documents=24",
    "limits.validation_documents=6",
    "limits.test_documents=4",
    "training.max_epochs=2",
    "training.global_batch_size=8",
    "decoding.max_new_tokens=12",
    "decoding.num_beams=2",
]


@pytest.fixture(scope="module")
def finished(workplace) -> Path:
    """A small finished suite."""
    out = workplace / "out"
    assert cli.main(["compare", "--methods", "untuned,lead-3,lora", "--out", str(out), "--set", *SMALL]) == 0
    return out


def test_a_suite_leaves_the_whole_results_tree(finished):
    """Every file of the design exists, and each can be read in its format."""
    tables = ("comparison.json", "comparison.csv", "comparison_tests.csv", "comparison.md")
    for name in ("suite.json", *tables, "report.pdf", "report.html"):
        assert (finished / name).stat().st_size > 0, name
    assert (finished / "report.pdf").read_bytes().startswith(b"%PDF")
    comparison = Comparison.model_validate_json((finished / "comparison.json").read_text())
    assert list(comparison.rows) == ["untuned", "lead-3", "lora"]
    for label in comparison.rows:
        folder = finished / "runs" / label / "0"
        record = Record.model_validate_json((folder / "record.json").read_text())
        predictions = [Prediction.model_validate_json(line) for line in (folder / "predictions.jsonl").open()]
        assert record.status == "done" and len(predictions) == 4
        assert record.rouge.rouge1 == pytest.approx(sum(p.scores["rouge1"] for p in predictions) / 4, abs=1e-9)
    assert (finished / "runs/lora/0/adapter/adapter_config.json").is_file()


def test_a_program_may_name_the_results_folder(finished):
    """`train LABEL OUT --events` runs a method of that folder in it, as without `--events`."""
    record = finished / "runs/lead-3/0/record.json"
    before = record.stat().st_mtime_ns
    command = [sys.executable, "-m", "triptych", "train", "lead-3", str(finished), "--events"]
    subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, capture_output=True, env=processes.child_environment()
    )
    assert record.stat().st_mtime_ns > before


def test_the_clocks_add_up_to_the_wall_clock(finished):
    """No clocks overlap: together they are the time of the process, read by another clock, within 2%."""
    cost = read_results(finished).of("lora")[0].record.cost
    clocks = ("startup", "preparation", "compile", "search", "train", "evaluation", "generation", "checkpoint")
    assert sum(getattr(cost, f"{name}_seconds") for name in clocks) == pytest.approx(cost.wall_seconds, rel=0.02)
    assert cost.train_seconds > 0 and cost.train_flops > 0 and cost.plain_flops > cost.train_flops


def test_the_same_suite_is_resumed_and_finished_runs_stay_untouched(finished, capsys):
    """Running the same command again repeats no finished run: records keep their modification time."""
    records = sorted(finished.glob("runs/*/*/record.json"))
    before = [path.stat().st_mtime_ns for path in records]
    assert cli.main(["compare", "--methods", "untuned,lead-3,lora", "--out", str(finished), "--set", *SMALL]) == 0
    assert [path.stat().st_mtime_ns for path in records] == before
    assert "kept" in capsys.readouterr().err


def test_the_resolved_suite_is_itself_a_valid_input(finished):
    """`compare OUT/suite.json` is the same suite: it resolves to itself."""
    import_plugins()
    settings = reading.merge_settings(finished / "suite.json")
    suite, _ = entries.resolve(settings)
    assert suite.model_dump(mode="json") == json.loads((finished / "suite.json").read_text())


def test_two_runs_of_one_suite_differ_in_time_and_memory_alone(finished, workplace):
    """In fp32 on one machine a run repeats itself to the bit, in losses, scores, predictions and weights."""
    again = workplace / "again"
    command = ["train", "lora", str(finished / "suite.json"), "--seeds", "0", "--out", str(again), "--events"]
    subprocess.run([sys.executable, "-m", "triptych", *command], check=True, capture_output=True)
    first, second = finished / "runs/lora/0", again / "runs/lora/0"
    for name in ("predictions.jsonl", "adapter/adapter_model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert _comparable(first) == _comparable(second)


def _comparable(folder: Path) -> dict:
    record = json.loads((folder / "record.json").read_text())
    record["cost"] = {key: value for key, value in record["cost"].items() if not key.endswith(READINGS)}
    # which has seconds
    del record["provenance"]["time"], record["provenance"]["command"], record["files"]["history.jsonl"]
    return record


class Cut(BaseException):
    """Interrupts a run in these tests."""


def cut_after(steps: int):
    """A listener that ends the run after this many optimizer steps."""

    def listen(run, event):
        if isinstance(event, StepEvent) and event.step == steps:
            raise Cut

    return listen


@pytest.mark.parametrize("cuts", [(2,), (3, 6)], ids=["once", "twice"])
def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(finished, workplace, cuts):
    """However often a run is interrupted, it ends with the weights, losses, history and predictions of an uninterrupted
    one."""
    import_plugins()
    suite, table = entries.resolve(reading.read_suite_file(finished / "suite.json"))
    row, out, told = entries.find_entry(table, "lora"), workplace / f"cut-{len(cuts)}", []
    for cut in cuts:
        with pytest.raises(Cut):
            experiment.run_experiment(suite, row, 0, out, None, cut_after(cut))
        assert list((out / "runs/lora/0/checkpoint").glob("*.json"))
    experiment.run_experiment(suite, row, 0, out, None, lambda run, event: told.append(event))
    first, second = finished / "runs/lora/0", out / "runs/lora/0"
    for name in ("predictions.jsonl", "adapter/adapter_model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert _comparable(first) == _comparable(second)
    assert next(event.step for event in told if isinstance(event, StepEvent)) > 1
    assert not (second / "checkpoint").exists()


def test_evaluate_reproduces_loss_and_summaries_from_the_saved_adapter(finished, capsys):
    """A separate call on the saved run gives the recorded test loss and every stored summary."""
    assert cli.main(["evaluate", str(finished / "runs/lora/0"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["test_loss"] == pytest.approx(result["recorded_test_loss"], abs=1e-7)
    assert result["identical_predictions"] == result["documents"] == 4


def test_report_is_made_again_from_the_records_alone(finished, capsys):
    """`report OUT` writes the same comparison from the records."""
    before = (finished / "comparison.json").read_bytes()
    assert cli.main(["report", str(finished)]) == 0
    assert (finished / "comparison.json").read_bytes() == before


def test_a_failed_run_is_recorded_and_the_others_finish(workplace, capsys):
    """A failed run leaves a record that says so, the suite ends with status 1, and the next call retries only that
    run."""
    plugin = workplace / "broken.py"
    plugin.write_text(
        '"""A method that fails."""\n'
        "from triptych.contracts import AdaptedModel, Method\n"
        "from triptych.registry import register\n\n\n"
        '@register("broken")\n'
        "class Broken(Method):\n"
        '    """Fails when it is applied to real weights."""\n\n'
        "    def adapt(self, parts, context):\n"
        '        """Fail unless planned."""\n'
        "        if parts.device.type != 'meta':\n"
        '            raise RuntimeError("the weights are not to my taste")\n'
        "        return AdaptedModel(parts)\n"
    )
    out = workplace / "failing"
    command = ["compare", "--methods", "broken,lead-3", "--out", str(out), "--plugin", str(plugin), "--set", *SMALL]
    assert cli.main(command) == 1
    captured = capsys.readouterr()
    assert "broken (seed 0)" in captured.err and "not to my taste" in captured.err
    record = Record.model_validate_json((out / "runs/broken/0/record.json").read_text())
    assert record.status == "failed" and "not to my taste" in record.error
    assert Record.model_validate_json((out / "runs/lead-3/0/record.json").read_text()).status == "done"
    assert "broken" in (out / "comparison.json").read_text() and (out / "report.pdf").is_file()


def nothing_is_left_of(group: int) -> None:
    """Check that all processes of a group end within ten seconds; a busy machine needs some for the last lines."""
    for _ in range(100):
        if subprocess.run(["pgrep", "-g", str(group)], capture_output=True, check=False).stdout == b"":
            return
        time.sleep(0.1)
    pytest.fail("a process outlived its suite")


@pytest.mark.slow
def test_interrupting_twice_ends_with_130_and_loses_nothing_finished(workplace):
    """Ctrl-C, also pressed repeatedly, ends the suite and its child with status 130, and says how to resume."""
    out = workplace / "interrupted"
    command = [
        sys.executable,
        "-m",
        "triptych",
        "compare",
        "--methods",
        "lead-3,lora",
        "--out",
        str(out),
        "--set",
        *SMALL,
        "limits.train_documents=2000",
        "training.max_epochs=50",
    ]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stderr:
        if "training" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "Run the same command again to resume." in error and "Traceback" not in error
    assert (out / "runs/lead-3/0/record.json").is_file() and not (out / "runs/lora/0/record.json").exists()
    nothing_is_left_of(process.pid)


@pytest.mark.slow
def test_a_killed_suite_takes_its_run_with_it_and_goes_on(finished, workplace):
    """After kill -9 no process is left, the lock does not block, and the same command ends with the comparison of an
    uninterrupted suite."""
    out = workplace / "killed" / "out"  # the suite is named after the folder
    rows_of_it = ["--methods", "untuned,lead-3,lora", "--out", str(out)]
    command = [sys.executable, "-m", "triptych", "compare", *rows_of_it, "--set", *SMALL]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    for line in process.stderr:
        if "lora" in line and "training" in line:
            break
    process.kill()
    process.wait()
    nothing_is_left_of(process.pid)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/record.json")}
    assert len(kept) == 2
    subprocess.run(command, check=True, capture_output=True)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert _comparable(out / "runs/lora/0") == _comparable(finished / "runs/lora/0")


def test_a_run_that_hangs_is_ended(monkeypatch):
    """A process that reports nothing for too long is killed; one that reports in time is not."""
    monkeypatch.setattr(processes, "SILENCE_SECONDS", 1.0)
    with subprocess.Popen(["sleep", "60"]) as process:
        watch = processes.Watch(process)
        for _ in range(4):
            time.sleep(0.4)
            watch.heard()
        assert process.poll() is None and not watch.killed
        assert process.wait(timeout=30) == -signal.SIGKILL and watch.killed


def test_a_second_process_in_one_folder_is_refused(finished, capsys):
    """While one process works in OUT, another is refused with status 2."""
    from triptych.results.lock import locked

    with locked(finished):
        assert cli.main(["compare", "--methods", "untuned,lead-3,lora", "--out", str(finished), "--set", *SMALL]) == 2
    assert "Another process" in capsys.readouterr().err


@pytest.mark.slow
def test_fresh_starts_over_and_keeps_what_was_there(workplace, capsys):
    """--fresh runs everything again and keeps the old folder under another name."""
    out = workplace / "fresh"
    command = ["compare", "--methods", "lead-3", "--out", str(out), "--set", *SMALL]
    assert cli.main(command) == 0
    old = (out / "runs/lead-3/0/record.json").read_text()
    assert cli.main([*command, "--fresh"]) == 0
    assert (workplace / "fresh.before-1/runs/lead-3/0/record.json").read_text() == old
    assert (out / "runs/lead-3/0/record.json").read_text() != old


@pytest.mark.slow
def test_a_random_llama_type_folder_runs_every_kind_of_row(workplace):
    """A model folder of another family (rotary, untied, nn.Linear) works with every kind of method by the same
    command."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from triptych.models.place import find_place

    import_plugins()
    tokenizer = AutoTokenizer.from_pretrained(find_place("tiny").where)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = workplace / "llama"
    LlamaForCausalLM(shape).save_pretrained(model)
    tokenizer.save_pretrained(model)
    settings = reading.preset_settings("demo")
    for setting in [
        *SMALL,
        f"model={model}",
        "method.lora-all.kind=lora",
        "method.lora-all.target_modules=all-linear",
        "method.last-head.kind=last-layers",
        "method.last-head.num_blocks=0",
        "method.last-head.head=untied",
        "method.lora-all.rank=4",
        "method.last-head.final_norm=false",
    ]:
        settings = reading.merge_tables(settings, reading.parse_setting(setting))
    suite, table = entries.resolve(settings)
    out = workplace / "llama-out"
    records = {row.label: experiment.run_experiment(suite, row, 0, out, "cpu", ignore) for row in table}
    assert set(records) == {*suite.methods} and len(records) == 8
    for label, record in records.items():
        if label not in ("untuned", "lead-3"):
            assert record.loss.validation < record.loss.initial, label
    assert records["last-head"].parameters.num_added_parameters == 0  # the head was a separate tensor before

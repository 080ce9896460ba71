"""Trackers get a run's numbers, and nothing else."""

import importlib.machinery
import json
import sys
import types
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from triptych import cli
from triptych.config import schema
from triptych.config.reading import merge_tables, parse_setting, preset_settings
from triptych.config.schema import make_suite
from triptych.errors import ConfigError
from triptych.run import entries, experiment, tracking
from triptych.run.events import StageEvent, StepEvent, ignore

SMALL = [
    "limits.train_documents=8",
    "limits.validation_documents=4",
    "limits.test_documents=3",
    "training.max_epochs=2",
    "decoding.max_new_tokens=5",
    "decoding.num_beams=1",
    "limits.document_tokens=64",
]


def small_suite(*settings: str) -> tuple[schema.Suite, list[entries.SuiteEntry]]:
    """The demo at a tiny size, with one method that trains and one that does not."""
    chosen = preset_settings("demo")
    for setting in (*SMALL, *settings):
        chosen = merge_tables(chosen, parse_setting(setting))
    return entries.resolve(chosen, ["bitfit", "lead-3"])


def test_tensorboard_gets_the_losses_of_a_run(tmp_path, monkeypatch):
    """The event file has every step's loss, both validation losses and the record's figures, and no document."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    suite, table = small_suite("tracking.with=tensorboard")
    out = tmp_path / "out"
    for row in table:
        record = experiment.run_experiment(suite, row, 0, out, "cpu", ignore)
    record = experiment.Record.model_validate_json((out / "runs/bitfit/0/record.json").read_text())
    events = EventAccumulator(str(out / "tracking/bitfit-0")).Reload()
    history = [json.loads(line) for line in (out / "runs/bitfit/0/history.jsonl").open()]
    steps = {line["step"]: line["loss"] for line in history if line["event"] == "step"}
    assert {e.step: e.value for e in events.Scalars("training/loss")} == pytest.approx(steps)
    validation = [line["validation_loss"] for line in history if line["event"] == "evaluation"]
    assert [e.value for e in events.Scalars("training/validation_loss")] == pytest.approx(validation)
    assert events.Scalars("loss/test")[0].value == pytest.approx(record.loss.test)
    assert events.Scalars("rouge/rouge1")[0].value == pytest.approx(record.rouge.rouge1)
    written = b"".join(path.read_bytes() for path in (out / "tracking").rglob("*") if path.is_file())
    for line in (out / "runs/lead-3/0/predictions.jsonl").open():
        for text in (json.loads(line)["prediction"], json.loads(line)["reference"]):
            assert text[:40].encode() not in written
    assert make_suite(json.loads(suite.model_dump_json())) == suite


def make_step(step: int) -> StepEvent:
    """Make an optimizer step of a run without an energy counter and without counted FLOPs."""
    state = {"tokens": 9, "energy_joules": None, "train_flops": None, "train_seconds": 1.5, "total": 8}
    return StepEvent(loss=2.5, learning_rate=0.1, epoch=0, step=step, **state)


def test_off_by_default(tmp_path):
    """By default nothing is tracked or written."""
    suite, _ = small_suite()
    tracker = tracking.Tracker(suite, "lora-0", tmp_path / "tracking")
    tracker.follow(make_step(1))
    assert suite.tracking.with_ is None and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "said"), [("tensorbord", "tracking.with"), ("wandb", "pip install wandb")])
def test_a_tracker_that_cannot_be_had_is_told_before_anything_runs(tmp_path, monkeypatch, capsys, name, said):
    """An unknown tracker, and one that is not installed, end with status 2 and a remedy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "find_spec", lambda package: None)
    assert cli.main(["compare", "--out", "out", "--set", f"tracking.with={name}"]) == 2
    assert said in capsys.readouterr().err and not Path("out").exists()


class FakeRun:
    """Keeps what it receives."""

    def __init__(self):
        self.told, self.done = [], False

    def log(self, values, step=None, **options):
        """Record a call."""
        self.told.append((step, values))

    def finish(self):
        """Record the end."""
        self.done = True


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_an_online_tracker_is_asked_for_the_run_in_the_suites_project(tmp_path, monkeypatch, kind):
    """The suite is the project, label and seed name the run; settings are sent along; steps and the end are sent."""
    run, asked, settings = FakeRun(), [], {}
    fake = types.ModuleType(kind)
    fake.__spec__ = importlib.machinery.ModuleSpec(kind, None)
    fake.init = lambda **options: asked.append(options) or run
    fake.config = types.SimpleNamespace(update=lambda values, **options: settings.update(values))
    monkeypatch.setitem(sys.modules, kind, fake)
    suite, _ = small_suite(f"tracking.with={kind}")
    tracker = tracking.Tracker(suite, "bitfit-0", tmp_path)
    tracker.follow(StageEvent(stage="train"))
    tracker.follow(make_step(3))
    assert asked == [{"project": "demo", "name": "bitfit-0"}]
    assert settings["limits/train_documents"] == 8 and settings["run"] == "bitfit-0"
    sent = {"loss": 2.5, "learning_rate": 0.1, "tokens": 9, "train_seconds": 1.5}
    assert run.told == [(3, {f"training/{name}": value for name, value in sent.items()})]


def test_a_tracker_that_does_not_start_is_told(tmp_path, monkeypatch):
    """The error of the tracker's package is passed on as one message."""
    fake = types.ModuleType("wandb")
    fake.__spec__ = importlib.machinery.ModuleSpec("wandb", None)

    def refuse(**options):
        raise RuntimeError("api_key not configured")

    fake.init = refuse
    monkeypatch.setitem(sys.modules, "wandb", fake)
    suite, _ = small_suite("tracking.with=wandb")
    with pytest.raises(ConfigError, match=r"'wandb': the tracker does not start: api_key not configured"):
        tracking.Tracker(suite, "lora-0", tmp_path)

"""Checkpoints: which one is trusted, how many are kept, and when one is due."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from triptych.config.schema import make_suite
from triptych.engine.training import TrainingState, make_optimizer
from triptych.errors import ResultsError
from triptych.run import checkpoints as module
from triptych.run.checkpoints import Checkpoints, room_needed

IDENTITY = {"label": "lora", "seed": 0}


@pytest.fixture
def saved(tmp_path):
    """Three checkpoints, saved one after another."""
    keeper = Checkpoints(tmp_path / "checkpoint", IDENTITY)
    for step in (1, 9, 10):
        keeper.save(step, {"w": torch.full((40,), float(step))}, {"progress": {"step": step}})
    return keeper


def test_the_last_two_are_kept_and_the_newest_is_read(saved):
    """The newest is determined by step, not by the spelling of its name; all but two are removed."""
    assert sorted(path.name for path in saved.folder.iterdir()) == [
        "10.json",
        "10.safetensors",
        "9.json",
        "9.safetensors",
    ]
    found = saved.latest()
    assert found.step == 10 and found.facts == {"progress": {"step": 10}}
    assert torch.equal(found.tensors["w"], torch.full((40,), 10.0))


@pytest.mark.parametrize("file", ["10.json", "10.safetensors"])
def test_a_damaged_checkpoint_is_passed_over(saved, file):
    """If the newest is truncated or has a flipped byte, the one before it is read."""
    path = saved.folder / file
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(0, len(whole) - 2, 40).tolist():
        path.write_bytes(whole[:place])
        assert saved.latest().step == 9
        flipped = bytearray(whole)
        flipped[place] ^= 1 + int(rng.integers(0, 255))
        path.write_bytes(flipped)
        assert saved.latest().step == 9 or json.loads(flipped) == json.loads(whole)  # a space for a space
    path.unlink()
    assert saved.latest().step == 9


def test_checkpoints_that_were_passed_over_do_not_displace_new_ones(saved):
    """If the run had to start before damaged checkpoints, they are removed, and new ones are kept."""
    for step in (9, 10):
        (saved.folder / f"{step}.safetensors").write_bytes(b"")
    assert saved.latest() is None
    saved.save(2, {"w": torch.zeros(40)}, {})
    assert saved.latest().step == 2 and sorted(path.name for path in saved.folder.iterdir()) == [
        "2.json",
        "2.safetensors",
    ]


def test_another_run_s_checkpoints_are_not_read(saved):
    """A checkpoint belongs to its settings, data and weights."""
    assert Checkpoints(saved.folder, {**IDENTITY, "seed": 1}).latest() is None


def test_checkpoints_cost_under_two_percent_of_the_time(tmp_path, monkeypatch):
    """The first is due at once; the next after fifty times its measured cost."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    keeper = Checkpoints(tmp_path / "checkpoint", IDENTITY)
    assert keeper.due()
    write = module.tensor_files.write_tensors

    def slow(*arguments):
        now[0] += 3.0
        return write(*arguments)

    monkeypatch.setattr(module.tensor_files, "write_tensors", slow)
    keeper.save(1, {"w": torch.zeros(1)}, {})
    now[0] += 149.0
    assert not keeper.due()
    now[0] += 2.0
    assert keeper.due()


def test_a_full_disk_leaves_the_checkpoints_before_it_whole(saved, monkeypatch):
    """If a checkpoint cannot be written, the error says so and the last one can still be read."""

    def full(path, content):
        raise ResultsError(f"{str(path)!r} cannot be written: No space left on device.")

    monkeypatch.setattr(module.tensor_files, "write_bytes", full)
    with pytest.raises(ResultsError, match="No space left"):
        saved.save(11, {"w": torch.zeros(40)}, {})
    assert saved.latest().step == 10


@pytest.mark.parametrize(
    ("optimizer", "schedule", "exact"),
    [("adamw", "warmup_stable_decay", True), ("adamw", "linear", True), ("adafactor", "linear", False)],
)
def test_the_room_that_is_announced_is_that_of_two_checkpoints_and_one_being_written(
    tmp_path, optimizer, schedule, exact
):
    """A real state takes no more than announced; with AdamW the announcement is exact except for headers; with
    Adafactor it is a bound."""
    trained = {"w": torch.nn.Parameter(torch.zeros(300, 200)), "b": torch.nn.Parameter(torch.zeros(300))}
    plan = SimpleNamespace(optimizer=optimizer, weight_decay=0.0, learning_rate=0.1)
    state = TrainingState(trained, make_optimizer(list(trained.values()), plan))
    sum(each.sum() for each in trained.values()).backward()
    state.optimizer.step()
    state.keep_best(with_moments=schedule == "warmup_stable_decay")
    keeper = Checkpoints(tmp_path, IDENTITY)
    keeper.save(1, state.state_dict()[0], {})
    suite = make_suite({"training": {"optimizer": optimizer, "schedule": schedule}})
    announced = room_needed(sum(4 * each.numel() for each in trained.values()), suite)
    needed = 3 * (tmp_path / "1.safetensors").stat().st_size
    assert needed < announced * 1.01 and (needed > announced or not exact)

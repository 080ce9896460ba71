"""The benchmark of a large model, at a small size: every contender trains the same model on the same documents."""

import json
import subprocess
import sys

import pytest

from support.paths import CHECKOUT

SCRIPT = str(CHECKOUT / "benchmarks" / "large_model.py")
SMALL = ["--blocks", "3", "--width", "64", "--heads", "4", "--kv-heads", "2", "--mlp", "128", "--vocabulary", "4096"]
SHORT = ["--document-tokens", "48", "--summary-tokens", "16", "--steps", "1"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_contender_begins_with_the_same_loss(tmp_path):
    """Each has a positive time and memory, and the loss of the untrained model on the first document, within bf16."""
    subprocess.run([sys.executable, SCRIPT, "write", tmp_path, *SMALL], check=True, capture_output=True)
    file = tmp_path / "found.json"
    command = [sys.executable, SCRIPT, "train", tmp_path, *SHORT, "--json", file]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=800)
    turns = {name: taken[0] for name, taken in json.loads(file.read_text())["turns"].items()}
    assert list(turns) == ["triptych", "triptych recomputing", "trainer", "trainer checkpointing"]
    losses = [turn["first_loss"] for turn in turns.values()]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-3) and losses[0] == losses[1]
    for name, turn in turns.items():
        assert f"| {name} |" in done.stdout and len(turn["seconds"]) == 1
        assert min(*turn["seconds"], turn["loading_bytes"], turn["training_bytes"]) > 0

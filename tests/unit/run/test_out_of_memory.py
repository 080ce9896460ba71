"""A run that runs out of memory: what it records, what its other seeds reuse, and how it ends."""

import json
from pathlib import Path

import pytest

from triptych import cli
from triptych.engine import batch_size, training

SETTINGS = [
    "limits.train_documents=6",
    "limits.validation_documents=2",
    "limits.test_documents=2",
    "limits.document_tokens=48",
    "training.max_epochs=1",
    "training.global_batch_size=4",
    "search.trials=1",
    "decoding.max_new_tokens=2",
    "decoding.num_beams=1",
]


@pytest.fixture
def little_memory(monkeypatch, tmp_path):
    """Training passes run out of memory unless blocks are recomputed and there is only one document."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    passes: list[bool] = []
    for module in (training, batch_size):
        real = module.target_losses

        def limited(model, batch, real=real):
            passes.append(model.recomputes)
            if len(batch.ids) > 1 or not model.recomputes:
                raise MemoryError
            return real(model, batch)

        monkeypatch.setattr(module, "target_losses", limited)
    return passes


def train(size: str, seed: int = 0) -> dict:
    """Train LoRA with a micro-batch; return the record."""
    settings = [*SETTINGS, f"training.micro_batch_size={size}"]
    command = ["train", "lora", "--preset", "demo", "--device", "cpu", "--out", size, "--seeds", str(seed), "--set"]
    assert cli.main([*command, *settings]) == 0
    return json.loads(Path(size, "runs", "lora", str(seed), "record.json").read_text())


def test_a_run_records_that_blocks_were_recomputed(little_memory, capfd):
    """Record, notes and output say so, whether memory ran out in a step or during the search for the micro-batch; what
    was computed twice is charged. Another seed reuses the result and tries no pass without recomputation."""
    in_a_step, found = train("2"), train("auto")
    for record in (in_a_step, found):
        assert record["training"]["recomputed"] and record["training"]["micro_batch_size"] == 1
        assert record["notes"]["recomputed_blocks"].startswith("memory ran out with one document a pass")
    assert in_a_step["loss"]["test"] == pytest.approx(found["loss"]["test"], rel=1e-6)  # in other batches
    assert in_a_step["cost"]["train_flops"] == found["cost"]["train_flops"]
    assert "memory ran out with one document a pass" in "".join(capfd.readouterr())
    little_memory.clear()
    assert train("auto", seed=1)["training"]["recomputed"] and all(little_memory)

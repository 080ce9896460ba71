"""Several processes work on one run: the same losses, the same summaries, one writer."""

import json
import subprocess
import sys

import pytest

from triptych import cli

SETTINGS = ["limits.train_documents=21", "limits.validation_documents=5", "limits.test_documents=5", "training.max_epochs=2",
            "training.global_batch_size=8", "training.micro_batch_size=2", "training.precision=fp32", "search.trials=2",
            "search.train_documents=9", "decoding.max_new_tokens=12", "decoding.num_beams=2"]  # fmt: skip
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "triptych"]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a cache of its own, one thread a process."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _steps(out) -> list[float]:
    lines = [json.loads(line) for line in (out / "runs/lora/0/history.jsonl").open()]
    return [line[key] for line in lines for key in ("loss", "train_loss", "validation_loss") if key in line]


def test_two_processes_train_and_evaluate_as_one(workplace):
    """Losses of every step and evaluation agree within 1e-6, uneven last batch included; summaries and counts are the same."""
    train = ["train", "lora", "--preset", "demo", "--device", "cpu", "--set", *SETTINGS, "--out"]
    assert cli.main([*train, "one"]) == 0
    subprocess.run([*LAUNCH, *train, "two"], check=True, capture_output=True, timeout=240)
    one, two = _steps(workplace / "one"), _steps(workplace / "two")
    assert len(one) == 6 + 2 * 2 and two == pytest.approx(one, rel=1e-6)
    first, second = (json.loads((workplace / name / "runs/lora/0/record.json").read_text()) for name in ("one", "two"))
    assert second["loss"]["test"] == pytest.approx(first["loss"]["test"], rel=1e-6)
    assert second["search"]["chosen"] == first["search"]["chosen"] and second["training"] == first["training"]
    assert second["cost"]["train_flops"] == first["cost"]["train_flops"]
    assert second["provenance"]["hardware"]["num_processes"] == 2
    texts = [[json.loads(line)["prediction"] for line in (workplace / name / "runs/lora/0/predictions.jsonl").open()]
             for name in ("one", "two")]  # fmt: skip
    assert texts[0] == texts[1] and len(texts[0]) == 5


def test_one_rank_that_dies_ends_all(workplace):
    """Where one process fails, the launch ends with its message, and no record is left."""
    (workplace / "broken.py").write_text(
        "import os\n"
        "from triptych.contracts import AdaptedModel, Method\n"
        "from triptych.registry import register\n\n\n"
        '@register("broken")\n'
        "class Broken(Method):\n"
        '    """Fails in the second process alone."""\n\n'
        "    def adapt(self, parts, context):\n"
        '        if os.environ.get("RANK") == "1" and parts.token_embedding.weight.device.type != "meta":\n'
        '            raise RuntimeError("the second process fails")\n'
        "        return AdaptedModel(parts)\n"
    )
    train = ["train", "broken", "--preset", "demo", "--device", "cpu", "--plugin", "broken.py", "--out", "out"]
    done = subprocess.run([*LAUNCH, *train, "--set", *SETTINGS], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode != 0 and "the second process fails" in done.stderr
    assert not (workplace / "out/runs/broken/0/record.json").exists()

"""Several processes work on one run: the same losses and summaries, with a single writer."""

import json
import subprocess
import sys

import pytest

from triptych import cli

SETTINGS = [
    "limits.train_documents=21",
    "limits.validation_documents=5",
    "limits.test_documents=5",
    "limits.document_tokens=96",
    "training.max_epochs=7",
    "training.patience=7",
    "training.global_batch_size=8",
    "training.micro_batch_size=2",
    "training.precision=fp32",
    "search.trials=2",
    "decoding.max_new_tokens=12",
    "decoding.num_beams=2",
]
# At prompt tuning's usual rates, ten times these, the rounding of a sum grows to 4e-6 of the loss by step 18
CALM = ["method.prompt-tuning.learning_rates=[0.001, 0.003]"]
# At most, since a decay may end before; the last of each epoch has five documents: micro-batches of 2, 2 and 1 for two
# ranks.
STEPS = 7 * 3
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "triptych"]
# Without --multi_gpu, accelerate's launcher starts one process on a machine without GPUs; what they run on, --device
# says
ACCELERATE = [
    sys.executable,
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "-m",
    "triptych",
]
# In the second process, every file opened for writing below the results folder leaves a marker next to it
EARS = """
import os, sys
from pathlib import Path

def hear(event, arguments):
    if event in ("open", "os.mkdir", "os.rename", "os.remove"):
        reads = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        named = isinstance(arguments[0], (str, bytes))
        if named and not reads and "/two" in os.path.abspath(os.fsdecode(arguments[0])):
            mark = "written-by-" + os.environ["RANK"]
            os.path.isdir(mark) or os.mkdir(mark)

sys.addaudithook(hear)
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a separate cache; one thread per process."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run_of(out):
    return next(out.glob("runs/*/0"))


def _losses(out) -> list[float]:
    lines = [json.loads(line) for line in (_run_of(out) / "history.jsonl").open()]
    return [line[key] for line in lines for key in ("loss", "train_loss", "validation_loss") if key in line]


def _hold_to_one_process(workplace, label, launch, extra=(), settings=()):
    """Check that two processes give the losses, evaluations, summaries and counts of one."""
    train = ["train", label, "--preset", "demo", "--device", "cpu", "--set", *SETTINGS, *settings, "--out"]
    assert cli.main([*train, "one"]) == 0
    subprocess.run([*launch, *train, "two", *extra], check=True, capture_output=True, timeout=240)
    one, two = _losses(workplace / "one"), _losses(workplace / "two")
    assert STEPS < len(one) <= STEPS + 7 * 2 and two == pytest.approx(one, rel=1e-6)
    first, second = (json.loads((_run_of(workplace / name) / "record.json").read_text()) for name in ("one", "two"))
    assert second["loss"]["test"] == pytest.approx(first["loss"]["test"], rel=1e-6)
    assert second["search"]["chosen"] == first["search"]["chosen"] and second["training"] == first["training"]
    assert second["cost"]["train_flops"] == first["cost"]["train_flops"]
    assert second["provenance"]["hardware"]["num_processes"] == 2
    texts = [
        [json.loads(line)["prediction"] for line in (_run_of(workplace / name) / "predictions.jsonl").open()]
        for name in ("one", "two")
    ]
    assert texts[0] == texts[1] and len(texts[0]) == 5


def test_two_processes_train_and_evaluate_as_one(workplace):
    """Losses of all steps and every evaluation agree within 1e-6, uneven last batches and dropout included; so do
    summaries and counts; only the first process writes to the results folder."""
    (workplace / "ears.py").write_text(EARS)
    _hold_to_one_process(workplace, "lora", LAUNCH, ["--plugin", "ears.py"], ["method.lora.dropout=0.1"])
    assert [path.name for path in workplace.glob("written-by-*")] == ["written-by-0"]


@pytest.mark.slow
@pytest.mark.parametrize("label", ["prompt-tuning", "last-layers", "full"])
def test_two_processes_are_one_for_every_method(workplace, label):
    """The same holds for methods that train virtual tokens, the last blocks from the trunk cache, or everything."""
    _hold_to_one_process(workplace, label, LAUNCH, settings=CALM if label == "prompt-tuning" else ())


@pytest.mark.slow
def test_two_processes_recompute_where_one_runs_out_of_memory(workplace):
    """If the second process runs out of memory, both take one document per pass and recompute blocks; the losses are
    those of one process with enough memory."""
    (workplace / "short.py").write_text(
        "import os\n"
        "from triptych.engine import training\n\n"
        "real = training.target_losses\n\n\n"
        "def losses(model, batch):\n"
        '    if os.environ.get("RANK") == "1" and (len(batch.ids) > 1 or not model.recomputes):\n'
        "        raise MemoryError\n"
        "    return real(model, batch)\n\n\n"
        "training.target_losses = losses\n"
    )
    train = ["train", "lora", "--preset", "demo", "--device", "cpu", "--set", *SETTINGS]
    train += ["method.lora.dropout=0.1", "training.max_epochs=2", "search.trials=1", "training.micro_batch_size=1"]
    assert cli.main([*train, "--out", "one"]) == 0
    train[-1] = "training.micro_batch_size=2"
    two = [*LAUNCH, *train, "--out", "two", "--plugin", "short.py"]
    subprocess.run(two, check=True, capture_output=True, timeout=240)
    assert _losses(workplace / "two") == pytest.approx(_losses(workplace / "one"), rel=1e-6)
    one, two = (json.loads((_run_of(workplace / name) / "record.json").read_text()) for name in ("one", "two"))
    assert two["training"]["recomputed"] and two["training"]["micro_batch_size"] == 1
    assert two["cost"]["train_flops"] > 1.05 * one["cost"]["train_flops"]
    assert two["cost"]["plain_flops"] == one["cost"]["plain_flops"]


@pytest.mark.slow
def test_accelerate_launches_what_torchrun_does(workplace):
    """`accelerate launch` with two processes also gives the losses of one."""
    _hold_to_one_process(workplace, "lora", ACCELERATE)


@pytest.mark.slow
def test_one_rank_that_dies_ends_all(workplace):
    """If one process fails, the launch ends with its message, and no record is left."""
    (workplace / "broken.py").write_text(
        "import os\n"
        "from triptych.contracts import AdaptedModel, Method\n"
        "from triptych.registry import register\n\n\n"
        '@register("broken")\n'
        "class Broken(Method):\n"
        '    """Fails in the second process alone."""\n\n'
        "    def adapt(self, parts, context):\n"
        '        if os.environ.get("RANK") == "1" and parts.device.type != "meta":\n'
        '            raise RuntimeError("the second process fails")\n'
        "        return AdaptedModel(parts)\n"
    )
    train = ["train", "broken", "--preset", "demo", "--device", "cpu", "--plugin", "broken.py", "--out", "out"]
    done = subprocess.run(
        [*LAUNCH, *train, "--set", *SETTINGS], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode != 0 and "the second process fails" in done.stderr
    assert not (workplace / "out/runs/broken/0/record.json").exists()

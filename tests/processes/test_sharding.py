"""A model sharded over two processes gives the losses, summaries and files of one, with half of the weights in each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from triptych import cli
from triptych.config.schema import make_suite
from triptych.contracts import AdaptedModel
from triptych.engine import sharding
from triptych.errors import ConfigError
from triptych.run.refusals import refuse_sharding, refuse_to_cut

RANKS = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
SETTINGS = [
    "limits.train_documents=21",
    "limits.validation_documents=5",
    "limits.test_documents=5",
    "limits.document_tokens=96",
    "training.max_epochs=2",
    "training.global_batch_size=8",
    "training.micro_batch_size=2",
    "training.precision=fp32",
    "search.trials=0",
    "decoding.max_new_tokens=12",
    "decoding.num_beams=2",
    "engine.sharding=full",
]
TRAIN = ["train", "full", "--preset", "demo", "--device", "cpu", "--set", *SETTINGS]
# What stops the first launch, on both ranks
STOP = """
from triptych.engine.training import Loop

real = Loop.step


def step(loop):
    if loop.state.progress.step == 4:
        raise RuntimeError("stopped")
    return real(loop)


Loop.step = step
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a separate cache, one thread per process, and the tests' support modules for the ranks."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=":")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _engine(workplace, *options) -> dict:
    """What two ranks found for small models under the engine."""
    launch = [*RANKS, "support.sharded_training", "out.json", *options]
    subprocess.run(launch, check=True, capture_output=True, timeout=240)
    return json.loads((workplace / "out.json").read_text())


def _hold(found: dict) -> None:
    """Check for a model and method that results match one process, and each rank has half the weights."""
    for case, (one, two) in found["methods"].items():
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-6), case
        assert two["summaries"] == one["summaries"] and two["notes"] == one["notes"], case
        assert two["trained"] == pytest.approx(one["trained"], rel=1e-2), case  # biases of keys move by rounding
        assert len(two["bytes"]) == 2 and 0.5 <= max(two["bytes"]) / one["whole"] < 0.57, case  # rows that none halves
        assert two["whole"] == one["whole"] == one["bytes"][0], case
    for case, (one, two) in found["gradients"].items():
        assert two == pytest.approx(one, rel=1e-5) and one[0] > 0.1, case
    for case, (without, resumed) in found["resumed"].items():
        assert resumed == without and len(resumed) > 3, case
    for case, (one, two) in found["bf16"].items():
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-3), case
    assert found["shares"] == [False, True]


@pytest.mark.slow
def test_two_ranks_train_a_sharded_model_as_one_process_does(workplace):
    """Losses of all steps and evaluations agree within 1e-6, gradients in norm and size, dropout and an odd number of
    micro-batches included; summaries are equal; a resumed run continues bit for bit."""
    found = _engine(workplace)
    _hold(found)
    lengths = {len(summary) for summary in found["methods"]["gpt2 full"][0]["summaries"]}
    assert len(lengths) > 1  # so the ranks' summaries end at different steps


@pytest.mark.slow
def test_every_method_trains_a_sharded_model(workplace):
    """The same holds for every registered method, tied and untied heads, rotary positions and a soft cap."""
    found = _engine(workplace, "all")
    _hold(found)
    assert len(found["methods"]) == 23


def _run_of(out):
    return next(out.glob("runs/*/0"))


@pytest.mark.slow
def test_a_sharded_run_that_was_stopped_leaves_what_one_process_does(workplace):
    """A sharded run that is stopped and restarted has the history, summaries and weights of one process."""
    assert cli.main([*TRAIN, "--out", "one"]) == 0
    (workplace / "stop.py").write_text(STOP)
    launch = [*RANKS, "triptych", *TRAIN, "--out", "two"]
    stopped = subprocess.run([*launch, "--plugin", "stop.py"], capture_output=True, text=True, timeout=240, check=False)
    assert stopped.returncode != 0 and "stopped" in stopped.stderr
    again = subprocess.run(launch, capture_output=True, text=True, timeout=240, check=False)
    assert again.returncode == 0, again.stderr
    assert "resumes from the checkpoint" in again.stderr
    one, two = (_run_of(workplace / name) for name in ("one", "two"))
    histories = [[json.loads(line) for line in (run / "history.jsonl").open()] for run in (one, two)]
    losses, sharded = (
        [line[key] for line in lines for key in ("loss", "train_loss", "validation_loss") if key in line]
        for lines in histories
    )
    assert len(losses) == 2 * 3 + 2 * 2 and sharded == pytest.approx(losses, rel=1e-6)
    first, second = (json.loads((run / "record.json").read_text()) for run in (one, two))
    assert second["loss"]["test"] == pytest.approx(first["loss"]["test"], rel=1e-6)
    assert second["training"] == first["training"] and second["parameters"] == first["parameters"]
    assert "sharding" not in first["notes"]
    held = second["notes"]["sharding"]
    assert held["ranks"] == 2 and held["bytes"] == 4 * first["parameters"]["num_total_parameters"]
    assert held["bytes_of_a_rank"] == pytest.approx(held["bytes"] / 2, rel=0.01)
    texts = [[json.loads(line)["prediction"] for line in (run / "predictions.jsonl").open()] for run in (one, two)]
    assert texts[0] == texts[1] and len(texts[0]) == 5
    mine, whole = (load_file(run / "adapter/trained.safetensors") for run in (two, one))
    assert mine.keys() == whole.keys()
    matrices = [name for name in whole if whole[name].ndim == 2]  # a key bias gets no gradient except rounding
    assert matrices and all(mine[name].allclose(whole[name], atol=1e-4) for name in matrices)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_quantization": "nf4"}, "cannot cut weights in 4 bits"),
        ({"training": {"optimizer": "adafactor"}}, "training.optimizer"),
        ({"training": {"micro_batch_size": "auto"}}, "needs a number as training.micro_batch_size"),
    ],
)
def test_what_cannot_be_sharded_is_refused(settings, said):
    """Settings incompatible with a sharded model are refused by name, and accepted without sharding."""
    with pytest.raises(ConfigError, match=said):
        refuse_sharding(make_suite({**settings, "engine": {"sharding": "full"}}), "fp32")
    refuse_sharding(make_suite(settings), "fp32")


def test_precisions_that_can_be_sharded():
    """A model can be sharded in fp32 and bf16, but not in fp16."""
    suite = make_suite({"engine": {"sharding": "full"}})
    for precision in ("fp32", "bf16"):
        refuse_sharding(suite, precision)
    with pytest.raises(ConfigError, match="this run would be in fp16"):
        refuse_sharding(suite, "fp16")


def test_a_torch_that_cannot_shard_is_named(monkeypatch):
    """With an older torch the key is refused, and its default works."""
    monkeypatch.setattr(sharding, "SUPPORTED", False)
    with pytest.raises(ConfigError, match="needs a newer torch than"):
        refuse_sharding(make_suite({"engine": {"sharding": "full"}}), "fp32")
    refuse_sharding(make_suite({}), "fp32")


def test_blocks_that_share_weights_are_refused(gpt2):
    """A method whose model cannot be split into blocks is named."""
    suite, parts = make_suite({"engine": {"sharding": "full"}}), gpt2.parts()
    refuse_to_cut(suite, {"lora": AdaptedModel(parts)})
    parts.blocks[1].mlp = parts.blocks[0].mlp
    with pytest.raises(ConfigError, match="the model of odd into its blocks"):
        refuse_to_cut(suite, {"lora": AdaptedModel(gpt2.parts()), "odd": AdaptedModel(parts)})
    refuse_to_cut(make_suite({}), {"odd": AdaptedModel(parts)})


def test_a_refused_suite_leaves_nothing(workplace, capsys):
    """The command ends with status 2 before anything is written."""
    assert cli.main([*TRAIN, "training.optimizer=adafactor", "--out", "out"]) == 2
    assert "adafactor" in capsys.readouterr().err and not (workplace / "out").exists()

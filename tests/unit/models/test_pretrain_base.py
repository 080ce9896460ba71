"""The script that pretrains a base: its tokens, its curve, and its going on after a break."""

import importlib.util
import io
import json
import tarfile

import pytest
import torch

from support.paths import CHECKOUT
from triptych.datasets.newswire.names import PRETRAIN
from triptych.datasets.newswire.writer import write_story
from triptych.machine import seed_everything, start_machine
from triptych.models.base import BaseModel

SCRIPT = CHECKOUT / "scripts" / "pretrain_base.py"


@pytest.fixture
def script(monkeypatch):
    """The script as a module, with short windows."""
    spec = importlib.util.spec_from_file_location("pretrain_base", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in {"POSITIONS": 32, "BATCH_WINDOWS": 2, "HELD_OUT_TEXTS": 3, "EVALUATE_EVERY": 4}.items():
        monkeypatch.setattr(module, name, value)
    return module


@pytest.fixture
def tokenizer():
    """The embedded model's tokenizer."""
    return BaseModel("tiny").tokenizer


@pytest.fixture
def prepared(script, tokenizer, tmp_path):
    """A folder of tokens made from an archive of two shards."""
    text = tmp_path / "text"
    text.mkdir()
    with tarfile.open(text / "news.tar.xz", "w:xz") as tar:
        for shard in range(2):
            lines = [json.dumps({"text": write_story(PRETRAIN, 10 * shard + i).document}) for i in range(6)]
            content = "\n".join(lines).encode()
            member = tarfile.TarInfo(f"news-{shard:02}.jsonl")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    work = tmp_path / "out" / "checkpoint"
    return work, script.prepare(work, text, ["news"], tokenizer, 700, 0), text


def test_tokens_are_cut_at_the_limit_and_held_out_texts_are_not_trained_on(script, prepared, tokenizer):
    """The training file holds as many tokens as were asked for, and no text that is held out."""
    work, facts, _ = prepared
    train, held_out = script.windows(work / "train.bin"), script.windows(work / "held_out.bin")
    assert facts["tokens"]["train"] == 700 and (work / "train.bin").stat().st_size == 1400
    assert len(train) == (700 - 1) // 32 and train[0, -1] == train[1, 0]
    openings = {tokenizer.decode(held_out[0].tolist())[:60]}
    assert not any(opening in tokenizer.decode(train.flatten().tolist()) for opening in openings)


def test_prepared_tokens_are_read_again(script, prepared, tokenizer):
    """A second call with the same wishes reads no text; with others it does."""
    work, facts, text = prepared
    (text / "news.tar.xz").unlink()
    assert script.prepare(work, text, ["news"], tokenizer, 700, 0) == facts
    with pytest.raises(FileNotFoundError):
        script.prepare(work, text, ["news"], tokenizer, 600, 0)


def test_a_broken_run_goes_on_to_the_same_weights(script, prepared, tokenizer, tmp_path, monkeypatch):
    """Interrupted and started again, pretraining ends with the unbroken run's weights and curve, bit for bit."""
    work, _, _ = prepared
    machine = start_machine("cpu", "fp32")
    data, held_out = script.windows(work / "train.bin"), script.windows(work / "held_out.bin")[:2]

    def attempt(folder):
        seed_everything(0)
        model = script.build_model(2, 16, 2, tokenizer)
        curve, _ = script.train(model, data, held_out, machine, folder, every=3, compiled=False)
        return model, [{k: v for k, v in line.items() if k != "seconds"} for line in curve]

    unbroken, curve = attempt(tmp_path / "unbroken")
    assert curve[-1]["held_out_loss"] < curve[0]["held_out_loss"]
    loss, calls = script.mean_loss, 0

    def stops(*arguments):
        nonlocal calls
        calls += 1
        if calls == 16:
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(script, "mean_loss", stops)
    with pytest.raises(KeyboardInterrupt):
        attempt(tmp_path / "broken")
    monkeypatch.setattr(script, "mean_loss", loss)
    resumed, same_curve = attempt(tmp_path / "broken")
    assert all(torch.equal(a, b) for a, b in zip(unbroken.parameters(), resumed.parameters(), strict=True))
    assert same_curve == curve
    assert len(list((tmp_path / "broken").glob("state-*"))) == 1

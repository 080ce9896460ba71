"""The engine computes the same on a GPU as on the CPU; skipped without a GPU."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch

from support.worlds import World, disturb, gradients, largest_difference, on_device, train
from triptych.engine.batching import collate
from triptych.engine.evaluation import split_loss
from triptych.engine.forward import target_losses
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import generate
from triptych.engine.savings.ready import make_ready, probe_recomputation
from triptych.engine.savings.trunk_cache import open_cache, trunk_store
from triptych.errors import ConfigError
from triptych.machine import Machine
from triptych.measure.training_meters import TrainingMeters
from triptych.methods.bitfit import BitFit
from triptych.methods.dora import DoRA
from triptych.methods.full import Full
from triptych.methods.ia3 import IA3
from triptych.methods.infix_tuning import InfixTuning
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA
from triptych.methods.prefix_tuning import PrefixTuning
from triptych.methods.prompt_tuning import PromptTuning

DEVICE = os.environ.get("TRIPTYCH_TEST_DEVICE", "cuda")
pytestmark = pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a CUDA device")

METHODS = {
    "prompt": PromptTuning(num_virtual_tokens=4),
    "prefix": PrefixTuning(num_virtual_tokens=4),
    "lora": LoRA(rank=2),
    "lora-all": LoRA(rank=2, target_modules="all-linear", dropout=0.0),
    "last-blocks": LastLayers(num_blocks=2),
    "dora": DoRA(rank=2),
    "ia3": IA3(),
    "bitfit": BitFit(),
    "infix": InfixTuning(num_virtual_tokens=4),
    "last-head": LastLayers(num_blocks=0, final_norm=False, head="untied"),
    "full": Full(),
}


@pytest.fixture(params=list(METHODS))
def method(request):
    """Each method in turn."""
    return METHODS[request.param]


def ready(world: World, method, moved: bool = True):
    """A model ready for the engine, with its adapter moved away from its initial values."""
    try:
        model = world.model(method)
    except ConfigError as error:
        pytest.skip(str(error))  # no biases in this family
    if moved:
        disturb(model.adapted)
    return make_ready(model)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("has_room", [True, False])
def test_a_model_in_main_memory_is_moved(world, method, precision, has_room, monkeypatch):
    """A model moved from main memory has the abilities and losses of one created on the GPU, also if the GPU had no
    room to probe it in fp32."""
    gpu = on_device(world, DEVICE, precision)
    expected, _ = loss_and_gradients(gpu, ready(gpu, method))
    monkeypatch.setattr(Machine, "has_room", lambda machine, num_bytes: has_room)
    model = ready(replace(gpu, prototype=world.prototype), method)
    assert model.is_on_machine and model.can == ready(gpu, method).can
    found, _ = loss_and_gradients(gpu, model)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def loss_and_gradients(world: World, model):
    """The losses of all targets, and the gradients, on the CPU."""
    batch = collate(world.pairs, world.template).to(world.machine.device)
    with world.machine.autocast():
        losses = target_losses(model, batch)
    found = gradients(model.adapted, losses.mean())
    return losses.detach().cpu(), {name: gradient.cpu().float() for name, gradient in found.items()}


def test_losses_and_gradients_are_those_of_the_cpu(world, method):
    """In fp32 the fast path on the GPU gives the results of the plain path on the CPU."""
    gpu = on_device(world, DEVICE, "fp32")
    model = ready(gpu, method)
    plain = world.model(method)
    disturb(plain.adapted)
    expected, wanted = loss_and_gradients(world, plain.on_plain_path())
    assert model.can.logits_at_targets, model.can.notes
    found, gradient = loss_and_gradients(gpu, model)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert largest_difference(gradient, wanted) < 1e-4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_is_near(world, method, precision):
    """In bf16 and fp16 the losses equal those of fp32 up to rounding."""
    gpu = on_device(world, DEVICE, precision)
    found, gradient = loss_and_gradients(gpu, ready(gpu, method))
    plain = world.model(method)
    disturb(plain.adapted)
    expected, _ = loss_and_gradients(world, plain.on_plain_path())
    assert (found.float() - expected).abs().mean() < 0.05 * expected.abs().mean()
    assert all(each.isfinite().all() for each in gradient.values())


@pytest.mark.parametrize("beams", [1, 4])
def test_summaries_are_those_of_the_cpu(world, method, beams):
    """In fp32, greedy and with beams, every token is the same."""
    plan = DecodingPlan(beams, 16, 3, 1.0, 5)
    documents = [pair.document_ids for pair in world.pairs]
    gpu = on_device(world, DEVICE, "fp32")
    assert generate(ready(gpu, method), documents, plan) == generate(ready(world, method), documents, plan)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_gains(world, method, precision):
    """A short training run lowers the loss; in fp32 to the CPU's value unless dropout draws other numbers."""
    gpu = on_device(world, DEVICE, precision)
    rate = 0.003
    model = ready(gpu, method, moved=False)
    before = split_loss(model, gpu.pairs, 4).mean
    loop = gpu.loop_of(model, scaler=gpu.machine.loss_scaler(), learning_rate=rate)
    train(loop)
    after = split_loss(model, gpu.pairs, 4).mean
    assert after < before
    if precision == "fp32" and world.prototype.config.model_type == "llama":
        model = ready(world, method, moved=False)
        train(world.loop_of(model, learning_rate=rate))
        assert abs(split_loss(model, world.pairs, 4).mean - after) < 2e-3


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_saved_state_continues(gpt2, precision):
    """Training resumed from a saved state continues exactly as without the interruption."""
    gpu = on_device(gpt2, DEVICE, precision)
    weights = []
    for resumed in (False, True):
        model = ready(gpu, LoRA(rank=2), moved=False)
        loop = gpu.loop_of(model, scaler=gpu.machine.loss_scaler(), learning_rate=0.003)
        for _ in range(2):
            loop.step()
        if resumed:
            tensors, numbers = loop.state.state_dict()
            tensors = {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}
            loop = gpu.loop_of(
                ready(gpu, LoRA(rank=2), moved=False), scaler=gpu.machine.loss_scaler(), learning_rate=0.003
            )
            loop.state.load_state_dict(tensors, numbers)
        loop.step()
        weights.append([each.detach().cpu() for each in loop.state.trained.values()])
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


@pytest.mark.parametrize("count", [0, 1])
def test_the_trunk_cache_is_exact(world, count, tmp_path):
    """Cached outputs of the frozen blocks give the losses of the whole model."""
    gpu = on_device(world, DEVICE, "fp32")
    model = ready(gpu, LastLayers(num_blocks=count))
    cache = open_cache(model, gpu.pairs, "m", trunk_store(tmp_path, 10**8), batch_size=5)
    assert cache is not None
    indices = [7, 2, 9]
    batch = collate([gpu.pairs[i] for i in indices], gpu.template).to(gpu.machine.device)
    torch.testing.assert_close(cache.losses(model, batch, indices), target_losses(model, batch), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_blocks_can_be_recomputed(world, method, precision):
    """Activation checkpointing gives the same losses and gradients, dropout included."""
    gpu = on_device(world, DEVICE, precision)
    said: list[str] = []
    assert probe_recomputation(ready(gpu, method), said.append), said


def test_a_micro_batch_waits_once(world, method):
    """In the forward and backward pass of a micro-batch the CPU waits for the GPU at most once, when transformers
    checks whether its mask is all ones."""
    gpu = on_device(world, DEVICE, "bf16")
    model = ready(gpu, method)
    model.train()
    batch = collate(gpu.pairs, gpu.template).to(gpu.machine.device)
    with gpu.machine.autocast():  # once beforehand: kernels are loaded
        target_losses(model, batch).sum().backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            with gpu.machine.autocast():
                losses = target_losses(model, batch)
            losses.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([str(each) for each in waits if "synchroniz" in str(each.message)]) <= 1


def test_meters_see_the_gpu(gpt2):
    """Memory, energy and work of the GPU are measured."""
    gpu = on_device(gpt2, DEVICE, "bf16")
    model = ready(gpu, LoRA(rank=2), moved=False)
    meters = TrainingMeters(gpu.machine.device)
    meters.begin()
    with meters.phase():
        for _ in range(20):
            gpu.loop_of(model).step()
        gpu.machine.synchronize()
    readings = meters.readings(1.0)
    assert readings["peak_memory_kind"] == "allocated" and readings["peak_memory_bytes"] > 0
    assert readings["reserved_peak_memory_bytes"] >= readings["peak_memory_bytes"]
    assert readings["energy_joules"] is None or readings["energy_joules"] > 0
    assert readings["busy_seconds"] is None or readings["busy_seconds"] >= 0


def test_a_comparison_on_the_gpu(tmp_path):
    """The command trains, scores and records every method of the demo on the GPU."""
    pytest.importorskip("typst")
    words = [
        *("compare", "--preset", "demo", "--device", DEVICE, "--out", str(tmp_path / "out")),
        *("--set", "limits.train_documents=32", "limits.test_documents=8", "training.max_epochs=2", "seeds=[0]"),
        *("--methods", "untuned,lead-3,prompt-tuning,lora,last-layers,full", "--events"),
    ]
    done = subprocess.run([sys.executable, "-m", "triptych", *words], capture_output=True, text=True, cwd=tmp_path)
    records = [json.loads(file.read_text()) for file in sorted((tmp_path / "out" / "runs").glob("*/*/record.json"))]
    assert len(records) == 6, done.stderr
    assert all(record["status"] == "done" for record in records), [record.get("error") for record in records]
    by_label = {record["label"]: record for record in records}
    assert by_label["lora"]["provenance"]["device"].startswith(DEVICE)
    assert by_label["lora"]["cost"]["peak_memory_bytes"] > 0

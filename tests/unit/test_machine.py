"""Devices and precisions: which is chosen, and that it changes speed and range, not the result."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from support.worlds import World, in_bf16, train
from triptych import machine as machine_module
from triptych.config.reading import merge_tables, preset_settings
from triptych.contracts import AdaptedModel
from triptych.engine.batching import collate
from triptych.engine.forward import target_losses
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import generate
from triptych.engine.savings.ready import cast_frozen_matrices
from triptych.engine.training import TrainingState
from triptych.errors import ConfigError, NonFiniteLoss
from triptych.machine import choose_device, choose_precision, start_machine
from triptych.methods.full import Full
from triptych.methods.lora import LoRA
from triptych.methods.prefix_tuning import PrefixTuning
from triptych.methods.prompt_tuning import PromptTuning
from triptych.run.entries import resolve
from triptych.run.preflight import check_suite


@pytest.mark.parametrize(
    ("card", "capability", "bf16", "expected"),
    [
        ("H100", (9, 0), True, "bf16"),
        ("A10", (8, 6), True, "bf16"),
        ("T4", (7, 5), False, "fp16"),
        ("V100", (7, 0), False, "fp16"),
        ("GTX 1080", (6, 1), False, "fp32"),
    ],
)
def test_auto_is_what_the_card_multiplies_fast(monkeypatch, card, capability, bf16, expected):
    """`auto` on CUDA is bf16 if native, fp16 on older tensor cores, fp32 before them; an explicit choice is kept."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert choose_precision("auto", "cuda") == expected
    assert [choose_precision(asked, "cuda") for asked in ("fp32", "fp16", "bf16")] == ["fp32", "fp16", "bf16"]


def test_auto_elsewhere_is_fp32_and_bf16_is_had_by_asking():
    """CPU and mps default to fp32, bf16 is possible on request, and fp16 is refused there with a remedy."""
    for device in ("cpu", "mps"):
        assert choose_precision("auto", device) == "fp32" and choose_precision("bf16", device) == "bf16"
        with pytest.raises(ConfigError, match="use bf16 or fp32"):
            choose_precision("fp16", device)


@pytest.mark.parametrize(
    ("native", "precision", "device", "expected"),
    [
        (False, "bf16", "cpu", True),
        (True, "bf16", "cpu", False),
        (False, "fp32", "cpu", False),
        (False, "bf16", "cuda", True),
        (True, "bf16", "cuda", False),
        (False, "fp16", "cuda", False),
        (False, "bf16", "mps", False),
    ],
)
def test_a_precision_without_instructions_is_known(monkeypatch, native, precision, device, expected):
    """A CPU without AVX-512 and a card before Ampere emulate bf16 with fp32."""
    monkeypatch.setattr(machine_module, "cpu_multiplies_bf16", lambda: native)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert machine_module.is_emulated(precision, device) == expected


@pytest.mark.parametrize(("native", "precision", "noted"), [(False, "bf16", 1), (True, "bf16", 0), (False, "fp32", 0)])
def test_the_plan_says_that_a_precision_is_slow(monkeypatch, tmp_path, native, precision, noted):
    """A dry run has a note if the CPU emulates the requested precision."""
    monkeypatch.setattr(machine_module, "cpu_multiplies_bf16", lambda: native)
    suite, entries = resolve(merge_tables(preset_settings("demo"), {"training": {"precision": precision}}))
    notes = check_suite(suite, entries, "cpu", tmp_path).notes
    assert ["emulates it" in note for note in notes] == [True] * noted


def test_a_process_has_one_precision(machine):
    """In a process that already computes in fp32, bf16 is refused with a remedy."""
    assert machine.precision == "fp32"
    with pytest.raises(ConfigError, match=r"already computes in fp32.*in separate commands"):
        start_machine("cpu", "bf16")


def test_the_device_is_the_fastest_there_is(monkeypatch):
    """Cuda is preferred to mps, and mps to cpu; a requested device that is missing is refused with a list of the
    available ones."""
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=cuda: there)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=mps: there)
        assert choose_device(None) == expected
    with pytest.raises(ConfigError, match=r"--device mps: this machine has no such device\. Available: cpu"):
        choose_device("mps")


MPS = """
import torch
torch.backends.mps.is_available = torch.backends.mps.is_built = lambda: True
waited = []
torch.mps.synchronize = lambda: waited.append(True)
from triptych.machine import start_machine
from triptych.measure.energy import Energy
from triptych.measure.memory import PeakMemory, memory_reader
machine = start_machine(None, "auto")
assert machine.device.type == "mps" and machine.precision == "fp32" and machine.loss_scaler() is None, machine
machine.synchronize()
assert waited
memory = PeakMemory(machine.device)
with memory.phase():
    pass
assert memory.kind == memory_reader()[0] and memory.peak_bytes > 0
assert Energy(machine.device).note
"""


def test_mps_is_started_and_waited_for():
    """If mps is the device, runs start on it, clocks wait for it, and meters know what they can measure there."""
    done = subprocess.run([sys.executable, "-c", MPS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_that_runs_on_the_device_is_in_double_precision(gpt2, monkeypatch):
    """Mps has no float64: losses become double only after they have left the device."""
    from triptych.engine import evaluation

    seen = []
    real = torch.Tensor.double
    monkeypatch.setattr(torch.Tensor, "double", lambda tensor: seen.append(tensor.device.type) or real(tensor))
    model = gpt2.model(LoRA())
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: tensor.detach().to("cpu").as_subclass(OnTheHost))
    evaluation.split_loss(model, gpt2.pairs, batch_size=4)
    assert seen == []  # tensors on the host have their own `double`


class OnTheHost(torch.Tensor):
    """A tensor that has left the device."""

    def double(self):
        """Allowed on the host."""
        return self.as_subclass(torch.Tensor).to(torch.float64)


# bf16 on a CPU


@pytest.fixture
def bf16_world(world) -> World:
    """The world with a machine in bf16."""
    return in_bf16(world)


@pytest.mark.parametrize(
    "method",
    [LoRA(), PromptTuning(num_virtual_tokens=5), PrefixTuning(num_virtual_tokens=5), Full()],
    ids=["lora", "prompt", "prefix", "full"],
)
def test_bf16_trains_and_writes(bf16_world, world, method):
    """In bf16 the loss is that of fp32 to three digits, training lowers it, and summaries are written."""
    model = bf16_world.model(method)
    batch = collate(bf16_world.pairs, bf16_world.template)

    def loss() -> float:
        with torch.no_grad(), bf16_world.machine.autocast():
            return float(target_losses(model, batch).mean())

    with torch.no_grad():
        exact = float(target_losses(world.model(method), batch).mean())
    before = loss()
    assert before == pytest.approx(exact, rel=1e-2)
    loop = bf16_world.loop_of(model, bf16_world.machine.loss_scaler(), max_epochs=4, learning_rate=0.02)
    train(loop)
    state = loop.state
    assert state.scaler is None and loss() < before - 0.02
    assert all(p.dtype == torch.float32 for p in state.trained.values())
    documents = [pair.document_ids for pair in bf16_world.pairs[:3]]
    assert len(generate(model, documents, DecodingPlan(2, 5, 3, 1.0, 3))) == 3


# Loss scaling


def test_loss_scaling_changes_no_step(gpt2):
    """Gradients scaled by a power of two and unscaled before clipping give exactly the same steps as unscaled ones."""
    weights = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        loop = gpt2.loop_of(gpt2.model(LoRA()), scaler, max_epochs=1)
        train(loop)
        weights.append({name: p.detach().clone() for name, p in loop.state.trained.items()})
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-7) for name in weights[0])


def test_an_overflow_skips_the_step_and_halves_the_scale(gpt2):
    """With loss scaling an infinite gradient changes no weight; without it, it is an error."""
    for scaler in (torch.amp.GradScaler("cpu", init_scale=2.0**10), None):
        model = gpt2.model(PromptTuning(num_virtual_tokens=3))
        prompt = model.adapted.virtual_tokens.weight
        before = prompt.detach().clone()
        prompt.register_hook(lambda gradient: gradient * float("inf"))
        loop = gpt2.loop_of(model, scaler, max_epochs=1, global_batch_size=12)
        if scaler is None:
            with pytest.raises(NonFiniteLoss):
                train(loop)
        else:
            train(loop)
            assert scaler.get_scale() == 2.0**9
        assert torch.equal(prompt, before)


def test_the_scale_is_part_of_the_state(gpt2):
    """A saved and reloaded training state continues with the scale and its count of good steps."""
    adapted = gpt2.adapt(LoRA())
    first = TrainingState.begin(adapted, gpt2.plan(), torch.amp.GradScaler("cpu", init_scale=2.0**7, growth_interval=9))
    first.scaler.load_state_dict({**first.scaler.state_dict(), "scale": 2.0**5, "_growth_tracker": 4})
    tensors, numbers = first.state_dict()
    again = TrainingState.begin(adapted, gpt2.plan(), torch.amp.GradScaler("cpu"))
    again.load_state_dict(tensors, numbers)
    assert again.scaler.state_dict() == first.scaler.state_dict()
    assert again.scaler.state_dict()["scale"] == 2.0**5 and again.scaler.state_dict()["_growth_tracker"] == 4


def test_frozen_matrices_in_fp16_give_what_casting_them_at_every_step_gives(world):
    """Narrowed once, the fp16 loss is bit-equal to that of fp32 weights under autocast; embeddings stay fp32."""
    parts = world.parts()
    parts.model.requires_grad_(False)
    batch = collate(world.pairs, world.template)
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        model = world.engine(AdaptedModel(parts)).on_plain_path()
        cast = target_losses(model, batch)
        cast_frozen_matrices(parts.model, torch.float16)
        once = target_losses(model, batch)
    assert torch.equal(once, cast)
    assert parts.token_embedding.weight.dtype == torch.float32
    narrowed = [p for p in parts.blocks.parameters() if p.ndim >= 2]
    assert narrowed and all(p.dtype == torch.float16 for p in narrowed)


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="only Linux says which files are mapped")
def test_narrowed_weights_let_go_of_their_file(gpt2, tmp_path):
    """A weights file's pages are not kept in memory for the few tensors that stay in fp32."""
    gpt2.parts().model.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).requires_grad_(False)

    def is_mapped() -> bool:
        gc.collect()
        return str(tmp_path) in Path("/proc/self/maps").read_text()

    assert is_mapped()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cast_frozen_matrices(model, torch.bfloat16)
    assert not is_mapped()
    assert all(torch.equal(tensor, before[name].to(tensor.dtype)) for name, tensor in model.state_dict().items())

"""Blocks recomputed in the backward pass: the same bits as without recomputation, less memory, and every FLOP
charged."""

import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from support.worlds import World, disturb, gradients, in_bf16, train, with_abilities
from triptych.engine import batch_size, shortage, training
from triptych.engine.batch_size import fit_passes
from triptych.engine.batching import collate
from triptych.engine.flops import training_flops, work_shape
from triptych.engine.forward import target_hidden, target_losses
from triptych.engine.model import EngineModel
from triptych.engine.savings import recomputation
from triptych.engine.savings.ready import make_ready, probe_recomputation
from triptych.engine.savings.trunk_cache import open_cache, trunk_store
from triptych.engine.training import Loop
from triptych.errors import OutOfMemory
from triptych.methods.full import Full
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA
from triptych.methods.prefix_tuning import PrefixTuning
from triptych.methods.prompt_tuning import PromptTuning
from triptych.models.dropout import with_dropout

METHODS = {
    "prompt": PromptTuning(num_virtual_tokens=4),
    "prefix": PrefixTuning(num_virtual_tokens=3),
    "lora": LoRA(rank=2, target_modules="all-linear", dropout=0.3),
    "last-blocks": LastLayers(num_blocks=2),
    "full": Full(),
}
REFUSED = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"


@pytest.fixture(params=list(METHODS))
def method(request):
    """Each method in turn."""
    return METHODS[request.param]


def adapted(world: World, method, prunes: bool = False) -> EngineModel:
    """A model in training mode, away from its starting point."""
    model = world.model(method)
    disturb(model.adapted)
    model.train()
    return with_abilities(model, prune_in_training=prunes and model.adapted.prefix is None)


def loss_and_gradients(model: EngineModel, losses: Callable[[EngineModel], torch.Tensor]) -> list[torch.Tensor]:
    """The losses of a batch and the gradients of trained tensors, with the same dropout draws each time."""
    torch.manual_seed(3)
    with model.machine.autocast():
        found = losses(model)
    after = torch.rand(1)  # what is drawn next must not change either
    return [found.detach(), after, *gradients(model.adapted, found.sum()).values()]


def assert_same_bits(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    """Assert that all numbers of both are the same."""
    assert len(one) == len(other) and all(map(torch.equal, one, other))


# The same bits


@pytest.mark.parametrize("path", ["plain", "whole", "tail"])
def test_recomputed_blocks_give_the_same_bits(world, method, path):
    """Recomputed blocks give the bits of kept blocks for every method: losses and gradients, with dropout, on every
    path."""
    model = adapted(world, method, path == "tail")
    model = model.on_plain_path() if path == "plain" else model
    batch = collate(world.pairs, world.template)
    kept, again = (
        loss_and_gradients(replace(model, recomputes=recomputes), lambda each: target_losses(each, batch))
        for recomputes in (False, True)
    )
    assert_same_bits(kept, again)


@pytest.mark.parametrize("everywhere", [False, True], ids=["trained", "everywhere"])
def test_recomputed_blocks_drop_the_same_places_in_bf16(gpt2, method, everywhere):
    """In bf16, with the package's dropout and attention, the same places are dropped again."""
    world = in_bf16(gpt2)
    untouched = with_dropout_of(world, 0.3) if everywhere else world
    model = untouched.model(method)
    model = make_ready(replace(model, modes=replace_everywhere(model, everywhere)))
    model.train()
    batch = collate(world.pairs, world.template)
    kept, again = (
        loss_and_gradients(replace(model, recomputes=recomputes), lambda each: target_losses(each, batch))
        for recomputes in (False, True)
    )
    assert_same_bits(kept, again)


def with_dropout_of(world: World, rate: float) -> World:
    """The same world, with a model that has this dropout rate everywhere."""
    config = with_dropout(world.prototype.config, rate)
    other = type(world.prototype)(config)
    other.load_state_dict(world.prototype.state_dict())
    return replace(world, prototype=other.eval())


def replace_everywhere(model: EngineModel, everywhere: bool):
    """Replace the model's training modes, optionally with frozen modules in training mode too."""
    model.modes.everywhere = everywhere
    return model.modes


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("prunes", [False, True], ids=["whole", "tail"])
def test_recomputed_blocks_give_the_same_bits_from_the_trunk_cache(world, count, prunes, tmp_path):
    """Recomputed blocks give the same bits from cached states, too."""
    model = world.model(LastLayers(num_blocks=count))
    disturb(model.adapted)
    model = make_ready(model)
    cache = open_cache(model, world.pairs, "m", trunk_store(tmp_path, 10**8), batch_size=5)
    model = with_abilities(model, prune_in_training=prunes)
    model.train()
    indices = [7, 2, 9]
    batch = collate([world.pairs[i] for i in indices], world.template)
    kept, again = (
        loss_and_gradients(replace(model, recomputes=recomputes), lambda each: cache.losses(each, batch, indices))
        for recomputes in (False, True)
    )
    assert_same_bits(kept, again)


def test_blocks_are_their_own_again_afterwards(world):
    """A pass leaves every block with its class's forward."""
    model = replace(adapted(world, METHODS["lora"]), recomputes=True)
    batch = collate(world.pairs, world.template)
    target_losses(model, batch).sum().backward()
    assert not any("forward" in vars(block) for block in model.parts.blocks)


# Memory


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of live tensors created inside the context, and their peak."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        """Run an operation, and note the storages it created."""
        made = function(*arguments, **(named or {}))
        for each in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(each, torch.Tensor):
                self._see(each.untyped_storage())
        return made

    def _see(self, storage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if not size or address in self._known:
            return
        self._known.add(address)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, address, size)

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.now -= size


@pytest.mark.parametrize("prunes", [False, True], ids=["whole", "tail"])
def test_recomputed_blocks_take_less_memory(world, prunes):
    """With one of three blocks in memory at a time, a pass's peak of live tensors is 0.7 of what it was, and what is
    kept for the backward pass less than half."""
    model = adapted(world, METHODS["prompt"], prunes)
    batch = collate(world.pairs, world.template)

    def measured(recomputes: bool) -> tuple[int, int]:
        trying = replace(model, recomputes=recomputes)
        kept: dict[int, int] = {}

        def keep(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            hidden = training_hidden(trying, batch)  # up to the head, whose logits are the same
        del hidden
        owned = {p.untyped_storage().data_ptr() for p in model.parts.model.parameters()}
        with LiveBytes() as live:
            loss = training_hidden(trying, batch).sum()
            loss.backward()
        return sum(size for address, size in kept.items() if address not in owned), live.peak

    (kept, peak), (kept_again, peak_again) = measured(False), measured(True)
    assert kept_again < 0.5 * kept and peak_again < 0.7 * peak


def training_hidden(model: EngineModel, batch) -> torch.Tensor:
    """Final hidden states of the targets, as a training pass computes them."""
    with model.computing():
        return target_hidden(model, batch)


# FLOPs


@pytest.mark.parametrize(
    ("label", "path"),
    [
        ("prompt", "whole"),
        ("prefix", "whole"),
        ("lora", "plain"),
        ("lora", "tail"),
        ("last-blocks", "tail"),
        ("full", "tail"),
    ],
)
def test_what_is_computed_again_is_charged(label, path, world):
    """The formula equals the count by dispatch on real passes of several sizes, recomputation included."""
    method = METHODS[label]
    model = world.model(method)
    model.parts.model.set_attn_implementation("eager")
    disturb(model.adapted)
    model = with_abilities(model, prune_in_training=path == "tail")
    model = replace(model.on_plain_path() if path == "plain" else model, recomputes=True)
    fitted = training_flops(model.as_sketch(method.adapt(world.sketch(), world.context())))
    for size in (1, 12):
        batch = collate(world.pairs[:size], world.template)
        once, again = (counted_flops(replace(model, recomputes=each), batch) for each in (False, True))
        assert fitted.count(*work_shape(model, batch)) == pytest.approx(again, rel=1e-6)
        assert again > 1.05 * once


def counted_flops(model: EngineModel, batch) -> int:
    """The FLOPs that dispatch counts in a forward and backward pass."""
    with FlopCounterMode(display=False) as counter:
        target_losses(model, batch).sum().backward()
    return counter.get_total_flops()


def test_full_fine_tuning_computes_each_block_again_by_hand(gpt2):
    """Four times the forward pass of 24 D^2 per position and block, except each block's last product, 8 D^2, whose
    result nothing needs; the head stays at three times."""
    width, layers, vocabulary = 32, 3, 3072
    sketch = replace(gpt2.engine(Full().adapt(gpt2.sketch(), gpt2.context())), recomputes=True)
    fitted = training_flops(sketch)
    assert fitted.per_position == pytest.approx((4 * 24 - 8) * width**2 * layers, rel=1e-3)
    assert fitted.per_logit == pytest.approx(3 * 2 * width * vocabulary, rel=1e-3)


# Memory that runs out


def limited(monkeypatch, refuses: Callable[[EngineModel, int], bool]) -> None:
    """Make training passes run out of memory, depending on the model and the number of documents."""
    for module in (training, batch_size):
        real = module.target_losses

        def losses(model, batch, real=real):
            if refuses(model, len(batch.ids)):
                raise RuntimeError(REFUSED)
            return real(model, batch)

        monkeypatch.setattr(module, "target_losses", losses)


def needs_recomputing(model: EngineModel, documents: int) -> bool:
    """There is room for one document with blocks recomputed, and for no more."""
    return documents > 1 or not model.recomputes


def trained(loop: Loop, until: int | None = None) -> list[float]:
    """The losses of the steps until the end of training, or until a given step."""
    losses: list[float] = []
    if until is None:
        train(loop, on_step=lambda step: losses.append(step.loss))
    while until is not None and loop.state.progress.step < until:
        losses.append(loop.step().loss)
    return losses


def test_memory_that_runs_out_with_one_document_recomputes_blocks(world, monkeypatch):
    """Blocks are recomputed before a run is given up: losses and weights equal, bit by bit, those at one document per
    pass, and each pass is charged for what it computes."""
    method = LoRA(rank=2, target_modules="all-linear", dropout=0.3)

    def loop_of(size: int) -> Loop:
        loop = world.loop(method, micro_batch_size=size)
        return Loop(loop.model, loop.pairs, loop.plan, loop.state, lambda *shape: (10.0 if shape[4] else 1.0, 1.0))

    single = loop_of(1)
    expected = trained(single)
    limited(monkeypatch, needs_recomputing)
    short = loop_of(4)
    assert trained(short) == expected and short.recomputes
    progress = short.state.progress
    assert (progress.micro_batch_size, progress.recomputes, single.state.progress.recomputes) == (1, True, False)
    assert progress.train_flops == 10 * single.state.progress.train_flops == 10 * progress.plain_flops
    assert progress.tokens == single.state.progress.tokens
    for name, parameter in single.state.trained.items():
        assert torch.equal(short.state.trained[name], parameter)


def test_a_state_that_recomputes_resumes_bit_by_bit(gpt2, monkeypatch):
    """Recomputation is part of the saved state: after loading, no pass is tried without it."""
    method = LoRA(rank=2, target_modules="all-linear", dropout=0.3)
    limited(monkeypatch, needs_recomputing)
    whole = gpt2.loop(method, micro_batch_size=4)
    losses = trained(whole, until=3)
    first = gpt2.loop(method, micro_batch_size=4)
    trained(first, until=1)
    second = gpt2.loop_of(gpt2.model(method, seed=9), micro_batch_size=4)
    second.state.load_state_dict(*first.state.state_dict())
    probes: list[bool] = []
    monkeypatch.setattr(training, "recomputing", lambda model: probes.append(True))
    assert second.recomputes and trained(second, until=3) == losses[1:] and not probes
    for name, parameter in whole.state.trained.items():
        assert torch.equal(second.state.trained[name], parameter)


def test_a_plan_that_recomputes_is_not_tried_without(gpt2, monkeypatch):
    """What "auto" found before training applies from the first step."""
    seen: list[bool] = []
    limited(monkeypatch, lambda model, documents: bool(seen.append(model.recomputes)))
    loop = gpt2.loop(LoRA(rank=2), max_epochs=1, recomputes=True)
    trained(loop)
    assert seen and all(seen) and not loop.state.progress.recomputes


def test_memory_that_runs_out_even_so_is_one_message(gpt2, monkeypatch):
    """A run is given up with the allocator's message, what was tried, and what to do."""
    limited(monkeypatch, lambda model, documents: True)
    words = r"one document a pass, although each block was computed again.*can't allocate memory.*Set limits"
    with pytest.raises(OutOfMemory, match=words):
        trained(gpt2.loop(LoRA(rank=2)))
    with pytest.raises(OutOfMemory, match=words):
        fit_passes(gpt2.model(LoRA(rank=2)), gpt2.pairs, most=4)


def test_all_ranks_recompute_where_one_runs_out(gpt2, monkeypatch):
    """A rank with enough memory follows one without: to smaller passes, then to recomputed blocks, until the end."""
    refusals = iter([1.0] * 3 + [0.0] * 2 + [1.0])
    real = type(gpt2.machine).total

    def total(machine, values):
        refused = values.ndim == 0 and values.dtype == torch.float32
        return values + next(refusals) if refused else real(machine, values)

    monkeypatch.setattr(type(gpt2.machine), "total", total)
    loop = gpt2.loop(LoRA(rank=2), micro_batch_size=4)
    trained(loop, until=2)
    assert loop.recomputes and loop.state.progress.micro_batch_size == 1
    with pytest.raises(OutOfMemory, match="another process of this run ran out of memory"):
        loop.step()


def test_the_micro_batch_is_found_with_blocks_recomputed(gpt2, monkeypatch):
    """If one document does not fit, the largest micro-batch that fits with recomputed blocks is used; if it fits, no
    blocks are recomputed."""
    model = gpt2.model(LoRA(rank=2))
    assert fit_passes(model, gpt2.pairs, most=4) == (4, False)
    limited(monkeypatch, lambda model, documents: documents > 2 or not model.recomputes)
    assert fit_passes(model, gpt2.pairs, most=8) == (2, True)
    assert not any(module.training for module in model.parts.model.modules())


# The probe


def test_the_probe_accepts_every_method(world, method):
    """Blocks of both families may be recomputed, whatever is trained."""
    reasons: list[str] = []
    assert probe_recomputation(adapted(world, method), reasons.append) and not reasons


def test_a_block_that_computes_something_else_the_second_time_is_noticed(gpt2, monkeypatch):
    """If a block keeps state, blocks are not recomputed, and the run ends with the reason."""
    model = adapted(gpt2, METHODS["lora"])
    block, calls = model.parts.blocks[1], []
    own = block.forward

    def drifting(hidden, *rest, **named):
        calls.append(1)
        return own(hidden * (1 + len(calls)), *rest, **named)

    monkeypatch.setattr(block, "forward", drifting)
    with pytest.raises(OutOfMemory, match=r"cannot be computed again.*different numbers"):
        shortage.recomputing(model)


def test_a_cache_that_grew_twice_would_be_noticed(gpt2, monkeypatch):
    """Without a copy of the cache for each call, the prefix would be added twice: the probe reports it."""
    monkeypatch.setattr(recomputation, "_copied", lambda cache: cache)
    assert not probe_recomputation(adapted(gpt2, METHODS["prefix"]))


SHORT_OF_MEMORY = """
import resource, sys, torch
from transformers import GPT2Config, GPT2LMHeadModel
import numpy as np
from triptych.contracts import Context
from triptych.corpus.sequence import Pair, Template
from triptych.engine.model import EngineModel
from triptych.engine.savings.ready import make_ready
from triptych.engine.training import Loop, TrainingPlan, TrainingState
from triptych.machine import start_machine
from triptych.methods.lora import LoRA

torch.set_num_threads(1)
machine = start_machine("cpu", "fp32")
draw = np.random.default_rng(0)
pairs = [Pair(str(i), *(draw.integers(0, 512, n).astype(np.int32) for n in (960, 40))) for i in range(2)]

def loop() -> Loop:
    torch.manual_seed(0)
    shape = dict(vocab_size=512, n_positions=1024, n_embd=256, n_layer=12, n_head=4)
    untouched = GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0)).eval()
    context = Context(None, torch.Generator().manual_seed(0), torch.arange(512))
    adapt = lambda parts: LoRA(rank=2, dropout=0.1).adapt(parts, context)
    model = make_ready(EngineModel.assemble(untouched, adapt, Template((), (), 0), machine))
    plan = TrainingPlan(1e-3, 0.0, 1, 1.0, 1, 2, MICRO, 1.0, 0.0, "constant", "adamw", 0)
    return Loop(model, pairs, plan, TrainingState.begin(model.adapted, plan))

MICRO = 2
short = loop()
here = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (here + int(sys.argv[1]) * 2**20, resource.RLIM_INFINITY))
short_of_it = short.step().loss
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert short.recomputes and short.state.progress.micro_batch_size == 1
MICRO = 1
roomy = loop()
assert roomy.step().loss == short_of_it and not roomy.recomputes
assert all(torch.equal(value, short.state.trained[name]) for name, value in roomy.state.trained.items())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is counted from /proc")
def test_a_step_that_does_not_fit_is_taken_with_blocks_recomputed():
    """Under a real memory limit too small for one document, a step with recomputed blocks gives the same bits."""
    command = [sys.executable, "-c", SHORT_OF_MEMORY, "190"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

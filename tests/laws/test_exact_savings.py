"""Every saving of the engine is exact: same loss and gradients as the plain path, for every method it applies to."""

import errno
import multiprocessing
import os
import subprocess
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from support.worlds import World, disturb, gradients, in_bf16, largest_difference, train, with_abilities
from triptych.engine import batch_size, forward, training
from triptych.engine.batching import collate
from triptych.engine.evaluation import split_loss
from triptych.engine.flops import entering_flops, training_flops
from triptych.engine.forward import target_losses
from triptych.engine.savings import partial_forward, trunk_cache
from triptych.engine.savings.attention import BLOCK, blockwise
from triptych.engine.savings.dropout import drop, use_quick_dropout
from triptych.engine.savings.ready import make_ready, probe_pruning
from triptych.engine.savings.trunk_cache import open_cache, trunk_store
from triptych.engine.training import Loop, TrainingState
from triptych.errors import ResultsError
from triptych.methods.full import Full
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA
from triptych.methods.prompt_tuning import PromptTuning

METHODS = {
    "prompt": PromptTuning(num_virtual_tokens=4),
    "lora": LoRA(rank=2),
    "lora-all": LoRA(rank=2, target_modules="all-linear"),
    "last-blocks": LastLayers(num_blocks=2),
    "last-head": LastLayers(num_blocks=0, final_norm=False, head="untied"),
    "full": Full(),
}


@pytest.fixture(params=list(METHODS))
def method(request):
    """Each method in turn."""
    return METHODS[request.param]


def plain_and_ready(world: World, method):
    """A model on the plain path, and the same model prepared for the engine."""
    plain, ready = (world.model(method) for _ in range(2))
    for model in (plain, ready):
        disturb(model.adapted)
    ready = make_ready(ready)
    assert ready.can.logits_at_targets and ready.can.prune
    # also where dropout would apply: everything is in eval mode here
    return plain.on_plain_path(), with_abilities(ready, prune_in_training=True)


@pytest.mark.parametrize("placement", ["before", "after"])
def test_the_tail_is_exact(world, method, placement):
    """Computing the last block only at the targets, with fused activations, gives the plain path's loss and
    gradients."""
    plain, ready = plain_and_ready(world, method)
    plain.adapted.placement = ready.adapted.placement = placement
    batch = collate(world.pairs, world.template)
    expected, found = target_losses(plain, batch), target_losses(ready, batch)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    wanted = gradients(plain.adapted, expected.mean())
    assert largest_difference(gradients(ready.adapted, found.mean()), wanted) < 1e-5


def test_streamed_losses_are_the_same(world, method, monkeypatch):
    """Loss and gradients do not depend on how many logits are computed at once."""
    plain, ready = plain_and_ready(world, method)
    monkeypatch.setattr(forward, "LOGITS_AT_ONCE", 7 * ready.parts.vocabulary_size)
    batch = collate(world.pairs, world.template)
    expected, found = target_losses(plain, batch), target_losses(ready, batch)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    wanted = gradients(plain.adapted, expected.mean())
    assert largest_difference(gradients(ready.adapted, found.mean()), wanted) < 1e-5


def test_a_tail_with_dropout_is_left_alone(gpt2):
    """With dropout in the last block the pruned path draws other numbers, so in fp32 it is used only for evaluation."""
    model = make_ready(gpt2.model(LoRA(rank=2, target_modules="all-linear", dropout=0.3)))
    assert model.can.prune and not model.can.prune_in_training
    assert make_ready(gpt2.model(LoRA(rank=2))).can.prune_in_training
    assert not any(module.training for module in model.parts.model.modules())


@pytest.mark.parametrize(
    "method", [Full(), LoRA(rank=2, target_modules="all-linear", dropout=0.3)], ids=["full", "lora"]
)
def test_in_low_precision_a_tail_drops_where_the_block_does(gpt2, method):
    """The pruned path drops out at the same places as the block: when dropout keeps nothing or everything, both paths
    agree."""
    model = gpt2.model(method)
    disturb(model.adapted)
    block = model.parts.blocks[-1]
    dropouts = [module for module in block.modules() if isinstance(module, torch.nn.Dropout)]
    for module in dropouts:
        module.p = 0.3
    assert probe_pruning(model, same_draws=False) == (True, True)
    assert probe_pruning(model, same_draws=True) == (True, False)
    assert all(module.p == 0.3 and "forward" not in vars(module) for module in dropouts)
    batch = collate(gpt2.pairs, gpt2.template)
    model.train()
    for other in model.parts.model.modules():
        other.training = other.training and any(other is inside for inside in block.modules())
    found = {}
    for rate in (0.0, 0.3, 1.0):
        for module in dropouts:
            module.p = rate
        for prunes in (False, True):
            torch.manual_seed(0)
            found[rate, prunes] = target_losses(with_abilities(model, prune_in_training=prunes), batch)
        if rate != 0.3:
            torch.testing.assert_close(found[rate, True], found[rate, False], atol=1e-5, rtol=1e-5)
    assert all(not torch.allclose(found[0.3, True], found[rate, True], atol=1e-4) for rate in (0.0, 1.0))


def test_a_tail_whose_dropout_stands_elsewhere_is_noticed(gpt2):
    """A last block whose dropout comes before the attention's output projection, not after it, is not pruned in
    training."""
    model = gpt2.model(Full())
    attention = model.parts.blocks[-1].attn
    moved = attention.resid_dropout
    attention.c_proj = torch.nn.Sequential(moved, attention.c_proj)
    attention.resid_dropout = torch.nn.Identity()
    assert not probe_pruning(model, same_draws=False)[1]


def test_a_tail_that_is_another_is_noticed(world):
    """A last block that does more than its structure says is not pruned."""
    model = world.model(LoRA(rank=2))
    model.parts.blocks[-1].register_forward_hook(lambda module, inputs, output: output + output.roll(1, -1))
    can = make_ready(model).can
    assert can.logits_at_targets and can.notes and not can.prune


@pytest.mark.parametrize("length", [1, 100, 128, 300])
@pytest.mark.parametrize("groups", [1, 2])
def test_attention_in_blocks_is_attention(length, groups):
    """Causal attention by blocks of queries equals torch's attention, forward and backward, also with shared key
    heads."""
    torch.manual_seed(0)
    states = [torch.randn(2, heads, length, 8, requires_grad=True) for heads in (4, 4 // groups, 4 // groups)]
    ours = blockwise(*states, 0.3)
    theirs = functional.scaled_dot_product_attention(*states, is_causal=True, scale=0.3, enable_gqa=True).transpose(
        1, 2
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad((out * weight).sum(), states) for out in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("length", [100, 300])
def test_attention_in_blocks_drops_as_dropout_does(length):
    """With dropout, each query gets the plain product with the weights that were kept; the gradients match too."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, length, 8, requires_grad=True) for _ in range(3))
    torch.manual_seed(1)
    ours = blockwise(query, key, value, 0.3, dropout=0.2)
    kept = torch.zeros(1, 2, length, length)
    torch.manual_seed(1)  # the same draws, block by block
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        kept[0, :, start:end, :end] = drop(torch.ones(2, end - start, end), 0.2)[1].float()
    scores = (query * 0.3) @ key.transpose(-1, -2)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    theirs = ((scores.masked_fill(future, float("-inf")).softmax(-1) * kept / 0.8) @ value).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(ours)
    for a, b in zip(
        *(torch.autograd.grad((out * weight).sum(), (query, key, value)) for out in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_quick_dropout_is_dropout():
    """Quick dropout keeps 1 - p of the places, scales them by 1 / (1 - p), passes gradients only there, and does
    nothing in eval mode."""
    model = torch.nn.Sequential(torch.nn.Dropout(0.3))
    use_quick_dropout(model)
    torch.manual_seed(0)
    states = torch.ones(999, 1001, requires_grad=True)  # an odd number of places
    out = model(states)
    kept = out > 0
    assert abs(kept.float().mean() - 0.7) < 5 * (0.3 * 0.7 / kept.numel()) ** 0.5
    assert torch.allclose(out[kept], torch.tensor(1 / 0.7))
    halves = kept[:, :1000].reshape(-1, 2).float()  # neighbors are drawn from one integer, and are independent
    assert abs(torch.corrcoef(halves.T)[0, 1]) < 5 / len(halves) ** 0.5
    (gradient,) = torch.autograd.grad(out.sum(), states)
    assert torch.equal(gradient, out)
    assert torch.equal(model.eval()(states), states)
    torch.manual_seed(0)
    assert torch.equal(model.train()(states), out)


# The trunk cache

CACHED = {"last-blocks": LastLayers(num_blocks=1), "last-head": METHODS["last-head"], "norm": LastLayers(num_blocks=0)}


def cached(world: World, method, folder: Path, fingerprint: str = "m", max_bytes: int = 10**8):
    """A prepared, perturbed model and its trunk cache."""
    model = world.model(method)
    disturb(model.adapted)
    model = make_ready(model)
    return model, open_cache(model, world.pairs, fingerprint, trunk_store(folder, max_bytes), batch_size=5)


@pytest.mark.parametrize("method", CACHED.values(), ids=list(CACHED))
@pytest.mark.parametrize("prunes", [False, True], ids=["whole", "tail"])
def test_the_trunk_cache_is_exact(world, method, prunes, tmp_path):
    """Cached states give the plain path's loss and gradients, in whatever order the pairs are taken."""
    plain = world.model(method).on_plain_path()
    disturb(plain.adapted)
    model, cache = cached(world, method, tmp_path)
    model = with_abilities(model, prune_in_training=prunes)
    indices = [7, 2, 9]
    batch = collate([world.pairs[i] for i in indices], world.template)
    expected, found = target_losses(plain, batch), cache.losses(model, batch, indices)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    wanted = gradients(plain.adapted, expected.mean())
    assert largest_difference(gradients(model.adapted, found.mean()), wanted) < 1e-5


@pytest.mark.parametrize("method", CACHED.values(), ids=list(CACHED))
def test_the_loss_of_a_split_from_its_cache_is_that_of_the_whole_model(world, method, tmp_path):
    """The loss of a split from its cache is the whole model's, document by document, also in other batch sizes and for
    a subset."""
    model, cache = cached(world, method, tmp_path)
    assert cache.bytes_for(model, world.pairs) == cache.num_bytes > cache.bytes_for(model, world.pairs[:5])
    whole, found = split_loss(model, world.pairs, 4), split_loss(model, world.pairs, 4, losses_of=cache.losses)
    np.testing.assert_allclose(found.nats, whole.nats, rtol=1e-5)
    np.testing.assert_array_equal(found.targets, whole.targets)
    some = [9, 2, 7]
    found = split_loss(model, [world.pairs[i] for i in some], 2, losses_of=cache.only(some).losses)
    np.testing.assert_allclose(found.nats, whole.nats[some], rtol=1e-5)


@pytest.mark.parametrize(
    "method",
    [LoRA(rank=2), PromptTuning(num_virtual_tokens=3), Full(), LastLayers(head="tied")],
    ids=["lora", "prompt", "full", "tied"],
)
def test_no_cache_where_it_would_be_stale(gpt2, method, tmp_path):
    """There is no cache when training changes anything below, in the input, or tied to it: it would be stale."""
    _, cache = cached(gpt2, method, tmp_path)
    assert cache is None and not list(tmp_path.iterdir())


def test_a_cache_is_found_again_and_bounded(gpt2, tmp_path, monkeypatch):
    """The same states are computed once, other weights or tokens get another entry, and the oldest entries go beyond
    the limit."""
    made = []
    real = trunk_cache._computed
    monkeypatch.setattr(trunk_cache, "_computed", lambda *args: made.append(1) or real(*args))
    first = cached(gpt2, CACHED["last-blocks"], tmp_path)[1]
    count = len(made)
    again = cached(gpt2, CACHED["last-blocks"], tmp_path)[1]
    assert count and len(made) == count and torch.equal(first.of(3), again.of(3))
    assert cached(gpt2, CACHED["last-blocks"], tmp_path, max_bytes=first.num_bytes - 1)[1] is None
    cached(gpt2, CACHED["last-blocks"], tmp_path, fingerprint="other")
    assert len(made) == 2 * count and len(list(tmp_path.glob("*/states.bin"))) == 2
    size = first.num_bytes
    cached(gpt2, CACHED["last-blocks"], tmp_path, fingerprint="third", max_bytes=size)
    assert len(list(tmp_path.glob("*/states.bin"))) == 2  # the first is in use
    del first, again
    cached(gpt2, CACHED["last-blocks"], tmp_path, fingerprint="third", max_bytes=size)
    assert len(list(tmp_path.glob("*/states.bin"))) == 1


def _open_one(gpt2, folder: Path, made: Path, states: Path) -> None:
    """In a separate process: open the cache and report which batches were computed here and what the cache holds."""
    real = trunk_cache._computed

    def slow(*args):
        with made.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.1)
        return real(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trunk_cache, "_computed", slow)
        cache = cached(gpt2, CACHED["last-blocks"], folder)[1]
    torch.save([cache.of(i) for i in range(len(gpt2.pairs))], states)


def test_two_processes_make_one_cache(gpt2, tmp_path):
    """When two processes want the same states, one computes them while the other waits, and both get the same."""
    process = multiprocessing.get_context("fork").Process
    both = [
        process(target=_open_one, args=(gpt2, tmp_path / "cache", tmp_path / "made", tmp_path / f"{i}"))
        for i in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert [one.exitcode for one in both] == [0, 0]
    assert len(set((tmp_path / "made").read_text().split())) == 1
    first, second = (torch.load(tmp_path / f"{i}", weights_only=True) for i in range(2))
    assert all(map(torch.equal, first, second)) and len(list((tmp_path / "cache").glob("*/states.bin"))) == 1


def test_a_damaged_cache_is_made_anew(gpt2, tmp_path):
    """A cache file that was truncated, has a flipped byte, or has a missing or foreign seal is not read but made
    again."""
    cached(gpt2, CACHED["last-blocks"], tmp_path)
    (file,), (seal,) = tmp_path.glob("*/states.bin"), tmp_path.glob("*/sha256")
    whole, sealed = file.read_bytes(), seal.read_bytes()
    flipped = [
        bytes(whole[:at]) + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (0, len(whole) // 3, len(whole) - 1)
    ]
    for damaged in (whole[: len(whole) // 2], bytes(len(whole)), *flipped):
        file.write_bytes(damaged)
        assert cached(gpt2, CACHED["last-blocks"], tmp_path)[1] is not None and file.read_bytes() == whole
    for wrong in (b"", sealed[:-1], sealed[1:] + sealed[:1]):
        seal.write_bytes(wrong)
        assert cached(gpt2, CACHED["last-blocks"], tmp_path)[1] is not None and seal.read_bytes() == sealed
    seal.unlink()
    assert cached(gpt2, CACHED["last-blocks"], tmp_path)[1] is not None and seal.read_bytes() == sealed
    seconds = file.with_name("seconds")
    for wrong in (b"", b"1e3", b"nan", b"\xff"):
        seconds.write_bytes(wrong)
        cache = cached(gpt2, CACHED["last-blocks"], tmp_path)[1]
        assert cache is not None and cache.seconds == float(seconds.read_bytes()) < 60


def test_what_making_a_cache_took_is_known_to_who_finds_it_made(gpt2, tmp_path):
    """The recorded seconds are those of the process that made the cache, not the time to read it."""
    made = cached(gpt2, CACHED["last-blocks"], tmp_path)[1]
    (seconds,) = tmp_path.glob("*/seconds")
    assert made is not None and made.seconds > 0
    seconds.write_bytes(b"123.456")
    found = cached(gpt2, CACHED["last-blocks"], tmp_path)[1]
    assert found is not None and found.seconds == 123.456


def test_a_full_disk_is_one_message_and_room_is_enough_to_go_on(gpt2, tmp_path, monkeypatch):
    """Without room for the trunk cache no part of it is left behind, and the message gives folder, size and remedy."""

    def full(file, num_bytes):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (
        monkeypatch.context() as patch,
        pytest.raises(ResultsError, match=r"No space left.*make room, or set TRIPTYCH_CACHE"),
    ):
        patch.setattr(trunk_cache, "reserve", full)
        cached(gpt2, CACHED["last-blocks"], tmp_path)
    assert not list(tmp_path.iterdir())
    assert cached(gpt2, CACHED["last-blocks"], tmp_path)[1] is not None


def test_the_trunk_cache_on_a_real_full_disk(gpt2, tmp_path):
    """On a full file system the message comes before any state is computed, never SIGBUS; with enough room the cache is
    made."""
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(tmp_path)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no file system can be mounted here")
    try:
        (tmp_path / "filler").write_bytes(bytes(80_000))
        with pytest.raises(ResultsError, match="No space left"):
            cached(gpt2, CACHED["last-blocks"], tmp_path / "trunk")
        (tmp_path / "filler").unlink()
        assert cached(gpt2, CACHED["last-blocks"], tmp_path / "trunk")[1] is not None
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_the_key_holds_versions_and_attention(gpt2, tmp_path, monkeypatch):
    """Another version of torch, transformers or this cache, or another attention, makes a separate entry."""

    def entries() -> int:
        cached(gpt2, CACHED["last-blocks"], tmp_path)
        return len(list(tmp_path.glob("*/states.bin")))

    assert entries() == entries() == 1
    for number, (owner, name) in enumerate(
        [(torch, "__version__"), (transformers, "__version__"), (trunk_cache, "TRUNK_VERSION")], start=2
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, "another")
            assert entries() == number
    model = gpt2.model(CACHED["last-blocks"])
    keys = set()
    for attention in ("eager", "sdpa"):
        model.parts.model.set_attn_implementation(attention)
        layout = trunk_cache._lay_out(model, gpt2.pairs, batch_size=5, first=2)
        keys.add(trunk_cache._key(model, gpt2.pairs, "m", layout))
    assert len(keys) == 2


def test_states_are_kept_as_the_model_has_them(gpt2, tmp_path, monkeypatch):
    """In fp16 the stream is fp32 and may exceed 65,504: the cache gives the same losses, and no infinity."""
    machine = replace(gpt2.machine, precision="fp16")
    monkeypatch.setattr(type(machine), "autocast", lambda self: torch.autocast("cpu", torch.float16))
    model = replace(gpt2.model(CACHED["last-blocks"]), machine=machine)
    with torch.no_grad():
        model.parts.trunk.wpe.weight[:, 0] = 1e5
    model = make_ready(model)
    cache = open_cache(model, gpt2.pairs, "m", trunk_store(tmp_path, 10**8), batch_size=5)
    assert cache is not None and cache.dtype == torch.float32
    assert all(torch.isfinite(cache.of(i)).all() and cache.of(i).max() > 65_504 for i in range(len(gpt2.pairs)))
    batch = collate(gpt2.pairs[:1], gpt2.template)
    with torch.no_grad(), machine.autocast():
        whole, resumed = target_losses(model, batch), cache.losses(model, batch, [0])
    torch.testing.assert_close(resumed, whole, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("method", CACHED.values(), ids=list(CACHED))
@pytest.mark.parametrize("prunes", [False, True], ids=["whole", "tail"])
def test_flops_from_the_cache_are_counted(world, method, prunes):
    """The FLOPs of making the cache and of a pass from it follow the formula at a shape it was not fitted to."""
    sketch = world.engine(method.adapt(world.sketch(), world.context()), prune_in_training=prunes)
    first = partial_forward.first_trained(sketch.adapted)
    resumed, making = training_flops(sketch, first), entering_flops(sketch, first)
    whole = training_flops(sketch)
    assert resumed.count(3, 100, 60) < 0.8 * whole.count(3, 100, 60)
    assert making.count(3, 100, 60) < whole.count(3, 100, 60)


@pytest.mark.parametrize("dropout", [False, True], ids=["plain", "dropout"])
def test_training_ends_where_the_plain_path_ends(world, method, dropout, tmp_path):
    """With every saving on, the cache included, or every one off, the losses are the same at every step and at the
    end."""

    def trained(plain: bool) -> tuple[list[float], float]:
        model = world.model(method).on_plain_path()
        for module in model.parts.model.modules():
            if isinstance(module, torch.nn.Dropout) and not dropout:
                module.p = 0.0
        plan, cache = world.plan(learning_rate=0.01), None
        if not plain:
            model = make_ready(model)
            cache = open_cache(model, world.pairs, "m", trunk_store(tmp_path, 10**8), batch_size=4)
        torch.manual_seed(0)
        losses: list[float] = []
        loop = Loop(model, world.pairs, plan, TrainingState.begin(model.adapted, plan), cache=cache)
        train(loop, on_step=lambda step: losses.append(step.loss))
        return losses, split_loss(model, world.pairs, batch_size=5).mean

    (exact, end), (plain, plain_end) = trained(False), trained(True)
    assert exact == pytest.approx(plain, abs=1e-4) and end == pytest.approx(plain_end, abs=1e-4)


# Memory


def test_out_of_memory_halves_the_micro_batch(world, monkeypatch):
    """When memory runs out in any pass, the step starts over with half the micro-batch, with the same loss and
    weights."""

    def trained(limit: int):
        real = training.target_losses

        def limited(model, batch):
            if len(batch.ids) > limit:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
            return real(model, batch)

        with monkeypatch.context() as patch:
            patch.setattr(training, "target_losses", limited)
            loop = world.loop(LoRA(rank=2), micro_batch_size=4)
            loop = Loop(loop.model, loop.pairs, loop.plan, loop.state, lambda *shape: (1.0 * shape[0], 0.0))
            losses: list[float] = []
            train(loop, on_step=lambda step: losses.append(step.loss))
        return losses, loop.state

    losses, whole = trained(4)
    fewer, halved = trained(1)
    assert (whole.progress.micro_batch_size, halved.progress.micro_batch_size) == (0, 1)
    assert fewer == pytest.approx(losses, abs=1e-5)
    assert (halved.progress.tokens, halved.progress.train_flops) == (whole.progress.tokens, whole.progress.train_flops)
    for name, parameter in whole.trained.items():
        torch.testing.assert_close(halved.trained[name], parameter, atol=1e-4, rtol=1e-4)


def test_another_error_is_no_lack_of_memory(gpt2, monkeypatch):
    """Only a refused allocation is retried; any other error, or one at a single document per pass, is raised."""

    def failing(message: str):
        def fail(*args, **options):
            raise RuntimeError(message)

        monkeypatch.setattr(training, "target_losses", fail)
        loop = gpt2.loop(LoRA(rank=2))
        with pytest.raises(RuntimeError, match=message):
            train(loop)
        return loop.state.progress.micro_batch_size

    assert failing("shape mismatch") == 0
    assert failing("can't allocate memory") == 1


def test_the_micro_batch_is_found(gpt2, monkeypatch):
    """The micro-batch found is a power of two within a step: the whole step if it fits, less if memory runs out, never
    below one."""
    model = gpt2.model(LoRA(rank=2))
    found = partial(batch_size.fitting_micro_batch, model, gpt2.pairs)
    assert found(most=8) == 8 and found(most=1) == 1
    real = batch_size.target_losses

    def limited(model, batch):
        if len(batch.ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, batch)

    monkeypatch.setattr(batch_size, "target_losses", limited)
    assert found(most=8) == 2
    monkeypatch.setattr(batch_size, "MEMORY_SHARE", 0.0)
    assert found(most=2) == 1
    assert not any(module.training for module in model.parts.model.modules())


# What makes a processor wait for a GPU

READ_BACK = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "_unique2", "equal")


class ReadBack(TorchDispatchMode):
    """Collects the operations whose result Python needs, by the file names of their callers."""

    def __init__(self):
        super().__init__()
        self.callers: list[str] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        """Note the operation if it is one of those."""
        if operation.overloadpacket.__name__ in READ_BACK:
            frames = [frame.filename for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
            self.callers.append(Path(frames[-2]).name)
        return operation(*args, **(kwargs or {}))


def test_a_micro_batch_reads_nothing_back(world, method):
    """Forward and backward pass read back a single number: whether transformers' mask is all ones."""
    world = in_bf16(world)
    model = make_ready(world.model(method))
    model.train()
    batch = collate(world.pairs, world.template)
    with ReadBack() as seen:
        with world.machine.autocast():
            losses = target_losses(model, batch)
        losses.sum().backward()
    assert seen.callers == ["masking_utils.py"]

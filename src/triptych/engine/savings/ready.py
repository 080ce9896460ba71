"""A model made ready for the engine: what it is able to do is probed, activations fused, frozen weights narrowed.

Tried with transformers 5.23.0.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor, nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from triptych.contracts import AdaptedModel
from triptych.engine.batching import Batch
from triptych.engine.forward import not_finite, target_logits, target_losses
from triptych.engine.generation.own_loop import own_loop_agrees, step_blocks_agree
from triptych.engine.model import Abilities, EngineModel
from triptych.engine.savings.dropout import use_quick_dropout
from triptych.engine.savings.gated import use_quick_blocks
from triptych.engine.savings.merging import lora_layers, stays_apart
from triptych.engine.savings.probe import Report, attempt, same_predictions
from triptych.engine.savings.replacement import replaced
from triptych.errors import ModelError
from triptych.models.parts import embed

REPEATED = 1e-2  # of a gradient's norm: what the order of sums may change of it on a GPU; the same bits on a CPU
_APART = "summaries are written without merging what was trained into the weights: they are stored in 4 bits"
_SCALED = "this family's logits are scaled or capped: the plain path is taken"
_SHARDED = (
    "the model is sharded over the processes: blocks are computed at every place, without the trunk cache, and "
    "summaries come from transformers' generate"
)
LOW_PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}


def make_ready(model: EngineModel) -> EngineModel:
    """The same model with the abilities that it is found to have, and faster kernels and narrower frozen weights.

    This changes how the model computes, never what: fp32 stays fp32. A model that is still in the CPU's memory is moved
    to the machine's device, its frozen matrices in the run's precision: they are never there whole in fp32.

    Args:
        model: the model in eval mode; its modules are changed in place.
    """
    adapted, machine = model.adapted, model.machine
    notes = [_APART] if stays_apart(adapted.parts.model) else []

    def whole_block(reason: str) -> None:
        notes.append(f"the last block is computed at every place: this family: {reason}")

    def generate_of_transformers(reason: str) -> None:
        notes.append(f"summaries come from transformers' generate: this family: {reason}")

    if not model.is_on_machine and head_is_plain(adapted):  # the plain path keeps its weights in fp32
        _narrow(adapted.parts.model, machine.precision)
    model.to_machine()
    with _in_fp32(model):
        if not head_is_plain(adapted):
            return replace(model, can=Abilities(notes=(*notes, _SCALED)))
        fuse_activations(adapted.parts.model)
        if machine.precision == "bf16":
            use_quick_blocks(adapted.parts.model)
        prune, prune_in_training = probe_pruning(model, same_draws=machine.precision == "fp32", report=whole_block)
        can = Abilities(logits_at_targets=True, prune=prune, prune_in_training=prune_in_training)
        own_decoding = own_loop_agrees(replace(model, can=can), generate_of_transformers)
        quick_steps = own_decoding and step_blocks_agree(replace(model, can=can))
    _narrow(adapted.parts.model, machine.precision)
    _keep_narrow(adapted.parts.model, machine.precision)
    if machine.precision == "bf16" and machine.device.type == "cpu":
        use_quick_dropout(adapted.parts.model)
    return replace(model, can=replace(can, own_decoding=own_decoding, step_blocks=quick_steps, notes=tuple(notes)))


def make_ready_to_shard(model: EngineModel) -> EngineModel:
    """As `make_ready`, with only those savings that work on weights which are gathered for each pass.

    Args:
        model: the model in eval mode, whole and in the CPU's memory; its modules are changed in place.
    """
    adapted, precision = model.adapted, model.machine.precision
    if not head_is_plain(adapted):
        return replace(model, can=Abilities(notes=(_SHARDED, _SCALED)))
    fuse_activations(adapted.parts.model)
    _narrow(adapted.parts.model, precision)
    _keep_narrow(adapted.parts.model, precision)
    return replace(model, can=Abilities(logits_at_targets=True, notes=(_SHARDED,)))


def _narrow(model: nn.Module, precision: str) -> None:
    """Frozen matrices in the run's precision."""
    if precision in LOW_PRECISION:
        cast_frozen_matrices(model, LOW_PRECISION[precision])


def _keep_narrow(model: nn.Module, precision: str) -> None:
    """What enters LoRA's products, and what trained embeddings look up, in the run's precision."""
    if precision in LOW_PRECISION:
        leave_rounding_to_autocast(model)
    if precision == "bf16":
        narrow_trained_embeddings(model)


@contextmanager
def _in_fp32(model: EngineModel) -> Iterator[None]:
    """Narrowed weights in fp32 for a while: in low precision a probe would miss differences.

    Where a GPU has no room for them, the whole model is in the CPU's memory for that while.
    """
    modules = model.adapted.modules()
    parameters = [parameter for module in modules for parameter in module.parameters()]
    narrowed = {parameter for parameter in parameters if parameter.dtype in LOW_PRECISION.values()}
    fits = model.machine.has_room(4 * sum(parameter.numel() for parameter in narrowed))
    buffers = [buffer for module in modules for buffer in module.buffers()]
    before = {tensor: tensor.data for tensor in (narrowed if fits else [*parameters, *buffers])}
    try:
        for tensor, data in before.items():
            tensor.data = data.to(data.device if fits else "cpu", torch.float32 if tensor in narrowed else data.dtype)
        yield
    finally:
        for tensor, data in before.items():
            tensor.data = data


def fuse_activations(model: nn.Module) -> None:
    """The tanh form of GELU in one kernel: GPT-2's own takes eight, and keeps a tensor for each."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is NewGELUActivation:
                setattr(module, name, nn.GELU(approximate="tanh"))


def cast_frozen_matrices(model: nn.Module, dtype: torch.dtype) -> None:
    """Frozen matrices in the run's precision, once instead of at every step; what is trained stays fp32, so do vectors.

    These are the matrices of products, for which autocast rounds trained ones in the same way, and what embeddings look
    up: see `narrow_trained_embeddings`. A table of numbers that something else is made of (Mamba's decay) stays fp32.
    In fp16 what embeddings look up stays fp32 too: the residual stream begins there, and it may go beyond 65,504.

    On a CPU, weights are pages of their mapped file, all of which stay in memory as long as one tensor is read from
    them: what keeps its type is copied, so that they are let go.
    """
    products, tables = (
        {id(module.weight) for module in model.modules() if isinstance(module, kinds)}
        for kinds in ((nn.Linear, Conv1D, nn.modules.conv._ConvNd), nn.Embedding)
    )
    narrow = products | tables if dtype == torch.bfloat16 else products - tables
    for parameter in model.parameters():
        stacked = parameter.ndim >= 3  # the matrices of experts, for one
        is_float = parameter.is_floating_point()  # a matrix in 4 bits is narrower already
        if is_float and not parameter.requires_grad and (stacked or id(parameter) in narrow):
            parameter.data = parameter.data.to(dtype)
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.dtype == torch.float32 and tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


def leave_rounding_to_autocast(model: nn.Module) -> None:
    """Let LoRA's first product round what enters it, as autocast does, instead of widening it to fp32 before.

    The numbers are the same: what is widened is rounded again to what it was. DoRA computes more with what it widens.
    """
    for layer in lora_layers(model):
        if not layer.lora_variant:
            layer.cast_input_dtype_enabled = False


def narrow_trained_embeddings(model: nn.Module) -> None:
    """Let trained embeddings, which stay fp32, look up in bf16, as frozen ones do.

    The residual stream begins there and has its type: so it is the same for every method, and the same weights give the
    same loss whatever is going to be trained.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.weight.requires_grad:
            module.register_forward_hook(_in_bf16)


def _in_bf16(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """What a table in bf16 would give; some families (Gemma) multiply it by a scale in the table's type."""
    scale = getattr(module, "embed_scale", None)
    if scale is None:
        return output.to(torch.bfloat16)
    rows = nn.functional.embedding(inputs[0], module.weight, module.padding_idx).to(torch.bfloat16)  # type: ignore
    return rows * (scale.to(torch.bfloat16) if isinstance(scale, Tensor) else scale)


@torch.no_grad()
def head_is_plain(adapted: AdaptedModel) -> bool:
    """Whether the head applied to the trunk's output is all there is to this family's logits (no soft cap, no scaling).

    Raises:
        ModelError: the logits are not finite.
    """
    device = adapted.parts.device
    ids = torch.arange(min(8, adapted.parts.vocabulary_size), device=device)[None]
    embeddings = embed(adapted.parts, ids)
    own = adapted.parts.model(inputs_embeds=embeddings, use_cache=False).logits
    if not own.isfinite().all():
        raise ModelError(not_finite(type(adapted.parts.model).__name__, "logits"))
    taken = adapted.parts.head(adapted.parts.trunk(inputs_embeds=embeddings, use_cache=False).last_hidden_state)
    return same_predictions(taken, own) and torch.allclose(own, taken, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def probe_pruning(model: EngineModel, *, same_draws: bool, report: Report = lambda reason: None) -> tuple[bool, bool]:
    """Whether the last block may be run at the targets alone: with everything in eval mode, and in training mode.

    Both paths are run on two rows of tokens. In training mode they are run under two seeds. Dropout draws less where
    less is computed, so that the paths are the same in distribution, not number by number.

    Args:
        model: the model; it is left in eval mode.
        same_draws: leave the last block whole in training where it has dropout.
        report: called with the reason where it may not; with a learned prefix it is not tried, and nothing is reported.

    Raises:
        AttributeError, TypeError: a fault of this package.
    """
    parts = model.parts
    if model.adapted.prefix is not None:
        return False, False
    batch = _probe(parts.vocabulary_size, parts.device)

    def logits(prunes: bool, seed: int = 0) -> Tensor | None:
        trying = replace(model, can=Abilities(logits_at_targets=True, prune=prunes))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return attempt(lambda: target_logits(trying, batch), report)

    def same(a: Tensor | None, b: Tensor | None) -> bool:
        return a is not None and b is not None and same_predictions(a, b)

    model.eval()
    whole, tail = logits(False), logits(True)
    evaluating = same(tail, whole)
    if tail is not None and whole is not None and not evaluating:
        report("its last block at chosen places gives other logits than the whole block")
    block, training = parts.blocks[-1], False
    if evaluating:
        model.train()
        for other in parts.model.modules():
            other.training = other.training and any(other is inside for inside in block.modules())
        drops = any(isinstance(inside, nn.Dropout) and inside.training and inside.p > 0 for inside in block.modules())
        if not (drops and same_draws):
            with _halving(block):
                whole = logits(False)
                training = same(logits(True), whole) and same(logits(False, seed=1), whole)
        model.eval()
    return evaluating, training


def probe_recomputation(model: EngineModel, report: Report = lambda reason: None) -> bool:
    """Whether blocks computed again in the backward pass give the same losses and gradients, dropout included.

    Compared are the norm and the sum of each gradient, so that the gradients of one pass at most are in memory. On a
    GPU some gradients are summed in any order, hence the tolerance.

    Args:
        model: the model; it is left in training mode.
        report: called with the reason where they do not.

    Raises:
        AttributeError, TypeError: a fault of this package.
    """
    batch = _probe(model.parts.vocabulary_size, model.parts.device)
    trained = list(model.adapted.trained_parameters().values())
    scales = torch.tensor([parameter.numel() for parameter in trained]).sqrt()

    def figures(recomputes: bool) -> Tensor:
        """The loss, and of each gradient the norm and the sum divided by the root of their number: [1 + G, 2]."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            with model.machine.autocast():
                loss = target_losses(replace(model, recomputes=recomputes), batch).sum()
            found = torch.autograd.grad(loss, trained, allow_unused=True)
        gradients = [torch.stack([g.float().norm(), g.float().sum()]) if g is not None else zero for g in found]
        kept = torch.stack([loss.detach().expand(2), *gradients]).cpu()
        kept[1:, 1] /= scales
        return kept

    zero = torch.zeros(2, device=batch.ids.device)
    model.train()
    kept, again = attempt(lambda: figures(False), report), attempt(lambda: figures(True), report)
    if kept is None or again is None:
        return False
    same = bool(((again - kept).abs() <= REPEATED * kept[:, :1].abs()).all())
    if not same:
        report("its blocks give other numbers when they are computed again")
    return same


@contextmanager
def _halving(block: nn.Module) -> Iterator[None]:
    """Dropout modules halve instead, so that both paths give the same numbers where dropout is in the same places."""
    dropouts = {module: module.p for module in block.modules() if isinstance(module, nn.Dropout)}
    with ExitStack() as stack:
        for module in dropouts:
            stack.enter_context(replaced(module, lambda states: states / 2))
            module.p = 0.0  # attention reads the rate from the module
        try:
            yield
        finally:
            for module, rate in dropouts.items():
                module.p = rate


def _probe(vocabulary: int, device: torch.device) -> Batch:
    """Two rows of 12 and 9 tokens, with targets in the middle and at the end."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (2, 12), generator=draw)
    return Batch(
        ids=ids,
        starts=0,
        document_ends=torch.tensor([6, 4]),
        lengths=torch.tensor([12, 9]),
        rows=torch.tensor([0, 0, 0, 1, 1]),
        columns=torch.tensor([5, 6, 11, 4, 8]),
        targets=torch.zeros(5, dtype=torch.long),
        slots=torch.tensor([0, 1, 2, 0, 1]),
        most_targets=3,
    ).to(device)

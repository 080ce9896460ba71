"""Shard a model over the ranks with torch's `fully_shard` (FSDP2), and convert between whole and sharded tensors.

Each rank holds a piece of every weight. The weights of a block are gathered from all ranks while it computes; those
outside the blocks (embeddings, final norm, head) for a whole pass. The modules added by a method are small, and each
rank holds all of them. Tested with torch 2.13.0.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from triptych.contracts import AdaptedModel, ModelParts
from triptych.measure.memory import return_blocks_at_once

Passed = TypeVar("Passed")
SUPPORTED = hasattr(FSDPModule, "set_force_sum_reduction_for_comms")  # by the installed version of torch


class HeldBytes(NamedTuple):
    """Bytes of a model's parameters.

    Attributes:
        here: those that this rank holds between passes.
        whole: those of the whole model.
    """

    here: int
    whole: int


class ShardedModel(nn.Module):
    """The root module around a sharded model: its forward runs any function that uses the model.

    The engine calls embeddings and head separately; inside this forward, their weights are gathered.

    Args:
        model: the model, its blocks sharded.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], Passed]) -> Passed:
        """Return `work()`, which gives tensors or plain data."""
        return work()


def shard_model(adapted: AdaptedModel, added: Iterable[nn.Parameter], device: torch.device, ranks: int) -> ShardedModel:
    """Shard an adapted model over all ranks, which call this together; each rank's pieces end up on its device.

    Gradients of sharded weights are summed over the ranks, not averaged: the loss is already divided by the number of
    targets in the whole batch.

    Args:
        adapted: the model with its weights, the same on every rank; changed in place.
        added: parameters that a method added inside the model; each rank keeps them whole.
        device: this rank's device.
        ranks: number of ranks.
    """
    return_blocks_at_once(device)
    mesh = init_device_mesh(device.type, (ranks,))
    model = adapted.parts.model
    replicated = {*added, *(parameter for parameter in model.parameters() if parameter.ndim == 0)}
    for tensor in (*replicated, *model.buffers()):
        tensor.data = tensor.data.to(device)
    for learned in adapted.learned_inputs():
        learned.to(device)
    for block in adapted.parts.blocks:
        fully_shard(block, mesh=mesh, ignored_params=replicated)
    root = ShardedModel(model)
    fully_shard(root, mesh=mesh, ignored_params=replicated)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo supports no other
            if hasattr(module, "set_reduce_scatter_unused_params"):  # older versions of torch lack it
                # ranks may use different parameters for their documents, as in a mixture of experts
                module.set_reduce_scatter_unused_params(True, recurse=False)
    return root


def shares_weights(parts: ModelParts) -> bool:
    """Whether a block shares a weight with another block or with a module outside the blocks."""
    blocks = [{id(parameter) for parameter in block.parameters()} for block in parts.blocks]
    inside = {id(module) for block in parts.blocks for module in block.modules()}
    beside = [module for module in parts.model.modules() if id(module) not in inside]
    outside = {id(parameter) for module in beside for parameter in module.parameters(recurse=False)}
    together = set().union(*blocks)
    return len(together) < sum(map(len, blocks)) or bool(together & outside)


def run_sharded(root: ShardedModel, work: Callable[[], Passed]) -> Passed:
    """Run `work()`, a pass through a sharded model; all ranks run it together, each on its own documents.

    The weights are resharded after the pass, or after the backward pass if gradients are computed.
    """
    assert isinstance(root, FSDPModule)
    root.set_reshard_after_forward(not torch.is_grad_enabled(), recurse=False)
    return root(work)


def held_bytes(*modules: nn.Module) -> HeldBytes:
    """Bytes of the modules' parameters, tied ones counted once."""
    found = {id(p): p for module in modules for p in module.parameters()}.values()
    return HeldBytes(sum(piece_of(p).nbytes for p in found), sum(p.numel() * p.element_size() for p in found))


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is sharded, so that each rank holds a piece of it."""
    return isinstance(tensor, DTensor)


def piece_of(tensor: Tensor) -> Tensor:
    """This rank's piece of a sharded tensor, sharing its memory; any other tensor unchanged."""
    detached: Any = tensor.detach()
    return detached.to_local() if isinstance(tensor, DTensor) else detached


def cut_like(whole: Tensor, like: Tensor) -> Tensor:
    """Shard a whole tensor, present on every rank, like another one; returned unchanged if that one is not sharded."""
    if not isinstance(like, DTensor):
        return whole
    mesh, placements = like.device_mesh, like.placements
    cut = distribute_tensor(whole.to(like.device), mesh, placements, src_data_rank=None)
    return as_sharded(cut.to_local().clone(), like)  # not a view of the whole


def as_sharded(piece: Tensor, like: Tensor) -> Tensor:
    """A sharded tensor made of this rank's piece, laid out like another one; the piece itself if that one is whole."""
    if not isinstance(like, DTensor):
        return piece
    local = piece.to(like.device)
    return DTensor.from_local(local, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())


def gathered(pieces: Mapping[str, Tensor], like: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """Gather whole tensors from the pieces on all ranks; all ranks call this together.

    Args:
        pieces: this rank's pieces by name; whole tensors among them are kept as they are.
        like: tensors by the same names, sharded like the pieces.
        keep: whether this rank needs the result; otherwise nothing is returned. Only one whole tensor at a time is on
            the device, the others are in CPU memory.
    """
    found = {}
    for name, piece in pieces.items():
        tensor = as_sharded(piece, like[name])
        if isinstance(tensor, DTensor):
            whole = tensor.full_tensor()
            if keep:
                found[name] = whole.cpu()
        elif keep:
            found[name] = tensor
    return found


def whole_tensors(tensors: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """Gather tensors, some of which may be sharded, as whole ones; if any are sharded, all ranks call this together.

    Args:
        tensors: the tensors by name.
        keep: whether this rank needs them; otherwise nothing is returned.
    """
    return gathered({name: piece_of(tensor) for name, tensor in tensors.items()}, tensors, keep)


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Clip the total norm of all gradients like torch's `clip_grad_norm_`; some may be sharded.

    Returns:
        The norm before clipping, the same on every rank.
    """
    trained = list(parameters)
    found = [parameter.grad for parameter in trained if parameter.grad is not None]
    sharded = [gradient for gradient in found if isinstance(gradient, DTensor)]
    if not sharded:
        return nn.utils.clip_grad_norm_(trained, most)

    def squares(gradients: Iterable[Tensor]) -> Tensor:
        norms = [torch.linalg.vector_norm(piece_of(each), dtype=torch.float64) for each in gradients]
        return torch.stack(norms).square().sum() if norms else torch.zeros((), device=found[0].device)

    total = squares(sharded)
    torch.distributed.all_reduce(total, group=sharded[0].device_mesh.get_group())
    norm = (total + squares([each for each in found if not is_sharded(each)])).sqrt().float()
    for gradient in found:
        piece_of(gradient).mul_((most / (norm + 1e-6)).clamp(max=1.0))
    return norm

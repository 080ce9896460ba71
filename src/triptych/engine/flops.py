"""Count the FLOPs of a training pass by torch dispatch on a copy of the model without weights."""

from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from triptych.engine.batching import Batch
from triptych.engine.forward import places_at_once, read_losses, target_losses
from triptych.engine.inputs import executed_shape
from triptych.engine.model import EngineModel
from triptych.engine.savings import partial_forward
from triptych.engine.savings.trunk_cache import entering, resumed_losses
from triptych.measure.flops import FlopModel, WorkShape, fit_flops

_Layout = tuple[torch.Size, tuple[int, ...], torch.dtype]
_MADE: dict[Hashable, list[_Layout | None]] = {}  # by operation and arguments; None: a gradient that is not computed
# (rows, tokens, targets, most targets in a row): six would be enough, the others serve as a check
SHAPES = ((1, 24, 2, 2), (1, 48, 2, 2), (1, 24, 16, 16), (1, 96, 9, 9), (1, 64, 30, 30), (3, 40, 21, 9), (4, 80, 12, 3))


def training_flops(sketch: EngineModel, first: int | None = None) -> FlopModel:
    """FLOPs of a forward and backward pass by its shape, including the head's second forward pass.

    Args:
        sketch: the model on the `meta` device, with plain ("eager") attention, since some fused kernels are not
            counted.
        first: the block from which a pass starts, with its inputs from the trunk cache; None: from the embeddings.

    Raises:
        ArithmeticError: the passes do not follow the formula of `FlopModel`.
    """
    limit = places_at_once(sketch.parts.head) if sketch.can.logits_at_targets else None
    beyond = () if limit is None else ((1, 24, limit + 1, limit + 1), (2, 48, 2 * limit + 3, limit + 2))
    passes = []
    for shape in SHAPES + beyond:
        batch = _blank(*shape)
        with _FlopCounter() as counter:
            _losses(sketch, batch, first).sum().backward()
        passes.append((work_shape(sketch, batch), counter.flops))
    return fit_flops(passes, limit)


def _losses(sketch: EngineModel, batch: Batch, first: int | None) -> torch.Tensor:
    if first is None:
        return target_losses(sketch, batch)
    rows, length = batch.ids.shape
    if first < len(sketch.parts.blocks):
        return resumed_losses(sketch, batch, first, torch.zeros(rows, length, sketch.parts.hidden_size, device="meta"))
    hidden = torch.zeros(batch.num_targets, sketch.parts.hidden_size, device="meta")
    return read_losses(sketch.parts.head, partial_forward.apply_final_norm(sketch.parts, hidden), batch.targets)


def entering_flops(sketch: EngineModel, first: int) -> FlopModel:
    """FLOPs of a pass that computes the states kept in the trunk cache, by its shape."""
    passes = []
    for shape in SHAPES:
        batch = _blank(*shape)
        with _FlopCounter() as counter:
            entering(sketch.adapted, batch, first)
        passes.append((executed_shape(sketch.adapted, batch), counter.flops))
    return fit_flops(passes)


class _FlopCounter(TorchDispatchMode):
    """Adds up the FLOPs of every dispatched operation, using torch's formulas.

    `FlopCounterMode` gives the same sum but also attributes it to modules, which takes as long as the passes
    themselves. The layout of an operation's result is cached per process: on `meta`, inferring the shape of a norm's
    output takes milliseconds, all blocks repeat the same operations, and a run counts several kinds of passes of the
    same shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count it."""
        kwargs = kwargs or {}
        out = self._carried_out(func, args, kwargs)
        if (formula := flop_registry.get(func.overloadpacket)) is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        return out

    def _carried_out(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The operation's result; new `meta` tensors are created with the cached layout of an equal earlier call."""
        if not _makes_new_tensors(func):
            return func(*args, **kwargs)
        try:
            key = (func, _description(args), _description(sorted(kwargs.items())))
        except _DependsOnValues:
            return func(*args, **kwargs)
        if (made := _MADE.get(key)) is not None:
            again = [None if each is None else _blank_tensor(*each) for each in made]
            return tuple(again) if len(func._schema.returns) > 1 else again[0]
        out = func(*args, **kwargs)
        results = out if isinstance(out, tuple) else (out,)
        if all(each is None or (isinstance(each, torch.Tensor) and each.is_meta) for each in results):
            _MADE[key] = [None if each is None else (each.shape, each.stride(), each.dtype) for each in results]
        return out


def _blank_tensor(shape: torch.Size, stride: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_strided(shape, stride, dtype=dtype, device="meta")


class _DependsOnValues(Exception):
    """An argument is a tensor with values, on which the shape of the result may depend."""


@cache
def _makes_new_tensors(func: Any) -> bool:
    """Whether an operation mutates no argument and returns only new tensors."""
    return not func._schema.is_mutable and all(each.alias_info is None for each in func._schema.returns)


def _description(value: Any) -> Hashable:
    """A hashable key of what the shape of a result depends on; for a tensor on `meta`, its layout.

    Raises:
        _DependsOnValues: a tensor is on another device.
    """
    if isinstance(value, torch.Tensor):
        if not value.is_meta:
            raise _DependsOnValues
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(_description, value))
    return type(value), value  # 1, 1.0 and True are equal


def work_shape(model: EngineModel, batch: Batch) -> WorkShape:
    """The shape of a pass over a batch; on the plain path, logits are computed at every position."""
    shape = executed_shape(model.adapted, batch)
    return shape if model.can.logits_at_targets else shape._replace(logits=shape.rows * shape.length)


def _blank(rows: int, length: int, targets: int, most_targets: int) -> Batch:
    def nothing(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.long, device="meta")

    return Batch(
        ids=nothing(rows, length),
        starts=0,
        document_ends=nothing(rows),
        lengths=nothing(rows),
        rows=nothing(targets),
        columns=nothing(targets),
        targets=nothing(targets),
        slots=nothing(targets),
        most_targets=most_targets,
    )

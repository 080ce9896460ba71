"""Notes for a record about training, sharding and quantization."""

from typing import Any

import torch

from triptych.engine import sharding
from triptych.engine.model import EngineModel
from triptych.engine.modes import dropout_rates
from triptych.models import quantization
from triptych.models.base import BaseModel
from triptych.models.parts import embed


def notes_on_training(model: EngineModel) -> dict[str, Any]:
    """Notes for the record on training: the active dropout rates and the dtype of the residual stream.

    Args:
        model: the model in eval mode, in which it is left.
    """
    parts = model.parts
    model.train()
    rates = dropout_rates(parts.model)
    model.eval()
    with torch.no_grad(), model.machine.autocast():
        first = torch.zeros(1, dtype=torch.long, device=model.machine.device)
        stream = model.run(lambda: embed(parts, first)).dtype
    return {"dropout": rates, "residual_stream": str(stream).removeprefix("torch.")}


def notes_on_sharding(model: EngineModel) -> dict[str, Any]:
    """Notes for the record of a sharded model: the number of ranks and the most bytes held by one of them."""
    if not model.is_sharded:
        return {}
    adapted, machine = model.adapted, model.machine
    held = sharding.held_bytes(*adapted.modules())
    most = max(machine.collect([held.here]))
    return {"sharding": {"ranks": machine.num_processes, "bytes_of_a_rank": most, "bytes": held.whole}}


def notes_on_base(model: EngineModel, base: BaseModel) -> dict[str, Any]:
    """Notes for the record on how a quantized base model is stored; empty if it is not quantized."""
    if base.quantization == quantization.NONE:
        return {}
    return {"quantization": quantization.describe(base.quantization, model.parts.model)}

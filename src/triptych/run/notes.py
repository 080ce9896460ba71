"""What a record notes of how a model computes: while it trains, over ranks, and in how many bits."""

from typing import Any

import torch

from triptych.engine import sharding
from triptych.engine.model import EngineModel
from triptych.engine.modes import dropout_rates
from triptych.models import quantization
from triptych.models.base import BaseModel
from triptych.models.parts import embed


def notes_on_training(model: EngineModel) -> dict[str, Any]:
    """What a record's notes say of how a method computes while it trains: dropout rates at work, and the stream's type.

    Args:
        model: in eval mode, as it is afterwards.
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
    """What a record's notes say of a sharded model: over how many ranks, and the most bytes that one of them holds."""
    if not model.is_sharded:
        return {}
    adapted, machine = model.adapted, model.machine
    held = sharding.held_bytes(*adapted.modules())
    most = max(machine.collect([held.here]))
    return {"sharding": {"ranks": machine.num_processes, "bytes_of_a_rank": most, "bytes": held.whole}}


def notes_on_base(model: EngineModel, base: BaseModel) -> dict[str, Any]:
    """What a record's notes say of how the base model is stored; nothing where it is not quantised."""
    if base.quantization == quantization.NONE:
        return {}
    return {"quantization": quantization.describe(base.quantization, model.parts.model)}

"""LoRA's products merged into copies of the weights, while summaries are written.

It is peft's own merge, exact by construction, and so needs no probe. Next to a weight in 4 bits it would not be exact,
and is not made. Tried with transformers 5.23.0.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from triptych.models.quantization import is_quantized


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Add LoRA's products to copies of the weights that they adapt, and put the weights back afterwards.

    The weights themselves, which other loaded runs may share, are never written into.
    """
    # LoRA's own bias cannot be merged where the matrix has no bias: such a layer works as it is.
    layers = [
        m
        for m in lora_layers(model)
        if not is_quantized(m.get_base_layer())
        and (not any(m.lora_bias.values()) or "bias" in dict(m.get_base_layer().named_parameters()))
    ]
    # an adapter may have biases
    changed = [parameter for layer in layers for parameter in layer.get_base_layer().parameters()]
    before = [parameter.data for parameter in changed]
    try:
        for parameter in changed:
            parameter.data = parameter.data.clone()
        for layer in layers:
            layer.merge()
        yield
    finally:
        for parameter, data in zip(changed, before, strict=True):
            parameter.data = data
        for layer in layers:
            layer.merged_adapters.clear()


def stays_apart(model: nn.Module) -> bool:
    """Whether LoRA's products are next to weights in 4 bits, so that `merged` leaves them as they are."""
    return any(is_quantized(layer.get_base_layer()) for layer in lora_layers(model))


def lora_layers(model: nn.Module) -> list[Any]:
    """The layers of peft that put LoRA's products next to a matrix."""
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]

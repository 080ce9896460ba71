"""Merge LoRA's products into copies of the weights during generation.

This is peft's own merge, which is exact by construction and needs no probe. It would not be exact for 4-bit weights, so
these are left unmerged. Tested with transformers 5.23.0.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from triptych.models.quantization import is_quantized


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Add LoRA's products to copies of the weights that they adapt, and restore the weights afterwards.

    The weights themselves may be shared with other loaded runs and are never modified.
    """
    # LoRA's bias cannot be merged into a layer without a bias: such a layer stays unmerged
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
    """Whether LoRA adapts 4-bit weights, which `merged` leaves unmerged."""
    return any(is_quantized(layer.get_base_layer()) for layer in lora_layers(model))


def lora_layers(model: nn.Module) -> list[Any]:
    """The peft layers that add LoRA's product to a matrix."""
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]

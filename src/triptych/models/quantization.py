"""Base models with frozen matrices stored in 4 bits by bitsandbytes, as in QLoRA.

Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", section 3: NF4 with double quantization. The
suite's key is `model_quantization`, alongside `model` and `model_revision`, and corresponds to the argument
`quantization_config` of transformers' `from_pretrained`. Its value is the `bnb_4bit_quant_type` of transformers and
peft.

Tested with transformers 5.23.0, peft 0.21.2 and bitsandbytes 0.50.2 on a CPU.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils import is_bitsandbytes_available

from triptych.config.schema import Quantization
from triptych.errors import ModelError
from triptych.models.parts import is_recurrent

NONE: Quantization = "none"


def packages(kind: str) -> tuple[str, ...]:
    """Additional packages whose versions affect a run with a base model of this kind."""
    return () if kind == NONE else ("bitsandbytes",)


def require_library(quantization: str) -> None:
    """Check that base models can be quantized on this machine.

    Raises:
        ModelError: bitsandbytes is not installed, or older than transformers needs.
    """
    if quantization != NONE and not is_bitsandbytes_available():
        raise ModelError(
            f'model_quantization = "{quantization}" needs a recent version of the package bitsandbytes: '
            "pip install 'triptych[quant]'. Or set model_quantization = \"none\"."
        )


def check_structure(name: str, structure: PreTrainedModel) -> None:
    """Check that a model has matrices that can be quantized, before its weights are read.

    Args:
        name: the model's name, for the error message.
        structure: the model without weights.

    Raises:
        ModelError: its family has none, or uses its matrices in ways other than products.
    """
    if is_recurrent(structure):
        raise _cannot(name, structure, "recurrent families use their matrices in other ways than products")
    head = structure.get_output_embeddings()
    if not any(type(module) in (nn.Linear, Conv1D) and module is not head for module in structure.modules()):
        raise _cannot(name, structure, "bitsandbytes supports none of its matrices")


def refuse_gguf(name: str) -> ModelError:
    """The error for a GGUF file, which transformers cannot quantize while reading it."""
    return ModelError(
        f"{name!r} is a GGUF file, which cannot be quantized by model_quantization: give the folder that it was made "
        'from, or set model_quantization = "none".'
    )


def loading_arguments(quantization: str, device: torch.device | str) -> dict[str, Any]:
    """Additional arguments for `from_pretrained`: each matrix is quantized on the device as soon as it is read."""
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=quantization, bnb_4bit_use_double_quant=True
    )  # head, embeddings, norms and biases are not quantized: transformers' default
    return {"quantization_config": config, "device_map": {"": str(device)}}


def settle(name: str, model: PreTrainedModel) -> None:
    """Make the quantized layers of a loaded model compute like plain layers with their dequantized weights.

    By default, bitsandbytes computes in its own dtype, and on some CPUs it rounds its scales to bf16 and reorders the
    weights in the first evaluation, after which no gradient flows through them.

    Args:
        name: the model's name, for the error message.
        model: the model, which is changed in place.

    Raises:
        ModelError: nothing was quantized, or the weights contain NaN or infinite values.
    """
    layers = dict(quantized_layers(model))
    if not layers:
        raise _cannot(name, model, "bitsandbytes supports none of its matrices")
    for path, layer in layers.items():
        layer.compute_dtype, layer.compute_type_is_set = None, True
        layer.support_avx512bf16_for_cpu = False
        layer.register_forward_pre_hook(_in_autocast_type)
        # the mean of all scales: NaN or infinite if one of them is
        if not math.isfinite(float(layer.weight.quant_state.offset)):
            raise ModelError(
                f"The weights of {name!r} hold NaN or infinite values, in '{path}.weight' first: the model is damaged. "
                "Give another copy of it."
            )


def _in_autocast_type(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Cast a product's input to the dtype that autocast uses for plain layers."""
    states, *others = inputs
    kind = states.device.type
    if torch.is_autocast_enabled(kind):
        states = states.to(torch.get_autocast_dtype(kind))
    return (states, *others)


def is_quantized(module: nn.Module) -> bool:
    """Whether a module's own weight is stored in 4 bits; peft's layers expose the weight of the layer they wrap."""
    own = dict(module.named_parameters(recurse=False))
    return getattr(own.get("weight"), "quant_state", None) is not None


def quantized_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """All layers whose weight is stored in 4 bits, with their full names."""
    return ((name, module) for name, module in model.named_modules() if is_quantized(module))


def unpack_into(plain: nn.Module, model: nn.Module) -> None:
    """Write the dequantized weights of a model into a plain one of the same structure.

    Args:
        plain: the plain model; its matrices are overwritten in place, keeping their dtype.
        model: the quantized model.
    """
    from bitsandbytes.functional import dequantize_4bit

    for name, layer in quantized_layers(model):
        weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)  # [d_out, d_in] in every family
        target: Any = plain.get_submodule(name)
        target.weight.data.copy_(weight.t() if isinstance(target, Conv1D) else weight)


def describe(quantization: str, model: nn.Module) -> dict[str, Any]:
    """The description of a quantized base for a record: its kind, number of quantized parameters, and bytes.

    Args:
        quantization: the kind of quantization.
        model: the adapted model; its trained parameters do not count.
    """
    states = [layer.weight.quant_state for _, layer in quantized_layers(model)]
    frozen = sum(p.nbytes for p in model.parameters() if not p.requires_grad)
    return {
        "kind": quantization,
        "quantized_parameters": sum(math.prod(state.shape) for state in states),
        "base_bytes": frozen + sum(state.absmax.nbytes + state.state2.absmax.nbytes for state in states),
    }


def _cannot(name: str, model: PreTrainedModel, why: str) -> ModelError:
    return ModelError(f'{name!r} ({type(model).__name__}) cannot be quantized: {why}. Set model_quantization = "none".')

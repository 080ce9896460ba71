"""A base model whose frozen matrices are stored in 4 bits by bitsandbytes, as in QLoRA.

Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", section 3: NF4 with double quantization. The key
of a suite is `model_quantization`: it belongs to `model` and `model_revision`, and transformers' `from_pretrained`
calls the argument `quantization_config`. Its value is what transformers and peft call `bnb_4bit_quant_type`.

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
    """The packages, in addition to the usual ones, whose versions a run with a base model of this kind depends on."""
    return () if kind == NONE else ("bitsandbytes",)


def require_library(quantization: str) -> None:
    """Make sure that a base model can be quantised here.

    Raises:
        ModelError: bitsandbytes is not installed, or older than transformers needs.
    """
    if quantization != NONE and not is_bitsandbytes_available():
        raise ModelError(
            f'model_quantization = "{quantization}" needs a recent version of the package bitsandbytes: '
            "pip install 'triptych[quant]'. Or set model_quantization = \"none\"."
        )


def check_structure(name: str, structure: PreTrainedModel) -> None:
    """Make sure that a model has matrices that can be quantised, before its weights are read.

    Args:
        name: of the model, for the message.
        structure: the model without weights.

    Raises:
        ModelError: its family has none, or computes with its matrices in other ways than by products.
    """
    if is_recurrent(structure):
        raise _cannot(name, structure, "recurrent families compute with their matrices in other ways than by products")
    head = structure.get_output_embeddings()
    if not any(type(module) in (nn.Linear, Conv1D) and module is not head for module in structure.modules()):
        raise _cannot(name, structure, "bitsandbytes knows none of its matrices")


def refuse_gguf(name: str) -> ModelError:
    """The error for a GGUF file, whose numbers transformers cannot quantise while it reads them."""
    return ModelError(
        f"{name!r} is a GGUF file, which cannot be quantised by model_quantization: give the folder that it was made "
        'from, or set model_quantization = "none".'
    )


def loading_arguments(quantization: str, device: torch.device | str) -> dict[str, Any]:
    """What `from_pretrained` needs in addition: each matrix is quantised on the device as soon as it is read."""
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=quantization, bnb_4bit_use_double_quant=True
    )  # the head, embeddings, norms and biases stay as they are: transformers' default
    return {"quantization_config": config, "device_map": {"": str(device)}}


def settle(name: str, model: PreTrainedModel) -> None:
    """Let the quantised layers of a loaded model compute as plain ones with their dequantised weights would.

    By default bitsandbytes computes in a type of its own, and on some CPUs rounds its scales to bf16 and lays the
    weights out anew in the first evaluation, after which no gradient passes through them.

    Args:
        name: of the model, for the message.
        model: it is changed in place.

    Raises:
        ModelError: nothing was quantised, or the weights hold NaN or infinite values.
    """
    layers = dict(quantized_layers(model))
    if not layers:
        raise _cannot(name, model, "bitsandbytes knows none of its matrices")
    for path, layer in layers.items():
        layer.compute_dtype, layer.compute_type_is_set = None, True
        layer.support_avx512bf16_for_cpu = False
        layer.register_forward_pre_hook(_in_autocast_type)
        # the mean of all scales: NaN or infinite where one of them is
        if not math.isfinite(float(layer.weight.quant_state.offset)):
            raise ModelError(
                f"The weights of {name!r} hold NaN or infinite values, in '{path}.weight' first: the model is damaged. "
                "Give another copy of it."
            )


def _in_autocast_type(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A product's input in the type that autocast gives to those of plain layers."""
    states, *others = inputs
    kind = states.device.type
    if torch.is_autocast_enabled(kind):
        states = states.to(torch.get_autocast_dtype(kind))
    return (states, *others)


def is_quantized(module: nn.Module) -> bool:
    """Whether a module's own weight is stored in 4 bits; peft's layers show that of the layer in them as theirs."""
    own = dict(module.named_parameters(recurse=False))
    return getattr(own.get("weight"), "quant_state", None) is not None


def quantized_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Every layer whose weight is stored in 4 bits, by its full name."""
    return ((name, module) for name, module in model.named_modules() if is_quantized(module))


def unpack_into(plain: nn.Module, model: nn.Module) -> None:
    """Write the dequantised weights of a model into those of a plain one of the same structure.

    Args:
        plain: its matrices are overwritten in place, in their own type.
        model: the quantised model.
    """
    from bitsandbytes.functional import dequantize_4bit

    for name, layer in quantized_layers(model):
        weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)  # [d_out, d_in], in every family
        target: Any = plain.get_submodule(name)
        target.weight.data.copy_(weight.t() if isinstance(target, Conv1D) else weight)


def describe(quantization: str, model: nn.Module) -> dict[str, Any]:
    """What a record says of a quantised base: its kind, how many parameters are quantised, and bytes of the base.

    Args:
        quantization: its kind.
        model: the adapted model, which may hold trained parameters; they do not count.
    """
    states = [layer.weight.quant_state for _, layer in quantized_layers(model)]
    frozen = sum(p.nbytes for p in model.parameters() if not p.requires_grad)
    return {
        "kind": quantization,
        "quantized_parameters": sum(math.prod(state.shape) for state in states),
        "base_bytes": frozen + sum(state.absmax.nbytes + state.state2.absmax.nbytes for state in states),
    }


def _cannot(name: str, model: PreTrainedModel, why: str) -> ModelError:
    return ModelError(f'{name!r} ({type(model).__name__}) cannot be quantised: {why}. Set model_quantization = "none".')

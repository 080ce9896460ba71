"""Refuse settings that are incompatible with a 4-bit or sharded base model."""

from collections.abc import Mapping

import torch

from triptych.config.schema import Suite
from triptych.contracts import AdaptedModel
from triptych.engine import sharding
from triptych.errors import ConfigError
from triptych.models import quantization
from triptych.models.base import BaseModel
from triptych.models.parts import is_recurrent

_SHARDING = 'engine.sharding = "full"'


def refuse_trained_weights(base: BaseModel, adapted: Mapping[str, AdaptedModel]) -> None:
    """Check that no method trains weights of a quantized base model.

    Args:
        base: the base model.
        adapted: by label, the adapted models without weights.

    Raises:
        ConfigError: some do; the message names all of them.
    """
    if base.quantization == quantization.NONE:
        return
    own = {name for name, _ in base.structure().named_parameters(remove_duplicate=False)}
    refused = [label for label, each in adapted.items() if own & each.trained_parameters().keys()]
    if refused:
        names = ", ".join(refused)
        raise ConfigError(
            f'model_quantization = "{base.quantization}" stores the base model in 4 bits, which cannot be trained, and '
            f"{names} would train the model's own weights. All methods of a comparison have the same base model: leave "
            f'{names} out of methods, or set model_quantization = "none".'
        )


def refuse_sharding(suite: Suite, precision: str) -> None:
    """Check that a suite's settings support sharding, if it is enabled.

    Args:
        suite: the suite.
        precision: precision of forward passes on the device.

    Raises:
        ConfigError: they do not support it.
    """
    if suite.engine.sharding == "none":
        return
    if not sharding.SUPPORTED:
        raise ConfigError(f"{_SHARDING} needs a newer torch than {torch.__version__}; it was tested with 2.13.")
    if suite.model_quantization != quantization.NONE:
        raise ConfigError(
            f'{_SHARDING} cannot cut weights in 4 bits: set model_quantization = "none", or engine.sharding = "none".'
        )
    if precision not in ("fp32", "bf16"):
        raise ConfigError(
            f"{_SHARDING} works in fp32 and bf16, and this run would be in {precision}: set training.precision."
        )
    if suite.training.optimizer != "adamw":
        raise ConfigError(
            f'{_SHARDING} works with training.optimizer = "adamw" alone: the state that '
            f"{suite.training.optimizer} keeps for a matrix cannot be cut like the matrix."
        )
    if suite.training.micro_batch_size == "auto":
        raise ConfigError(
            f'{_SHARDING} needs a number as training.micro_batch_size: "auto" tries passes until one does not fit, and '
            "a sharded pass that fails on one process leaves the others waiting."
        )


def refuse_to_cut(suite: Suite, adapted: Mapping[str, AdaptedModel]) -> None:
    """Check that a suite's models can be sharded by blocks, if sharding is enabled.

    Args:
        suite: the suite.
        adapted: by label, the adapted models without weights.

    Raises:
        ConfigError: some cannot; the message names their methods.
    """
    if suite.engine.sharding == "none":
        return
    refused = [
        label
        for label, each in adapted.items()
        if is_recurrent(each.parts.model) or sharding.shares_weights(each.parts)
    ]
    if refused:
        raise ConfigError(
            f"{_SHARDING} cannot cut the model of {', '.join(refused)} into its blocks: it is recurrent, or its blocks "
            'share weights. Set engine.sharding = "none".'
        )

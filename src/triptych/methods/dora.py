"""DoRA: Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation", section 4.1, through peft."""

from typing import ClassVar

from triptych.methods.lora import LoRA
from triptych.registry import register


@register("dora")
class DoRA(LoRA):
    """DoRA: x m (W + (alpha / rank) A B) / ||W + (alpha / rank) A B||, LoRA with a trained magnitude (Liu et al. 2024).

    The norm is taken over the inputs of each output; m has one entry per output and starts at ||W||, so that DoRA, too,
    starts as the base model. As in section 4.3 of the paper, the gradient treats the norm as a constant.
    """

    decomposed: ClassVar[bool] = True

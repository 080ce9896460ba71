"""DoRA: Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation", section 4.1, through peft."""

from triptych.contracts import AdaptedModel, Context, ModelParts
from triptych.methods.low_rank import LowRankMethod
from triptych.registry import register


@register("dora")
class DoRA(LowRankMethod):
    """DoRA: x m (W + (alpha / rank) A B) / ||W + (alpha / rank) A B||, LoRA with a trained magnitude (Liu et al. 2024).

    The norm is taken over the inputs of each output; m has one entry per output and starts at ||W||, so that DoRA, like
    LoRA, starts from the base model. As in section 4.3 of the paper, the gradient treats the norm as a constant.
    """

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze the model and put A, B and the magnitudes m next to each target.

        Raises:
            ConfigError: a target matches nothing (the message lists the candidates), or the rank exceeds the smaller
                side of a matrix.
        """
        return self.insert_adapters(parts, context, use_dora=True)

"""LoRA: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1, through peft."""

from triptych.contracts import AdaptedModel, Context, ModelParts
from triptych.methods.low_rank import LowRankMethod
from triptych.registry import register


@register("lora")
class LoRA(LowRankMethod):
    """LoRA: x W + (alpha / rank) x A B next to chosen weight matrices, W frozen (Hu et al. 2021).

    With row vectors x, A is [d_in, rank] and B is [rank, d_out]. The paper writes column vectors, h = W x + B A x, and
    peft stores A and B that way: `lora_A.weight` [rank, d_in] and `lora_B.weight` [d_out, rank]. A starts Kaiming
    uniform and B at zero, so that training starts from the base model.
    """

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze the model and put A and B next to each target.

        Raises:
            ConfigError: a target matches nothing (the message lists the candidates), or the rank exceeds the smaller
                side of a matrix.
        """
        return self.insert_adapters(parts, context, use_dora=False)

"""BitFit: Ben Zaken, Goldberg and Ravfogel 2022, "BitFit: Simple Parameter-efficient Fine-tuning", section 3."""

from pydantic import Field

from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.errors import ConfigError
from triptych.models.parts import freeze, text_modules
from triptych.registry import register


@register("bitfit")
class BitFit(Method):
    """BitFit: only the bias terms of the model are trained (Ben Zaken et al. 2022)."""

    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate, used when no search is made")
    learning_rates: tuple[float, ...] = Field(
        (3e-4, 1e-3, 3e-3, 1e-2), description="learning rates a search may try, in increasing order"
    )

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze everything except the `bias` parameters of linear layers, norms and head.

        Raises:
            ConfigError: the model has no biases.
        """
        freeze(parts)
        inside = [module for each in text_modules(parts) for module in each.modules()]
        own = [dict(module.named_parameters(recurse=False)) for module in inside]
        biases = [parameters["bias"] for parameters in own if "bias" in parameters]
        if not biases:
            raise ConfigError(
                f"{type(parts.model).__name__} has no biases, so that bitfit has nothing to train: leave this method "
                "out, or use a family that has them, such as GPT-2, OPT, GPT-NeoX or Phi."
            )
        for bias in biases:
            bias.requires_grad_(True)
        return AdaptedModel(parts)

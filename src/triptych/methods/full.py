"""Full fine-tuning: every parameter is trained."""

from pydantic import Field

from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.models.parts import freeze, text_modules
from triptych.registry import register


@register("full")
class Full(Method):
    """Full fine-tuning: every parameter of the model is trained."""

    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate, used when no search is made")
    learning_rates: tuple[float, ...] = Field(
        (3e-5, 1e-4, 3e-4, 1e-3), description="learning rates a search may try, in increasing order"
    )
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay, applied to matrices only")

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Make every parameter trainable; a tied head and token embedding remain one tensor.

        In a model that also reads images or sound, only the modules that process text are trained.
        """
        freeze(parts)
        for module in text_modules(parts):
            module.requires_grad_(True)
        return AdaptedModel(parts)

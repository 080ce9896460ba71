"""Full fine-tuning: everything is trained."""

from pydantic import Field

from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.registry import register


@register("full")
class Full(Method):
    """Full fine-tuning: every parameter of the model is trained."""

    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate, where no search is made")
    learning_rates: tuple[float, ...] = Field((3e-5, 1e-4, 3e-4, 1e-3), description="the grid a search may try, rising")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay, on matrices alone")

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Everything requires a gradient; a tied head and embedding stay one tensor."""
        parts.model.requires_grad_(True)
        return AdaptedModel(parts)

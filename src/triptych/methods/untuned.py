"""The base model as it is, without training."""

from typing import ClassVar

from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.models.parts import freeze
from triptych.registry import register


@register("untuned")
class Untuned(Method):
    """The base model without training, prompted by the separator alone."""

    trains: ClassVar[bool] = False

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze the model; nothing is trained."""
        freeze(parts)
        return AdaptedModel(parts)

"""The model as it is."""

from typing import ClassVar

from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.models.parts import freeze
from triptych.registry import register


@register("untuned")
class Untuned(Method):
    """The untouched model, prompted by the separator alone."""

    trains: ClassVar[bool] = False

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Nothing is trained."""
        freeze(parts)
        return AdaptedModel(parts)

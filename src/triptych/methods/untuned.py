"""The base model without training."""

from typing import Any, ClassVar

from pydantic import Field

from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.models.parts import freeze
from triptych.registry import register


@register("untuned")
class Untuned(Method):
    """The base model without training, with the same prompt as every method; a further label may set another prompt."""

    trains: ClassVar[bool] = False
    before: str | None = Field(None, description="text before the document; by default the suite's prompt.before")
    separator: str | None = Field(None, description="text after the document; by default the suite's separator")
    chat: bool | None = Field(None, description="the model's own chat template; by default the suite's prompt.chat")

    def own_prompt(self) -> dict[str, Any]:
        """The options that are set; by default none, so that this method has the same prompt as the trained ones."""
        given = {"before": self.before, "separator": self.separator, "chat": self.chat}
        return {name: value for name, value in given.items() if value is not None}

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze the model; nothing is trained."""
        freeze(parts)
        return AdaptedModel(parts)

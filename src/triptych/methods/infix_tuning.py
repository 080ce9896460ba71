"""Infix tuning: Li and Liang 2021, "Prefix-Tuning", section 7.3 ("Prefixing vs Infixing"), with embeddings alone.

A method of its own rather than an option of prompt tuning: it is another row of a comparison, with its own search, and
is saved in another format, since PEFT's cannot say where a prompt stands.
"""

from pydantic import Field

from triptych.contracts import AdaptedModel, Context, ModelParts
from triptych.methods.prompt_tuning import PromptTuning
from triptych.registry import register


@register("infix-tuning")
class InfixTuning(PromptTuning):
    """Infix tuning: a soft prompt [num_virtual_tokens, hidden] after the article, before the separator (Li and Liang
    2021).

    What the frozen model makes of the article does not depend on the prompt.
    """

    init_text: str = Field(
        "[SUMMARIZE] In short, the key points are:",
        description="the words whose embeddings the prompt begins from; every piece of [SUMMARIZE] is used",
    )

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """As prompt tuning, in another place."""
        adapted = super().adapt(parts, context)
        return AdaptedModel(parts, virtual_tokens=adapted.virtual_tokens, placement="after")

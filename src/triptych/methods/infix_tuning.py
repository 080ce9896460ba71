"""Infix tuning: Li and Liang 2021, "Prefix-Tuning", section 7.3 ("Prefixing vs Infixing"), with embeddings only.

It is a separate method rather than an option of prompt tuning, because it has its own learning-rate search and is saved
in a different format: PEFT's cannot express where in the sequence a prompt is.
"""

from pydantic import Field

from triptych.contracts import AdaptedModel, Context, ModelParts
from triptych.methods.soft_prompt import SoftPromptMethod
from triptych.registry import register


@register("infix-tuning")
class InfixTuning(SoftPromptMethod):
    """Infix tuning: a soft prompt [num_virtual_tokens, hidden] between article and separator (Li and Liang 2021).

    The hidden states of the article therefore do not depend on the prompt.
    """

    init_text: str = Field(
        "[SUMMARIZE] In short, the key points are:",
        description="the text whose token embeddings the prompt starts from; [SUMMARIZE] is split into several tokens",
    )

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze the model and put the prompt, an fp32 embedding [P, D], after the document."""
        return AdaptedModel(parts, virtual_tokens=self.make_prompt(parts, context), placement="after")

"""Prompt tuning: Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning", section 2."""

from triptych.contracts import AdaptedModel, Context, ModelParts
from triptych.methods.soft_prompt import SoftPromptMethod
from triptych.registry import register


@register("prompt-tuning")
class PromptTuning(SoftPromptMethod):
    """Prompt tuning: only an embedding [num_virtual_tokens, hidden] before the input is trained (Lester et al. 2021).

    It is saved in PEFT's format.
    """

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze the model and put the prompt, an fp32 embedding [P, D], before the document."""
        return AdaptedModel(
            parts, virtual_tokens=self.make_prompt(parts, context), peft_config=self._peft_config(parts)
        )

    def _peft_config(self, parts: ModelParts):
        from peft import PromptTuningConfig, PromptTuningInit, TaskType

        config = parts.model.config.get_text_config()
        return PromptTuningConfig(
            task_type=TaskType.CAUSAL_LM,
            prompt_tuning_init=PromptTuningInit.RANDOM,
            num_virtual_tokens=self.num_virtual_tokens,
            token_dim=parts.hidden_size,
            num_transformer_submodules=1,
            num_attention_heads=getattr(config, "num_attention_heads", 1),  # required, but not read for a prompt
            num_layers=config.num_hidden_layers,
            inference_mode=True,
        )

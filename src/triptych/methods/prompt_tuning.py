"""Prompt tuning: Lester, Al-Rfou and Constant 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning", section
2."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.models.parts import embed, freeze
from triptych.registry import register


@register("prompt-tuning")
class PromptTuning(Method):
    """Prompt tuning: an embedding [num_virtual_tokens, hidden] before the input; only it is trained (Lester et al.
    2021)."""

    num_virtual_tokens: int = Field(20, ge=1, description="P, the length of the soft prompt")
    init: Literal["text", "vocabulary", "random"] = Field(
        "text",
        description="text: the pieces of init_text, the rest as `vocabulary`; vocabulary: rows of frequent tokens; "
        "random: normal at the scale of the token embedding",
    )
    init_text: str = Field(
        "[SUMMARIZE] Read the article and write its key points:",
        description="the words whose embeddings the prompt begins from; every piece of [SUMMARIZE] is used",
    )
    learning_rate: float = Field(0.03, gt=0, description="peak learning rate, where no search is made")
    learning_rates: tuple[float, ...] = Field((0.01, 0.03, 0.1, 0.3), description="the grid a search may try, rising")

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze the model; put the prompt, an fp32 embedding of its own, before the document."""
        freeze(parts)
        device = parts.token_embedding.weight.device
        prompt = nn.Embedding(self.num_virtual_tokens, parts.hidden_size, device=device, dtype=torch.float32)
        with torch.no_grad():
            prompt.weight.copy_(self.initial_rows(parts, context))
        return AdaptedModel(parts, virtual_tokens=prompt, peft_config=self._peft_config(parts))

    def num_virtual_tokens_added(self) -> int:
        """P."""
        return self.num_virtual_tokens

    def initial_tokens(self, context: Context) -> Tensor:
        """The vocabulary rows the prompt begins from, all distinct: [P]. For `text` and `vocabulary`."""
        text = context.tokenizer(self.init_text, add_special_tokens=False).input_ids if self.init == "text" else []
        chosen = list(dict.fromkeys(text))[: self.num_virtual_tokens]
        missing = self.num_virtual_tokens - len(chosen)
        if missing:
            frequent = context.frequent_tokens[: max(5000, 4 * self.num_virtual_tokens)]
            shuffled = frequent[torch.randperm(len(frequent), generator=context.generator)].tolist()
            taken = set(chosen)
            chosen += [token for token in shuffled if token not in taken][:missing]
        return torch.tensor(chosen)

    def initial_rows(self, parts: ModelParts, context: Context) -> Tensor:
        """The vectors that the prompt begins from, in fp32: [P, D]."""
        weight = parts.token_embedding.weight
        if self.init == "random":
            noise = torch.randn(self.num_virtual_tokens, parts.hidden_size, generator=context.generator)
            rows = embed(parts, torch.arange(parts.vocabulary_size, device=weight.device))
            return noise.to(weight.device) * rows.float().std()
        return embed(parts, self.initial_tokens(context).to(weight.device)).float()

    def _peft_config(self, parts: ModelParts):
        from peft import PromptTuningConfig, PromptTuningInit, TaskType

        config = parts.model.config.get_text_config()
        return PromptTuningConfig(
            task_type=TaskType.CAUSAL_LM,
            prompt_tuning_init=PromptTuningInit.RANDOM,
            num_virtual_tokens=self.num_virtual_tokens,
            token_dim=parts.hidden_size,
            num_transformer_submodules=1,
            num_attention_heads=getattr(config, "num_attention_heads", 1),  # of a prompt peft reads it nowhere
            num_layers=config.num_hidden_layers,
            inference_mode=True,
        )

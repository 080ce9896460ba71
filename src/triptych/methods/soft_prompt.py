"""Shared code of prompt, infix and prefix tuning: options and the initial token embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from triptych.contracts import Context, Method, ModelParts
from triptych.models.parts import embed, freeze

if TYPE_CHECKING:  # methods are listed without importing torch
    from torch import Tensor, nn


class SoftPromptMethod(Method):
    """A method that trains P virtual positions of a frozen model. Abstract: it has no `adapt`."""

    num_virtual_tokens: int = Field(50, ge=1, description="P, the length of the soft prompt")
    init: Literal["text", "vocabulary", "random"] = Field(
        "text",
        description="text: the tokens of init_text, then like `vocabulary`; vocabulary: embeddings of frequent tokens; "
        "random: normal with the standard deviation of the token embeddings",
    )
    init_text: str = Field(
        "[SUMMARIZE] Read the article and write its key points:",
        description="the text whose token embeddings the prompt starts from; [SUMMARIZE] is split into several tokens",
    )
    learning_rate: float = Field(0.03, gt=0, description="peak learning rate, used when no search is made")
    learning_rates: tuple[float, ...] = Field(
        (0.01, 0.03, 0.1, 0.3), description="learning rates a search may try, in increasing order"
    )

    def num_virtual_tokens_added(self) -> int:
        """P, the number of positions that the method uses of the model's context length."""
        return self.num_virtual_tokens

    def initial_tokens(self, context: Context) -> Tensor:
        """The P distinct token ids whose embeddings initialize the prompt, [P], for init `text` and `vocabulary`.

        Args:
            context: the context; its tokenizer splits `init_text`, its generator chooses among the frequent tokens.
        """
        import torch

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
        """The initial vectors of the prompt: [P, D], fp32, on the device of the token embedding.

        Args:
            parts: the model.
            context: as for `initial_tokens`; for init `random` its generator draws the noise.
        """
        import torch

        weight = parts.token_embedding.weight
        if self.init == "random":
            noise = torch.randn(self.num_virtual_tokens, parts.hidden_size, generator=context.generator)
            rows = embed(parts, torch.arange(parts.vocabulary_size, device=weight.device))
            return noise.to(weight.device) * rows.float().std()
        return embed(parts, self.initial_tokens(context).to(weight.device)).float()

    def make_prompt(self, parts: ModelParts, context: Context) -> nn.Embedding:
        """Freeze the model and return the prompt, an fp32 embedding [P, D] with its initial vectors.

        Args:
            parts: the model, which is frozen in place.
            context: as for `initial_rows`.
        """
        import torch
        from torch import nn

        freeze(parts)
        prompt = nn.Embedding(self.num_virtual_tokens, parts.hidden_size, device=parts.device, dtype=torch.float32)
        with torch.no_grad():
            prompt.weight.copy_(self.initial_rows(parts, context))
        return prompt

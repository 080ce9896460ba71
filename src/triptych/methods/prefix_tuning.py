"""Prefix tuning: Li and Liang 2021, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", section 4.

peft holds and saves the parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from triptych.contracts import AdaptedModel, Context, ModelParts
from triptych.errors import ConfigError
from triptych.methods.soft_prompt import SoftPromptMethod
from triptych.models.parts import freeze
from triptych.registry import register

if TYPE_CHECKING:  # methods are listed without importing torch
    from torch import Tensor


@register("prefix-tuning")
class PrefixTuning(SoftPromptMethod):
    """Prefix tuning: learned keys and values before every layer's own; only they are trained (Li and Liang 2021).

    They are initialized with the activations of real words (section 7.4 of the paper): the keys and values that the
    model computes for the initial vectors of prompt tuning, so that both methods have the same initial loss. Unlike in
    the paper, the prefix is not reparametrized by a network.
    """

    num_virtual_tokens: int = Field(20, ge=1, description="P, the length of the prefix")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate, used when no search is made")
    learning_rates: tuple[float, ...] = Field(
        (3e-4, 1e-3, 3e-3, 1e-2), description="learning rates a search may try, in increasing order"
    )

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze the model and give every layer an fp32 prefix.

        Raises:
            ConfigError: the layers do not all cache keys and values of the same shape.
        """
        from peft import PrefixTuningConfig, TaskType

        from triptych.models.learned_prefix import LearnedPrefix

        freeze(parts)
        start = self._keys_and_values(parts, self.initial_rows(parts, context)).float()
        layers, _, heads, count, width = start.shape
        config = PrefixTuningConfig(
            task_type=TaskType.CAUSAL_LM,
            num_virtual_tokens=count,
            token_dim=heads * width,
            num_transformer_submodules=1,
            num_attention_heads=heads,
            num_layers=layers,
            encoder_hidden_size=heads * width,
            inference_mode=True,
        )
        return AdaptedModel(parts, prefix=LearnedPrefix(config, start), peft_config=config)

    def _keys_and_values(self, parts: ModelParts, rows: Tensor) -> Tensor:
        """The keys and values that each layer caches for a sequence of vectors: [P, D] -> [L, 2, H, P, D / H]."""
        import torch
        from transformers import DynamicCache
        from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

        refusal = ConfigError(
            "prefix-tuning needs layers that all keep keys and values of one shape, and "
            f"{type(parts.model).__name__} has others: leave this method out."
        )
        expected = DynamicCache(config=parts.model.config).layers
        if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in expected):
            raise refusal
        cache = DynamicCache()
        vectors = rows.to(parts.token_embedding.weight.dtype)[None]
        seen = torch.ones(vectors.shape[:2], dtype=torch.long, device=vectors.device)
        with torch.no_grad():
            parts.trunk(inputs_embeds=vectors, attention_mask=seen, past_key_values=cache, use_cache=True)
        layers = [layer for layer in cache.layers if isinstance(layer, DynamicLayer) and layer.is_initialized]
        kept = [states for layer in layers for states in (layer.keys, layer.values) if states is not None]
        if len(kept) != 2 * len(parts.blocks) or len({states.shape for states in kept}) != 1:
            raise refusal
        return torch.stack(kept).view(len(parts.blocks), 2, *kept[0].shape[1:])

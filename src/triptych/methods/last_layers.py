"""Traditional fine-tuning: only the last layers are trained.

Recipes for classifiers freeze everything except `pre_classifier` and `classifier`. GPT-2 has neither. Its counterparts
are the last blocks with the final norm (for the pre-classifier) and the language-model head (for the classifier).
Because the head's weight is also the input embedding, the option `head` makes its treatment explicit.
"""

from typing import Literal

from pydantic import Field

from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.errors import ConfigError
from triptych.models.parts import freeze, untie_head
from triptych.registry import register


@register("last-layers")
class LastLayers(Method):
    """Traditional fine-tuning of the last blocks, the final norm and, on request, the head.

    Two blocks are the default, as for FT-Top2 in Hu et al. 2021, Table 3.
    """

    num_blocks: int = Field(2, ge=0, description="how many of the last blocks are trained")
    final_norm: bool = Field(True, description="train the norm after the last block")
    head: Literal["frozen", "untied", "tied"] = Field(
        "frozen",
        description="frozen; untied: a separate copy of the embedding is trained; tied: the shared tensor is trained, "
        "which also changes the input embeddings",
    )
    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate, used when no search is made")
    learning_rates: tuple[float, ...] = Field(
        (1e-4, 3e-4, 1e-3, 3e-3), description="learning rates a search may try, in increasing order"
    )
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay, applied to matrices only")

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze the model, then unfreeze its last layers.

        Raises:
            ConfigError: `num_blocks` exceeds the model's blocks, the model has no final norm, `head` is "tied" but the
                model's head is not, or nothing would be trained.
        """
        if self.num_blocks > len(parts.blocks):
            raise ConfigError(f"num_blocks = {self.num_blocks}, but the model has {len(parts.blocks)} blocks.")
        if self.final_norm and parts.final_norm is None:
            raise ConfigError("final_norm = true, but this model has no final norm; set final_norm = false.")
        if self.head == "tied" and not parts.tied:
            raise ConfigError(
                "head = 'tied', but this model's head is a separate tensor; use head = 'untied' or 'frozen'."
            )
        if not (self.num_blocks or self.final_norm or self.head != "frozen"):
            raise ConfigError("num_blocks = 0, final_norm = false and head = 'frozen' leave nothing to train.")
        freeze(parts)
        for block in parts.blocks[len(parts.blocks) - self.num_blocks :]:
            block.requires_grad_(True)
        if self.final_norm and parts.final_norm is not None:
            parts.final_norm.requires_grad_(True)
        if self.head != "frozen":
            if self.head == "untied" and parts.tied:
                untie_head(parts)
            parts.head.requires_grad_(True)
        moved = {"input_embeddings": "trained too: the head is the same tensor"} if self.head == "tied" else {}
        return AdaptedModel(parts, notes=moved)

"""Shared code of LoRA and DoRA: options, the choice of weight matrices, and adapters inserted by peft."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.errors import ConfigError
from triptych.models.parts import (
    block_matrices,
    find_matrices,
    freeze,
    matrix_names,
    matrix_shape,
    names_for_peft,
)

if TYPE_CHECKING:  # methods are listed without importing torch
    from torch import Tensor, nn


class LowRankMethod(Method):
    """A method that trains a low-rank product A B next to frozen weight matrices. Abstract: it has no `adapt`."""

    rank: int = Field(8, ge=1, description="R, the inner dimension")
    alpha: float = Field(16, gt=0, description="scaling = alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input")
    target_modules: tuple[str, ...] | Literal["all-linear"] | None = Field(
        None,
        description='names or name endings of weight matrices, or "all-linear"; by default those that compute '
        "queries, keys and values in each family: GPT-2 c_attn, Llama q_proj, k_proj and v_proj; a run and --dry-run "
        "print them",
    )
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate, used when no search is made")
    learning_rates: tuple[float, ...] = Field(
        (3e-4, 1e-3, 3e-3, 1e-2), description="learning rates a search may try, in increasing order"
    )

    def matched(self, parts: ModelParts) -> dict[str, nn.Module]:
        """The weight matrices that `target_modules` selects, by full name.

        Args:
            parts: the model.

        Raises:
            ConfigError: a target matches nothing, or none is given and the family's are unknown.
        """
        if self.target_modules == "all-linear":
            return block_matrices(parts)
        wanted = self.target_modules if self.target_modules is not None else parts.attention_projections
        if not wanted:
            raise ConfigError(
                "this family's query, key and value projections are not known; name target_modules, or leave this "
                "method out of "
                f"--methods. There are: {', '.join(sorted(matrix_names(parts)))}."
            )
        return find_matrices(parts, wanted, "target_modules")

    def insert_adapters(self, parts: ModelParts, context: Context, use_dora: bool) -> AdaptedModel:
        """Freeze the model and put A and B next to each target: A is Kaiming uniform, B is zero.

        Args:
            parts: the model, which is changed in place.
            context: the context whose generator initializes A.
            use_dora: whether to train DoRA's magnitudes as well.

        Raises:
            ConfigError: as for `matched`, or the rank exceeds the smaller side of a target.
        """
        import torch
        from peft import LoraConfig, TaskType, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer
        from torch import nn

        targets = self.matched(parts)
        for name, module in targets.items():
            if self.rank > min(matrix_shape(module)):
                raise ConfigError(
                    f"rank = {self.rank} is above the smaller side of {name} {matrix_shape(module)}: "
                    f"at most {min(matrix_shape(module))} makes sense there."
                )
        freeze(parts)
        config = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            use_dora=use_dora,
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # declared as int, but any number works
            lora_dropout=self.dropout,
            target_modules=names_for_peft(parts, self._endings(parts, targets), targets),
            fan_in_fan_out=not any(isinstance(module, nn.Linear) for module in targets.values()),
        )
        inject_adapter_in_model(config, parts.model)
        layers = [module for module in parts.model.modules() if isinstance(module, LoraLayer)]
        for layer in layers:
            weight: Tensor = layer.lora_A["default"].weight  # type: ignore[assignment]
            drawn = torch.empty(weight.shape)  # on the CPU, where the generator is
            nn.init.kaiming_uniform_(drawn, a=sqrt(5), generator=context.generator)
            weight.data.copy_(drawn)
        return AdaptedModel(parts, peft_config=config, notes={"target_modules": sorted(targets)})

    def _endings(self, parts: ModelParts, targets: dict[str, nn.Module]) -> set[str]:
        """The names and endings that select the targets."""
        if self.target_modules == "all-linear":
            return set(targets)
        return set(self.target_modules or parts.attention_projections)

"""LoRA: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1, through peft."""

from math import sqrt
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.errors import ConfigError
from triptych.models.parts import find_matrices, freeze, matrices, matrix_names, matrix_shape
from triptych.registry import register


@register("lora")
class LoRA(Method):
    """LoRA: x W + (alpha / rank) x A B beside chosen weight matrices, W frozen (Hu et al. 2021).

    In the paper's and the assignment's terms A is [d_in, rank] and B is [rank, d_out]; peft stores their transposes,
    `lora_A.weight` [rank, d_in] and `lora_B.weight` [d_out, rank]. A starts at Kaiming uniform, B at zero.
    """

    decomposed: ClassVar[bool] = False  # DoRA's magnitudes beside the low-rank product

    rank: int = Field(8, ge=1, description="R, the inner dimension")
    alpha: float = Field(16, gt=0, description="scaling = alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input")
    target_modules: tuple[str, ...] | Literal["all-linear"] | None = Field(
        None,
        description='names or name endings of weight matrices, or "all-linear"; by default those that peft chooses '
        "for the family, which differ: GPT-2 c_attn, Llama q_proj and v_proj, Phi those and fc1, fc2; a run and "
        "--dry-run print them",
    )
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate, where no search is made")
    learning_rates: tuple[float, ...] = Field((3e-4, 1e-3, 3e-3, 1e-2), description="the grid a search may try, rising")

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze the model and put A and B beside each target.

        Raises:
            ConfigError: a target that matches nothing (the message lists what could be meant), or a rank above a
                matrix.
        """
        from peft import LoraConfig, TaskType, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer

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
            use_dora=self.decomposed,
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # any number will do
            lora_dropout=self.dropout,
            target_modules=sorted(self._endings(parts, targets)),
            fan_in_fan_out=not any(isinstance(module, nn.Linear) for module in targets.values()),
        )
        inject_adapter_in_model(config, parts.model)
        layers = [module for module in parts.model.modules() if isinstance(module, LoraLayer)]
        for layer in layers:
            weight: Tensor = layer.lora_A["default"].weight  # type: ignore[assignment]
            nn.init.kaiming_uniform_(weight, a=sqrt(5), generator=context.generator)
        return AdaptedModel(parts, peft_config=config, notes={"target_modules": sorted(targets)})

    def matched(self, parts: ModelParts) -> dict[str, nn.Module]:
        """The weight matrices meant by `target_modules`, by full name."""
        if self.target_modules == "all-linear":
            return matrices(parts)
        wanted = self.target_modules if self.target_modules is not None else parts.attention_projections
        if not wanted:
            raise ConfigError(
                "peft names no attention projections for this family; name target_modules, or leave this row out of "
                f"--methods. There are: {', '.join(sorted(matrix_names(parts)))}."
            )
        return find_matrices(parts, wanted, "target_modules")

    def _endings(self, parts: ModelParts, targets: dict[str, nn.Module]) -> set[str]:
        if self.target_modules == "all-linear":
            return set(targets)
        return set(self.target_modules or parts.attention_projections)

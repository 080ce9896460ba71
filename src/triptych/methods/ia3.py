"""(IA)^3: Liu et al. 2022, arXiv 2205.05638, section 3.3, through peft.

The paper is "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning".
"""

from pydantic import Field

from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.errors import ConfigError
from triptych.models.parts import find_matrices, first_present, freeze, matrix_names, names_for_peft
from triptych.registry import register


@register("ia3")
class IA3(Method):
    """(IA)^3: learned factors on keys, values and the inner activations of the feed-forward network (Liu et al. 2022).

    A target's output x W + b becomes l * (x W + b); for a feed-forward target the input is scaled, (l * x) W + b. l
    starts at one, so training starts from the base model.
    """

    target_modules: tuple[str, ...] | None = Field(
        None,
        description="names or name endings of the matrices whose output is scaled; by default those that peft chooses "
        "for the family (GPT-2: c_attn, which also computes the queries)",
    )
    feedforward_modules: tuple[str, ...] | None = Field(
        None,
        description="the same for the matrices whose input is scaled; by default those that peft chooses (GPT-2: "
        "mlp.c_proj)",
    )
    learning_rate: float = Field(1e-2, gt=0, description="peak learning rate, used when no search is made")
    learning_rates: tuple[float, ...] = Field(
        (1e-3, 3e-3, 1e-2, 3e-2), description="learning rates a search may try, in increasing order"
    )

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Freeze the model and insert the factors l at each target.

        Raises:
            ConfigError: a target matches nothing, or peft has no default for this family and no target is given.
        """
        from peft import IA3Config, TaskType, inject_adapter_in_model
        from torch import nn

        outputs, inputs = self._endings(parts)
        fed = find_matrices(parts, inputs, "feedforward_modules")
        scaled = find_matrices(parts, outputs, "target_modules") | fed
        targets = names_for_peft(parts, (*outputs, *inputs), scaled)
        freeze(parts)
        config = IA3Config(
            task_type=TaskType.CAUSAL_LM,
            target_modules=targets,
            feedforward_modules=[*inputs] if set(inputs) <= set(targets) else sorted(fed),
            fan_in_fan_out=not any(isinstance(module, nn.Linear) for module in scaled.values()),
        )
        inject_adapter_in_model(config, parts.model)
        return AdaptedModel(parts, peft_config=config, notes={"target_modules": sorted(scaled)})

    def _endings(self, parts: ModelParts) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Name endings of the matrices whose outputs are scaled, and of those whose inputs are scaled."""
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as FEEDFORWARD
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as TARGETS

        family = parts.model.config.get_text_config().model_type
        inputs, named = self.feedforward_modules, self.target_modules
        if inputs is None:
            inputs = tuple(FEEDFORWARD.get(family, ())) or first_present(parts.blocks, ("down_proj",))
        if named is None:
            named = tuple(TARGETS.get(family, ())) or first_present(parts.blocks, ("k_proj", "v_proj"), ("qkv_proj",))
        outputs = tuple(name for name in named if name not in inputs)
        if not outputs and not inputs:
            raise ConfigError(
                f"peft has no default targets of (IA)^3 for {family!r}: name target_modules and feedforward_modules. "
                f"There are: {', '.join(sorted(matrix_names(parts)))}."
            )
        return outputs, inputs

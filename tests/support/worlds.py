"""Small random models of two families with a few pairs, and helpers for the laws."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.corpus.sequence import Pair, Template
from triptych.engine.model import EngineModel
from triptych.engine.modes import TrainingModes
from triptych.engine.training import EvaluationLosses, Loop, Step, TrainingPlan, TrainingState
from triptych.machine import Machine
from triptych.models.base import BaseModel
from triptych.models.parts import take_apart

VOCABULARY = 3072  # of the embedded tokenizer


def random_gpt2() -> GPT2LMHeadModel:
    """GPT-2's architecture: tied head, `Conv1D`, learned positions, dropout."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=128,
        n_embd=32,
        n_layer=3,
        n_head=4,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()


def random_llama() -> LlamaForCausalLM:
    """Llama's architecture: untied head, `nn.Linear`, rotary positions, grouped queries."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.15,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


FAMILIES = {"gpt2": random_gpt2, "llama": random_llama}


@dataclass(frozen=True)
class World:
    """A model, its tokenizer, a few pairs and a machine: what a law needs to try a method."""

    prototype: PreTrainedModel
    folder: Path  # where it is saved
    tokenizer: object
    template: Template
    pairs: list[Pair]
    machine: Machine

    def parts(self) -> ModelParts:
        """An untouched model, taken apart."""
        return take_apart(copy.deepcopy(self.prototype))

    def sketch(self) -> ModelParts:
        """The same on the `meta` device, with an attention implementation whose products are all counted."""
        model = BaseModel(str(self.folder)).structure()
        model.set_attn_implementation("eager")
        return take_apart(model)

    def context(self, seed: int = 0) -> Context:
        """What a method may use, with its own generator."""
        return Context(self.tokenizer, torch.Generator().manual_seed(seed), torch.arange(VOCABULARY))

    def adapt(self, method: Method, seed: int = 0) -> AdaptedModel:
        """An untouched model, adapted, in eval mode."""
        return self.model(method, seed).adapted

    def model(self, method: Method, seed: int = 0) -> EngineModel:
        """The same under the engine, with logits only where the loss is read and no other ability."""
        untouched = copy.deepcopy(self.prototype)
        model = EngineModel.assemble(
            untouched, lambda parts: method.adapt(parts, self.context(seed)), self.template, self.machine
        )
        return with_abilities(model, logits_at_targets=True)

    def engine(self, adapted: AdaptedModel, **abilities: bool) -> EngineModel:
        """An adapted model under the engine for computing; its modes are wrong for training."""
        return under_engine(adapted, self.template, self.machine, **abilities)

    def plan(self, **changes) -> TrainingPlan:
        """A short recipe: 12 documents per epoch, in steps of 4."""
        recipe = TrainingPlan(
            learning_rate=0.05,
            weight_decay=0.01,
            max_epochs=2,
            eval_every=1.0,
            patience=2,
            global_batch_size=4,
            micro_batch_size=2,
            max_grad_norm=1.0,
            warmup_fraction=0.2,
            schedule="linear",
            optimizer="adamw",
            seed=0,
        )
        return replace(recipe, **changes)

    def loop(self, method: Method, seed: int = 0, **changes) -> Loop:
        """Training of an adapted model on the pairs, before the first step."""
        return self.loop_of(self.model(method, seed), seed=seed, **changes)

    def loop_of(self, model: EngineModel, scaler=None, **changes) -> Loop:
        """The same for a given model."""
        plan = self.plan(**changes)
        return Loop(model, self.pairs, plan, TrainingState.begin(model.adapted, plan, scaler))


class OneProcess:
    """Stand-in for accelerate's Accelerator in one process, on a device in a precision: a process has only one, and the
    tests' is for the CPU in fp32.
    """

    is_main_process, num_processes, process_index = True, 1, 0

    def __init__(self, device: str, precision: str):
        self.device, self._dtype = torch.device(device), {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)

    def autocast(self):
        """Matrix products in the precision."""
        return torch.autocast(self.device.type, self._dtype)


def in_bf16(world: World) -> World:
    """The same world on a machine in bf16."""
    return on_device(world, "cpu", "bf16")


def on_device(world: World, device: str, precision: str) -> World:
    """The same world on another device."""
    prototype = copy.deepcopy(world.prototype).to(device)
    return replace(world, prototype=prototype, machine=Machine(OneProcess(device, precision), precision))


def under_engine(adapted: AdaptedModel, template: Template, machine: Machine, **abilities: bool) -> EngineModel:
    """An adapted model with logits only where the loss is read, changed by `abilities`."""
    count = sum(parameter.numel() for parameter in adapted.parts.model.parameters())
    model = EngineModel(adapted, TrainingModes(adapted.parts.model), template, machine, count)
    return with_abilities(model, **{"logits_at_targets": True, **abilities})


def with_abilities(model: EngineModel, **abilities: bool) -> EngineModel:
    """The same model with other abilities."""
    return replace(model, can=replace(model.can, **abilities))


def train(
    loop: Loop,
    validate: Callable[[], float] | None = None,
    on_step: Callable[[Step], object] = lambda step: None,
    on_epoch: Callable[[EvaluationLosses], object] = lambda epoch: None,
) -> None:
    """Train to the end.

    Args:
        loop: the loop to run.
        validate: returns the validation loss; without it, every evaluation improves.
        on_step: called after each optimizer step.
        on_epoch: called after each evaluation.
    """
    falling = iter(range(1_000_000, 0, -1))
    while not loop.finished:
        if loop.evaluation_due:
            on_epoch(loop.evaluate(validate() if validate else float(next(falling))))
        else:
            on_step(loop.step())


def sequence_and_labels(pair: Pair, template: Template) -> tuple[Tensor, Tensor]:
    """A pair in transformers' format, with EOS as input too: ids and labels [1, T], -100 where no loss is read."""
    before = [*template.prefix_ids, *pair.document_ids.tolist(), *template.separator_ids]
    after = [*pair.summary_ids.tolist(), template.eos_id]
    return torch.tensor([before + after]), torch.tensor([[-100] * len(before) + after])


def disturb(adapted: AdaptedModel, scale: float = 0.1, seed: int = 0) -> None:
    """Move what is trained away from its initial values, so that no adapter is the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.trained_parameters().values():
            parameter.add_((scale * torch.randn(parameter.shape, generator=generator)).to(parameter.device))


def all_parameters(adapted: AdaptedModel) -> dict[str, torch.nn.Parameter]:
    """Every parameter, trained or not, by name: of the model, of virtual tokens and of a prefix."""
    named = dict(adapted.parts.model.named_parameters())
    if adapted.virtual_tokens is not None:
        named["virtual_tokens"] = adapted.virtual_tokens.weight
    if adapted.prefix is not None:
        named |= {f"prefix.{name}": parameter for name, parameter in adapted.prefix.named_parameters()}
    return named


def gradients(adapted: AdaptedModel, loss: Tensor) -> dict[str, Tensor]:
    """Gradients of the trained parameters, by name."""
    trained = adapted.trained_parameters()
    found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return {
        name: g if g is not None else torch.zeros_like(p) for (name, p), g in zip(trained.items(), found, strict=True)
    }


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference between any two numbers; the names must be the same."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)

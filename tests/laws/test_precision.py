"""In bf16, as in fp32, unchanged weights give the same loss for every method, whatever it trains."""

from dataclasses import replace

import pytest
import torch
import transformers

from support.families import FAMILIES, GATED
from support.worlds import World, disturb, in_bf16, train
from triptych.contracts import AdaptedModel, Context, Method, ModelParts
from triptych.engine.batching import collate
from triptych.engine.forward import target_losses
from triptych.engine.savings.ready import make_ready
from triptych.errors import ConfigError
from triptych.methods.full import Full
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA
from triptych.methods.untuned import Untuned
from triptych.models.parts import embed
from triptych.plugins import import_plugins
from triptych.registry import registered

import_plugins()
VARIANTS: dict[str, Method] = {
    "lora-all": LoRA(target_modules="all-linear", rank=4),
    "head": LastLayers(num_blocks=0, final_norm=False, head="untied"),
    "tied head": LastLayers(num_blocks=1, head="tied"),
}
METHODS: dict[str, Method] = {name: cls() for name, cls in registered(Method).items()} | VARIANTS
SCALED = {"Gemma": FAMILIES["Gemma"] | {"hidden_size": 40}, "Gemma3Text": {**GATED, "head_dim": 8, "hidden_size": 40}}


EXPERTS = {
    "Mixtral": {**GATED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen3Moe": {**GATED, "head_dim": 8, "moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2},
}


@pytest.fixture(params=["bf16", "fp32"])
def low(request, world) -> World:
    """Each family on a machine of each precision."""
    return in_bf16(world) if request.param == "bf16" else world


def losses(world: World, method: Method) -> torch.Tensor:
    """The loss of every target before training."""
    model = make_ready(world.model(method))
    batch = collate(world.pairs, world.template)
    with torch.no_grad(), world.machine.autocast():
        return target_losses(model, batch)


def law_untouched_weights_give_one_loss(method: Method, world: World) -> None:
    """Before training, losses equal the untuned model's bit by bit, except with virtual tokens, which read other
    text."""
    assert torch.equal(losses(world, method), losses(world, Untuned()))


def law_the_stream_is_alike(method: Method, world: World) -> None:
    """The blocks' input has the same type as in the untuned model, whatever is trained."""

    def stream(of: Method) -> torch.dtype:
        parts = make_ready(world.model(of)).parts
        with torch.no_grad(), world.machine.autocast():
            return embed(parts, torch.arange(4)).dtype

    assert stream(method) == stream(Untuned())


@pytest.mark.parametrize("name", METHODS)
def test_untouched_weights_give_one_loss(name, low):
    """Every method, on two families, starts at the same loss."""
    method = METHODS[name]
    try:
        low.adapt(method)
    except ConfigError:
        pytest.skip("this family has no biases, or no tied head")
    if not method.num_virtual_tokens_added():
        law_untouched_weights_give_one_loss(method, low)
    law_the_stream_is_alike(method, low)


@pytest.mark.parametrize("family", SCALED)
def test_a_scale_behind_the_table_is_rounded_alike(family, gpt2):
    """Families that scale their embeddings do it in the type of a frozen table, whatever is trained."""
    torch.manual_seed(0)
    shape = {**SCALED[family], "vocab_size": gpt2.prototype.config.vocab_size, "max_position_embeddings": 128}
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{family}Config")(**shape)).eval()
    world = in_bf16(replace(gpt2, prototype=model))
    law_untouched_weights_give_one_loss(Full(), world)


@pytest.mark.parametrize("family", EXPERTS)
@pytest.mark.parametrize("method", [Full(), LastLayers(num_blocks=1)], ids=["full", "last"])
def test_experts_are_rounded_alike(family, method, gpt2):
    """Stacked expert matrices, which autocast leaves alone, are rounded alike; trained ones stay fp32 and are
    trained."""
    torch.manual_seed(0)
    shape = {**EXPERTS[family], "vocab_size": gpt2.prototype.config.vocab_size, "max_position_embeddings": 128}
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{family}Config")(**shape)).eval()
    world = in_bf16(replace(gpt2, prototype=model))
    law_untouched_weights_give_one_loss(method, world)
    trained = make_ready(world.model(method))
    stacks = {name: p for name, p in trained.adapted.trained_parameters().items() if p.ndim == 3}
    before = {name: p.detach().clone() for name, p in stacks.items()}
    train(world.loop_of(trained, max_epochs=1, learning_rate=1e-6, warmup_fraction=0.0))
    assert stacks and {p.dtype for p in stacks.values()} == {torch.float32}
    assert all(0 < (p - before[name]).abs().max() < 1e-4 for name, p in stacks.items())
    assert set(dict(trained.parts.model.named_parameters())) == set(dict(model.named_parameters()))


class KeepsItsTable(Full):
    """A toy that breaks the law: it trains its embedding behind the engine's back, after preparation."""

    def adapt(self, parts: ModelParts, context: Context) -> AdaptedModel:
        """Multiply the table by slightly more than one."""
        adapted = super().adapt(parts, context)
        with torch.no_grad():
            parts.token_embedding.weight.mul_(1.003)
        return adapted


def test_the_law_can_fail(low):
    """A method with other weights has another loss."""
    with pytest.raises(AssertionError):
        law_untouched_weights_give_one_loss(KeepsItsTable(), low)


def test_a_trained_table_keeps_its_precision(gpt2):
    """In bf16 the trained table itself stays fp32: steps too small for bf16 are kept, and its gradient is fp32."""
    world = in_bf16(gpt2)
    model = make_ready(world.model(Full()))
    table = model.parts.token_embedding.weight
    before = table.detach().clone()
    loop = world.loop_of(model, max_epochs=1, global_batch_size=6, learning_rate=1e-6, warmup_fraction=0.0)
    train(loop)
    assert table.dtype == torch.float32 and not torch.equal(table, before)
    assert (table - before).abs().max() < 1e-4


def test_in_fp32_nothing_is_changed(world):
    """In fp32 no hook is set and no weight rounded: the tables look up what they hold."""
    model = make_ready(world.model(Full()))
    disturb(model.adapted)
    ids = torch.arange(5)
    assert not model.parts.token_embedding._forward_hooks
    assert torch.equal(embed(model.parts, ids), model.parts.token_embedding.weight[ids])

"""Methods beyond the assignment's: each compared with its paper's formula, and with peft for the same numbers."""

import copy

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, TaskType, get_peft_model
from torch import nn
from transformers import MambaConfig, MambaForCausalLM
from transformers.pytorch_utils import Conv1D

from support.worlds import World, disturb, gradients, largest_difference, sequence_and_labels
from triptych.contracts import AdaptedModel
from triptych.engine.batching import collate
from triptych.engine.flops import training_flops
from triptych.engine.forward import target_logits, target_losses
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import generate
from triptych.errors import ConfigError
from triptych.methods.bitfit import BitFit
from triptych.methods.dora import DoRA
from triptych.methods.ia3 import IA3
from triptych.methods.infix_tuning import InfixTuning
from triptych.methods.lora import LoRA
from triptych.methods.prefix_tuning import PrefixTuning
from triptych.methods.prompt_tuning import PromptTuning
from triptych.methods.untuned import Untuned
from triptych.models.parts import block_matrices, matrix_shape
from triptych.run.adapters import Origin, save_adapter
from triptych.run.models import describe_parameters

ORIGIN = Origin("label", "kind", {}, "model", "main", "fingerprint")


def loss_of(world: World, adapted: AdaptedModel, pairs=None) -> torch.Tensor:
    return target_losses(world.engine(adapted), collate(pairs or world.pairs, world.template)).mean()


@pytest.mark.parametrize(
    "method", [DoRA(rank=4), IA3(), PrefixTuning(num_virtual_tokens=6)], ids=["dora", "ia3", "prefix"]
)
def test_peft_reads_what_is_saved_and_agrees(world, method, tmp_path):
    """peft loads a saved adapter onto the same model, and its loss on unpadded sequences equals ours."""
    adapted = world.adapt(method)
    disturb(adapted)
    save_adapter(adapted, tmp_path, ORIGIN)
    theirs = PeftModel.from_pretrained(copy.deepcopy(world.prototype), tmp_path).eval()
    with torch.no_grad():
        for pair in world.pairs[:3]:
            ids, labels = sequence_and_labels(pair, world.template)
            expected = theirs(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
            assert float(loss_of(world, adapted, [pair])) == pytest.approx(float(expected), abs=1e-5)


# DoRA


def test_dora_is_its_formula(world):
    """A target gives x times m (W + s A B) / ||W + s A B||, s = alpha / rank, with the norm over an output's inputs."""
    adapted = world.adapt(DoRA(rank=4, alpha=7))
    disturb(adapted, scale=0.3)
    before = block_matrices(world.parts())
    for name in adapted.notes["target_modules"]:
        base, changed = before[name], adapted.parts.model.get_submodule(name)
        weight = base.weight if isinstance(base, Conv1D) else base.weight.T  # [d_in, d_out]
        moved = weight + (7 / 4) * changed.lora_A["default"].weight.T @ changed.lora_B["default"].weight.T
        magnitude = changed.lora_magnitude_vector["default"].weight
        x = torch.randn(3, weight.shape[0], generator=torch.Generator().manual_seed(0))
        expected = x @ (moved * magnitude / moved.norm(dim=0)) + (base.bias if base.bias is not None else 0)
        torch.testing.assert_close(changed(x), expected, atol=1e-5, rtol=1e-5)


def test_dora_is_lora_with_a_magnitude_an_output(world):
    """DoRA trains what LoRA trains plus one number for each output, and starts as the unchanged model."""
    names = {n for n in world.adapt(DoRA()).trained_parameters() if "magnitude" not in n}
    assert names == set(world.adapt(LoRA()).trained_parameters())
    adapted = world.adapt(DoRA())
    assert sum("magnitude" in name for name in adapted.trained_parameters()) == len(adapted.notes["target_modules"])
    torch.testing.assert_close(loss_of(world, adapted), loss_of(world, world.adapt(Untuned())), atol=1e-5, rtol=1e-5)


# (IA)^3


def test_ia3_is_its_formula(world):
    """A target's output is scaled, a feed-forward target's input; nothing else changes, and it starts as the unchanged
    model."""
    adapted = world.adapt(IA3())
    assert torch.equal(loss_of(world, adapted), loss_of(world, world.adapt(Untuned())))
    disturb(adapted, scale=0.3)
    before, inputs = block_matrices(world.parts()), set()
    for name in adapted.notes["target_modules"]:
        base, changed = before[name], adapted.parts.model.get_submodule(name)
        factor = changed.ia3_l["default"].flatten()
        x = torch.randn(3, matrix_shape(base)[0], generator=torch.Generator().manual_seed(0))
        expected = base(x * factor) if changed.is_feedforward else base(x) * factor
        torch.testing.assert_close(changed(x), expected)
        inputs |= {name.rsplit(".", 1)[-1]} if changed.is_feedforward else set()
    assert inputs == {{"gpt2": "c_proj", "llama": "down_proj"}[world.prototype.config.model_type]}
    assert {name.rsplit(".ia3_l", 1)[0] for name in adapted.trained_parameters()} == set(
        adapted.notes["target_modules"]
    )


def test_ia3_targets_that_match_nothing_are_refused(world):
    """A target that matches nothing, and a family without known targets, are errors that list the available
    matrices."""
    with pytest.raises(ConfigError, match="feedforward_modules: 'nothing' matches no weight matrix"):
        world.adapt(IA3(feedforward_modules=("nothing",)))
    with pytest.raises(ConfigError, match="name target_modules"):
        world.adapt(IA3(target_modules=(), feedforward_modules=()))


# BitFit


def test_bitfit_trains_every_bias(gpt2):
    """Every parameter called bias is trained, norm biases included, and no other."""
    trained = set(gpt2.adapt(BitFit()).trained_parameters())
    assert trained == {name for name, _ in gpt2.prototype.named_parameters() if name.rsplit(".", 1)[-1] == "bias"}
    assert "transformer.ln_f.bias" in trained and "transformer.h.0.attn.c_attn.bias" in trained


def test_a_family_without_biases_is_refused(worlds):
    """A Llama has no biases: bitfit is refused with a remedy."""
    with pytest.raises(ConfigError, match=r"LlamaForCausalLM has no biases.*leave this method out"):
        worlds["llama"].adapt(BitFit())


# Infix tuning


def test_an_infix_stands_between_article_and_separator(world):
    """The model reads document, prompt, separator and summary as one sequence with consecutive positions."""
    adapted = world.adapt(InfixTuning(num_virtual_tokens=4))
    disturb(adapted)
    pair = world.pairs[0]
    ids, _ = sequence_and_labels(pair, world.template)
    at = len(world.template.prefix_ids) + len(pair.document_ids)
    tokens = adapted.parts.token_embedding(ids[0])
    rows = torch.cat([tokens[:at], adapted.virtual_tokens.weight, tokens[at:]])[None]
    logits = adapted.parts.model(inputs_embeds=rows, position_ids=torch.arange(rows.shape[1])[None]).logits[0]
    count = len(pair.summary_ids) + 1
    ours = target_logits(world.engine(adapted), collate([pair], world.template))
    torch.testing.assert_close(ours, logits[-count - 1 : -1], atol=1e-5, rtol=1e-5)


def test_an_infix_is_saved_in_our_own_format(gpt2, tmp_path):
    """An infix is not saved in peft's format, which would put the prompt in front."""
    save_adapter(gpt2.adapt(InfixTuning()), tmp_path, ORIGIN)
    assert {path.name for path in tmp_path.iterdir()} == {"trained.safetensors", "triptych.json"}


# Prefix tuning


def test_a_prefix_begins_where_the_prompt_begins(world):
    """A prefix starts as the keys and values of prompt tuning's initial prompt: same logits, same first summary."""
    prefix, prompt = world.adapt(PrefixTuning(num_virtual_tokens=5)), world.adapt(PromptTuning(num_virtual_tokens=5))
    batch = collate(world.pairs, world.template)
    with torch.no_grad():
        for exact in (True, False):
            engines = (world.engine(adapted, logits_at_targets=exact) for adapted in (prefix, prompt))
            ours, theirs = (target_logits(model, batch) for model in engines)
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    documents = [pair.document_ids for pair in world.pairs[:4]]
    for beams in (1, 3):
        decoding = DecodingPlan(beams, 8, 3, 1.0, 4)
        ours, theirs = (generate(world.engine(each), documents, decoding) for each in (prefix, prompt))
        assert ours == theirs


def test_prefix_tuning_equals_pefts(world):
    """With the same prefix, the gradient is that of peft's prefix tuning on unpadded sequences."""
    adapted = world.adapt(PrefixTuning(num_virtual_tokens=6))
    disturb(adapted)
    config = PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=6)
    theirs = get_peft_model(copy.deepcopy(world.prototype), config).eval()
    weight = theirs.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        weight.copy_(adapted.prefix.encoder.embedding.weight)
    for pair in world.pairs[:3]:
        ids, labels = sequence_and_labels(pair, world.template)
        expected = theirs(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        (wanted,) = torch.autograd.grad(expected, [weight])
        found = gradients(adapted, loss_of(world, adapted, [pair]))
        assert largest_difference(found, {"prefix.encoder.embedding.weight": wanted}) < 1e-5


def test_a_prefix_is_counted(world):
    """A prefix's parameters, outside the model, count as added and trainable: P keys and P values in every layer."""
    adapted, base = world.adapt(PrefixTuning(num_virtual_tokens=6)), world.prototype.num_parameters()
    width = {"gpt2": 32, "llama": 16}[world.prototype.config.model_type]  # over all key-value heads
    counts = describe_parameters(adapted, base)
    assert counts.num_added_parameters == counts.num_trainable_parameters == 6 * 3 * 2 * width
    assert counts.num_total_parameters == base + counts.num_added_parameters


def test_a_prefix_costs_attention_alone(world):
    """Compared with the untuned forward pass, a prefix costs work that grows with the sequence, but no more logits."""
    passes = {}
    for method in (PrefixTuning(num_virtual_tokens=8), PrefixTuning(num_virtual_tokens=16)):
        sketch = method.adapt(world.sketch(), world.context())
        passes[method.num_virtual_tokens] = training_flops(world.engine(sketch))
    assert passes[16].per_position > passes[8].per_position
    assert passes[16].per_logit == pytest.approx(passes[8].per_logit)
    assert passes[16].per_pair == pytest.approx(passes[8].per_pair)


def test_a_family_without_keys_is_refused():
    """Mamba's layers keep states instead of keys, so prefix tuning is refused with a message."""
    from triptych.contracts import Context, ModelParts

    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4)).eval()
    parts = ModelParts(
        model=model,
        trunk=model.base_model,
        token_embedding=model.get_input_embeddings(),
        blocks=model.base_model.layers,
        final_norm=model.base_model.norm_f,
        head=model.lm_head,
        tied=False,
        hidden_size=16,
        vocabulary_size=64,
        max_positions=None,
        attention_projections=(),
    )
    context = Context(None, torch.Generator().manual_seed(0), torch.arange(64))
    with pytest.raises(ConfigError, match="MambaForCausalLM has others"):
        PrefixTuning(num_virtual_tokens=3, init="vocabulary").adapt(parts, context)


def test_a_prefix_on_a_half_precision_model_is_fp32(gpt2):
    """The prefix is trained in fp32 whatever the model's precision."""
    parts = gpt2.parts()
    parts.model.to(torch.bfloat16)
    adapted = PrefixTuning(num_virtual_tokens=3).adapt(parts, gpt2.context())
    assert isinstance(adapted.prefix, nn.Module) and adapted.prefix().dtype == torch.float32
    assert torch.isfinite(target_losses(gpt2.engine(adapted), collate(gpt2.pairs[:2], gpt2.template))).all()

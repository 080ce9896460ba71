"""The engine's own generation loop gives the summaries of transformers' `generate`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GenerationConfig, Ministral3Config, Ministral3ForCausalLM, MinNewTokensLengthLogitsProcessor
from transformers.pytorch_utils import Conv1D

from support.families import FAMILIES, random_model
from support.worlds import World, disturb, under_engine, with_abilities
from triptych.contracts import AdaptedModel, Context
from triptych.corpus.sequence import Template
from triptych.engine.generation import own_loop, shared_cache
from triptych.engine.generation.decoding import DecodingPlan, allowed_scores, ban_repeats
from triptych.engine.generation.generate import generate, generation_config
from triptych.engine.generation.own_loop import own_loop_agrees
from triptych.engine.generation.shared_cache import SharedCache
from triptych.engine.savings import attention, packing, partial_forward
from triptych.engine.savings.merging import merged
from triptych.engine.savings.packing import packed
from triptych.engine.savings.probe import Unsupported, same_predictions
from triptych.engine.savings.ready import make_ready
from triptych.engine.savings.step_blocks import Rotation
from triptych.methods.full import Full
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA
from triptych.methods.prefix_tuning import PrefixTuning
from triptych.methods.prompt_tuning import PromptTuning
from triptych.models.parts import take_apart
from triptych.models.sharing import share_tensors

METHODS = {"full": Full(), "lora": LoRA(rank=2), "last": LastLayers(), "prompt": PromptTuning(num_virtual_tokens=3)}


def both(world: World, method, plan: DecodingPlan, placement="before", template=None):
    """The summaries by the engine's loop, and by transformers with the same model."""
    model = world.model(method)
    model.adapted.placement = placement
    disturb(model.adapted)
    model = replace(make_ready(model), template=template or world.template)
    assert model.can.own_decoding and model.can.step_blocks
    documents = [pair.document_ids for pair in world.pairs]
    ours = generate(model, documents, plan)
    return ours, generate(with_abilities(model, own_decoding=False), documents, plan)


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
@pytest.mark.parametrize("beams", [1, 4])
def test_the_same_tokens(world, method, beams):
    """Greedy or with beams, for every method and family, a batch of unequal documents gives transformers' tokens."""
    ours, theirs = both(world, method, DecodingPlan(beams, 16, 3, 1.0, 5))
    assert ours == theirs and any(ours)


@pytest.mark.parametrize("family", ["Mistral", "Gemma2"])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_prefix_is_as_near_in_a_batch_as_alone(machine, family, beams):
    """Padding between prefix and document would move the prefix out of a sliding window."""
    shape = FAMILIES[family] | {"sliding_window": 16, "max_position_embeddings": 128}
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**shape)
    parts = take_apart(transformers.AutoModelForCausalLM.from_config(config).eval())
    context = Context(None, torch.Generator().manual_seed(0), torch.arange(64))
    adapted = PrefixTuning(num_virtual_tokens=4, init="random").adapt(parts, context)
    disturb(adapted, 1.0)
    model = make_ready(under_engine(adapted, Template((), (3, 4), 0), machine))
    draw = np.random.default_rng(0)
    documents = [draw.integers(5, 64, length).astype(np.int32) for length in (30, 4, 30, 5)]
    plan, passes = DecodingPlan(beams, 12, 0, 1.0, 4), []
    alone = [generate(model, [document], plan)[0] for document in documents]
    assert generate(model, documents, plan, lambda done, total: passes.append(done)) == alone
    assert passes == [2, 3, 4], "documents of one length share a batch"


def test_buffers_grow(world, monkeypatch):
    """If summaries outgrow the initial buffers, the tokens are the same."""
    monkeypatch.setattr(shared_cache, "STEPS", 3)
    for beams in (1, 3):
        ours, theirs = both(world, LoRA(rank=2), DecodingPlan(beams, 11, 2, 1.0, 5))
        assert ours == theirs and max(map(len, ours)) > 6


@pytest.mark.parametrize("ngram", [0, 1, 2, 3])
@pytest.mark.parametrize("penalty", [-1.0, 0.0, 0.8, 2.0])
def test_the_same_tokens_in_every_setting(gpt2, ngram, penalty):
    """N-gram bans and length penalties match transformers, also with summaries that end early."""
    some = both(gpt2, Full(), DecodingPlan(3, 12, 0, 1.0, 12))[1]
    often = int(np.bincount([token for row in some for token in row]).argmax())
    template = type(gpt2.template)(gpt2.template.prefix_ids, gpt2.template.separator_ids, often)
    for beams in (1, 3):
        ours, theirs = both(gpt2, Full(), DecodingPlan(beams, 12, ngram, penalty, 12), template=template)
        assert ours == theirs
        assert len({len(row) for row in ours}) > 1


@pytest.mark.parametrize("least", [1, 5, 12])
def test_no_summary_ends_before_its_least_length(gpt2, least):
    """`min_new_tokens` matches transformers, greedy and with beams; each summary has at least this length and may end
    there."""
    some = both(gpt2, Full(), DecodingPlan(3, 12, 0, 1.0, 12))[1]
    often = int(np.bincount([token for row in some for token in row]).argmax())
    template = type(gpt2.template)(gpt2.template.prefix_ids, gpt2.template.separator_ids, often)
    for beams in (1, 3):
        plan = DecodingPlan(beams, 12, 3, 1.0, 12, min_new_tokens=least)
        ours, theirs = both(gpt2, Full(), plan, template=template)
        assert ours == theirs
        assert min(map(len, ours)) >= least and often not in {token for row in ours for token in row}
        free = both(gpt2, Full(), replace(plan, min_new_tokens=0), template=template)[0]
        assert least == 1 or ours != free


def test_the_end_is_banned_as_transformers_bans_it():
    """Scores are those of `MinNewTokensLengthLogitsProcessor`, at every length up to the minimum and beyond."""
    scores, plan = torch.randn(3, 7), DecodingPlan(1, 8, 0, 1.0, 1, min_new_tokens=3)
    theirs = MinNewTokensLengthLogitsProcessor(0, 3, 4)
    for length in range(6):
        tokens = torch.zeros(3, length, dtype=torch.long)
        assert torch.equal(allowed_scores(scores, tokens, plan, 4), theirs(tokens, scores.clone()))


def test_a_plan_made_shorter_can_be_kept():
    """A trial with fewer tokens never requires more than it allows."""
    plan = DecodingPlan(1, 100, 3, 1.0, 4, min_new_tokens=50)
    assert plan.shortened(8) == DecodingPlan(1, 8, 3, 1.0, 4, min_new_tokens=8)
    assert plan.shortened(60) == DecodingPlan(1, 60, 3, 1.0, 4, min_new_tokens=50)
    assert plan.shortened(200) == plan


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_every_decoding_can_be_written_for_transformers(beams, penalty, tmp_path):
    """transformers refuses to write an unused setting, such as a length penalty for greedy search."""
    generation_config(DecodingPlan(beams, 8, 3, penalty, 4), eos=2).save_pretrained(tmp_path)
    read = GenerationConfig.from_pretrained(tmp_path)
    assert (read.num_beams, read.max_new_tokens, read.no_repeat_ngram_size) == (beams, 8, 3)
    assert beams == 1 or read.length_penalty == penalty


def test_a_prompt_after_the_document(world):
    """Virtual tokens between document and separator are read at that position."""
    ours, theirs = both(world, PromptTuning(num_virtual_tokens=3), DecodingPlan(2, 8, 3, 1.0, 12), placement="after")
    assert ours == theirs


def test_merging_leaves_no_trace(world):
    """While LoRA is merged the logits are unchanged; afterwards every weight is bit-equal to before."""
    adapted = world.adapt(LoRA(rank=2, target_modules="all-linear"))
    disturb(adapted)
    model, ids = adapted.parts.model, torch.arange(10)[None]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        apart = model(input_ids=ids).logits
        with merged(model):
            assert not all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
            torch.testing.assert_close(model(input_ids=ids).logits, apart, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(input_ids=ids).logits, apart)


def test_merging_leaves_what_is_shared_alone(world):
    """An adapter with its own biases can be merged many times without writing to the base shared with other rows."""
    base = world.parts().model
    before = {name: value.clone() for name, value in base.state_dict().items()}
    model, ids = share_tensors(base), torch.arange(10)[None]
    config = LoraConfig(
        r=2, target_modules="all-linear", lora_bias=True, init_lora_weights=False, task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, config).eval()
    with torch.no_grad():
        apart = adapted(input_ids=ids).logits
        for _ in range(2):
            with merged(model):
                assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
                torch.testing.assert_close(adapted(input_ids=ids).logits, apart, atol=1e-4, rtol=1e-4)
        assert torch.equal(adapted(input_ids=ids).logits, apart) and not torch.equal(base(input_ids=ids).logits, apart)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.03)])
def test_packed_weights_give_the_same_logits(world, monkeypatch, precision, tolerance):
    """Layers with packed weights give the plain logits and are restored afterwards; small layers are not packed."""
    if not packing.served(packing.TYPES[precision]):
        pytest.skip(f"oneDNN does not multiply {precision} on this processor")
    machine = replace(world.machine, precision=precision)
    model, ids = world.parts().model, torch.arange(24)[None]
    linear = [module for module in model.modules() if isinstance(module, nn.Linear | Conv1D)]
    least = min(module.weight.numel() for module in linear)

    def others() -> list[nn.Module]:
        return [module for module in model.modules() if "forward" in vars(module)]

    with packed(model, machine):
        assert least < packing.LEAST and not others()
    monkeypatch.setattr(packing, "LEAST", least)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        apart = model(input_ids=ids).logits.float()
        with packed(model, machine):
            assert others() == ([model.get_output_embeddings()] if precision == "fp32" else linear)
            torch.testing.assert_close(model(input_ids=ids).logits.float(), apart, rtol=tolerance, atol=tolerance)
        assert torch.equal(model(input_ids=ids).logits.float(), apart)
    with pytest.raises(KeyboardInterrupt), packed(model, machine):
        raise KeyboardInterrupt
    assert not others()
    with packed(model, replace(machine, precision="fp16")):
        assert not others()


def test_banned_by_hand():
    """After [3 4 3], 4 would repeat the pair (3, 4); after [3 4 5] nothing would; single tokens repeat anywhere."""
    scores = torch.zeros(2, 6)
    tokens = torch.tensor([[3, 4, 3], [3, 4, 5]])
    assert ban_repeats(scores, tokens, 2).isinf().nonzero().tolist() == [[0, 4]]
    assert ban_repeats(scores, tokens, 1).isinf().nonzero().tolist() == [[0, 3], [0, 4], [1, 3], [1, 4], [1, 5]]
    assert ban_repeats(scores, tokens[:, :1], 3) is scores and ban_repeats(scores, tokens, 0) is scores


def test_a_cache_that_is_not_plain_is_left_to_transformers(gpt2, monkeypatch):
    """If a family's layers cache something else, transformers' `generate` is used, and a note says so."""
    monkeypatch.setattr(own_loop, "make_cache", lambda *options: None)
    model = make_ready(gpt2.model(LoRA(rank=2)))
    assert not model.can.own_decoding and "generate" in model.can.notes[-1]
    assert len(generate(model, [gpt2.pairs[0].document_ids], DecodingPlan(1, 4, 0, 1.0, 2))) == 1


# The probe


def offset_model(world):
    """A model whose logits share a large offset, like GPT-2's: mean -97, standard deviation about 5.7."""
    parts = world.parts()
    norm, table, width = parts.final_norm, parts.token_embedding.weight, parts.hidden_size
    with torch.no_grad():
        table.add_(1.0)  # along the ones vector, which the layer norms remove
        norm.weight.mul_(5.7 / float(table.std()) / width**0.5)
        norm.bias.fill_(-97 / width)
    return parts


def half_scale(self, layer, query, scaling, real=SharedCache.attend):
    """Attention with half its scale."""
    return real(self, layer, query, scaling / 2)


def uniform(self, layer, query, scaling, real=SharedCache.attend):
    """Attention with equal weights on all visible positions."""
    return real(self, layer, query, 0.0)


def unmasked(self, layer, query, scaling, real=SharedCache.attend):
    """Attention in which beams see padding and each other's tokens."""
    mask, self._mask = self._mask, torch.zeros_like(self._mask)
    try:
        return real(self, layer, query, scaling)
    finally:
        self._mask = mask


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("sabotage", [None, half_scale, uniform, unmasked])
def test_a_step_that_attends_wrongly_is_noticed(gpt2, sabotage, precision, monkeypatch):
    """A wrong step is not used, however large the offset shared by all logits and in whatever precision the run is."""
    parts = offset_model(gpt2)
    logits = parts.model(input_ids=torch.arange(2, 40)[None]).logits.detach()
    assert float(logits.mean()) == pytest.approx(-97, abs=6) and 4 < logits.std() < 8
    machine = replace(gpt2.machine, precision=precision)
    model = replace(gpt2.engine(AdaptedModel(parts)), machine=machine)
    monkeypatch.setattr(type(machine), "autocast", lambda self: torch.autocast("cpu", torch.bfloat16))
    if sabotage is not None:
        monkeypatch.setattr(SharedCache, "attend", sabotage)
    reasons, own = [], parts.model.config._attn_implementation
    assert own_loop_agrees(model, reasons.append) == (sabotage is None)
    assert bool(reasons) == (sabotage is not None) and all("different logits" in reason for reason in reasons)
    assert (parts.model.config._attn_implementation == own) == (sabotage is not None)


def test_what_is_expected_comes_from_the_models_own_attention(gpt2, monkeypatch):
    """An attention of this engine that is wrong from the first token is compared with the model's, not with itself."""
    real = attention.attend
    monkeypatch.setattr(
        attention, "attend", lambda module, query, *rest, **named: real(module, 0.5 * query, *rest, **named)
    )
    parts = gpt2.parts()
    assert not own_loop_agrees(gpt2.engine(AdaptedModel(parts)))
    monkeypatch.undo()
    assert own_loop_agrees(gpt2.engine(AdaptedModel(gpt2.parts())))


def test_steps_without_step_blocks(world):
    """A step through the blocks' own forward gives the same summaries."""
    model = make_ready(world.model(LoRA(rank=2)))
    documents, plan = [pair.document_ids for pair in world.pairs], DecodingPlan(2, 8, 0, 1.0, 5)
    assert generate(model, documents, plan) == generate(with_abilities(model, step_blocks=False), documents, plan)


def unturned(self, states, cosine, sine):
    """Heads without known positions."""
    return states


def fails(self, states, cosine, sine):
    """Angles of another shape than the heads."""
    raise RuntimeError("The size of tensor a (8) must match the size of tensor b (4)")


@pytest.mark.parametrize("sabotage", [unturned, fails])
def test_a_step_block_that_computes_wrongly_is_not_used(sabotage, worlds, monkeypatch):
    """If a step block computes wrongly, steps use the blocks' own forward, and the engine's loop still writes the
    summaries."""
    monkeypatch.setattr(Rotation, "__call__", sabotage)
    model = make_ready(worlds["llama"].model(LoRA(rank=2)))
    assert model.can.own_decoding and not model.can.step_blocks and not model.can.notes


@pytest.mark.parametrize(
    ("family", "taken"),
    [
        ("GPT2", True),
        ("Llama", True),
        ("Qwen2", True),  # biases of queries, keys and values
        ("Gemma", True),  # heads whose width is not D / H, norms around 1
        ("Qwen3", True),  # norms of queries and keys
        ("Phi", False),  # attention and MLP side by side
        ("OPT", False),  # no blocks of four parts
    ],
)
def test_families_whose_blocks_are_taken_apart(family, taken, gpt2):
    """A block with exactly the parts that `StepBlock` supports gives the same output; others do not use it."""
    template = Template((), (5, 6), 0)
    parts = take_apart(random_model(family))
    model = make_ready(under_engine(AdaptedModel(parts), template, gpt2.machine))
    assert model.can.own_decoding and model.can.step_blocks == taken
    documents, plan = [np.arange(7, 27), np.arange(9, 14)], DecodingPlan(2, 8, 0, 1.0, 5)
    assert generate(model, documents, plan) == generate(with_abilities(model, step_blocks=False), documents, plan)


YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 32}


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_queries_that_are_scaled_far_from_the_beginning(beta, gpt2):
    """Ministral 3 scales queries beyond its original positions, so no `StepBlock` is used."""
    torch.manual_seed(0)
    shape = {**FAMILIES["Mistral"], "head_dim": 8, "max_position_embeddings": 96}
    config = Ministral3Config(**shape, rope_parameters={**YARN, "llama_4_scaling_beta": beta, "mscale": 1.0})
    parts = take_apart(Ministral3ForCausalLM(config).eval())
    model = make_ready(under_engine(AdaptedModel(parts), Template((), (5, 6), 0), gpt2.machine))
    assert model.can.own_decoding and model.can.step_blocks == (beta == 0)
    documents, plan = [np.arange(60) % 57 + 7, np.arange(9, 20)], DecodingPlan(1, 24, 0, 1.0, 5)
    by_transformers = generate(with_abilities(model, own_decoding=False), documents, plan)
    assert generate(model, documents, plan) == by_transformers


@pytest.mark.parametrize("error", [AttributeError, TypeError])
def test_a_fault_of_ours_is_not_a_trait_of_a_family(gpt2, error, monkeypatch):
    """A wrong name or argument in this package ends the probe; an error raised elsewhere is reported as the reason."""

    def elsewhere(self, rows):
        raise error("of another package")

    with monkeypatch.context() as patch, pytest.raises(error):
        if error is AttributeError:
            patch.delattr(SharedCache, "follow")
        else:
            patch.setattr(SharedCache, "follow", lambda self: None)
        own_loop_agrees(gpt2.engine(AdaptedModel(gpt2.parts())))
    reasons: list[str] = []
    monkeypatch.setattr(SharedCache, "follow", elsewhere)
    assert not own_loop_agrees(gpt2.engine(AdaptedModel(gpt2.parts())), reasons.append)
    assert reasons == [f"{error.__name__} in {__name__}: of another package"]


def test_the_notes_of_a_run_say_why_a_saving_is_not_used(gpt2, monkeypatch):
    """The note says in words what a family lacks, for the tail and for generation."""

    def lacking(*arguments, **named):
        raise Unsupported("its heads are two")

    monkeypatch.setattr(SharedCache, "follow", lacking)
    monkeypatch.setattr(partial_forward, "last_block_at", lacking)
    notes = make_ready(gpt2.model(LoRA(rank=2))).can.notes
    assert len(notes) == 2 and all(note.endswith(": its heads are two") for note in notes)


def test_predictions_are_compared_whatever_all_logits_share():
    """Logits that differ by a constant predict the same; a difference of a hundredth of their spread is noticed next to
    -100."""
    logits = 5.7 * torch.randn(4, 512, generator=torch.Generator().manual_seed(0)) - 97
    assert same_predictions(logits, logits) and same_predictions(logits + 3, logits)
    changed = logits.clone()
    changed[0, 0] += 0.06
    assert not same_predictions(changed, logits) and not same_predictions(logits * float("nan"), logits)
    assert not same_predictions(logits[:3], logits)

"""Query, key and value projections are found in every family, so LoRA's default means the same everywhere."""

import pytest
import torch
import transformers

from support.families import FAMILIES, GATED, SHAPE
from support.made_up import make_results
from triptych.analysis.fairness import refuse_unlike_seeds
from triptych.errors import ModelError, ResultsError
from triptych.methods.dora import DoRA
from triptych.methods.lora import LoRA
from triptych.models.parts import find_matrices, matrix_shape, query_key_value, take_apart
from triptych.run.entries import recorded_entry

APART = ("q_proj", "k_proj", "v_proj")
NAMES = {
    "GPT2": ("c_attn",),
    "GPTNeoX": ("query_key_value",),
    "GPTJ": APART,
    "OPT": APART,
    "Bloom": ("query_key_value",),
    "Falcon": ("query_key_value",),
    "Llama": APART,
    "Mistral": APART,
    "Qwen2": APART,
    "Qwen3": APART,
    "Phi": APART,
    "Gemma": APART,
    "Gemma2": APART,
    "Granite": APART,
    "Cohere": APART,
    "StableLm": APART,
    "GPTNeo": APART,
    "Phi3": ("qkv_proj",),
    "SmolLM3": APART,
    "Mpt": ("Wqkv",),
    "CTRL": ("Wq", "Wk", "Wv"),
    "GPTBigCode": ("c_attn",),
    "DeepseekV3": ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"),
    "Llama4Text": APART,
    "MiniMax": (*APART, "qkv_proj"),  # full attention in some blocks, another kind in others
}
OTHERS = {
    "Mpt": {"vocab_size": 64, "d_model": 32, "n_heads": 4, "n_layers": 2},
    "CTRL": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "dff": 48},
    "GPTBigCode": SHAPE,
    "DeepseekV3": GATED,
    "Llama4Text": {**GATED, "intermediate_size_mlp": 48, "num_local_experts": 2},
    "MiniMax": GATED,
}


def sketch(family: str):
    """A model of the family without weights, taken apart."""
    config = getattr(transformers, f"{family}Config")(**(FAMILIES | OTHERS)[family])
    with torch.device("meta"):
        return take_apart(transformers.AutoModelForCausalLM.from_config(config))


def test_a_model_that_calls_itself_its_base_model_is_taken_apart():
    """Llama 4's `base_model` is the model with its head: the trunk is its child with the token embedding."""
    parts = sketch("Llama4Text")
    assert parts.trunk is parts.model.model and parts.trunk is not parts.model
    parts.model.model.embed_tokens = torch.nn.Linear(1, 1)  # no child has the embedding
    parts.model.get_input_embeddings = lambda: parts.token_embedding
    with pytest.raises(ModelError, match="has no part that is the model without its head"):
        take_apart(parts.model)


@pytest.mark.parametrize("family", NAMES)
def test_the_default_targets_are_queries_keys_and_values(family):
    """The default targets are the family's names, fused or separate, in every block, and nothing else, whatever peft's
    table says."""
    parts = sketch(family)
    assert parts.attention_projections == NAMES[family]
    found = find_matrices(parts, parts.attention_projections, "target_modules")
    blocks = {id(block) for block in parts.blocks for name, m in block.named_modules() if m in found.values()}
    assert len(blocks) == len(parts.blocks)
    assert set(LoRA(rank=2).matched(parts)) == set(found) == set(DoRA(rank=2).matched(parts))
    if NAMES[family] == APART:  # as many outputs as queries, keys and values together
        per_block = sum(matrix_shape(m)[1] for m in found.values()) // len(parts.blocks)
        config = parts.model.config.get_text_config()
        keys = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        assert per_block == (config.num_attention_heads + 2 * keys) * width


def test_names_outside_of_an_attention_do_not_count():
    """A matrix with such a name outside an attention does not count, nor does an incomplete set."""
    block = torch.nn.ModuleDict({"mlp": torch.nn.ModuleDict({name: torch.nn.Linear(2, 2) for name in APART})})
    assert query_key_value(torch.nn.ModuleList([block])) == ()
    half = torch.nn.ModuleDict({"attn": torch.nn.ModuleDict({name: torch.nn.Linear(2, 2) for name in APART[:2]})})
    assert query_key_value(torch.nn.ModuleList([half])) == ()
    whole = torch.nn.ModuleDict({"attn": torch.nn.ModuleDict({name: torch.nn.Linear(2, 2) for name in APART})})
    assert query_key_value(torch.nn.ModuleList([block, whole])) == APART
    assert query_key_value(torch.nn.ModuleList([half, whole])) == ()


def test_a_finished_run_keeps_the_targets_that_it_noted(worlds):
    """A run with another default, as in earlier versions, is adapted as it was; so is one with its own targets."""
    world = worlds["llama"]
    noted = [f"model.layers.{i}.self_attn.{name}" for i in range(3) for name in ("q_proj", "v_proj")]
    record = make_results(("lora",)).runs[0].record
    record.options = LoRA(rank=2).model_dump(mode="json")
    record.notes = {"target_modules": noted}
    adapted = world.adapt(recorded_entry(record).plugin)
    assert adapted.notes["target_modules"] == sorted(noted)
    assert {name.split(".lora_")[0] for name in adapted.trained_parameters()} == set(noted)
    assert len(world.adapt(LoRA(rank=2)).notes["target_modules"]) == 9
    record.notes = {}
    assert recorded_entry(record).plugin == LoRA(rank=2)
    record.options, record.notes = LoRA(target_modules="all-linear").model_dump(mode="json"), {"target_modules": noted}
    assert recorded_entry(record).plugin.target_modules == "all-linear"


def test_seeds_with_other_targets_are_not_one_row():
    """If an earlier version chose other default targets, its seeds are not averaged with current ones."""
    runs = [run for run in make_results(("lora",), seeds=(0, 1)).runs]
    assert len(runs) > 1
    for run in runs:
        run.record.notes["target_modules"] = ["a", "b"]
    refuse_unlike_seeds(runs)
    runs[-1].record.notes["target_modules"] = ["a", "b", "c"]
    with pytest.raises(ResultsError, match=r"notes\.target_modules is \['a', 'b'\]"):
        refuse_unlike_seeds(runs)

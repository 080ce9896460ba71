"""`generation_config.json` and generation settings in `config.json` change no summary and no loss."""

import copy
import json

import pytest
import torch
import transformers
from transformers import GenerationConfig

from support.worlds import VOCABULARY, random_gpt2, under_engine, with_abilities
from triptych.contracts import AdaptedModel
from triptych.corpus.sequence import Template
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import generate
from triptych.engine.generation.own_loop import own_loop_agrees
from triptych.models.base import BaseModel
from triptych.models.parts import take_apart
from triptych.models.sharing import share_tensors

HOSTILE = {
    "repetition_penalty": {"repetition_penalty": 1.8},
    "sampling": {"do_sample": True, "temperature": 0.3, "top_k": 3, "top_p": 0.5, "typical_p": 0.4, "min_p": 0.2},
    "lengths": {"min_new_tokens": 9, "min_length": 100, "max_length": 3, "max_time": 1e-9},
    "tokens": {
        "suppress_tokens": [5, 6, 7],
        "begin_suppress_tokens": list(range(2, 400)),
        "bad_words_ids": [[i] for i in range(9, 900)],
        "sequence_bias": [[[11], 50.0]],
    },
    "ends": {
        "eos_token_id": list(range(0, VOCABULARY, 3)),
        "forced_bos_token_id": 4,
        "forced_eos_token_id": 5,
        "pad_token_id": 7,
    },
    "searches": {
        "num_beams": 3,
        "num_beam_groups": 3,
        "diversity_penalty": 1.0,
        "num_return_sequences": 3,
        "length_penalty": -5.0,
        "early_stopping": True,
        "penalty_alpha": 0.6,
        "no_repeat_ngram_size": 1,
        "renormalize_logits": True,
    },
    "caches": {
        "use_cache": False,
        "cache_implementation": "static",
        "return_dict_in_generate": True,
        "output_scores": True,
    },
    "guidance": {
        "guidance_scale": 3.0,
        "exponential_decay_length_penalty": [1, 3.0],
        "stop_strings": ["a", "the"],
        "prompt_lookup_num_tokens": 3,
        "encoder_repetition_penalty": 2.0,
        "watermarking_config": {"bias": 9.0},
    },
}
GATED = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
COMMON = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
FAMILIES = {
    "gpt2": random_gpt2,
    "qwen2 with windows": lambda: made(
        "qwen2", **GATED, sliding_window=8, use_sliding_window=True, max_window_layers=1
    ),
    "mistral": lambda: made("mistral", **GATED, sliding_window=8),
    "gemma2": lambda: made("gemma2", **GATED, head_dim=8, query_pre_attn_scalar=8, sliding_window=8),
    "gptj": lambda: made("gptj", n_embd=32, n_layer=2, n_head=4, n_positions=128, rotary_dim=4),
    "bloom": lambda: made("bloom", hidden_size=32, n_layer=2, n_head=4),
    "mamba": lambda: made("mamba", hidden_size=32, num_hidden_layers=2, state_size=4),
}


def made(kind: str, **settings):
    """A small random model."""
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(transformers.CONFIG_MAPPING[kind](**COMMON, **settings)).eval()


@pytest.fixture(scope="module", params=list(FAMILIES))
def saved(request, tmp_path_factory):
    """A family's folder with a neutral generation_config.json, and its summaries with one beam and with two."""
    folder = tmp_path_factory.mktemp("family")
    FAMILIES[request.param]().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return folder


def summaries(model, machine, own: bool) -> list:
    """A model's summaries of three documents, greedy and with two beams."""
    engine = under_engine(AdaptedModel(take_apart(model)), Template((), (3, 4), 0), machine)
    engine = with_abilities(engine, own_decoding=own and own_loop_agrees(engine))
    documents = [torch.arange(2 + n, 14 + 3 * n).numpy() for n in (5, 9, 40)]
    return [generate(engine, documents, DecodingPlan(beams, 8, 3, 1.0, 4)) for beams in (1, 2)]


def check_settings(folder, machine, own: bool, cases: dict[str, dict]) -> None:
    """With each of these in generation_config.json, and with invalid JSON, the summaries are unchanged."""
    expected = summaries(BaseModel(str(folder)).load(), machine, own)
    for name, settings in cases.items():
        (folder / "generation_config.json").write_text(json.dumps(settings))
        model = BaseModel(str(folder)).load()
        assert model.generation_config.to_diff_dict() == GenerationConfig().to_diff_dict(), name
        assert summaries(model, machine, own) == expected, name
        assert summaries(share_tensors(model), machine, own) == expected, name
    (folder / "generation_config.json").write_text("{not JSON")
    assert summaries(BaseModel(str(folder)).load(), machine, own) == expected
    (folder / "generation_config.json").unlink()


@pytest.mark.parametrize("own", [True, False])
def test_no_setting_of_a_model_reaches_its_summaries(saved, machine, own):
    """Summaries do not depend on generation_config.json, with this engine's loop and with transformers'."""
    check_settings(
        saved, machine, own, {"all": {key: value for part in HOSTILE.values() for key, value in part.items()}}
    )


@pytest.mark.parametrize("own", [True, False])
def test_nor_does_any_of_them_alone(tmp_path, machine, own):
    """Each kind of setting by itself leaves GPT-2's summaries unchanged."""
    FAMILIES["gpt2"]().save_pretrained(tmp_path)
    check_settings(tmp_path, machine, own, HOSTILE)


def test_settings_in_config_json_do_not_enter_either(saved, machine):
    """Generation settings in config.json, as in older models, have no effect."""
    expected = summaries(BaseModel(str(saved)).load(), machine, False)
    config = json.loads((saved / "config.json").read_text())
    odd = {
        "repetition_penalty": 1.9,
        "min_length": 50,
        "do_sample": True,
        "bad_words_ids": [[9]],
        "num_beams": 4,
        "top_k": 2,
    }
    (saved / "config.json").write_text(json.dumps({**config, **odd}))
    try:
        assert summaries(BaseModel(str(saved)).load(), machine, False) == expected
    finally:
        (saved / "config.json").write_text(json.dumps(config))


def test_one_token_ends_a_summary_for_every_row(tmp_path, machine):
    """Of several EOS ids only the tokenizer's ends a summary: every method is trained to write that one."""
    model = random_gpt2()
    plain = copy.deepcopy(model)
    model.generation_config = GenerationConfig(eos_token_id=[0, *range(5, 3000)])
    model.save_pretrained(tmp_path)
    written = summaries(BaseModel(str(tmp_path)).load(), machine, False)
    assert written == summaries(plain, machine, True)
    assert any(len(row) == 8 for rows in written for row in rows)

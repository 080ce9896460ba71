"""Adapters saved by peft: which tokenizers may accompany them, and patterns that would never terminate."""

import json
from pathlib import Path

import pytest
from peft import IA3Config, LoraConfig, get_peft_model
from transformers import AutoTokenizer

from triptych import cli
from triptych.errors import ModelError
from triptych.models import patterns
from triptych.models.base import BaseModel
from triptych.models.parts import take_apart
from triptych.models.tiny import Tiny
from triptych.use import peft_adapters


def save(folder: Path, tokenizer=None, config=None, **changes) -> Path:
    """Save a LoRA adapter of the embedded model as peft does, then change its configuration."""
    config = config or LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"])
    get_peft_model(BaseModel("tiny").load(), config).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    written = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**written, "base_model_name_or_path": "tiny", **changes}))
    return folder


def tokenizer_with(**special):
    """The embedded model's tokenizer with additional tokens."""
    tokenizer = AutoTokenizer.from_pretrained(Tiny().folder())
    plain = special.pop("plain", None)
    tokenizer.add_special_tokens(special)
    if plain:
        tokenizer.add_tokens(plain)
    return tokenizer


def adapt(folder: Path):
    """Put the adapter into the embedded model, as `summarize` does."""
    peft_adapters.check_tokenizer(folder, BaseModel("tiny").tokenizer)
    return peft_adapters.insert_adapter(take_apart(BaseModel("tiny").load()), peft_adapters.read_peft_folder(folder))


@pytest.mark.parametrize(
    "special",
    [
        {"pad_token": "<|pad|>"},
        {"unk_token": "<unk>"},
        {"additional_special_tokens": ["<|a|>", "<|b|>"], "pad_token": "[PAD]"},
        {"pad_token": "<|endoftext|>"},
    ],
)
def test_special_tokens_that_no_text_uses_do_not_matter(tmp_path, special):
    """An adapter saved with a tokenizer that has one more special token, such as for padding, is read."""
    tokenizer = tokenizer_with(**special)
    tokenizer.padding_side = "left"
    assert adapt(save(tmp_path, tokenizer))


def other_vocabulary():
    """The tokenizer with two of its tokens swapped."""
    tokenizer = AutoTokenizer.from_pretrained(Tiny().folder())
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    one, other = sorted(vocabulary, key=vocabulary.get)[300:302]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    return type(tokenizer)(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(json.dumps(state)), eos_token=tokenizer.eos_token
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tokenizer_with(plain=["xyzzy"]), "the token 'xyzzy' is in only one of them"),
        (lambda: tokenizer_with(eos_token="<|im_end|>"), "end with '<|im_end|>', but the model's with"),
        (other_vocabulary, "has the id"),
    ],
)
def test_a_tokenizer_that_reads_or_ends_texts_otherwise_is_refused(tmp_path, make, said):
    """Any change to a text's tokens or its end is reported, with a remedy."""
    with pytest.raises(ModelError) as caught:
        adapt(save(tmp_path, make()))
    assert said in str(caught.value) and "remove the tokenizer files" in str(caught.value)


HANGS = "(([a-z0-9_.])*)*X"


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": HANGS},
        {"exclude_modules": HANGS},
        {"rank_pattern": {HANGS: 2}},
        {"alpha_pattern": {HANGS: 2}},
        {"layers_pattern": HANGS, "layers_to_transform": [0]},
        {"layers_pattern": [HANGS], "layers_to_transform": [0]},
        {"modules_to_save": [HANGS]},
        {"target_modules": r"(\w+\.?)+[^\w.]"},
        {"rank_pattern": {"(.*.*)*=": 2}},
        {"rank_pattern": {r"(?:.+)+\1": 2}},  # malformed by itself; peft puts a group before it
    ],
)
def test_a_pattern_that_never_ends_is_refused(tmp_path, monkeypatch, changes):
    """Wherever peft would match a pattern of exponential time, the adapter is refused, and the pattern is named."""
    monkeypatch.setattr(patterns, "MATCH_SECONDS", 0.2)
    folder = save(tmp_path, **changes)
    with pytest.raises(ModelError, match="has a pattern that takes too long"):
        adapt(folder)


@pytest.mark.parametrize(
    "field", ["target_modules", "exclude_modules", "modules_to_save", "rank_pattern", "alpha_pattern"]
)
def test_a_list_longer_than_the_model_is_refused(tmp_path, field):
    """A list with more names than there are modules, which peft would compare with each module, is refused at once."""
    names = [f"m{i}" for i in range(1001)]
    folder = save(tmp_path, **{field: dict.fromkeys(names, 1) if field.endswith("pattern") else names})
    with pytest.raises(ModelError, match=f"{field} in its configuration has 1,001 entries"):
        adapt(folder)


def test_a_pattern_of_another_kind_is_refused_too(tmp_path, monkeypatch):
    """IA3's feedforward_modules are matched as a pattern as well."""
    monkeypatch.setattr(patterns, "MATCH_SECONDS", 0.2)
    config = IA3Config(
        task_type="CAUSAL_LM", target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"]
    )
    folder = save(tmp_path, config=config, feedforward_modules=HANGS)
    with pytest.raises(ModelError, match="takes too long"):
        adapt(folder)


@pytest.mark.parametrize(
    "pattern", [r".*\.attn\.c_attn", r"transformer\.h\.\d+\.attn\.c_attn", "(.*)c_attn", r".*(c_attn)"]
)
def test_ordinary_patterns_are_read(tmp_path, pattern):
    """An ordinary pattern is matched as peft does."""
    assert adapt(save(tmp_path, target_modules=pattern))


def test_what_is_no_pattern_is_peft_to_judge(tmp_path):
    """A malformed pattern gives one message."""
    with pytest.raises(ModelError, match="does not fit the model"):
        adapt(save(tmp_path, target_modules="((("))


def test_summarize_ends_with_status_2(tmp_path, monkeypatch, capsys):
    """On the command line a non-terminating pattern gives one message and status 2."""
    monkeypatch.setattr(patterns, "MATCH_SECONDS", 0.2)
    (tmp_path / "a.txt").write_text("A document.")
    folder = save(tmp_path / "adapter", target_modules=HANGS)
    assert cli.main(["summarize", str(folder), "--file", str(tmp_path / "a.txt"), "--device", "cpu"]) == 2
    assert "takes too long" in capsys.readouterr().err


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"]),
        LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn", "wte"]),
        LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"], modules_to_save=["wte"]),
        LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn", "lm_head"]),
    ],
    ids=["saved whole", "adapted", "a module of its own", "the head adapted"],
)
def test_an_adapter_of_a_resized_base_is_told_with_both_sizes(tmp_path, config):
    """Tokens added before training change the base: the message gives both vocabulary sizes, and what to give
    instead."""
    base = BaseModel("tiny").load()
    tokens = base.config.vocab_size
    base.resize_token_embeddings(tokens + 2)
    get_peft_model(base, config).save_pretrained(tmp_path, save_embedding_layers=True)
    said = (
        rf"trained on a base with {tokens + 2:,} tokens in its vocabulary, and this base has {tokens:,}: "
        "tokens were added"
    )
    with pytest.raises(ModelError, match=rf"{said}.*--model.*resize_token_embeddings\({tokens + 2}\)"):
        adapt(tmp_path)


def test_an_adapter_saved_with_the_embedding_of_its_own_base_is_read(tmp_path):
    """An embedding of the base's size next to the adapter does not count as another vocabulary."""
    get_peft_model(
        BaseModel("tiny").load(), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"])
    ).save_pretrained(tmp_path, save_embedding_layers=True)
    assert adapt(tmp_path)

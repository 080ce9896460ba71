"""Models that cannot do what a suite requires, and folders that are something else: refused before work, with the right
message."""

import json
import math
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from support.worlds import VOCABULARY, under_engine, with_abilities
from triptych import cli
from triptych.config.schema import make_suite
from triptych.contracts import AdaptedModel
from triptych.corpus.sequence import Pair, Template
from triptych.engine.batching import collate
from triptych.engine.forward import target_losses
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import check_generation, generate
from triptych.engine.generation.own_loop import own_loop_agrees
from triptych.engine.reading import check_reading
from triptych.engine.savings.ready import head_is_plain
from triptych.errors import ModelError, ResultsError
from triptych.models import place
from triptych.models.base import BaseModel
from triptych.models.parts import take_apart, usable_positions
from triptych.models.tiny import Tiny
from triptych.results.reading import read_finished
from triptych.run import corpus as corpora
from triptych.run.entries import suite_entries
from triptych.suite.finished import finished_record, refuse_other_weights
from triptych.suite.planned_runs import PlannedRun

TEMPLATE = Template((), (3, 4), 0)
SMALL = [
    "limits.train_documents=8",
    "limits.validation_documents=4",
    "limits.test_documents=4",
    "limits.document_tokens=100",
    "limits.summary_tokens=60",
    "training.max_epochs=1",
    "training.global_batch_size=4",
    "training.micro_batch_size=4",
    "search.trials=0",
    "decoding.max_new_tokens=4",
    "decoding.num_beams=1",
]


def made(kind: str, **settings):
    """A small random model with the embedded tokenizer's vocabulary."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, pad_token_id=0, **settings)
    return AutoModelForCausalLM.from_config(config).eval()


def phi3(**settings):
    """A Phi-3-like model; `settings`: for its positions."""
    return made(
        "phi3",
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        **settings,
    )


LONG = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Write a model with the embedded tokenizer into a folder."""

    def write(name: str, model):
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        BaseModel("tiny").tokenizer.save_pretrained(folder)
        return folder

    return write


def refused(capsys, *arguments: str) -> str:
    """The message of a command that ends with status 2 and writes nothing."""
    assert cli.main([*arguments, "--device", "cpu"]) == 2
    return capsys.readouterr().err.strip()


def train(label: str, model, out, *settings: str) -> list[str]:
    """The command that runs one method on a few stories."""
    return [
        "train",
        label,
        "--model",
        str(model),
        "--data",
        "newswire",
        "--methods",
        label,
        "--seeds",
        "0",
        "--out",
        str(out),
        "--set",
        *SMALL,
        *settings,
    ]


# Positions


@pytest.mark.parametrize(
    ("model", "positions"),
    [
        (lambda: phi3(max_position_embeddings=512, original_max_position_embeddings=64, rope_scaling=LONG), 64),
        (lambda: phi3(max_position_embeddings=512), 512),
        (
            lambda: made(
                "llama",
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=128,
                rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4},
            ),
            128,
        ),
        (
            lambda: made(
                "llama",
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=256,
                rope_parameters={
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "rope_theta": 1e4,
                    "original_max_position_embeddings": 64,
                },
            ),
            256,
        ),
        (lambda: made("mamba", hidden_size=32, num_hidden_layers=2, state_size=4), None),
    ],
)
def test_what_is_read_of_a_row_does_not_depend_on_its_batch(model, positions, machine):
    """Up to the used positions, loss and summary of a short document are the same as when it is alone."""
    model = model()
    parts = take_apart(model)
    assert usable_positions(model.config) == parts.max_positions == positions
    draw, longest = np.random.default_rng(0), (positions or 200)
    pairs = [
        Pair(str(n), draw.integers(5, VOCABULARY, n).astype(np.int32), draw.integers(5, VOCABULARY, 6).astype(np.int32))
        for n in (20, longest - 2 - 6 - 1)
    ]
    engine = under_engine(AdaptedModel(parts), TEMPLATE, machine)
    with torch.no_grad():
        alone = target_losses(engine.on_plain_path(), collate(pairs[:1], TEMPLATE))
        beside = target_losses(engine.on_plain_path(), collate(pairs, TEMPLATE))[: len(alone)]
    torch.testing.assert_close(alone, beside, rtol=1e-4, atol=1e-4)
    for own in (False, True):
        engine = with_abilities(engine, own_decoding=own and own_loop_agrees(engine))
        plan = DecodingPlan(2, 6, 0, 1.0, 2)
        both = generate(engine, [pair.document_ids for pair in pairs], plan)
        assert both[0] == generate(engine, [pairs[0].document_ids], plan)[0]


@pytest.mark.parametrize("plain", ["true", "false"])
def test_beyond_mpts_biases_is_refused_before_work(folders, tmp_path, capsys, plain):
    """MPT has another name for its positions, and no biases beyond them."""
    unused = {"max_position_embeddings": 512}  # a key of other families
    folder = folders("mpt", made("mpt", d_model=32, n_heads=4, n_layers=2, max_seq_len=128, **unused))
    said = refused(capsys, *train("untuned", folder, tmp_path / "a", f"engine.plain={plain}"))
    assert "positions, and the model has 128: lower limits.document_tokens" in said and "LongRoPE" not in said
    few = "limits.document_tokens=40"
    assert cli.main([*train("untuned", folder, tmp_path / "b", few, f"engine.plain={plain}"), "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("mpt", "max_seq_len"),
        ("dbrx", "max_seq_len"),
        ("gpt2", "n_positions"),
        ("ctrl", "n_positions"),
        ("rwkv", "context_length"),
        ("kimi_linear", "model_max_length"),
        ("opt", "max_position_embeddings"),
    ],
)
def test_positions_are_known_by_every_name(kind, name):
    """Whatever a configuration calls its positions, their limit is respected."""
    assert usable_positions(CONFIG_MAPPING[kind](**{name: 96})) == 96


def test_beyond_longropes_first_window_is_refused_before_work(folders, tmp_path, capsys):
    """For a longrope model the message gives the safe number of positions, and it is compared within them."""
    folder = folders(
        "longrope", phi3(max_position_embeddings=512, original_max_position_embeddings=128, rope_scaling=LONG)
    )
    said = refused(capsys, *train("untuned", folder, tmp_path / "a"))
    assert "the model has 128 that are safe to use of its 512: beyond them LongRoPE" in said
    assert not (tmp_path / "a").exists()
    assert cli.main([*train("untuned", folder, tmp_path / "b", "limits.document_tokens=40"), "--device", "cpu"]) == 0


# Numbers


def test_weights_too_large_are_named_before_training(folders, tmp_path, capsys):
    """Finite weights with non-finite logits are reported as such, never as a scaled head or a learning rate."""
    model = BaseModel("tiny").load()
    model.transformer.h[0].mlp.c_fc.weight.data[:] = 3e38
    folder = folders("large", model)
    with pytest.raises(ModelError, match="logits of GPT2LMHeadModel are NaN or infinite before training"):
        head_is_plain(AdaptedModel(take_apart(BaseModel(str(folder)).load())))
    for label, setting in (
        ("lora", "engine.plain=false"),
        ("lora", "engine.plain=true"),
        ("untuned", "engine.plain=true"),
    ):
        said = refused(capsys, *train(label, folder, tmp_path / f"{label}{setting}", setting))
        assert "NaN or infinite before training" in said and "learning rate" not in said and "capped" not in said


# Families


def test_a_family_without_beams_is_told_before_a_suite_begins(folders, tmp_path, capsys):
    """RWKV cannot reorder its state and does not mask padding: the method is named, with the alternatives."""
    folder = folders(
        "rwkv", made("rwkv", hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, context_length=256)
    )
    said = refused(capsys, *train("untuned", folder, tmp_path / "a", "decoding.num_beams=2"))
    assert "[method.untuned] RwkvForCausalLM cannot generate with decoding.num_beams=2" in said
    assert "Set decoding.num_beams=1" in said
    said = refused(capsys, *train("untuned", folder, tmp_path / "b"))
    assert "Set decoding.batch_size=1" in said and not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


@pytest.mark.parametrize("label", ["untuned", "prompt-tuning"])
def test_mamba_writes_with_beams_and_prompts(folders, tmp_path, label):
    """A state-space model is compared with beams, untuned and with a prompt: neither needs what it lacks."""
    folder = folders("mamba", made("mamba", hidden_size=32, num_hidden_layers=2, state_size=4))
    few = [
        "decoding.num_beams=2",
        "limits.document_tokens=20",
        "limits.train_documents=4",
        "limits.validation_documents=2",
    ]
    assert cli.main([*train(label, folder, tmp_path / "out", *few), "--device", "cpu"]) == 0


def test_lora_of_a_family_without_attention_is_told_with_both_ways_out(folders, tmp_path, capsys):
    """If no projections are known, the message lists the matrices, and says that the method can be left out."""
    folder = folders("mamba", made("mamba", hidden_size=32, num_hidden_layers=2, state_size=4))
    said = refused(capsys, *train("lora", folder, tmp_path / "out"))
    assert (
        "[method.lora] this family's query, key and value projections are not known" in said
        and "leave this method out of --methods" in said
    )
    assert "There are: dt_proj, in_proj, out_proj, x_proj." in said and not (tmp_path / "out").exists()


def test_train_checks_the_row_that_it_runs_alone(folders, tmp_path, capsys, monkeypatch):
    """A method that the model does not support stops `compare`, but not `train` of another; documents are cut alike."""
    folder = folders("mamba", made("mamba", hidden_size=32, num_hidden_layers=2, state_size=4))
    few = ["limits.document_tokens=20", "limits.train_documents=4", "limits.validation_documents=2"]
    rows = ["--methods", "untuned,lora,prompt-tuning", "--device", "cpu"]
    reserved = []
    prepare = corpora.prepare

    def noted(*arguments, **options):
        reserved.append(options["reserved"])
        return prepare(*arguments, **options)

    monkeypatch.setattr("triptych.run.corpus.prepare", noted)
    assert cli.main([*train("untuned", folder, tmp_path / "one", *few), *rows]) == 0
    assert set(reserved) == {50}, "the virtual tokens of the prompt's row"
    compare = ["compare", *train("untuned", folder, tmp_path / "all", *few)[2:], *rows]
    assert "[method.lora] this family's query, key and value projections are not known" in refused(capsys, *compare)


def test_our_own_mistakes_are_not_taken_for_the_familys(machine, monkeypatch):
    """An error that is not transformers' own refusal passes through the probe unchanged."""
    engine = under_engine(AdaptedModel(take_apart(BaseModel("tiny").load())), TEMPLATE, machine)

    def broken(*arguments, **options):
        raise TypeError("a mistake")

    monkeypatch.setattr(engine.parts.model, "generate", broken)
    with pytest.raises(TypeError, match="a mistake"):
        check_generation(engine, DecodingPlan(1, 4, 3, 1.0, 4))


SMALL_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
IN_EVERY_BLOCK = {
    **SMALL_SHAPE,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_kv_shared_layers": 0,
    "layer_types": ["full_attention"] * 2,
    "vocab_size_per_layer_input": VOCABULARY,
}
GEMMA_3N = {"laurel_rank": 8, "altup_num_inputs": 2, "activation_sparsity_pattern": [0.0] * 2}


@pytest.mark.parametrize("plain", ["true", "false"])
def test_an_encoder_is_told_before_training(folders, tmp_path, capsys, plain):
    """If a token changes predictions before it, the loss would read its own targets: no path trains such a model."""
    folder = folders("roberta", made("roberta", **SMALL_SHAPE))
    setting = f"engine.plain={plain}"
    said = refused(capsys, *train("lora", folder, tmp_path / "out", setting))
    assert "RobertaForCausalLM looks ahead" in said and "would read its own targets" in said
    command = ["compare", *train("untuned", folder, tmp_path / "out", setting)[2:], "--dry-run"]
    assert "RobertaForCausalLM looks ahead" in refused(capsys, *command)


@pytest.mark.parametrize("kind", ["bert", "electra", "xlm-roberta", "camembert", "roformer"])
def test_an_encoder_is_known_by_what_it_computes(kind):
    """A family of encoders is refused, while its decoder variant is not."""
    with pytest.raises(ModelError, match="looks ahead"):
        check_reading(take_apart(made(kind, **SMALL_SHAPE)))
    check_reading(take_apart(made(kind, **SMALL_SHAPE, is_decoder=True)))


@pytest.mark.parametrize(("kind", "settings"), [("gemma3n_text", GEMMA_3N), ("gemma4_text", {})])
def test_embeddings_in_every_block_are_told(kind, settings):
    """A model whose blocks look up tokens again needs their ids, which vectors do not give; without such blocks it is
    read."""
    model = made(kind, **IN_EVERY_BLOCK, **settings, hidden_size_per_layer_input=16)
    for parameter in model.parameters():
        if parameter.ndim == 1:  # some start at zero, and so does what the blocks look up
            parameter.data += 0.1
    with pytest.raises(ModelError, match="ForCausalLM needs the ids of its tokens") as caught:
        check_reading(take_apart(model))
    assert ("it fails" in str(caught.value)) == (kind == "gemma4_text")
    if kind == "gemma4_text":
        check_reading(take_apart(made(kind, **IN_EVERY_BLOCK, hidden_size_per_layer_input=0)))


# Folders


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors"])
def test_a_quantized_folder_is_named(tmp_path, method):
    """A quantized model is refused by its kind of quantization, with the alternative, without any package for it."""
    shutil.copytree(Tiny().folder(), tmp_path / "m")
    config = json.loads((tmp_path / "m/config.json").read_text())
    (tmp_path / "m/config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": method, "bits": 4}})
    )
    base = BaseModel(str(tmp_path / "m"))
    for read in (lambda: base.config, base.structure, base.load):
        with pytest.raises(ModelError, match=rf"are quantized \({method}\).*Give the model that was quantized"):
            read()


def test_an_adapter_given_as_a_model_is_named(tmp_path):
    """An adapter's folder as --model is reported as such, with the base to give instead."""
    for base, named in (("gpt2", "is an adapter of 'gpt2', not a model"), (None, "is an adapter, not a model")):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        with pytest.raises(ModelError, match=f"{named}. Give --model its base"):
            _ = BaseModel(str(tmp_path)).config
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match="is an adapter, not a model"):
        _ = BaseModel(str(tmp_path)).config


@pytest.mark.parametrize("left", [(), ("special_tokens_map.json",), ("tokenizer_config.json",), ("added_tokens.json",)])
def test_a_folder_without_a_tokenizer_is_told(tmp_path, left):
    """A Trainer's checkpoint without tokenizer files is reported as such, with the remedy."""
    BaseModel("tiny").load().save_pretrained(tmp_path)
    for name in left:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError, match=r"(holds no tokenizer files|has no vocabulary).*save_pretrained"):
        _ = BaseModel(str(tmp_path)).tokenizer


def test_a_path_and_a_name_are_told_apart(tmp_path, monkeypatch):
    """A missing path is reported as a missing path; a name is looked up here and on the Hub; known names are not listed
    without reason."""
    monkeypatch.setattr(place, "offline_if_unreachable", nullcontext)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("x")
    for path in ("./nosuch", "/no/such", "a/b/c", "nosuch.gguf"):
        with pytest.raises(ModelError, match=r"There is no model folder .*: the path does not exist"):
            _ = BaseModel(path).tokenizer
    with pytest.raises(ModelError, match="the path is a file, not a folder"):
        _ = BaseModel("file.txt").tokenizer
    for name in ("nosuch/folder", "t5-small"):
        with pytest.raises(
            ModelError, match=f"There is no folder '{name}' here, and the tokenizer of that name"
        ) as caught:
            _ = BaseModel(name).tokenizer
        assert "HF_HUB_OFFLINE is set" in str(caught.value) and "local_files_only" not in str(caught.value)
        assert "Known:" not in str(caught.value) and "Did you mean" not in str(caught.value)
    with pytest.raises(ModelError, match=r"Did you mean 'tiny'\?$"):
        _ = BaseModel("tinny").tokenizer


def test_an_embedded_model_that_a_bundle_left_out_is_found_in_it(tmp_path, monkeypatch):
    """If an embedded model's folder is missing, the message says where a bundle keeps it."""
    monkeypatch.setattr(Tiny, "folder", lambda self: tmp_path / "assets/tiny")
    with pytest.raises(ModelError, match="give --model models/base/tiny") as caught:
        _ = BaseModel("tiny").tokenizer
    assert "Did you mean" not in str(caught.value)


def test_evaluation_and_resume_refuse_other_weights(tmp_path, capsys, monkeypatch):
    """A run is evaluated, and a suite resumed, only with the weights of its records: one changed shard is detected."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "m"
    BaseModel("tiny").load().save_pretrained(folder, max_shard_size="2MB")
    BaseModel("tiny").tokenizer.save_pretrained(folder)
    assert cli.main([*train("untuned", folder, tmp_path / "out"), "--device", "cpu"]) == 0
    assert cli.main(["evaluate", str(tmp_path / "out/runs/untuned/0"), "--device", "cpu"]) == 0
    suite = make_suite(read_finished(tmp_path / "out/runs/untuned/0").config)
    planned = PlannedRun(suite, tmp_path / "out", suite_entries(suite)[0], 0, "untuned")
    record = finished_record(planned)
    assert record is not None
    finished = [(planned, record)]
    refuse_other_weights(finished)
    model = BaseModel(str(folder)).load()
    model.transformer.h[1].mlp.c_fc.weight.data[0, 0] += math.pi
    model.save_pretrained(folder, max_shard_size="2MB")
    with pytest.raises(ResultsError, match="was made with other weights"):
        refuse_other_weights(finished)
    said = refused(capsys, "evaluate", str(tmp_path / "out/runs/untuned/0"))
    assert "was made with another model" in said and "Give the same one with --model" in said

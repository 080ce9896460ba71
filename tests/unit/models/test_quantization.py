"""A base model in 4 bits: which methods support it, what stays exact, and what is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel

from support.families import random_model
from support.made_up import make_results
from support.worlds import VOCABULARY
from triptych.analysis.fairness import refuse_unfair
from triptych.config.schema import Decoding, Limits, Suite
from triptych.contracts import Context, Method
from triptych.engine.batching import collate
from triptych.engine.forward import target_losses
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import generate
from triptych.engine.model import EngineModel
from triptych.engine.savings.ready import cast_frozen_matrices, make_ready
from triptych.errors import ConfigError, ModelError, ResultsError
from triptych.measure.parameters import count_parameters
from triptych.models import quantization
from triptych.models.base import BaseModel
from triptych.models.place import Place
from triptych.models.quantization import is_quantized, quantized_layers
from triptych.models.sharing import share_tensors
from triptych.results.consistency import setting
from triptych.run.adapters import Origin, check_origin
from triptych.run.entries import make_entry
from triptych.run.models import sketch_model
from triptych.run.preflight import check_suite
from triptych.run.refusals import refuse_trained_weights

OWN_WEIGHTS = ("full", "last-layers", "bitfit")
FROZEN_BASE = ("lora", "dora", "ia3", "prompt-tuning", "infix-tuning", "prefix-tuning", "untuned")
IDS = torch.arange(5, 25)[None]


@pytest.fixture(scope="module")
def bitsandbytes():
    """The library, which is an extra dependency."""
    return pytest.importorskip("bitsandbytes", reason="needs the extra quant: pip install 'triptych[quant]'")


@pytest.fixture
def quantized(world, bitsandbytes) -> BaseModel:
    """Each family in turn, in 4 bits."""
    return BaseModel(str(world.folder), quantization="nf4")


@pytest.fixture
def pretended(monkeypatch):
    """Pretend that the library is installed: early refusals can be tested without it."""
    monkeypatch.setattr(quantization, "is_bitsandbytes_available", lambda: True)


def small_suite(folder: Path) -> Suite:
    """A small suite on a quantized model with 128 positions."""
    limits = Limits(document_tokens=40, summary_tokens=16)
    decoding = Decoding(max_new_tokens=16)
    return Suite(model=str(folder), data="newswire", model_quantization="nf4", limits=limits, decoding=decoding)


def method(kind: str) -> Method:
    """A method with its defaults."""
    found = make_entry(kind, {}).plugin
    assert isinstance(found, Method)
    return found


def under_engine(world, model, kind: str) -> EngineModel:
    """A loaded model under the engine, as changed by a method."""
    context = Context(world.tokenizer, torch.Generator().manual_seed(0), torch.arange(VOCABULARY))
    return EngineModel.assemble(model, lambda parts: method(kind).adapt(parts, context), world.template, world.machine)


def losses_and_gradients(model: EngineModel, pairs) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The losses of a batch, and the gradients of what is trained."""
    losses = target_losses(model, collate(pairs, model.template))
    trained = list(model.adapted.trained_parameters().values())
    if not trained:
        return losses, []
    return losses.detach(), list(torch.autograd.grad(losses.mean(), trained))


# --- refused before any work, with or without the library ---


def test_without_the_library_the_message_says_what_to_install(world, monkeypatch):
    """Without bitsandbytes a suite is refused before its data and weights are read, with the command to install it."""
    monkeypatch.setattr(quantization, "is_bitsandbytes_available", lambda: False)
    with pytest.raises(ModelError, match=r"needs .*bitsandbytes: pip install 'triptych\[quant\]'"):
        BaseModel(str(world.folder), quantization="nf4").load()
    suite = small_suite(world.folder)
    with pytest.raises(ModelError, match=r"pip install 'triptych\[quant\]'"):
        check_suite(suite, [make_entry("lora", {})], "cpu", Path("never-written"))
    assert not Path("never-written").exists()


def test_methods_that_train_the_models_own_weights_are_refused_together(gpt2, pretended):
    """One message names all methods that would train 4-bit weights, and only these, and says what to do."""
    suite = small_suite(gpt2.folder)
    entries = [make_entry(kind, {}) for kind in (*OWN_WEIGHTS, *FROZEN_BASE)]
    with pytest.raises(
        ConfigError, match="4 bits, which cannot be trained, and full, last-layers, bitfit would"
    ) as said:
        check_suite(suite, entries, "cpu", Path("never-written"))
    assert "leave full, last-layers, bitfit out of methods" in str(said.value)
    assert not Path("never-written").exists()


def test_a_head_of_its_own_is_the_models_own_weight(gpt2):
    """A head untied by last-layers is a model weight too, and is refused; without quantization nothing is."""
    base = BaseModel(str(gpt2.folder), quantization="nf4")
    untied = make_entry("last-layers", {"num_blocks": 0, "final_norm": False, "head": "untied"}).plugin
    adapted = {"untied": sketch_model(base, untied)}
    with pytest.raises(ConfigError, match="untied would train"):
        refuse_trained_weights(base, adapted)
    refuse_trained_weights(replace(base, quantization="none"), adapted)


@pytest.mark.parametrize("family", ["Falcon", "Mamba"])
def test_families_that_cannot_be_quantized_are_refused(family):
    """A family without matrices of the usual kinds, or with other computations, is refused by its structure."""
    if family == "Mamba":
        from transformers import MambaConfig, MambaForCausalLM

        with torch.device("meta"):
            model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1))
    else:
        model = random_model(family)
    with pytest.raises(ModelError, match=rf"'it' \({family}.*\) cannot be quantized.*model_quantization = \"none\""):
        quantization.check_structure("it", model)


def test_a_gguf_file_is_refused(pretended):
    """Transformers does not quantize a GGUF file: it is refused, with the alternative."""
    base = BaseModel("model.gguf", quantization="nf4")
    base.__dict__["place"] = Place(".", Path("model.gguf"))
    with pytest.raises(ModelError, match=r"'model\.gguf' is a GGUF file, which cannot be quantized"):
        base.load()


def test_runs_on_unlike_bases_share_no_table():
    """Runs with and without a quantized base are refused by that key; records without it count as unquantized."""
    results = make_results(labels=("untuned", "lora"), seeds=(0,))
    first, second = results.runs[0], results.runs[1]
    assert first.setting("model_quantization") == "none"
    config = {**second.record.config, "model_quantization": "nf4"}
    other = replace(second, record=second.record.model_copy(update={"config": config}))
    with pytest.raises(ResultsError, match=r"config.model_quantization is 'none' for .* and 'nf4' for "):
        refuse_unfair([first, other])
    assert setting({"training": {}}, "model_quantization") == "none"


def test_an_adapter_serves_on_the_base_that_it_was_trained_on(world):
    """A quantized base has another fingerprint; an adapter trained on it is refused elsewhere."""
    plain = BaseModel(str(world.folder))
    base = replace(plain, quantization="nf4")
    assert base.fingerprint == f"{plain.fingerprint}+nf4"
    origin = Origin("lora", "lora", {}, plain.name, "main", base.fingerprint, None, 0, "nf4")
    check_origin(origin, base, Path("adapter"))
    with pytest.raises(ResultsError, match=r'model_quantization = "nf4", and this one has "none"'):
        check_origin(origin, plain, Path("adapter"))


# --- exact, with the library ---


def test_matrices_of_the_blocks_alone_are_in_4_bits(quantized, world):
    """The matrices of all blocks are quantized; head, embeddings, norms, biases and counts are unchanged."""
    model, plain = quantized.load(), replace(quantized, quantization="none").load()
    layers = dict(quantized_layers(model))
    assert len(layers) == 3 * (4 if isinstance(world.prototype, GPT2LMHeadModel) else 7)
    assert not is_quantized(model.get_output_embeddings()) and not is_quantized(model.get_input_embeddings())
    others = {name: p for name, p in model.named_parameters() if name.removesuffix(".weight") not in layers}
    kept = dict(plain.named_parameters())
    assert all(torch.equal(p, kept[name]) for name, p in others.items())
    assert count_parameters(model).total == count_parameters(plain).total
    said = quantization.describe("nf4", model.requires_grad_(False))
    numbers = sum(math.prod(plain.get_submodule(name).weight.shape) for name in layers)
    assert said["quantized_parameters"] == numbers
    four_bits = sum(p.nbytes for p in others.values()) + numbers / 2
    assert four_bits < said["base_bytes"] < four_bits + 0.02 * numbers + 10 * len(layers)


def test_what_a_method_adds_does_not_count_as_the_base(quantized, world):
    """LoRA, whose layers present the wrapped weights as their own, does not change the base's reported size."""
    model = quantized.load().requires_grad_(False)
    before = quantization.describe("nf4", model)
    adapted = under_engine(world, model, "lora").adapted
    assert adapted.trained_parameters() and quantization.describe("nf4", adapted.parts.model) == before


@pytest.mark.parametrize("kind", FROZEN_BASE)
def test_every_method_on_a_frozen_base_computes_as_with_dequantized_weights(quantized, world, kind):
    """Losses and gradients on 4-bit weights are those on plain weights with the dequantized values."""
    found = losses_and_gradients(under_engine(world, quantized.load(), kind), world.pairs[:3])
    wanted = losses_and_gradients(under_engine(world, quantized.load_plain(), kind), world.pairs[:3])
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-6, atol=1e-6)
    for mine, other in zip(found[1], wanted[1], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_an_evaluation_changes_nothing(quantized, world):
    """An evaluation neither changes the weights nor blocks later gradients through them."""
    model = under_engine(world, quantized.load(), "prompt-tuning")
    before = losses_and_gradients(model, world.pairs[:3])
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(target_losses(model, collate(world.pairs[:3], model.template)), before[0])
    again = losses_and_gradients(model, world.pairs[:3])
    assert torch.equal(again[0], before[0]) and torch.equal(again[1][0], before[1][0]) and before[1][0].any()


def test_in_bf16_products_take_the_type_of_plain_layers(quantized):
    """Under autocast a 4-bit layer's output is bf16, close to that of plain layers; narrowing does not change its
    bytes."""
    model, plain = quantized.load(), quantized.load_plain()
    stored = [layer.weight.data.clone() for _, layer in quantized_layers(model)]
    for each in (model, plain):
        cast_frozen_matrices(each.requires_grad_(False), torch.bfloat16)
    name, layer = next(iter(quantized_layers(model)))
    states = torch.randn(2, 3, layer.in_features)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found, wanted = layer(states), plain.get_submodule(name)(states)
        logits = [each(IDS).logits.float().log_softmax(-1) for each in (model, plain)]
    assert found.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)
    assert (logits[0] - logits[1]).abs().mean() < 0.05 * logits[1].std()
    assert all(torch.equal(a, layer.weight) for a, (_, layer) in zip(stored, quantized_layers(model), strict=True))


def test_loaded_runs_share_the_4_bit_weights(quantized):
    """A model that shares another's tensors has the same 4-bit weights and scales in memory, and the same logits."""
    model = quantized.load().requires_grad_(False)
    shared = share_tensors(model)
    pairs = list(zip(quantized_layers(model), quantized_layers(shared), strict=True))
    assert pairs
    for (_, mine), (_, other) in pairs:
        assert mine is not other and mine.weight.data_ptr() == other.weight.data_ptr()
        assert mine.weight.quant_state is other.weight.quant_state
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, shared(IDS).logits)


def test_summaries_are_those_of_dequantized_weights_without_merging(quantized, world):
    """On 4-bit weights LoRA is not merged for summaries, and a note says so; the tokens are the same."""
    written = []
    for model in (quantized.load(), quantized.load_plain()):
        engine = under_engine(world, model, "lora")
        draw = torch.Generator().manual_seed(1)
        for name, parameter in engine.adapted.trained_parameters().items():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.2, generator=draw)
        engine = make_ready(engine)
        before = [layer.weight.data.clone() for _, layer in quantized_layers(model)]
        documents = [pair.document_ids for pair in world.pairs[:4]]
        decoding = DecodingPlan(
            num_beams=2,
            max_new_tokens=8,
            no_repeat_ngram_size=3,
            length_penalty=1.0,
            batch_size=4,
            min_new_tokens=0,
        )
        written.append(generate(engine, documents, decoding))
        assert any("without merging" in note for note in engine.can.notes) == bool(before)
        assert all(torch.equal(a, layer.weight) for a, (_, layer) in zip(before, quantized_layers(model), strict=True))
    assert written[0] == written[1] and any(written[0])


def test_damaged_weights_are_refused(gpt2, bitsandbytes, tmp_path):
    """NaN in a quantized matrix is detected, although no stored byte is NaN."""
    model = replace(BaseModel(str(gpt2.folder))).load()
    model.transformer.h[1].mlp.c_fc.weight.data[3, 4] = math.nan
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"NaN or infinite values, in 'transformer.h.1.mlp.c_fc.weight' first"):
        BaseModel(str(tmp_path), quantization="nf4").load()


def test_a_quantized_folder_stays_refused(gpt2, bitsandbytes, tmp_path):
    """A folder that is already quantized is refused as without the library, and the message says how to quantize
    here."""
    config = json.loads((gpt2.folder / "config.json").read_text())
    quantized = {**config, "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (tmp_path / "config.json").write_text(json.dumps(quantized))
    (tmp_path / "model.safetensors").write_bytes((gpt2.folder / "model.safetensors").read_bytes())
    for kind in ("none", "nf4"):
        with pytest.raises(ModelError, match=r'are quantized \(bitsandbytes\).*model_quantization = "nf4" stores it'):
            BaseModel(str(tmp_path), quantization=kind).load()

"""Each method does what its paper says, compared with the written-out formula, and with peft where peft is right."""

import copy
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, TaskType, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma4Config
from transformers.pytorch_utils import Conv1D

from support.made_up import make_results, make_run
from support.worlds import World, disturb, gradients, largest_difference, sequence_and_labels, train
from triptych.contracts import AdaptedModel, ModelParts
from triptych.engine.batching import collate
from triptych.engine.forward import target_logits, target_losses
from triptych.engine.generation.padding import left_padded
from triptych.errors import ConfigError, ResultsError
from triptych.measure.parameters import count_parameters
from triptych.methods.bitfit import BitFit
from triptych.methods.dora import DoRA
from triptych.methods.full import Full
from triptych.methods.ia3 import IA3
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA
from triptych.methods.prompt_tuning import PromptTuning
from triptych.methods.untuned import Untuned
from triptych.models.parts import block_matrices, take_apart
from triptych.run.adapters import Origin, check_belongs, load_tensors, read_manifest, save_adapter

ORIGIN = Origin("label", "kind", {}, "model", "main", "fingerprint")


def loss_of(world: World, adapted: AdaptedModel, pairs=None) -> torch.Tensor:
    return target_losses(world.engine(adapted), collate(pairs or world.pairs, world.template)).mean()


# LoRA


@pytest.mark.parametrize("targets", [None, "all-linear"], ids=["attention", "all"])
def test_lora_is_its_formula(world, targets):
    """With nonzero B, a target gives x W + bias + (alpha / rank) x A B, and the rest of the model is unchanged."""
    method = LoRA(rank=4, alpha=7, target_modules=targets)
    original, adapted = world.parts(), world.adapt(method)
    disturb(adapted, scale=0.3)
    before = block_matrices(original)
    assert adapted.notes["target_modules"] == sorted(method.matched(original))
    for name in adapted.notes["target_modules"]:
        base, changed = before[name], adapted.parts.model.get_submodule(name)
        weight = base.weight if isinstance(base, Conv1D) else base.weight.T  # [d_in, d_out]
        a, b = changed.lora_A["default"].weight.T, changed.lora_B["default"].weight.T  # [d_in, R], [R, d_out]
        assert a.shape == (weight.shape[0], 4) and b.shape == (4, weight.shape[1])
        x = torch.randn(3, weight.shape[0], generator=torch.Generator().manual_seed(0))
        expected = x @ weight + (7 / 4) * (x @ a @ b) + (base.bias if base.bias is not None else 0)
        torch.testing.assert_close(changed(x), expected, atol=1e-5, rtol=1e-5)


def test_lora_begins_as_the_model(world):
    """B starts at zero, so LoRA's first loss is the untouched model's; A is Kaiming uniform: within 1 / sqrt(d_in)."""
    adapted = world.adapt(LoRA(target_modules="all-linear"))
    assert torch.equal(loss_of(world, adapted), loss_of(world, world.adapt(Untuned())))
    for name, parameter in adapted.trained_parameters().items():
        if "lora_B" in name:
            assert not parameter.any()
        else:
            bound = parameter.shape[1] ** -0.5
            assert 0.8 * bound < parameter.abs().max() <= bound


def test_lora_default_targets_are_the_attention_projections(worlds):
    """The default is whatever produces queries, keys and values in the family: c_attn for GPT-2; three matrices for
    Llama."""
    found = {name: world.adapt(LoRA()).notes["target_modules"] for name, world in worlds.items()}
    assert found["gpt2"] == [f"transformer.h.{i}.attn.c_attn" for i in range(3)]
    assert {name.rsplit(".", 1)[-1] for name in found["llama"]} == {"q_proj", "k_proj", "v_proj"}


def test_a_target_that_matches_nothing_is_refused(world):
    """A target that matches no matrix is an error that names the nearest and lists the available ones."""
    real = {"gpt2": "c_attn", "llama": "q_proj"}[world.prototype.config.model_type]
    with pytest.raises(ConfigError) as caught:
        world.adapt(LoRA(target_modules=(real, real + "x")))
    message = str(caught.value)
    assert f"'{real}x' matches no weight matrix" in message and f"Did you mean '{real}'?" in message
    for name in block_matrices(world.parts()):
        assert name.rsplit(".", 1)[-1] in message


def test_the_head_is_no_target(world):
    """Head and embeddings are not weight matrices of the blocks: naming one is an error."""
    for name in ("lm_head", "wte", "embed_tokens"):
        with pytest.raises(ConfigError, match="matches no weight matrix"):
            world.adapt(LoRA(target_modules=(name,)))


def test_c_proj_is_attention_and_mlp(gpt2):
    """The notes list what matched: `c_proj` matches attention and MLP, `attn.c_proj` only attention."""
    both = gpt2.adapt(LoRA(target_modules=("c_proj",))).notes["target_modules"]
    assert both == sorted(f"transformer.h.{i}.{part}.c_proj" for i in range(3) for part in ("attn", "mlp"))
    adapted = gpt2.adapt(LoRA(target_modules=("attn.c_proj",)))
    assert adapted.notes["target_modules"] == [f"transformer.h.{i}.attn.c_proj" for i in range(3)]
    assert all(".attn.c_proj." in name for name in adapted.trained_parameters())


def test_what_is_noted_is_what_is_trained(world):
    """The names matched in the notes are exactly the modules with trained tensors."""
    for targets in (None, "all-linear"):
        adapted = world.adapt(LoRA(target_modules=targets))
        assert {name.split(".lora_")[0] for name in adapted.trained_parameters()} == set(
            adapted.notes["target_modules"]
        )


def test_a_rank_above_the_matrix_is_refused(world):
    """A rank above the smaller side of a target is an error that names the target and the largest possible rank."""
    with pytest.raises(ConfigError, match=r"rank = 4096 is above the smaller side of .*: at most \d+"):
        world.adapt(LoRA(rank=4096))


def peft_lora(world: World, adapted: AdaptedModel, method: LoRA) -> PeftModel:
    """peft's own model with the same weights."""
    targets = adapted.notes["target_modules"]
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=0.0,
        target_modules=targets,
        fan_in_fan_out=isinstance(block_matrices(world.parts())[targets[0]], Conv1D),
    )
    theirs = get_peft_model(copy.deepcopy(world.prototype), config).eval()
    mine = adapted.trained_parameters()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(mine[name.removeprefix("base_model.model.")])
    return theirs


def test_lora_equals_pefts(world):
    """With the same weights, loss and gradients are those of peft's LoRA on unpadded sequences."""
    method = LoRA(rank=4, target_modules="all-linear")
    adapted = world.adapt(method)
    disturb(adapted)
    theirs = peft_lora(world, adapted, method)
    parameters = {n.removeprefix("base_model.model."): p for n, p in theirs.named_parameters() if p.requires_grad}
    for pair in world.pairs[:3]:
        ids, labels = sequence_and_labels(pair, world.template)
        expected = theirs(input_ids=ids, labels=labels).loss
        loss = loss_of(world, adapted, [pair])
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
        wanted = torch.autograd.grad(expected, list(parameters.values()))
        assert largest_difference(gradients(adapted, loss), dict(zip(parameters, wanted, strict=True))) < 1e-5


# Prompt tuning


def test_a_prompt_begins_from_its_text(world):
    """By default the prompt's first rows are the embeddings of all pieces of [SUMMARIZE] and the instruction, in
    order."""
    method = PromptTuning(num_virtual_tokens=60)
    adapted = world.adapt(method)
    pieces = list(dict.fromkeys(world.tokenizer(method.init_text, add_special_tokens=False).input_ids))
    cue = world.tokenizer("[SUMMARIZE]", add_special_tokens=False).input_ids
    distinct = list(dict.fromkeys(cue))
    assert len(cue) > 1 and pieces[: len(distinct)] == distinct
    rows = adapted.virtual_tokens.weight
    assert torch.equal(rows[: len(pieces)], world.parts().token_embedding.weight[pieces])
    assert len(torch.unique(rows, dim=0)) == 60


@pytest.mark.parametrize("init", ["text", "vocabulary"])
@pytest.mark.parametrize("count", [1, 5, 20, 100])
def test_a_prompt_begins_from_distinct_vocabulary_rows(gpt2, init, count):
    """A prompt of any length begins with distinct rows of the token embedding."""
    method = PromptTuning(num_virtual_tokens=count, init=init)
    tokens = method.initial_tokens(gpt2.context()).tolist()
    assert len(set(tokens)) == len(tokens) == count
    assert torch.equal(gpt2.adapt(method).virtual_tokens.weight, gpt2.parts().token_embedding.weight[tokens])


def test_a_sampled_prompt_takes_frequent_tokens(gpt2):
    """The `vocabulary` init samples from the most frequent tokens of the training documents."""
    context = gpt2.context()
    frequent = torch.randperm(3072, generator=torch.Generator().manual_seed(1))
    context = type(context)(context.tokenizer, context.generator, torch.cat([frequent, torch.arange(3072, 20_000)]))
    tokens = PromptTuning(num_virtual_tokens=50, init="vocabulary").initial_tokens(context)
    assert set(tokens.tolist()) <= set(context.frequent_tokens[:5000].tolist())


def test_a_random_prompt_has_the_embeddings_scale(world):
    """The `random` init has the token embedding's spread, not that of N(0, 1)."""
    prompt = world.adapt(PromptTuning(num_virtual_tokens=100, init="random")).virtual_tokens.weight
    assert float(prompt.detach().std()) == pytest.approx(
        float(world.parts().token_embedding.weight.detach().std()), rel=0.05
    )


def test_a_prompt_stands_first_and_positions_run_on(world):
    """The model reads prompt and sequence as one: position 0 is the prompt's first row."""
    adapted = world.adapt(PromptTuning(num_virtual_tokens=4))
    disturb(adapted)
    pair = world.pairs[0]
    ids, _ = sequence_and_labels(pair, world.template)
    rows = torch.cat([adapted.virtual_tokens.weight, adapted.parts.token_embedding(ids[0])])[None]
    positions = torch.arange(rows.shape[1])[None]
    logits = adapted.parts.model(inputs_embeds=rows, position_ids=positions).logits[0]
    count = len(pair.summary_ids) + 1
    ours = target_logits(world.engine(adapted), collate([pair], world.template))
    torch.testing.assert_close(ours, logits[-count - 1 : -1], atol=1e-5, rtol=1e-5)


def peft_prompt(world: World, adapted: AdaptedModel) -> PeftModel:
    """peft's own model with the same prompt."""
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=adapted.num_virtual_tokens)
    theirs = get_peft_model(copy.deepcopy(world.prototype), config).eval()
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(adapted.virtual_tokens.weight)
    return theirs


def test_prompt_tuning_equals_pefts_unpadded(world):
    """With the same prompt, loss and gradient are those of peft's prompt tuning on unpadded sequences."""
    adapted = world.adapt(PromptTuning(num_virtual_tokens=6))
    disturb(adapted)
    theirs = peft_prompt(world, adapted)
    for pair in world.pairs[:3]:
        ids, labels = sequence_and_labels(pair, world.template)
        expected = theirs(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        loss = loss_of(world, adapted, [pair])
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
        (wanted,) = torch.autograd.grad(expected, [theirs.prompt_encoder["default"].embedding.weight])
        assert largest_difference(gradients(adapted, loss), {"virtual_tokens": wanted}) < 1e-5


def test_a_left_padded_prompt_is_right_where_pefts_is_not(gpt2):
    """Left-padded, our logits are those of the row alone, and peft's are not."""
    adapted = gpt2.adapt(PromptTuning(num_virtual_tokens=6))
    disturb(adapted)
    theirs = peft_prompt(gpt2, adapted)
    documents = [pair.document_ids for pair in sorted(gpt2.pairs, key=lambda pair: len(pair.document_ids))]
    short, long = documents[0], documents[-1]
    cue = list(gpt2.template.separator_ids)
    with torch.no_grad():
        rows, mask = left_padded(gpt2.engine(adapted), [short, long])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        batched = adapted.parts.model(inputs_embeds=rows, attention_mask=mask, position_ids=positions).logits[0, -1]
        alone, _ = left_padded(gpt2.engine(adapted), [short])
        expected = adapted.parts.model(inputs_embeds=alone).logits[0, -1]
        torch.testing.assert_close(batched, expected, atol=1e-4, rtol=1e-4)

        sequences = [torch.tensor([*document.tolist(), *cue]) for document in (short, long)]
        ids = torch.zeros(2, len(sequences[1]), dtype=torch.long)
        seen = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            ids[row, -len(sequence) :] = sequence
            seen[row, -len(sequence) :] = 1
        given = {"position_ids": (seen.cumsum(1) - 1).clamp(min=0)}
        pefts = theirs(input_ids=ids, attention_mask=seen, **given).logits[0, -1]
        pefts_alone = theirs(input_ids=sequences[0][None], attention_mask=torch.ones(1, len(sequences[0]))).logits[
            0, -1
        ]
    torch.testing.assert_close(pefts_alone, expected, atol=1e-4, rtol=1e-4)
    assert float((pefts - expected).abs().max()) > 0.1


# Last layers


def moved(world: World, method) -> tuple[AdaptedModel, set[str]]:
    """Train two steps; return the names of the tensors that changed."""
    loop = world.loop(method, max_epochs=1, global_batch_size=6)
    adapted = loop.model.adapted
    before = {name: p.detach().clone() for name, p in adapted.parts.model.named_parameters()}
    train(loop)
    return adapted, {name for name, p in adapted.parts.model.named_parameters() if not torch.equal(p, before[name])}


def test_an_untied_head_leaves_the_embeddings(gpt2):
    """Untied, a true copy of the embedding is trained: `wte` is bit-equal, and the config says so."""
    adapted, changed = moved(gpt2, LastLayers(num_blocks=0, final_norm=False, head="untied"))
    assert changed == {"lm_head.weight"} == set(adapted.trained_parameters())
    assert torch.equal(adapted.parts.token_embedding.weight, gpt2.prototype.transformer.wte.weight)
    assert adapted.parts.model.config.tie_word_embeddings is False and not adapted.parts.tied
    base = count_parameters(gpt2.prototype).total
    assert count_parameters(adapted.parts.model).total == base + adapted.parts.head.weight.numel()


def test_an_untied_head_begins_as_the_model(gpt2):
    """Before training the copy changes nothing."""
    adapted = gpt2.adapt(LastLayers(num_blocks=0, final_norm=False, head="untied"))
    assert torch.equal(loss_of(gpt2, adapted), loss_of(gpt2, gpt2.adapt(Untuned())))


def test_an_untied_head_survives_transformers(gpt2, tmp_path):
    """The saved config has `tie_word_embeddings=False`, so transformers loads the head untied."""
    adapted, _ = moved(gpt2, LastLayers(num_blocks=0, final_norm=False, head="untied"))
    adapted.parts.model.save_pretrained(tmp_path)
    again = type(gpt2.prototype).from_pretrained(tmp_path).eval()
    assert again.lm_head.weight is not again.transformer.wte.weight
    assert torch.equal(again.lm_head.weight, adapted.parts.head.weight)
    assert torch.equal(again.transformer.wte.weight, gpt2.prototype.transformer.wte.weight)


def test_a_tied_head_moves_the_embeddings(gpt2):
    """Tied, head and embedding change together, one tensor is counted, and the notes say so."""
    adapted, changed = moved(gpt2, LastLayers(num_blocks=0, final_norm=False, head="tied"))
    assert changed == {"transformer.wte.weight"}
    assert adapted.parts.head.weight is adapted.parts.token_embedding.weight
    assert count_parameters(adapted.parts.model).total == count_parameters(gpt2.prototype).total
    assert "input_embeddings" in adapted.notes
    batch = collate(gpt2.pairs, gpt2.template)
    adapted.parts.model.zero_grad()
    tokens = adapted.parts.token_embedding(batch.ids)
    tokens.retain_grad()
    adapted.parts.model(inputs_embeds=tokens).logits.sum().backward()
    assert tokens.grad.any()  # gradients reach the input


def test_a_frozen_head_stays(world):
    """With a frozen head, neither head nor embedding changes; blocks and final norm do, and nothing below them."""
    adapted, changed = moved(world, LastLayers(num_blocks=2))
    names = {id(p): name for name, p in adapted.parts.model.named_parameters()}
    expected = {names[id(p)] for block in adapted.parts.blocks[-2:] for p in block.parameters()}
    expected |= {names[id(p)] for p in adapted.parts.final_norm.parameters()}
    assert changed == expected == set(adapted.trained_parameters())
    assert "input_embeddings" not in adapted.notes


def test_heads_of_their_own(worlds):
    """If head and embedding are two tensors, `untied` trains the existing head, and `tied` is refused."""
    llama = worlds["llama"]
    adapted, changed = moved(llama, LastLayers(num_blocks=0, final_norm=False, head="untied"))
    assert changed == {"lm_head.weight"}
    assert count_parameters(adapted.parts.model).total == count_parameters(llama.prototype).total
    with pytest.raises(ConfigError, match="separate tensor"):
        llama.adapt(LastLayers(head="tied"))


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (LastLayers(num_blocks=4), "num_blocks = 4, but the model has 3 blocks"),
        (LastLayers(num_blocks=0, final_norm=False), "leave nothing to train"),
    ],
)
def test_last_layers_that_are_not_there_are_refused(world, method, says):
    """More blocks than the model has, or nothing to train, is an error with a clear message."""
    with pytest.raises(ConfigError, match=says):
        world.adapt(method)


def test_a_missing_norm_is_refused(gpt2):
    """`final_norm` without a final norm is an error; otherwise the blocks are trained."""
    parts = gpt2.parts()
    parts.final_norm = None
    with pytest.raises(ConfigError, match="has no final norm"):
        LastLayers().adapt(parts, gpt2.context())
    assert LastLayers(final_norm=False).adapt(parts, gpt2.context()).trained_parameters()


# The others


def test_full_trains_everything(world):
    """Full fine-tuning trains every parameter, and nothing is added."""
    adapted = world.adapt(Full())
    counts = count_parameters(adapted.parts.model)
    assert counts.trainable == counts.total == count_parameters(world.prototype).total


# Models of several parts


IMAGES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "attention_bias": True,
    "initializer_range": 0.2,
}


def gemma3() -> ModelParts:
    """A Gemma 3 that also reads images: a vision tower with matrices of the same names, and a projector."""
    torch.manual_seed(0)
    config = Gemma3Config(
        text_config=TEXT, vision_config={**IMAGES, "image_size": 28, "patch_size": 14}, mm_tokens_per_image=4
    )
    return take_apart(AutoModelForCausalLM.from_config(config).eval())


def gemma4() -> ModelParts:
    """A Gemma 4 that also reads images, without embeddings in every block: peft supports no layer of its vision
    tower."""
    torch.manual_seed(0)
    text = {**TEXT, "hidden_size_per_layer_input": 0, "layer_types": ["full_attention"] * 2, "attention_bias": False}
    vision = {**IMAGES, "num_key_value_heads": 2, "head_dim": 8}
    return take_apart(
        AutoModelForCausalLM.from_config(Gemma4Config(text_config=text, vision_config=vision, audio_config=None)).eval()
    )


@pytest.mark.parametrize("made", [gemma3, gemma4])
@pytest.mark.parametrize(
    "method", [LoRA(rank=2), DoRA(rank=2), IA3(), Full(), BitFit()], ids=lambda m: type(m).__name__
)
def test_of_a_model_that_reads_images_the_text_is_trained(made, method, gpt2):
    """Parts that text does not pass through get no gradient, so they are neither trained nor counted as trained."""
    if (made, type(method)) == (gemma4, BitFit):
        with pytest.raises(ConfigError, match="has no biases"):
            method.adapt(made(), gpt2.context())
        return
    adapted = method.adapt(made(), gpt2.context())
    trained = adapted.trained_parameters()
    ids = torch.arange(8)[None]
    adapted.parts.model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    assert trained and {name for name, parameter in trained.items() if parameter.grad is None} == set()
    assert not any("vision" in name or "projector" in name for name in trained)
    if isinstance(method, Full):
        blocks = {id(p) for each in (adapted.parts.blocks, adapted.parts.head) for p in each.parameters()}
        assert blocks < {id(p) for p in trained.values()}


def test_what_peft_is_told_of_an_ordinary_model(world):
    """peft gets name endings, as in its own configurations, if they match only the blocks' matrices."""
    for method in (LoRA(rank=2), IA3()):
        config = world.adapt(method).peft_config
        assert all("." not in name or name == "mlp.c_proj" for name in config.target_modules)


# What is saved


@pytest.mark.parametrize(
    "method",
    [LoRA(rank=4), LoRA(rank=4, target_modules="all-linear"), PromptTuning(num_virtual_tokens=6)],
    ids=["lora", "lora-all", "prompt"],
)
def test_peft_reads_what_is_saved(world, method, tmp_path):
    """An adapter is saved in peft's format: loaded by peft onto the same model, it gives the same logits."""
    adapted = world.adapt(method)
    disturb(adapted)
    save_adapter(adapted, tmp_path, ORIGIN)
    theirs = PeftModel.from_pretrained(copy.deepcopy(world.prototype), tmp_path).eval()
    pair = world.pairs[0]
    ids, _ = sequence_and_labels(pair, world.template)
    with torch.no_grad():
        logits = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        ours = target_logits(world.engine(adapted).on_plain_path(), collate([pair], world.template))
    count = len(pair.summary_ids) + 1
    torch.testing.assert_close(ours, logits[-count - 1 : -1], atol=1e-5, rtol=1e-5)


def test_last_layers_save_what_is_trained_alone(gpt2, tmp_path):
    """Last layers are saved as the trained tensors under their own names: an untied head, or the embedding it is tied
    to."""
    for head, name in (("untied", "lm_head.weight"), ("tied", "transformer.wte.weight")):
        adapted = gpt2.adapt(LastLayers(num_blocks=0, final_norm=False, head=head))
        save_adapter(adapted, tmp_path / head, ORIGIN)
        assert set(read_manifest(tmp_path / head)[1]) == {name}


def test_an_adapter_of_another_shape_is_refused(gpt2, tmp_path):
    """Tensors of another rank, another target or another method are refused before anything is changed."""
    save_adapter(gpt2.adapt(LoRA(rank=4)), tmp_path, ORIGIN)
    _, tensors = read_manifest(tmp_path)
    for method, says in ((LoRA(rank=2), "is needed"), (LoRA(target_modules=("c_fc",)), "in only one of them")):
        adapted = gpt2.adapt(method)
        before = [p.detach().clone() for p in adapted.trained_parameters().values()]
        with pytest.raises(ResultsError, match=says):
            load_tensors(adapted, tensors, tmp_path)
        assert all(torch.equal(p, b) for p, b in zip(adapted.trained_parameters().values(), before, strict=True))


def test_a_changed_adapter_is_refused(gpt2, tmp_path):
    """A tensor file that was changed or truncated after it was written is refused."""
    save_adapter(gpt2.adapt(LoRA(rank=4)), tmp_path, ORIGIN)
    file = tmp_path / "adapter_model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ResultsError, match="changed after it was written"):
        read_manifest(tmp_path)
    file.write_bytes(content[:-10])
    with pytest.raises(ResultsError, match="truncated or not a safetensors file"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"label": 1}'])
@pytest.mark.parametrize("folder", ["out/runs/lora/0/adapter", "copied"])
def test_a_damaged_manifest_says_what_to_do(tmp_path, content, folder):
    """A missing or malformed manifest gives one message with a remedy: rerun a run, copy a copy again."""
    place = tmp_path / folder
    place.mkdir(parents=True)
    if content is not None:
        (place / "triptych.json").write_text(content)
    with pytest.raises(ResultsError, match=r"triptych\.json.* Remedy: copy ") as caught:
        read_manifest(place)
    resumed = f"triptych compare {tmp_path / 'out'}."
    assert str(caught.value).endswith(resumed) == (folder != "copied")


def test_a_prompt_on_a_half_precision_model_is_fp32(gpt2):
    """The prompt is trained in fp32 whatever the model's precision."""
    parts = gpt2.parts()
    parts.model.to(torch.bfloat16)
    adapted = PromptTuning(num_virtual_tokens=3).adapt(parts, gpt2.context())
    assert isinstance(adapted.virtual_tokens, nn.Embedding) and adapted.virtual_tokens.weight.dtype == torch.float32
    assert torch.isfinite(loss_of(gpt2, adapted))


OTHERS = ({"label": "b"}, {"kind": "dora"}, {"options": {"rank": 9}}, {"seed": 1}, {"model_fingerprint": "x"})


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: next(iter(other)))
def test_an_adapter_of_another_run_is_refused(tmp_path, other):
    """Label, kind, options, seed and base of an adapter must match its record, or the message names the one that
    differs."""
    record = make_run("lora", "lora", 0, make_results().suite.model_dump(mode="json")).record
    mine = Origin("lora", "lora", record.options, "model", "main", record.provenance.model_fingerprint, None, 0)
    check_belongs(mine, record, tmp_path)
    check_belongs(replace(mine, seed=None), record, tmp_path)  # adapters of earlier versions have no seed
    with pytest.raises(ResultsError, match=f"not the adapter of the record next to it: {next(iter(other))} is"):
        check_belongs(replace(mine, **other), record, tmp_path)

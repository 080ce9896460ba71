"""Models are taken apart by structure, whatever the family, and read from folders without anything executable."""

import copy

import pytest
import torch
import transformers
from torch import nn

from support.families import FAMILIES, SCALED_LOGITS, random_model
from support.worlds import VOCABULARY, sequence_and_labels, under_engine
from triptych.contracts import AdaptedModel, Context
from triptych.engine.batching import collate
from triptych.engine.forward import target_losses
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import generate
from triptych.engine.savings.ready import head_is_plain
from triptych.errors import ModelError
from triptych.measure.parameters import count_parameters
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA
from triptych.methods.prompt_tuning import PromptTuning
from triptych.models.base import BaseModel
from triptych.models.parts import block_matrices, embed, matrix_shape, take_apart, untie_head


@pytest.fixture(params=list(FAMILIES))
def family(request) -> str:
    """Each family in turn."""
    return request.param


@pytest.fixture
def small_pairs(gpt2):
    """Pairs whose tokens fit the small vocabulary."""
    return [type(p)(p.id, p.document_ids[:20] % 61 + 2, p.summary_ids[:6] % 61 + 2) for p in gpt2.pairs[:4]]


def small_template(template):
    """A layout within the small vocabulary."""
    return type(template)((), (3, 4), 0)


def test_every_family_is_taken_apart(family):
    """Embedding, blocks, final norm and head are found by structure, and with the positions make up the model."""
    parts = take_apart(random_model(family))
    assert (parts.vocabulary_size, parts.hidden_size, len(parts.blocks)) == (64, 32, 2)
    assert parts.token_embedding.weight.shape == parts.head.weight.shape == (64, 32)
    assert parts.tied == (parts.head.weight is parts.token_embedding.weight)
    assert parts.final_norm is not None and all(p.shape == (32,) for p in parts.final_norm.parameters())
    found = count_parameters(parts.token_embedding, parts.blocks, parts.final_norm, parts.head).total
    rest = count_parameters(parts.model).total - found
    assert 0 <= rest <= 66 * 32 + 64 + 2 * 32  # learned positions, a head's bias, a norm behind the embedding
    for name, module in block_matrices(parts).items():
        x = torch.zeros(1, matrix_shape(module)[0])
        assert module(x).shape == (1, matrix_shape(module)[1]), name


def test_our_loss_is_transformers_own(family, gpt2, small_pairs):
    """On every family our loss equals transformers' `labels=` loss, including the family's scaling."""
    model = random_model(family)
    adapted = AdaptedModel(take_apart(model))
    template = small_template(gpt2.template)
    plain = not head_is_plain(adapted)
    assert plain == (family in SCALED_LOGITS)
    with torch.no_grad():
        engine = under_engine(adapted, template, gpt2.machine, logits_at_targets=not plain)
        losses = target_losses(engine, collate(small_pairs, template)).split(
            [len(p.summary_ids) + 1 for p in small_pairs]
        )
        for pair, own in zip(small_pairs, losses, strict=True):
            ids, labels = sequence_and_labels(pair, template)
            assert float(own.mean()) == pytest.approx(float(model(input_ids=ids, labels=labels).loss), abs=1e-5)


def test_every_family_adapts_and_generates(family, gpt2, small_pairs):
    """Methods work on every family, and a summary does not depend on its batch."""
    template = small_template(gpt2.template)
    documents = [pair.document_ids for pair in small_pairs]
    for method in (
        PromptTuning(num_virtual_tokens=3),
        LoRA(rank=2, target_modules="all-linear"),
        LastLayers(num_blocks=1),
    ):
        parts = take_apart(random_model(family))
        context = Context(gpt2.tokenizer, torch.Generator().manual_seed(0), torch.arange(64))
        method = method if method.num_virtual_tokens_added() == 0 else method.model_copy(update={"init": "vocabulary"})
        adapted = method.adapt(parts, context)
        adapted.parts.model.eval()

        engine = under_engine(adapted, template, gpt2.machine)

        def summaries(given, size, engine=engine):
            return generate(engine, given, DecodingPlan(1, 5, 0, 1.0, size))

        assert summaries(documents, 4) == [summaries([document], 1)[0] for document in documents]


def test_what_the_trunk_reads_is_what_it_makes_of_ids(family):
    """Token ids and their embeddings give the same logits, however the family scales its embeddings."""
    model = random_model(family)
    parts = take_apart(model)
    ids = torch.arange(2, 12)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(inputs_embeds=embed(parts, ids)).logits, model(input_ids=ids).logits)


def test_untying_is_a_true_copy(gpt2):
    """An untied head starts with the embedding's values in its own storage; transformers is told."""
    parts = gpt2.parts()
    assert parts.tied
    untie_head(parts)
    assert torch.equal(parts.head.weight, parts.token_embedding.weight)
    assert parts.head.weight.data_ptr() != parts.token_embedding.weight.data_ptr()
    assert not parts.tied and parts.model.config.tie_word_embeddings is False


def test_what_is_no_causal_model_is_refused():
    """A model without a linear head cannot be taken apart, and the message says what is required."""
    config = transformers.GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1)
    with pytest.raises(ModelError, match="a causal language model is needed"):
        take_apart(transformers.GPT2Model(config))


def test_two_lists_of_blocks_are_refused(gpt2):
    """If two lists could be the blocks, nothing is guessed."""
    model = copy.deepcopy(gpt2.prototype)
    model.transformer.more = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    with pytest.raises(ModelError, match="2 lists of 3 blocks"):
        take_apart(model)


# Folders


def test_a_folder_is_read_in_full(world):
    """A folder gives exactly the saved weights, in fp32 and eval mode, and its sketch has the same shapes."""
    model = BaseModel(str(world.folder)).load()
    saved = world.prototype.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert not model.training and all(p.dtype == torch.float32 for p in model.parameters())
    sketch = {name: (p.shape, p.is_meta) for name, p in BaseModel(str(world.folder)).structure().named_parameters()}
    assert sketch == {name: (p.shape, True) for name, p in model.named_parameters()}


def test_half_precision_weights_are_read_as_fp32(world, tmp_path):
    """Weights stored in bf16 are trained in fp32."""
    copy.deepcopy(world.prototype).to(torch.bfloat16).save_pretrained(tmp_path)
    assert {p.dtype for p in BaseModel(str(tmp_path)).load().parameters()} == {torch.float32}


def test_pickled_weights_are_refused(gpt2, tmp_path):
    """A folder with only pickled weights is refused, since they can run code."""
    gpt2.prototype.config.save_pretrained(tmp_path)
    torch.save(gpt2.prototype.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="never read, since they can run code"):
        BaseModel(str(tmp_path)).load()


def test_a_folder_without_a_model_is_told(tmp_path):
    """A missing folder, and one without config.json, give one clear message each."""
    with pytest.raises(ModelError, match="no model folder"):
        BaseModel(str(tmp_path / "nowhere")).load()
    with pytest.raises(ModelError, match=r"no config\.json"):
        BaseModel(str(tmp_path)).load()


def test_weights_that_lack_tensors_are_refused(gpt2, tmp_path):
    """A file with missing tensors is refused: transformers alone would initialize them randomly."""
    from safetensors.torch import save_file

    gpt2.prototype.config.save_pretrained(tmp_path)
    state = {
        k: v.contiguous() for k, v in gpt2.prototype.state_dict().items() if "lm_head" not in k and ".h.1.mlp" not in k
    }
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lack 4 tensors"):
        BaseModel(str(tmp_path)).load()


def test_a_damaged_file_is_told(gpt2, tmp_path):
    """A truncated weight file gives one clear message with the folder's name."""
    gpt2.prototype.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"weights in .* cannot be read"):
        BaseModel(str(tmp_path)).load()


def test_an_encoder_decoder_is_refused(tmp_path):
    """T5 and similar models are refused by name."""
    transformers.T5Config(vocab_size=8, d_model=8, num_layers=1, num_heads=1).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="encoder-decoder"):
        _ = BaseModel(str(tmp_path)).config


def test_remote_code_is_never_run(gpt2, tmp_path):
    """A folder with its own Python code is refused, and that code is not run."""
    import json

    gpt2.prototype.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError):
        BaseModel(str(tmp_path)).load()
    assert not (tmp_path / "ran").exists()


def test_the_fingerprint_is_of_config_and_weights(gpt2, tmp_path):
    """The fingerprint is the same for the same content anywhere, and changes with one weight or setting."""
    model = copy.deepcopy(gpt2.prototype)
    folders = [tmp_path / name for name in ("one", "two", "weight", "config")]
    for folder in folders[:2]:
        model.save_pretrained(folder)
    with torch.no_grad():
        model.transformer.wte.weight[0, 0] += 1
    model.save_pretrained(folders[2])
    model = copy.deepcopy(gpt2.prototype)
    model.config.layer_norm_epsilon = 1e-6
    model.save_pretrained(folders[3])
    one, two, weight, config = (BaseModel(str(folder)).fingerprint for folder in folders)
    assert one == two and len({one, weight, config}) == 3


def test_the_embedded_model_is_whole():
    """The embedded model loads by name, has the tokenizer's vocabulary, and says that it is synthetic."""
    parts = take_apart(BaseModel("tiny").load())
    assert parts.vocabulary_size == len(BaseModel("tiny").tokenizer) == VOCABULARY
    assert BaseModel("tiny").is_synthetic and not BaseModel("gpt2").is_synthetic

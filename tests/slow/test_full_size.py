"""GPT-2 small at its true size, on real articles: parity with transformers and peft, and summaries that do not depend
on the batch.

The weights are random, so nothing here says how good a summary is.
"""

import copy
import csv
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model

from support.worlds import disturb, gradients, largest_difference, sequence_and_labels, under_engine
from triptych.contracts import AdaptedModel, Context, Method
from triptych.corpus.sequence import Pair, Template
from triptych.engine.batching import collate
from triptych.engine.forward import target_losses
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import generate
from triptych.engine.generation.padding import left_padded
from triptych.engine.model import EngineModel
from triptych.measure.parameters import count_parameters
from triptych.methods.full import Full
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA
from triptych.methods.prompt_tuning import PromptTuning
from triptych.methods.untuned import Untuned
from triptych.models.base import BaseModel
from triptych.models.parts import take_apart
from triptych.models.prompts import Prompt
from triptych.models.tokens import RunningText
from triptych.run.adapters import Origin, load_tensors, read_manifest, save_adapter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

BASE = 124_439_808
ROWS: dict[str, tuple[Method, int, int]] = {  # label: (method, trainable, added)
    "untuned": (Untuned(), 0, 0),
    "prompt-tuning": (PromptTuning(num_virtual_tokens=20), 15_360, 15_360),
    "lora": (LoRA(rank=8, target_modules=("c_attn",)), 294_912, 294_912),
    "lora-all": (LoRA(rank=8, target_modules="all-linear"), 1_179_648, 1_179_648),
    "last-layers": (LastLayers(num_blocks=2, final_norm=True, head="frozen"), 14_177_280, 0),
    "last-head": (LastLayers(num_blocks=0, final_norm=False, head="untied"), 38_597_376, 38_597_376),
    "full": (Full(), BASE, 0),
}
DECODING = DecodingPlan(num_beams=4, max_new_tokens=6, no_repeat_ngram_size=3, length_penalty=1.0, batch_size=10)


@dataclass
class FullSize:
    """The model's folder, its tokenizer, and ten real articles with their highlights."""

    folder: str
    tokenizer: object
    template: Template
    pairs: list[Pair]

    def adapt(self, method: Method) -> AdaptedModel:
        """Load the model from its folder, adapt it, and put it into eval mode."""
        context = Context(self.tokenizer, torch.Generator().manual_seed(0), torch.arange(50_257))
        adapted = method.adapt(take_apart(BaseModel(self.folder).load()), context)
        adapted.parts.model.eval()
        return adapted


@pytest.fixture(scope="module")
def full_size(shared, tmp_path_factory):
    """A model with GPT-2 small's shape and random weights, made by the shared script."""
    script, articles = shared / "make_gpt2_small.py", shared / "data" / "cnn_dailymail" / "test.csv"
    for file in (script, articles):
        if not file.is_file():
            pytest.skip(f"needs {file}")
    folder = tmp_path_factory.mktemp("gpt2-small")
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
    tokenizer = BaseModel(str(folder)).tokenizer
    with articles.open(encoding="utf-8", newline="") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(10), strict=False)]
    text = RunningText.of(tokenizer, Prompt("\n\nTL;DR:"))
    documents = text.document_ids(row["article"] for row in rows)
    summaries = text.document_ids(row["highlights"] for row in rows)
    pairs = [
        Pair(row["id"], np.array(document[: 30 + 6 * i], np.int32), np.array(summary[:40], np.int32))
        for i, (row, document, summary) in enumerate(zip(rows, documents, summaries, strict=True))
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield FullSize(str(folder), tokenizer, Template.of(text), pairs)
    torch.set_num_threads(threads)


def our_loss(adapted: AdaptedModel, pair: Pair, template: Template) -> torch.Tensor:
    return target_losses(under_engine(adapted, template, None), collate([pair], template)).mean()


@pytest.mark.parametrize("label", ROWS)
def test_parameters(full_size, label):
    """The numbers of base, trainable and added parameters are the expected ones, counted on the real model."""
    method, trainable, added = ROWS[label]
    assert count_parameters(BaseModel(full_size.folder).structure()).total == BASE
    adapted = full_size.adapt(method)
    counts = count_parameters(adapted.parts.model, adapted.virtual_tokens)
    assert (counts.trainable, counts.total - BASE) == (trainable, added)


def test_loss_is_transformers_own(full_size):
    """Our loss equals transformers' `labels=` loss on the same sequences within 1e-5, one by one and in a padded
    batch."""
    adapted = full_size.adapt(Untuned())
    with torch.no_grad():
        own = []
        for pair in full_size.pairs[:5]:
            ids, labels = sequence_and_labels(pair, full_size.template)
            own.append(float(adapted.parts.model(input_ids=ids, labels=labels).loss))
            assert float(our_loss(adapted, pair, full_size.template)) == pytest.approx(own[-1], abs=1e-5)
        batch = collate(full_size.pairs[:5], full_size.template)
        together = target_losses(under_engine(adapted, full_size.template, None), batch)
    for row, expected in enumerate(own):
        assert float(together[batch.rows == row].mean()) == pytest.approx(expected, abs=1e-5)


def test_lora_is_its_formula_and_pefts(full_size):
    """With nonzero B, LoRA is x W + bias + (alpha / rank) x A B written out, and its loss and gradients are peft's."""
    method = LoRA(rank=8, alpha=16, target_modules=("c_attn",))
    adapted = full_size.adapt(method)
    disturb(adapted, scale=0.05)
    original = BaseModel(full_size.folder).load()
    x = torch.randn(5, 768, generator=torch.Generator().manual_seed(0))
    for name in adapted.notes["target_modules"]:
        base, changed = original.get_submodule(name), adapted.parts.model.get_submodule(name)
        a, b = changed.lora_A["default"].weight.T, changed.lora_B["default"].weight.T
        expected = x @ base.weight + base.bias + (16 / 8) * (x @ a @ b)
        torch.testing.assert_close(changed(x), expected, atol=1e-5, rtol=1e-5)

    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=8,
        lora_alpha=16,
        lora_dropout=0.0,
        target_modules=["c_attn"],
        fan_in_fan_out=True,
    )
    theirs = get_peft_model(original, config).eval()
    parameters = {n.removeprefix("base_model.model."): p for n, p in theirs.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in adapted.trained_parameters().items():
            parameters[name].copy_(parameter)
    agree_on_unpadded(full_size, adapted, theirs, parameters)


def test_prompt_tuning_is_pefts(full_size):
    """Prompt tuning's loss and gradient are peft's on unpadded sequences."""
    adapted = full_size.adapt(PromptTuning(num_virtual_tokens=20))
    disturb(adapted)
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=20)
    theirs = get_peft_model(copy.deepcopy(adapted.parts.model), config).eval()
    prompt = theirs.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        prompt.copy_(adapted.virtual_tokens.weight)
    agree_on_unpadded(full_size, adapted, theirs, {"virtual_tokens": prompt})


def agree_on_unpadded(full_size: FullSize, adapted: AdaptedModel, theirs, parameters: dict[str, torch.Tensor]) -> None:
    """Check that losses and gradients agree within 1e-5, sequence by sequence."""
    for pair in full_size.pairs[:3]:
        ids, labels = sequence_and_labels(pair, full_size.template)
        expected = theirs(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        loss = our_loss(adapted, pair, full_size.template)
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
        wanted = dict(zip(parameters, torch.autograd.grad(expected, list(parameters.values())), strict=True))
        assert largest_difference(gradients(adapted, loss), wanted) < 1e-5


@pytest.mark.parametrize("label", ROWS)
def test_summaries(full_size, machine, label, tmp_path):
    """Ten summaries are identical token for token one by one, in a padded batch, and from the saved adapter."""
    method, _, _ = ROWS[label]
    adapted = full_size.adapt(method)
    disturb(adapted, scale=0.02)
    documents = [pair.document_ids for pair in full_size.pairs]
    engine = under_engine(adapted, full_size.template, machine)
    together = generate(engine, documents, DECODING)
    assert all(together)
    for document, summary in zip(documents, together, strict=True):
        (alone,) = generate(engine, [document], replace(DECODING, batch_size=1))
        if alone != summary:  # two beams may score alike within what fp32 resolves
            scores = [score(engine, document, tokens) for tokens in (alone, summary)]
            assert abs(scores[0] - scores[1]) < 1e-4
    if not method.trains:
        return
    save_adapter(adapted, tmp_path, Origin(label, "kind", {}, full_size.folder, "main", "fingerprint"))
    again = full_size.adapt(method)
    load_tensors(again, read_manifest(tmp_path)[1], tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()  # half a gigabyte for the full model
    assert generate(under_engine(again, full_size.template, machine), documents, DECODING) == together


@torch.no_grad()
def score(engine: EngineModel, document: np.ndarray, tokens: list[int]) -> float:
    """A beam's score: the mean log-likelihood of its tokens, including EOS if it stopped."""
    written = tokens if len(tokens) == DECODING.max_new_tokens else [*tokens, engine.template.eos_id]
    rows, _ = left_padded(engine, [document])
    new = engine.parts.token_embedding(torch.tensor([written[:-1]], dtype=torch.long))
    logits = engine.parts.model(inputs_embeds=torch.cat([rows, new], 1)).logits[0, -len(written) :]
    chosen = logits.log_softmax(-1)[torch.arange(len(written)), torch.tensor(written)]
    return float(chosen.mean())

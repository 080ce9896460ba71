"""From pairs to losses and summaries: model inputs, where the loss is read, and what generation may depend on."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from support.families import FAMILIES
from support.worlds import VOCABULARY, World, disturb, gradients, largest_difference, sequence_and_labels, train
from triptych.config.schema import Limits, Split
from triptych.contracts import AdaptedModel
from triptych.corpus.prepare import prepare
from triptych.corpus.sequence import Pair
from triptych.datasets.newswire import Newswire
from triptych.engine.batching import by_length, collate, epoch_order
from triptych.engine.evaluation import split_loss
from triptych.engine.forward import target_logits, target_losses
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.generate import generate
from triptych.engine.generation.padding import left_padded
from triptych.engine.inputs import assemble, insert
from triptych.engine.savings import attention
from triptych.engine.savings.probe import Unsupported
from triptych.engine.savings.ready import head_is_plain
from triptych.errors import ConfigError
from triptych.methods.full import Full
from triptych.methods.lora import LoRA
from triptych.methods.prompt_tuning import PromptTuning
from triptych.methods.untuned import Untuned
from triptych.models.parts import take_apart
from triptych.models.prompts import Prompt

EOS = 0


def losses(adapted: AdaptedModel, pairs: list[Pair], world: World, plain: bool = False) -> torch.Tensor:
    return target_losses(world.engine(adapted, logits_at_targets=not plain), collate(pairs, world.template))


# Batches and their loss


def test_a_batch_by_hand(worlds):
    """Prefix, document, separator, summary; the positions that predict the summary and one EOS; EOS is a target, never
    an input."""
    template = replace(worlds["llama"].template, separator_ids=(7, 8))
    pairs = [Pair("a", np.array([11, 12, 13]), np.array([21])), Pair("b", np.array([14]), np.array([22, 23]))]
    batch = collate(pairs, template)
    assert batch.ids.tolist() == [[1, 11, 12, 13, 7, 8, 21], [1, 14, 7, 8, 22, 23, EOS]]
    assert (batch.starts, batch.lengths.tolist(), batch.document_ends.tolist()) == (1, [7, 6], [4, 2])
    assert list(zip(batch.rows.tolist(), batch.columns.tolist(), batch.targets.tolist(), strict=True)) == [
        (0, 5, 21),
        (0, 6, EOS),
        (1, 3, 22),
        (1, 4, 23),
        (1, 5, EOS),
    ]
    assert (batch.num_targets, batch.num_tokens) == (5, 3 + 2 + 1 + 1 + 1 + 2 + 2 + 1)


@pytest.mark.parametrize("plain", [False, True], ids=["exact", "plain"])
def test_labels_are_the_same_sequence_shifted(world, plain):
    """The loss is transformers' `labels=` loss over article, separator, summary and EOS, read only on the last two."""
    adapted = world.adapt(Full())
    for pair in world.pairs[:4]:
        ids, labels = sequence_and_labels(pair, world.template)
        own = adapted.parts.model(input_ids=ids, labels=labels).loss
        ours = losses(adapted, [pair], world, plain).mean()
        assert float(ours.detach()) == pytest.approx(float(own.detach()), abs=1e-5)
        wanted = gradients(adapted, own)
        assert largest_difference(gradients(adapted, ours), wanted) < 1e-5


def test_padding_is_known_by_position(world):
    """EOS in a document, and EOS as padding, do not change a row's loss: no token is masked by its id."""
    adapted = world.adapt(Untuned())
    short, long = sorted(world.pairs, key=lambda p: len(p.document_ids))[:: len(world.pairs) - 1]
    with_eos = Pair("eos", np.append(short.document_ids, [EOS, EOS]).astype(np.int32), short.summary_ids)
    without = Pair("other", np.append(short.document_ids, [5, 5]).astype(np.int32), short.summary_ids)
    for pair in (with_eos, without):
        count = len(pair.summary_ids) + 1
        alone = losses(adapted, [pair], world)
        padded = losses(adapted, [pair, long], world)[:count]
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)
    assert float((losses(adapted, [with_eos], world) - losses(adapted, [without], world)).abs().max()) > 1e-3


def test_what_pads_does_not_matter(world):
    """Any token may be used as padding."""
    model = world.model(PromptTuning(num_virtual_tokens=3))
    batch = collate(world.pairs, world.template)
    ids = batch.ids.clone()
    for row, length in enumerate(batch.lengths.tolist()):
        ids[row, length:] = 17
    assert not torch.equal(ids, batch.ids)
    other = target_losses(model, replace(batch, ids=ids))
    torch.testing.assert_close(other, target_losses(model, batch), atol=1e-6, rtol=0)


def test_the_model_is_taught_to_stop(world):
    """Every summary has exactly one final EOS among its targets, and training makes EOS likely there."""
    batch = collate(world.pairs, world.template)
    assert int((batch.targets == EOS).sum()) == len(world.pairs)
    loop = world.loop(Full(), max_epochs=6, learning_rate=0.01)

    def chance_of_eos() -> float:
        with torch.no_grad():
            chances = target_logits(loop.model, batch).softmax(-1)
        return float(chances[batch.targets == EOS, EOS].mean())

    before = chance_of_eos()
    train(loop)
    assert chance_of_eos() > max(0.2, 10 * before)


def test_a_padded_batch_gives_each_row_its_own_loss(world):
    """With right padding, a row's losses do not depend on the rest of the batch, with and without a prompt."""
    for method in (Untuned(), PromptTuning(num_virtual_tokens=5)):
        adapted = world.adapt(method)
        together = losses(adapted, world.pairs, world)
        alone = torch.cat([losses(adapted, [pair], world) for pair in world.pairs])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_inserting_by_hand():
    """Virtual tokens are inserted at each row's given position, and the order is otherwise unchanged."""
    tokens = torch.arange(8.0).reshape(2, 4, 1)
    placed = insert(tokens, torch.tensor([[-1.0], [-2.0]]), torch.tensor([0, 3]))
    assert placed[:, :, 0].tolist() == [[-1, -2, 0, 1, 2, 3], [4, 5, 6, -1, -2, 7]]


def test_places_move_with_the_prompt(world):
    """Wherever the prompt is inserted, target positions move with their tokens."""
    batch = collate(world.pairs, world.template)
    adapted = world.adapt(PromptTuning(num_virtual_tokens=4))
    for placement in ("before", "after"):
        adapted.placement = placement
        inputs = assemble(adapted, batch)
        tokens = adapted.parts.token_embedding(batch.ids)
        assert torch.equal(inputs.embeddings[inputs.rows, inputs.columns], tokens[batch.rows, batch.columns])


def test_groups_are_of_like_length(world):
    """Groups contain every pair once, longest first."""
    groups = list(by_length(world.pairs, 5))
    assert sorted(i for group in groups for i in group) == list(range(12)) and [len(g) for g in groups] == [5, 5, 2]
    lengths = [len(world.pairs[i].document_ids) + len(world.pairs[i].summary_ids) for group in groups for i in group]
    assert lengths == sorted(lengths, reverse=True)


def test_the_order_of_an_epoch_is_its_seeds():
    """An order is a permutation that depends only on seed and epoch."""
    assert sorted(epoch_order(50, 3, 1)) == list(range(50))
    assert epoch_order(50, 3, 1).tolist() == epoch_order(50, 3, 1).tolist()
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


# The window


def prepared(world: World, folder: Path, reserved: int, **limits):
    """A few generated stories, cut for the world's window."""
    return prepare(
        Newswire(),
        world.tokenizer,
        source="newswire",
        split=Split(),
        prompt=Prompt("\n\nTL;DR:"),
        window=128,
        reserved=reserved,
        limits=Limits(train_documents=8, validation_documents=4, test_documents=4, **limits),
        new_tokens=limits["summary_tokens"],
        vocabulary_size=VOCABULARY,
        cache=folder,
        max_cache_bytes=10**9,
    )


def test_the_longest_sequence_fits_the_model(gpt2, tmp_path):
    """With only the document truncated, prompt + document + separator + summary at most fill the window."""
    corpus = prepared(gpt2, tmp_path, reserved=20, document_tokens=500, summary_tokens=60)
    model = gpt2.model(PromptTuning(num_virtual_tokens=20))
    assert model.parts.max_positions == 128
    assert corpus.data.splits["train"].truncated == 8
    for split in (corpus.train, corpus.validation, corpus.test):
        for i in range(len(split)):
            wanted = gpt2.tokenizer(" " + split.reference(i), add_special_tokens=False).input_ids
            assert split[i].summary_ids.tolist() == wanted
            assert len(split[i].document_ids) + len(wanted) + corpus.template.length + 20 == 128
        found = split_loss(replace(model, template=corpus.template), split, batch_size=4)
        assert np.isfinite(found.nats).all()


def test_a_window_that_is_too_small_is_refused(gpt2, tmp_path):
    """If prompt, separator and summary leave no room for a document, nothing is prepared."""
    with pytest.raises(ConfigError, match="The model has 128 positions"):
        prepared(gpt2, tmp_path, reserved=100, document_tokens=500, summary_tokens=60)
    assert not list(tmp_path.iterdir())


# The loss of a split


@pytest.mark.parametrize("size", [1, 5, 12])
def test_the_loss_of_a_split_is_one_sum_and_one_division(world, size):
    """Sums and counts are given per document, in the split's order, whatever the batch; the mean is sum over count."""
    adapted = world.adapt(Untuned())
    found = split_loss(world.engine(adapted), world.pairs, batch_size=size)
    own = [losses(adapted, [pair], world) for pair in world.pairs]
    assert found.targets.tolist() == [len(loss) for loss in own]
    np.testing.assert_allclose(found.nats, [float(loss.sum()) for loss in own], atol=1e-4)
    assert found.mean == pytest.approx(float(torch.cat(own).mean()), abs=1e-6)


def test_evaluation_holds_the_logits_of_one_batch(gpt2):
    """Logits of at most one batch exist at any time, however large the split."""
    alive, most = [0], [0]

    def died():
        alive[0] -= 1

    def watched(head, inputs, logits):
        alive[0] += 1
        most[0] = max(most[0], alive[0])
        weakref.finalize(logits, died)

    model = gpt2.model(Untuned())
    model.parts.head.register_forward_hook(watched)
    gc.disable()
    try:
        split_loss(model, gpt2.pairs * 4, batch_size=2)
    finally:
        gc.enable()
    assert (most[0], alive[0]) == (1, 0)


def test_evaluation_leaves_no_graph(gpt2):
    """Evaluation computes no gradients, whatever is trained."""
    model = gpt2.model(Full())
    split_loss(model, gpt2.pairs[:2], batch_size=2)
    assert all(p.grad is None for p in model.parts.model.parameters())


# Where the exact path may be taken


def test_a_head_that_is_not_plain_is_noticed(world):
    """If logits are not just the head applied to the trunk's output, this is detected and the model's forward is
    used."""
    adapted = world.adapt(Untuned())
    assert head_is_plain(adapted)

    def cap(module, inputs, output):
        output.logits = 30 * torch.tanh(output.logits / 30)
        return output

    adapted.parts.model.register_forward_hook(cap)
    assert not head_is_plain(adapted)


@pytest.mark.parametrize(("family", "cap"), [("Gemma2", 30.0), ("Gemma2", None), ("Gemma", None), ("OPT", None)])
def test_a_soft_cap_is_noticed_whatever_the_logits(family, cap):
    """A cap hardly changes the small logits of a randomly initialized model, but is detected: training makes logits
    large."""
    settings = {**FAMILIES[family], "initializer_range": 0.002}
    if family == "Gemma2":
        settings["final_logit_softcapping"] = cap
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family.lower()](**settings)).eval()
    adapted = AdaptedModel(take_apart(model))
    assert head_is_plain(adapted) == (cap is None)


def test_scores_that_are_capped_are_left_to_the_family():
    """The exact path at chosen places, and from a cache, is not used if attention adds a cap, bias or sinks to the
    scores."""
    heads = torch.zeros(1, 2, 3, 4)
    places = attention.Places(torch.zeros(1, 1, dtype=torch.long))
    for name, value in (("softcap", 50.0), ("s_aux", torch.zeros(2)), ("position_bias", torch.zeros(1, 2, 3, 3))):
        with pytest.raises(Unsupported, match=f"changes scores .{name}."):
            attention.attend(torch.nn.Module(), heads, heads, heads, None, selection=places, **{name: value})
    with pytest.raises(attention.Selected):
        attention.attend(torch.nn.Module(), heads, heads, heads, None, selection=places, softcap=None)


# Generation


def summaries(adapted, documents, world, size=1, beams=1, new=8, ngram=0, template=None) -> list[list[int]]:
    plan = DecodingPlan(beams, new, ngram, 1.0, size)
    return generate(replace(world.engine(adapted), template=template or world.template), documents, plan)


def test_generation_is_the_argmax_of_what_it_has_written(world):
    """Each token is the argmax after document, separator and the tokens generated so far, with no echo of the input."""
    adapted = world.adapt(PromptTuning(num_virtual_tokens=3))
    disturb(adapted)
    document = world.pairs[0].document_ids
    (found,) = summaries(adapted, [document], world)
    written: list[int] = []
    with torch.no_grad():
        for _ in range(8):
            rows, _ = left_padded(world.engine(adapted), [document])
            new = adapted.parts.token_embedding(torch.tensor([written], dtype=torch.long))
            written.append(int(adapted.parts.model(inputs_embeds=torch.cat([rows, new], 1)).logits[0, -1].argmax()))
    assert found == (written[: written.index(EOS)] if EOS in written else written)


def test_left_padding_needs_its_positions(gpt2):
    """Left-padded with explicit positions, the logits are the row's; without them they are not."""
    adapted = gpt2.adapt(Untuned())
    documents = sorted((pair.document_ids for pair in gpt2.pairs), key=len)
    short, long = documents[0], documents[-1]
    with torch.no_grad():
        rows, mask = left_padded(gpt2.engine(adapted), [short, long])
        alone, seen = left_padded(gpt2.engine(adapted), [short])
        assert seen.all() and mask[0].sum() == alone.shape[1]
        own = adapted.parts.model(inputs_embeds=alone).logits[0, -1]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        right = adapted.parts.model(inputs_embeds=rows, attention_mask=mask, position_ids=positions).logits[0, -1]
        wrong = adapted.parts.model(inputs_embeds=rows, attention_mask=mask).logits[0, -1]
    torch.testing.assert_close(right, own, atol=1e-4, rtol=1e-4)
    assert float((wrong - own).abs().max()) > 0.1


@pytest.mark.parametrize("beams", [1, 4])
def test_a_finished_row_does_not_disturb_the_others(world, beams):
    """Rows that end early, at any step, do not change the others' tokens; EOS and padding are not part of a summary."""
    adapted = world.adapt(LoRA(rank=2))
    disturb(adapted)
    documents = [pair.document_ids for pair in world.pairs[:5]]
    first = summaries(adapted, documents[:1], world)[0]
    for at in (0, 2, 5):
        template = replace(world.template, eos_id=first[at])
        alone = [summaries(adapted, [d], world, beams=beams, template=template)[0] for d in documents]
        assert summaries(adapted, documents, world, size=5, beams=beams, template=template) == alone
        assert all(template.eos_id not in row and len(row) <= 8 for row in alone)


def test_summaries_come_in_the_order_of_the_documents(world):
    """Documents are batched by length, and the summaries are returned in the documents' order."""
    adapted = world.adapt(Untuned())
    documents = [pair.document_ids for pair in world.pairs[:6]]
    reported = []
    plan = DecodingPlan(1, 4, 0, 1.0, 4)
    found = generate(world.engine(adapted), documents, plan, lambda *done: reported.append(done))
    assert found == [summaries(adapted, [d], world, new=4)[0] for d in documents]
    assert reported == [(4, 6), (6, 6)]


def test_repeats_are_judged_within_the_summary(world):
    """No three tokens occur twice within a summary; those of the document may recur."""
    adapted = world.adapt(Untuned())
    for row in summaries(adapted, [pair.document_ids for pair in world.pairs[:4]], world, size=4, new=40, ngram=3):
        triples = list(zip(row, row[1:], row[2:], strict=False))
        assert len(set(triples)) == len(triples)


def test_generation_draws_nothing(world):
    """Generation uses no randomness: the random states are unchanged."""
    adapted = world.adapt(LoRA(dropout=0.5))
    before = torch.get_rng_state()
    first = summaries(adapted, [world.pairs[0].document_ids], world, beams=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert summaries(adapted, [world.pairs[0].document_ids], world, beams=4) == first

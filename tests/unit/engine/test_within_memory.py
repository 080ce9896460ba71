"""If memory runs out without gradients, in losses, summaries or cached states, batches become smaller."""

from dataclasses import replace

import pytest
import torch

from triptych.engine import evaluation
from triptych.engine.evaluation import split_loss
from triptych.engine.generation import generate as generation
from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.savings import trunk_cache
from triptych.engine.savings.ready import make_ready
from triptych.engine.savings.trunk_cache import open_cache, trunk_store
from triptych.engine.within_memory import fitting_batches
from triptych.errors import OutOfMemory, TriptychWarning
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA

REFUSED = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"


def limited(work, size_of, limit: int, tried: list[int]):
    """The same function, which runs out of memory with more than `limit` documents."""

    def run(*given):
        tried.append(size_of(*given))
        if tried[-1] > limit:
            raise RuntimeError(REFUSED)
        return work(*given)

    return run


def test_losses_are_those_of_whole_batches(world, monkeypatch):
    """Smaller batches give the same losses, and the size that fitted is kept for the other batches."""
    model, tried, shown = world.model(LoRA(rank=2)), [], []
    whole = split_loss(model, world.pairs, 4)
    few = limited(evaluation.target_losses, lambda model, batch: len(batch.ids), 1, tried)
    monkeypatch.setattr(evaluation, "target_losses", few)
    with pytest.warns(TriptychWarning) as noted:
        found = split_loss(model, world.pairs, 4, lambda done, total: shown.append((done, total)))
    assert [str(each.message) for each in noted] == [
        "out of memory with 4 documents at a time; continuing with 2",
        "out of memory with 2 documents at a time; continuing with 1",
    ]
    assert found.nats == pytest.approx(whole.nats, abs=1e-4) and (found.targets == whole.targets).all()
    assert tried == [4, 2, 1] + [1] * (len(world.pairs) - 1)
    assert shown == [(done + 1, len(world.pairs)) for done in range(len(world.pairs))]


@pytest.mark.parametrize("own_loop", [True, False])
def test_summaries_are_those_of_whole_batches(world, monkeypatch, own_loop):
    """Every document has the same summary, by either loop, and in its own place."""
    model = make_ready(world.model(LoRA(rank=2)))
    model = model if own_loop else replace(model, can=replace(model.can, own_decoding=False))
    documents, tried = [pair.document_ids for pair in world.pairs], []
    plan = DecodingPlan(2, 6, 3, 1.0, 3)
    whole = generation.generate(model, documents, plan)
    name = "own_loop" if own_loop else "_transformers_loop"
    few = limited(getattr(generation, name), lambda model, documents, plan: len(documents), 2, tried)
    monkeypatch.setattr(generation, name, few)
    with pytest.warns(TriptychWarning, match="with 3 documents at a time; continuing with 1"):
        assert generation.generate(model, documents, plan) == whole
    assert tried[:3] == [3, 1, 1] and set(tried[1:]) == {1}


def test_cached_states_are_those_of_whole_batches(world, monkeypatch, tmp_path):
    """States computed in smaller batches give the same losses."""
    model, tried = make_ready(world.model(LastLayers(num_blocks=1))), []
    whole = open_cache(model, world.pairs, "m", trunk_store(tmp_path / "whole", 10**8), batch_size=4)
    few = limited(trunk_cache.entering, lambda adapted, batch, first: len(batch.ids), 2, tried)
    monkeypatch.setattr(trunk_cache, "entering", few)
    with pytest.warns(TriptychWarning, match="with 4 documents at a time; continuing with 2"):
        halved = open_cache(model, world.pairs, "m", trunk_store(tmp_path / "halved", 10**8), batch_size=4)
    assert whole is not None and halved is not None and tried[:3] == [4, 2, 2]
    for index in range(len(world.pairs)):
        torch.testing.assert_close(halved.of(index), whole.of(index), atol=1e-5, rtol=1e-5)


def test_a_document_that_does_not_fit_is_one_message(world, monkeypatch):
    """Alone it has nothing to give up: the message has the allocator's reason and what to do."""
    model = world.model(LoRA(rank=2))
    monkeypatch.setattr(evaluation, "target_losses", limited(None, lambda model, batch: len(batch.ids), 0, []))
    one_message = r"one document at a time: .*allocate 1 bytes.* Set limits.document_tokens low"
    with pytest.warns(TriptychWarning), pytest.raises(OutOfMemory, match=one_message):
        split_loss(model, world.pairs, 4)
    monkeypatch.setattr(generation, "_transformers_loop", limited(None, lambda model, texts, plan: len(texts), 0, []))
    with pytest.raises(OutOfMemory, match=r"Set decoding.num_beams or limits.document_tokens lower, or use"):
        generation.generate(model, [world.pairs[0].document_ids], DecodingPlan(1, 4, 0, 1.0, 4))


def test_ranks_of_a_sharded_model_keep_their_batches(world):
    """Its ranks make each pass together, so a smaller batch is left to the user."""
    model = world.model(LoRA(rank=2))

    class Sharded:
        is_sharded = True
        machine = model.machine

    with pytest.raises(OutOfMemory, match=r"Out of memory with 3 documents at a time: .* Do this"):
        list(fitting_batches(Sharded(), range(5), 3, limited(list, len, 2, []), "Do this."))


def test_any_other_error_is_raised(world):
    """Only a refused allocation is tried again."""

    def broken(indices):
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        list(fitting_batches(world.model(LoRA(rank=2)), range(5), 3, broken))

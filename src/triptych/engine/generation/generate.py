"""Generate summaries of documents, with the same decoding for every method."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain, groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig

from triptych.engine.generation.decoding import DecodingPlan
from triptych.engine.generation.own_loop import own_loop
from triptych.engine.generation.padding import left_padded
from triptych.engine.model import EngineModel
from triptych.engine.prefix import begin_with_prefix, padding_moves_prefix
from triptych.engine.savings.merging import merged
from triptych.engine.savings.packing import packed
from triptych.engine.savings.probe import same_predictions
from triptych.engine.savings.step_blocks import step_blocks
from triptych.engine.within_memory import fitting_batches
from triptych.errors import ModelError

_SHORTER = "Set decoding.num_beams or limits.document_tokens lower, or use a machine with more memory."
_FEWER = "Set decoding.batch_size lower, or use more ranks."


@torch.no_grad()
def generate(
    model: EngineModel,
    documents: Sequence[np.ndarray],
    decoding: DecodingPlan,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """Generate new tokens for each document, without the final EOS.

    A summary does not depend on the rest of its batch: positions are explicit and padding is masked on either side, and
    where it would move a prefix, only documents of one length are in a batch. The document is passed as embeddings, so
    its n-grams do not count as repeats in the summary. If memory runs out, fewer documents are summarized at once.

    If the model is sharded, all ranks call this together, each with its own documents, the same number on every rank.

    Args:
        model: the model, in eval mode.
        documents: token ids of each document.
        decoding: how summaries are decoded.
        progress: called with `(documents done, total documents)` after each batch.

    Returns:
        Token ids in the order of `documents`.

    Raises:
        OutOfMemory: a single document, or a batch of a sharded model, does not fit.
    """
    results: list[list[int]] = [[] for _ in documents]
    order = sorted(range(len(documents)), key=lambda i: (-len(documents[i]), i))
    with nullcontext() if model.is_sharded else faster(model):
        one_batch = own_loop if model.can.own_decoding else _transformers_loop

        def summarize(indices: Sequence[int]) -> list[list[int]]:
            with model.machine.autocast():
                return model.run(partial(one_batch, model, [documents[i] for i in indices], decoding))

        done, remedy = 0, _FEWER if model.is_sharded else _SHORTER
        groups, size = [order], decoding.batch_size
        if padding_moves_prefix(model.adapted):
            if model.is_sharded:  # ranks make the same number of passes
                size = 1
            else:
                groups = [list(group) for _, group in groupby(order, key=lambda i: len(documents[i]))]
        batches = (fitting_batches(model, group, size, summarize, remedy) for group in groups)
        for indices, new in chain.from_iterable(batches):
            for index, row in zip(indices, new, strict=True):
                results[index] = row
            done += len(indices)
            if progress:
                progress(done, len(order))
    return results


@contextmanager
def faster(model: EngineModel) -> Iterator[None]:
    """A context in which the weights are merged and laid out for generation, whose steps have few rows."""
    steps = step_blocks(model.parts) if model.can.step_blocks else nullcontext()
    with merged(model.parts.model), packed(model.parts.model, model.machine), steps:
        yield


def check_generation(model: EngineModel, decoding: DecodingPlan) -> None:
    """Check before training, on short documents, that a model can generate summaries with a suite's decoding.

    This is for families that use transformers' `generate`; the engine's own loop is checked by `own_loop_agrees`.

    Args:
        model: the model in eval mode. Whether a summary depends on its batch is checked only in fp32, where rounding
            cannot change it.
        decoding: the suite's decoding.

    Raises:
        ModelError: transformers refuses, or a document's summary depends on the rest of its batch.
    """
    if model.can.own_decoding:
        return
    draw = np.random.default_rng(0)
    documents = [draw.integers(0, model.parts.vocabulary_size, length).astype(np.int32) for length in (19, 5, 1)]
    plan = decoding.shortened(4)
    name, asked = type(model.parts.model).__name__, f"decoding.num_beams={plan.num_beams}"
    comparable = model.machine.precision == "fp32" and not padding_moves_prefix(model.adapted)  # else no padding
    parts = [documents, *([one] for one in documents)] if comparable else []
    try:
        generate(model, documents, plan)
        scores = [_first_scores(model, some, plan) for some in parts]
    except (ValueError, NotImplementedError) as error:  # raised by transformers when it refuses
        fewer = "Set decoding.num_beams=1, leave" if plan.num_beams > 1 else "Leave"
        raise ModelError(
            f"{name} cannot generate with {asked}: {' '.join(str(error).split()).rstrip('.')}. {fewer} this method "
            "out, or take another model."
        ) from error
    if not comparable:
        return
    expected = torch.cat(scores[1:])
    if expected.isfinite().all() and not same_predictions(scores[0], expected):
        raise ModelError(
            f"{name} does not mask the padding of shorter documents: with {asked} and "
            f"decoding.batch_size={plan.batch_size} a "
            "summary would depend on the rest of its batch. Set decoding.batch_size=1."
        )


def generation_config(decoding: DecodingPlan, eos: int) -> GenerationConfig:
    """The `GenerationConfig` of a decoding plan, for documents passed as embeddings.

    Args:
        decoding: how summaries are decoded.
        eos: the token id that ends a summary.
    """
    # transformers refuses to save a length penalty for greedy search, which does not use one
    of_beams = {"length_penalty": decoding.length_penalty} if decoding.num_beams > 1 else {}
    return GenerationConfig(
        do_sample=False,
        num_beams=decoding.num_beams,
        max_new_tokens=decoding.max_new_tokens,
        min_new_tokens=decoding.min_new_tokens or None,
        no_repeat_ngram_size=decoding.no_repeat_ngram_size,
        early_stopping=False,
        eos_token_id=eos,
        pad_token_id=eos,
        **of_beams,
    )


@torch.no_grad()
def _first_scores(model: EngineModel, documents: Sequence[np.ndarray], decoding: DecodingPlan) -> Tensor:
    """The scores of each document's first new token, [B, V]."""
    one = replace(decoding, max_new_tokens=1, min_new_tokens=0)
    with model.machine.autocast():
        made = model.run(partial(_generated, model, documents, one, output_scores=True))
    return made.scores[0][:: decoding.num_beams]


def _transformers_loop(model: EngineModel, documents: Sequence[np.ndarray], decoding: DecodingPlan) -> list[list[int]]:
    """Generate a batch with transformers' `generate`, for families that the own loop does not support."""
    eos, new = model.template.eos_id, _generated(model, documents, decoding).sequences
    return [row[: row.index(eos)] if eos in row else row for row in new.tolist()]


def _generated(model: EngineModel, documents: Sequence[np.ndarray], decoding: DecodingPlan, **more: Any) -> Any:
    """What transformers' `generate` returns for a batch; `more` are arguments of it."""
    embeddings, mask = left_padded(model, documents)
    embeddings, mask, cache = begin_with_prefix(model.adapted, embeddings, mask, decoding.num_beams)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no_repeat_ngram_size.*inputs_embeds.*")  # intended: see `generate`
        return model.parts.model.generate(  # type: ignore[operator]
            inputs_embeds=embeddings,
            attention_mask=mask,
            generation_config=generation_config(decoding, model.template.eos_id),
            return_dict_in_generate=True,
            synced_gpus=model.is_sharded,  # a finished rank keeps taking part until all ranks are
            # some families keep their state under another name
            **({} if cache is None else {"past_key_values": cache}),
            **more,
        )

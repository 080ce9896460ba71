"""Summaries, generated freely: one decoding for every row, from the document and separator alone."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from triptych.engine import attention, stages
from triptych.engine.attention import Selection
from triptych.engine.decoding import DecodingPlan, beam_search, greedy
from triptych.engine.forward import insert
from triptych.engine.model import EngineModel
from triptych.engine.packing import packed
from triptych.engine.prefix import begin_with_prefix, prefix_cache
from triptych.engine.probe import Report, Unsupported, attempt, same_predictions
from triptych.engine.shared_cache import SharedCache, make_cache
from triptych.errors import ModelError
from triptych.models.parts import embed


@torch.no_grad()
def generate(
    model: EngineModel,
    documents: Sequence[np.ndarray],
    decoding: DecodingPlan,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """New tokens for each document, without the EOS that ended them.

    A summary does not depend on what else is in its batch: positions are explicit and padding is masked, wherever it
    stands. The document goes in as embeddings: its n-grams are not "repeats" of the summary.

    Args:
        model: the model, in eval mode.
        documents: token ids of each document.
        decoding: how summaries are decoded.
        progress: called with `(documents done, documents in all)` after each batch.

    Returns:
        Token ids in the order of `documents`.
    """
    results: list[list[int]] = [[] for _ in documents]
    order = sorted(range(len(documents)), key=lambda i: (-len(documents[i]), i))
    with merged(model.parts.model), packed(model.parts.model, model.machine):
        one_batch = _own_loop if model.can.own_decoding else _transformers_loop
        for start in range(0, len(order), decoding.batch_size):
            indices = order[start : start + decoding.batch_size]
            with model.machine.autocast():
                new = one_batch(model, [documents[i] for i in indices], decoding)
            for index, row in zip(indices, new, strict=True):
                results[index] = row
            if progress:
                progress(start + len(indices), len(order))
    return results


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """LoRA's products added to copies of the weights they stand beside; the weights themselves, which other rows may
    share, are
    never written into, and stand there again afterwards.
    """
    from peft.tuners.lora import LoraLayer

    found: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    # A bias of LoRA's own has nothing to be added to where the matrix has none: such a layer works as it is.
    layers = [
        m for m in found if not any(m.lora_bias.values()) or "bias" in dict(m.get_base_layer().named_parameters())
    ]
    # an adapter may have biases
    changed = [parameter for layer in layers for parameter in layer.get_base_layer().parameters()]
    before = [parameter.data for parameter in changed]
    try:
        for parameter in changed:
            parameter.data = parameter.data.clone()
        for layer in layers:
            layer.merge()
        yield
    finally:
        for parameter, data in zip(changed, before, strict=True):
            parameter.data = data
        for layer in layers:
            layer.merged_adapters.clear()


def _own_loop(model: EngineModel, documents: Sequence[np.ndarray], decoding: DecodingPlan) -> list[list[int]]:
    """A batch by this engine: the documents read once, a token a step for every beam that goes on."""
    embeddings, lengths = right_padded(model, documents)
    reader = Reader.begin(model, embeddings, lengths, decoding.num_beams)
    search = greedy if decoding.num_beams == 1 else beam_search
    return search(reader.first_logits, decoding, model.template.eos_id, reader.step, reader.keep)


@dataclass
class Reader:
    """The model while it writes: documents read, logits of the next token given for every beam."""

    model: EngineModel
    cache: SharedCache
    positions: Tensor  # of the next token, [B K, 1]
    beams: int
    first_logits: Tensor  # [B, V]

    @classmethod
    def begin(cls, model: EngineModel, embeddings: Tensor, lengths: Tensor, beams: int) -> "Reader":
        """Read right-padded documents: [B, T, D], [B]. Where the family's cache is not plain, there is no such reader.

        Raises:
            Unsupported: it is not.
        """
        prefix = model.adapted.prefix() if model.adapted.prefix is not None else None
        cache = make_cache(model.parts.model.config, beams, prefix)
        if cache is None:
            raise Unsupported("its layers keep something else than keys and values of the whole text")
        last = last_states(model, embeddings, lengths - 1, cache)
        cache.open(lengths)
        positions = (lengths + cache.prefix_length).repeat_interleave(beams)[:, None]
        return cls(model, cache, positions, beams, model.parts.head(last).float())

    def step(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Every beam's next token, and the row whose tokens it follows: logits of the one after, [B K, V]."""
        self.cache.follow(rows)
        parts = self.model.parts
        hidden = parts.trunk(
            inputs_embeds=embed(parts, tokens[:, None]),
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            attending=self.cache,
        ).last_hidden_state
        self.cache.step()
        self.positions = self.positions + 1
        return parts.head(hidden[:, -1]).float()

    def keep(self, documents: Tensor) -> None:
        """Go on with some of the documents."""
        self.cache.keep(documents)
        self.positions = self.positions.view(-1, self.beams)[documents].view(-1, 1)


def last_states(model: EngineModel, embeddings: Tensor, columns: Tensor, cache: SharedCache) -> Tensor:
    """Read documents into the cache: final hidden states at one place of each, [B, T, D], [B] -> [B, D]."""
    parts, rows = model.parts, torch.arange(len(columns), device=columns.device)
    if not model.can.prune:
        return stages.run(parts, embeddings, cache)[rows, columns]
    entry = stages.enter(parts, embeddings, len(parts.blocks) - 1, cache=cache)
    return stages.finish(
        parts, stages.tail(parts, entry, rows, columns, Selection(columns[:, None]), torch.zeros_like(rows))
    )


@torch.no_grad()
def own_loop_agrees(model: EngineModel, report: Report = lambda reason: None) -> bool:
    """Whether this engine's steps give the logits of the model's own forward, on two rows of tokens and two beams each.

    What is expected is computed by the model's own attention; where the steps agree, this engine's stays installed.
    Both are computed without autocast: in the few digits of low precision a wrong step could pass.

    Args:
        model: the model in eval mode, its weights not yet narrowed.
        report: called with the reason where they do not agree.

    Raises:
        AttributeError, TypeError: a fault of this package.
    """
    parts, device = model.parts, model.machine.device
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, parts.vocabulary_size, (2, 8), generator=draw).to(device)
    lengths, new = torch.tensor([7, 4], device=device), ids[:, 6:].flatten()
    config: Any = parts.model.config
    own = config._attn_implementation

    def expected(row: int) -> Tensor:
        whole = torch.cat([ids[row // 2, : lengths[row // 2]], new[row : row + 1]])
        read = {"inputs_embeds": embed(parts, whole[None]), "past_key_values": prefix_cache(model.adapted, 1)}
        return parts.model(**read, use_cache=False).logits[0, -1].float()

    def agree() -> bool:
        wanted = torch.stack([expected(row) for row in range(4)])
        attention.install(parts.model)
        reader = Reader.begin(model, embed(parts, ids[:, :7]), lengths, 2)
        if not same_predictions(reader.step(new, torch.arange(4, device=device)), wanted):
            raise Unsupported("steps from its cache give other logits than its own forward")
        return True

    agrees = False
    try:
        agrees = bool(attempt(agree, report))
    finally:
        if not agrees:
            parts.model.set_attn_implementation(own)
    return agrees


def check_generation(model: EngineModel, decoding: DecodingPlan) -> None:
    """Make sure that a model can write summaries as a suite asks, on two short documents, before anything is trained.

    For families whose summaries come from transformers' `generate`; this engine's own loop was tried by
    `own_loop_agrees`.

    Args:
        model: the model in eval mode. Whether a summary depends on its batch is found out in fp32 alone, where
            rounding cannot change it.
        decoding: the suite's.

    Raises:
        ModelError: transformers refuses, or a summary of a document depends on what else is in its batch.
    """
    if model.can.own_decoding:
        return
    draw = np.random.default_rng(0)
    documents = [draw.integers(0, model.parts.vocabulary_size, length).astype(np.int32) for length in (9, 5)]
    plan = replace(decoding, max_new_tokens=min(4, decoding.max_new_tokens))
    name, asked = type(model.parts.model).__name__, f"decoding.num_beams={plan.num_beams}"
    try:
        together = generate(model, documents, plan)
        alone = [generate(model, [document], plan)[0] for document in documents]
    except (ValueError, NotImplementedError) as error:  # what transformers refuses with
        fewer = "Set decoding.num_beams=1, leave" if plan.num_beams > 1 else "Leave"
        raise ModelError(
            f"{name} cannot generate with {asked}: {' '.join(str(error).split()).rstrip('.')}. {fewer} this row out, "
            "or take another model."
        ) from error
    if together != alone and model.machine.precision == "fp32":
        raise ModelError(
            f"{name} does not mask the padding of shorter documents: with {asked} and "
            f"decoding.batch_size={plan.batch_size} a "
            "summary would depend on what else is in its batch. Set decoding.batch_size=1."
        )


def _transformers_loop(model: EngineModel, documents: Sequence[np.ndarray], decoding: DecodingPlan) -> list[list[int]]:
    """A batch by transformers' `generate`, for families whose layers keep something else than keys and values."""
    eos = model.template.eos_id
    config = GenerationConfig(
        do_sample=False,
        num_beams=decoding.num_beams,
        max_new_tokens=decoding.max_new_tokens,
        no_repeat_ngram_size=decoding.no_repeat_ngram_size,
        length_penalty=decoding.length_penalty,
        early_stopping=False,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    embeddings, mask = left_padded(model, documents)
    embeddings, mask, cache = begin_with_prefix(model.adapted, embeddings, mask, decoding.num_beams)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no_repeat_ngram_size.*inputs_embeds.*")  # meant so: see `generate`
        new = model.parts.model.generate(  # type: ignore[operator]
            inputs_embeds=embeddings,
            attention_mask=mask,
            generation_config=config,
            # some families keep their state under another name
            **({} if cache is None else {"past_key_values": cache}),
        )
    return [row[: row.index(eos)] if eos in row else row for row in new.tolist()]


def right_padded(model: EngineModel, documents: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Prefix, document and separator with the virtual tokens in place, padded on the right: [B, P + T, D], lengths
    [B]."""
    rows = _rows(model, documents)
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows], device=model.machine.device)


def left_padded(model: EngineModel, documents: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Prefix, document and separator with the virtual tokens in place, padded on the left: [B, P + T, D], mask [B, P +
    T]."""
    rows, device = _rows(model, documents), model.machine.device
    longest = max(len(row) for row in rows)
    embeddings = rows[0].new_zeros(len(rows), longest, rows[0].shape[-1])
    mask = torch.zeros(len(rows), longest, dtype=torch.long, device=device)
    for i, row in enumerate(rows):
        embeddings[i, longest - len(row) :] = row
        mask[i, longest - len(row) :] = 1
    return embeddings, mask


def _rows(model: EngineModel, documents: Sequence[np.ndarray]) -> list[Tensor]:
    adapted, template, device = model.adapted, model.template, model.machine.device
    cue = list(template.separator_ids)
    rows = []
    for document in documents:
        sequence = np.concatenate([template.prefix_ids, document, cue]).astype(np.int64)
        tokens = embed(adapted.parts, torch.from_numpy(sequence).to(device)[None])
        if adapted.virtual_tokens is not None:
            at = len(sequence) - len(cue) if adapted.placement == "after" else 0
            tokens = insert(tokens, adapted.virtual_tokens.weight, torch.tensor([at], device=device))
        rows.append(tokens[0])
    return rows

"""The engine's own generation loop: documents are read once, then each running beam gets one token per step.

`own_loop_agrees` compares its steps with the model's own forward. Tested with transformers 5.23.0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych.engine.generation.decoding import DecodingPlan, beam_search, greedy
from triptych.engine.generation.padding import right_padded
from triptych.engine.generation.shared_cache import SharedCache, make_cache
from triptych.engine.model import EngineModel
from triptych.engine.prefix import prefix_cache
from triptych.engine.savings import attention, partial_forward
from triptych.engine.savings.attention import Places
from triptych.engine.savings.probe import Report, Unsupported, attempt, same_predictions
from triptych.engine.savings.step_blocks import step_blocks
from triptych.models.parts import embed

FAR = 2**17  # the position to probe if a model has no last one


def own_loop(model: EngineModel, documents: Sequence[np.ndarray], decoding: DecodingPlan) -> list[list[int]]:
    """Generate a batch with the engine's own loop: read the documents once, then one token per step and beam."""
    embeddings, lengths = right_padded(model, documents)
    reader = Reader.begin(model, embeddings, lengths, decoding.num_beams)
    search = greedy if decoding.num_beams == 1 else beam_search
    return search(reader.first_logits, decoding, model.template.eos_id, reader.step, reader.keep)


@dataclass
class Reader:
    """The model during generation: it has read the documents and gives the logits of every beam's next token."""

    model: EngineModel
    cache: SharedCache
    positions: Tensor  # of the next token, [B K, 1]
    beams: int
    first_logits: Tensor  # [B, V]

    @classmethod
    def begin(cls, model: EngineModel, embeddings: Tensor, lengths: Tensor, beams: int) -> "Reader":
        """Read right-padded documents: [B, T, D], [B].

        Raises:
            Unsupported: the family's layers keep something other than keys and values of the whole text.
        """
        prefix = model.adapted.prefix() if model.adapted.prefix is not None else None
        cache = make_cache(model.parts.model.config, beams, prefix)
        if cache is None:
            raise Unsupported("its layers keep something other than keys and values of the whole text")
        last = last_states(model, embeddings, lengths - 1, cache)
        cache.open(lengths)
        positions = (lengths + cache.prefix_length).repeat_interleave(beams)[:, None]
        return cls(model, cache, positions, beams, model.parts.head(last).float())

    def step(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Feed every beam's next token, given the row it follows; return the logits of the token after, [B K, V]."""
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
        """Continue with a subset of the documents."""
        self.cache.keep(documents)
        self.positions = self.positions.view(-1, self.beams)[documents].view(-1, 1)


def last_states(model: EngineModel, embeddings: Tensor, columns: Tensor, cache: SharedCache) -> Tensor:
    """Read documents into the cache; return final hidden states at one position of each: [B, T, D], [B] -> [B, D]."""
    parts, rows = model.parts, torch.arange(len(columns), device=columns.device)
    if not model.can.prune:
        return partial_forward.run_trunk(parts, embeddings, cache)[rows, columns]
    entry = partial_forward.run_up_to(parts, embeddings, len(parts.blocks) - 1, cache=cache)
    selection, slots = Places(columns[:, None]), torch.zeros_like(rows)
    return partial_forward.apply_final_norm(
        parts, partial_forward.last_block_at(parts, entry, rows, columns, selection, slots)
    )


@torch.no_grad()
def own_loop_agrees(model: EngineModel, report: Report = lambda reason: None) -> bool:
    """Whether the engine's steps give the same logits as the model's own forward.

    They are compared on two rows of tokens with two beams each. The expected logits use the model's own attention; if
    the steps agree, the engine's attention stays installed. Both run without autocast, because in low precision a wrong
    step could go unnoticed.

    Args:
        model: the model in eval mode, its weights not yet narrowed.
        report: called with the reason if they do not agree.

    Raises:
        AttributeError, TypeError: a bug in this package.
    """
    parts = model.parts
    ids, lengths, new = _probe(model)
    config: Any = parts.model.config
    own = config._attn_implementation

    def expected(row: int) -> Tensor:
        whole = torch.cat([ids[row // 2, : lengths[row // 2]], new[row : row + 1]])
        read = {"inputs_embeds": embed(parts, whole[None]), "past_key_values": prefix_cache(model.adapted, 1)}
        return parts.model(**read, use_cache=False).logits[0, -1].float()

    def agree() -> bool:
        wanted = torch.stack([expected(row) for row in range(4)])
        attention.install_attention(parts.model)
        reader = Reader.begin(model, embed(parts, ids), lengths, 2)
        if not same_predictions(reader.step(new, torch.arange(4, device=new.device)), wanted):
            raise Unsupported("steps from its cache give different logits than its own forward")
        return True

    agrees = False
    try:
        agrees = bool(attempt(agree, report))
    finally:
        if not agrees:
            parts.model.set_attn_implementation(own)
    return agrees


@torch.no_grad()
def step_blocks_agree(model: EngineModel) -> bool:
    """Whether steps through `StepBlock`s give the same logits as steps through the model's own blocks.

    They are compared as in `own_loop_agrees`, which has already confirmed the model's own steps, and once more at the
    model's last position, because some families scale queries at distant positions (Ministral 3).

    Args:
        model: the model in eval mode, its weights not yet narrowed.

    Raises:
        AttributeError, TypeError: a bug in this package.
    """
    ids, lengths, new = _probe(model)
    parts, rows = model.parts, torch.arange(4, device=new.device)

    def logits() -> list[Tensor]:
        reader = Reader.begin(model, embed(parts, ids), lengths, 2)
        near, last = reader.step(new, rows), (parts.max_positions or FAR) - 1
        reader.positions += last - int(reader.positions.max())
        return [near, reader.step(new, rows)]

    wanted = logits()
    with step_blocks(parts) as taken_apart:
        found = attempt(logits, lambda reason: None) if taken_apart else None
    return found is not None and all(map(same_predictions, found, wanted))


def _probe(model: EngineModel) -> tuple[Tensor, Tensor, Tensor]:
    """Two documents of random tokens, [2, 7], their lengths, [2], and one new token for two beams of each, [4]."""
    device = model.parts.device
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.parts.vocabulary_size, (2, 8), generator=draw).to(device)
    return ids[:, :7], torch.tensor([7, 4], device=device), ids[:, 6:].flatten()

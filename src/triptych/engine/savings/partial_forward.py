"""Run the trunk partially: up to a block, from a block on, or with its last block only at the targets.

It supports every family whose blocks are norm, attention, norm, MLP. A block's forward is replaced on the instance for
one pass, so that the family's own code prepares masks and positions. A structure that is found is used only after a
probe has given the same numbers (`ready.probe_pruning`). Tested with transformers 5.23.0.
"""

import inspect
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache
from transformers.pytorch_utils import Conv1D

from triptych.contracts import AdaptedModel, ModelParts
from triptych.engine.batching import Batch
from triptych.engine.inputs import Inputs
from triptych.engine.savings import attention
from triptych.engine.savings.attention import Places, Selected
from triptych.engine.savings.probe import Unsupported
from triptych.engine.savings.recomputation import recomputed
from triptych.engine.savings.replacement import replaced


@dataclass(frozen=True)
class Anatomy:
    """The modules of a pre-norm block: h = x + attention(first(x)), then h + mlp(second(h))."""

    first: nn.Module
    attention: nn.Module
    output: nn.Module  # the attention's output projection
    dropout: nn.Module  # the dropout after it
    second: nn.Module
    mlp: nn.Module


def anatomy(block: nn.Module, width: int) -> Anatomy | None:
    """The modules of a pre-norm block, identified by kind and order; None if its children do not match."""
    children = list(block.children())
    norms = [c for c in children if (p := list(c.parameters())) and all(x.shape == (width,) for x in p)]
    others = [c for c in children if c not in norms]
    if len(norms) != 2 or len(others) != 2:
        return None
    matrices = [c for c in others[0].children() if any(isinstance(m, (nn.Linear, Conv1D)) for m in c.modules())]
    dropout: nn.Module = next(
        (c for c in reversed(list(others[0].children())) if isinstance(c, nn.Dropout)), nn.Identity()
    )
    return Anatomy(norms[0], others[0], matrices[-1], dropout, norms[1], others[1]) if matrices else None


@dataclass
class Entry:
    """The arguments of a block: hidden states [B, T, D], and the others by name."""

    hidden: Tensor
    rest: dict[str, Any]


def run_up_to(
    parts: ModelParts,
    embeddings: Tensor,
    stop: int,
    known: tuple[int, Tensor] | None = None,
    cache: Cache | None = None,
) -> Entry:
    """Run the trunk up to block `stop`; that block and the following ones are not computed.

    Args:
        parts: the model.
        embeddings: [B, T, D].
        stop: the first block that is not run.
        known: a block and the hidden states that enter it, if known: no earlier block runs.
        cache: the cache to which the blocks that run add their keys and values.

    Raises:
        Unsupported: the trunk does not call its blocks.
    """
    first, states_before = known or (0, None)
    found: list[Entry] = []

    def entered(states: Tensor, *rest: Any, **named: Any) -> Tensor:
        bound = signature.bind(None, states, *rest, **named).arguments
        others = list(bound.items())[2:]  # after the block itself and the hidden states
        varied = {name for name, p in signature.parameters.items() if p.kind is p.VAR_KEYWORD}
        named = {k: v for name, value in others for k, v in (value.items() if name in varied else [(name, value)])}
        found.append(Entry(states_before if states_before is not None and stop == first else states, named))
        return states

    signature = inspect.signature(type(parts.blocks[stop]).forward)
    with ExitStack() as stack:
        if states_before is not None:
            _skip_to(stack, parts, first, states_before)
        for index in range(stop + 1, len(parts.blocks)):
            stack.enter_context(replaced(parts.blocks[index], _passed))
        stack.enter_context(replaced(parts.blocks[stop], entered))
        run_trunk(parts, embeddings, cache)
    if not found:
        raise Unsupported("its trunk does not call its blocks by their forward")
    return found[0]


def run_from(parts: ModelParts, embeddings: Tensor, first: int, hidden: Tensor) -> Tensor:
    """Run the trunk from block `first` on, given its hidden states: final hidden states [B, T, D]."""
    with ExitStack() as stack:
        _skip_to(stack, parts, first, hidden)
        return run_trunk(parts, embeddings)


def _skip_to(stack: ExitStack, parts: ModelParts, first: int, hidden: Tensor) -> None:
    own = parts.blocks[first].forward
    for block in parts.blocks[:first]:
        stack.enter_context(replaced(block, _passed))
    stack.enter_context(replaced(parts.blocks[first], lambda states, *rest, **named: own(hidden, *rest, **named)))


def _passed(states: Tensor, *rest: Any, **named: Any) -> Tensor:
    return states


def run_trunk(parts: ModelParts, embeddings: Tensor, cache: Cache | None = None) -> Tensor:
    """Run the trunk over right-padded rows: final hidden states [B, T, D]. A cache is extended."""
    rows, length, _ = embeddings.shape
    before = 0 if cache is None else cache.get_seq_length()
    seen = torch.ones(rows, before + length, dtype=torch.long, device=embeddings.device)
    read = {
        "inputs_embeds": embeddings,
        "attention_mask": seen,
        "past_key_values": cache,
        "use_cache": cache is not None,
    }
    return parts.trunk(**read).last_hidden_state


def last_block_at(
    parts: ModelParts, entry: Entry, rows: Tensor, columns: Tensor, selection: Places, slots: Tensor
) -> Tensor:
    """Run the last block at N positions only; elsewhere only keys and values are computed.

    Args:
        parts: the model.
        entry: the arguments of the last block.
        rows: the rows of the positions, [N].
        columns: the columns of the positions, [N].
        selection: the same positions row by row, [B, S].
        slots: the index of each position in its row of the selection, [N].

    Returns:
        The input of the final norm at these positions: [N, D].

    Raises:
        Unsupported: the block has a different structure, or its attention does not support selected positions.
    """
    block = anatomy(parts.blocks[-1], parts.hidden_size)
    if block is None:
        raise Unsupported("its blocks are not norm, attention, norm, MLP")
    config: Any = getattr(block.attention, "config", None)
    if config is None:
        raise Unsupported("its attention has no configuration")
    own = config._attn_implementation
    attention.register_attention()
    config._attn_implementation = attention.NAME
    try:
        rest = {k: v for k, v in entry.rest.items() if not k.startswith("encoder_")}
        block.attention(block.first(entry.hidden), selection=selection, **rest)
        raise Unsupported("its attention does not go through transformers' attention interface")
    except Selected as found:
        heads = found.heads
    finally:
        config._attn_implementation = own
    hidden = entry.hidden[rows, columns] + block.dropout(block.output(heads[rows, slots].flatten(1)))
    return hidden + block.mlp(block.second(hidden))


def hidden_at_targets(parts: ModelParts, inputs: Inputs, batch: Batch, recomputes: bool = False) -> Tensor:
    """Final hidden states at every target, running the last block only there: [N, D]; see `last_block_at_targets`."""
    entry = run_up_to(parts, inputs.embeddings, len(parts.blocks) - 1)
    return apply_final_norm(parts, last_block_at_targets(parts, entry, inputs, batch, recomputes))


def last_block_at_targets(
    parts: ModelParts, entry: Entry, inputs: Inputs, batch: Batch, recomputes: bool = False
) -> Tensor:
    """Run the last block at the targets only, given its arguments.

    Args:
        parts: the model.
        entry: what enters the last block.
        inputs: the inputs of the trunk.
        batch: the batch.
        recomputes: whether the block is recomputed in the backward pass.

    Returns:
        The input of the final norm: [N, D].
    """
    columns = torch.zeros(len(batch.ids), batch.most_targets, dtype=torch.long, device=batch.ids.device)
    columns = columns.index_put((inputs.rows, batch.slots), inputs.columns)

    def run(hidden: Tensor) -> Tensor:
        known = Entry(hidden, entry.rest)
        return last_block_at(parts, known, inputs.rows, inputs.columns, Places(columns), batch.slots)

    return recomputed(parts.blocks[-1], run, entry.hidden) if recomputes else run(entry.hidden)


def apply_final_norm(parts: ModelParts, hidden: Tensor) -> Tensor:
    """Apply the final norm, if there is one."""
    return parts.final_norm(hidden) if parts.final_norm is not None else hidden


def first_trained(adapted: AdaptedModel) -> int | None:
    """The first block that must run in every pass; L if only modules after the blocks are trained, None for all blocks.

    Everything before it is a fixed function of the tokens: frozen, without virtual tokens or a prefix.
    """
    parts = adapted.parts
    if adapted.virtual_tokens is not None or adapted.prefix is not None:
        return None
    trained = {id(p) for p in parts.model.parameters() if p.requires_grad}
    first = next(
        (i for i, b in enumerate(parts.blocks) if any(id(p) in trained for p in b.parameters())), len(parts.blocks)
    )
    after = {
        id(p) for module in [*parts.blocks[first:], parts.final_norm, parts.head] if module for p in module.parameters()
    }
    before = {id(p) for p in parts.trunk.parameters()} - {
        id(p) for module in [*parts.blocks[first:], parts.final_norm] if module for p in module.parameters()
    }
    if not trained or not trained <= after or trained & before or first == 0:
        return None
    return first

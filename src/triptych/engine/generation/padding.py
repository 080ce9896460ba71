"""Documents as embeddings, padded to the same length for batched generation."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from triptych.engine.inputs import insert
from triptych.engine.model import EngineModel
from triptych.models.parts import embed


def right_padded(model: EngineModel, documents: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Prefix, document and separator, with virtual tokens, padded on the right: [B, P + T, D], lengths [B]."""
    rows = _rows(model, documents)
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows], device=model.machine.device)


def left_padded(model: EngineModel, documents: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Prefix, document and separator, with virtual tokens, padded on the left: [B, P + T, D], mask [B, P + T]."""
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

"""Collate pairs into right-padded batches for the loss, and group them so that little padding is wasted."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from triptych.corpus.sequence import Pair, Template

PADDING = 0.05  # at most this share of a micro-batch's positions
# on a single GPU: a small model's pass waits for thousands of kernel launches, however few positions it has
GPU_PADDING = 0.25


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences: prefix, document, separator, summary. The EOS is only a target, not an input.

    Attributes:
        ids: the tokens, padded with EOS; [B, T]. Padding is recognized by position, never by id.
        starts: the position where the document begins, the same in every row.
        document_ends: the position where each row's document ends; [B].
        lengths: tokens in each row; [B].
        rows, columns: the N positions from which a target is predicted; [N] each.
        targets: the tokens predicted there: each summary and one EOS; [N].
        slots: the index of each target within its row; [N].
        most_targets: S, the largest number of targets in a row.
    """

    ids: Tensor
    starts: int
    document_ends: Tensor
    lengths: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor
    slots: Tensor
    most_targets: int

    @property
    def num_targets(self) -> int:
        """N."""
        return self.targets.numel()

    @property
    def num_tokens(self) -> int:
        """Document, separator, summary and EOS tokens, without padding and virtual tokens."""
        return int(self.lengths.sum()) + len(self.lengths) * (1 - self.starts)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        moved = {
            name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return Batch(starts=self.starts, most_targets=self.most_targets, **moved)


def collate(pairs: Sequence[Pair], template: Template) -> Batch:
    """Collate pairs into one batch."""
    head, cue = list(template.prefix_ids), list(template.separator_ids)
    sequences = [np.concatenate([head, p.document_ids, cue, p.summary_ids]).astype(np.int64) for p in pairs]
    lengths = torch.tensor([len(s) for s in sequences])
    ids = torch.full((len(pairs), int(lengths.max())), template.eos_id)
    rows, columns, targets = [], [], []
    for row, (pair, sequence) in enumerate(zip(pairs, sequences, strict=True)):
        ids[row, : len(sequence)] = torch.from_numpy(sequence)
        # the last separator token predicts the first summary token
        first = len(sequence) - len(pair.summary_ids) - 1
        rows.append(torch.full((len(pair.summary_ids) + 1,), row))
        columns.append(torch.arange(first, len(sequence)))
        targets.append(torch.from_numpy(np.append(pair.summary_ids, template.eos_id).astype(np.int64)))
    return Batch(
        ids=ids,
        starts=len(head),
        document_ends=torch.tensor([len(head) + len(p.document_ids) for p in pairs]),
        lengths=lengths,
        rows=torch.cat(rows),
        columns=torch.cat(columns),
        targets=torch.cat(targets),
        slots=torch.cat([torch.arange(len(own)) for own in targets]),
        most_targets=max(len(own) for own in targets),
    )


def sequence_length(pair: Pair) -> int:
    """Document and summary tokens of a pair, without the tokens that all pairs share."""
    return len(pair.document_ids) + len(pair.summary_ids)


def longest_first(pairs: Sequence[Pair]) -> list[int]:
    """Indices of the pairs, the longest sequence first."""
    return sorted(range(len(pairs)), key=lambda i: (-sequence_length(pairs[i]), i))


def by_length(pairs: Sequence[Pair], size: int) -> Iterator[list[int]]:
    """Indices in groups of at most `size` pairs of similar length, the longest first."""
    order = longest_first(pairs)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def micro_groups(
    split: Sequence[Pair], indices: list[int], size: int, ranks: int = 1, on_gpu: bool = False
) -> list[list[int]]:
    """Split a global batch into micro-batches of similar length; the split affects nothing but dropout.

    Losses are summed over the step. Several ranks divide the micro-batches among them, so no micro-batch has more than
    a rank's share of the documents, and padding is limited more strictly than on a single GPU.

    Args:
        split: the pairs.
        indices: the pairs in the global batch.
        size: maximum number of pairs in a micro-batch.
        ranks: number of ranks that divide the micro-batches.
        on_gpu: whether they are computed on GPUs.
    """
    padding = GPU_PADDING if on_gpu and ranks == 1 else PADDING
    most = min(size, math.ceil(len(indices) / ranks))
    groups: list[list[int]] = []
    tokens = longest = 0
    for index in sorted(indices, key=lambda i: sequence_length(split[i]), reverse=True):
        length = sequence_length(split[index])
        rows = len(groups[-1]) + 1 if groups else 0
        if not groups or rows > most or tokens + length < (1 - padding) * rows * longest:
            groups.append([])
            tokens, longest = 0, length
        groups[-1].append(index)
        tokens += length
    return groups


def ranks_of(split: Sequence[Pair], groups: Sequence[list[int]], ranks: int) -> list[int]:
    """Assign a rank to each micro-batch: from the largest on, each goes to the rank with the least work so far.

    Args:
        split: the pairs.
        groups: the micro-batches of a step, as indices.
        ranks: number of ranks that divide them.
    """
    places = [len(group) * max(sequence_length(split[i]) for i in group) for group in groups]
    owners, loads = [0] * len(groups), [0] * ranks
    for number in sorted(range(len(groups)), key=lambda n: places[n], reverse=True):
        owners[number] = loads.index(min(loads))
        loads[owners[number]] += places[number]
    return owners


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the pairs in an epoch, the same for every method: a permutation drawn from seed and epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def seed_of(seed: int, step: int, micro_batch: int) -> int:
    """The dropout seed of a micro-batch, the same whether or not the run was resumed and on any number of ranks.

    Several ranks may still split a step into different micro-batches than one rank, and so draw different dropout: see
    `micro_groups`.
    """
    return int(np.random.SeedSequence([seed, step, micro_batch]).generate_state(1, np.uint64)[0])

"""What enters the first trained block never changes: computed once for every document, kept on disk, read from
there."""

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
import transformers
from torch import Tensor

from triptych.contracts import AdaptedModel
from triptych.corpus.prepare import Pair, Template
from triptych.engine import stages
from triptych.engine.batching import Batch, by_length, collate
from triptych.engine.forward import assemble, read_losses, tail_states, target_losses
from triptych.errors import ResultsError
from triptych.machine import Machine
from triptych.storage.disk_cache import DiskCache
from triptych.storage.files import digest, reserve, write_bytes
from triptych.storage.locks import FileLock

# Part of every entry's key. Raise it with a change after which the states kept for the same weights and tokens would be
# others, or be laid out otherwise: here, in `stages`, `forward.assemble`, `batching.collate`, `attention` or `compute`.
# A change of words or form leaves it, and so the gigabytes that people have. torch, transformers, dtype and attention
# are in the key as well.
TRUNK_VERSION = 2
STATES = "states.bin"
SEAL = "sha256"
SECONDS = "seconds"
_STORED = {torch.float32: np.float32, torch.bfloat16: np.uint16, torch.float16: np.float16}


@dataclass(frozen=True)
class TrunkCache:
    """Hidden states of a split's pairs, one after the other in one file.

    Attributes:
        first: the block they enter; L: they are what enters the final norm, at the targets alone.
        file: the open file of all states, [all places, D]; read, not mapped, so that it is no part of the process's
            memory.
        starts: where each pair begins in it, and the end: [pairs + 1].
        width: D.
        dtype: that of the model's own hidden states there.
        flops: what computing them takes, whoever did it: the figure of a run does not depend on what was there before.
        seconds: what computing them took, whoever did it.
        hold: keeps the entry from being removed for as long as this object lives.
    """

    first: int
    file: IO[bytes]
    starts: np.ndarray
    width: int
    dtype: torch.dtype
    flops: float
    seconds: float
    hold: FileLock

    @property
    def num_bytes(self) -> int:
        """Bytes on disk."""
        return int(self.starts[-1]) * self.width * self.dtype.itemsize

    def of(self, index: int) -> Tensor:
        """The states of a pair, [places, D].

        Raises:
            OSError: the file cannot be read.
        """
        places = int(self.starts[index + 1] - self.starts[index])
        rows = np.empty((places, self.width), _STORED[self.dtype])
        begin = int(self.starts[index]) * self.width * self.dtype.itemsize
        if os.preadv(self.file.fileno(), [rows.data.cast("B")], begin) != rows.nbytes:
            raise OSError(errno.EIO, "the file is shorter than when it was opened", self.file.name)
        return torch.from_numpy(rows).view(self.dtype)

    def losses(self, adapted: AdaptedModel, batch: Batch, indices: Sequence[int]) -> Tensor:
        """`target_losses` of a batch without the frozen part below: [N].

        Args:
            indices: the pairs of the batch, row by row.
        """
        parts = adapted.parts
        if self.first == len(parts.blocks):
            hidden = torch.cat([self.of(i) for i in indices]).to(batch.ids.device)
            hidden = parts.final_norm(hidden) if parts.final_norm is not None else hidden
            return read_losses(parts.head, hidden, batch.targets)
        rows, length = batch.ids.shape
        states = torch.zeros(rows, length, parts.hidden_size, dtype=self.dtype)
        for row, index in enumerate(indices):
            own = self.of(index)
            states[row, : len(own)] = own
        return resumed_losses(adapted, batch, self.first, states.to(batch.ids.device))


def resumed_losses(adapted: AdaptedModel, batch: Batch, first: int, states: Tensor) -> Tensor:
    """`target_losses` of a batch whose hidden states before block `first` are known: [B, T, D] -> [N]."""
    parts = adapted.parts
    with torch.no_grad():
        inputs = assemble(adapted, batch)
    if adapted.prunes_training:
        entry = stages.enter(parts, inputs.embeddings, len(parts.blocks) - 1, resume=(first, states))
        return read_losses(parts.head, stages.finish(parts, tail_states(parts, entry, inputs, batch)), batch.targets)
    hidden = stages.resume(parts, inputs.embeddings, first, states)
    return read_losses(parts.head, hidden[inputs.rows, inputs.columns], batch.targets)


@torch.no_grad()
def entering(adapted: AdaptedModel, batch: Batch, first: int) -> Tensor:
    """What is kept of a batch: [B, T, D], or [N, D] at the targets where `first` is L."""
    parts, inputs = adapted.parts, assemble(adapted, batch)
    if first < len(parts.blocks):
        return stages.enter(parts, inputs.embeddings, first).hidden
    entry = stages.enter(parts, inputs.embeddings, len(parts.blocks) - 1)
    return tail_states(parts, entry, inputs, batch)


def usable_from(adapted: AdaptedModel) -> int | None:
    """The block from which cached states may be used; None where there is nothing to gain or it would not be exact."""
    return stages.first_trained(adapted) if adapted.prunes else None


def open_cache(
    adapted: AdaptedModel,
    split: Sequence[Pair],
    template: Template,
    machine: Machine,
    *,
    model: str,
    folder: Path,
    max_bytes: int,
    batch_size: int,
    flops: Callable[[int, int, int, int], float],
    progress: Callable[[int, int], None] | None = None,
) -> TrunkCache | None:
    """The states of a split from the cache; computed where they are not there, by one process while others wait.

    Args:
        model: the fingerprint of the model's weights.
        folder: the cache's folder.
        max_bytes: beyond it nothing is kept, and older entries go.
        flops: of a pass that computes them, by the four numbers of its `meter.WorkShape`.

    Returns:
        None where it cannot be used: nothing frozen below, too large, or its losses are not those of the whole model.
    """
    first = usable_from(adapted)
    if first is None:
        return None
    batch_groups = list(by_length(split, batch_size))
    at_targets = first == len(adapted.parts.blocks)
    lengths = [len(p.summary_ids) + 1 if at_targets else _length(p, template) for p in split]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    shortest, width = batch_groups[-1][-1], adapted.parts.hidden_size
    dtype = _stream_dtype(adapted, split[shortest], template, machine, first)
    size = int(starts[-1]) * width * dtype.itemsize
    if size > max_bytes:
        return None
    total = 0.0
    for group in batch_groups:
        targets = [len(split[i].summary_ids) + 1 for i in group]
        length = max(_length(split[i], template) for i in group)
        total += flops(len(group), length, sum(targets), len(group) * max(targets))
    key = _key(adapted, split, template, machine, model, first, dtype)

    def make(entry: Path) -> None:
        begun = time.perf_counter()
        with (entry / STATES).open("w+b") as file:
            reserve(file, size)  # before hours of work, not after them
            for index, states in _computed(
                adapted, split, template, machine, first, batch_groups, starts, dtype, progress
            ):
                file.seek(int(starts[index]) * width * dtype.itemsize)
                file.write(states.view(torch.uint8).numpy().data)
        write_bytes(entry / SECONDS, f"{time.perf_counter() - begun:.3f}".encode())
        write_bytes(entry / SEAL, digest(entry / STATES).encode())

    def read(entry: Path) -> IO[bytes] | None:
        return (entry / STATES).open("rb", buffering=0) if _is_whole(entry / STATES, size) else None

    try:
        file, hold = DiskCache(folder, max_bytes, SEAL).entry(key, make, read, num_bytes=size, alone=True)
        seconds = float((folder / key / SECONDS).read_bytes())
    except OSError as error:
        raise ResultsError(
            f"The trunk cache in {str(folder)!r} cannot be written or read: {error.strerror or error}. It takes "
            f"{size / 1e6:,.0f} MB: make room, or set TRIPTYCH_CACHE to a folder on another disk, and start again."
        ) from error
    cache = TrunkCache(first, file, starts, width, dtype, total, seconds, hold)
    by_size = [index for group in batch_groups for index in group]
    sample = {by_size[0], by_size[len(by_size) // 2], shortest}
    return cache if all(_agrees(cache, adapted, split, template, machine, index) for index in sample) else None


def _is_whole(file: Path, size: int) -> bool:
    """Whether a file of states is the one that was sealed: of its length, and of its SHA-256; and what it took is
    known."""
    seal, seconds = file.with_name(SEAL), file.with_name(SECONDS)
    if not (file.is_file() and file.stat().st_size == size and seal.is_file() and seconds.is_file()):
        return False
    if not re.fullmatch(rb"\d{1,9}\.\d{3}", seconds.read_bytes()):
        return False
    return digest(file).encode() == seal.read_bytes()


def _length(pair: Pair, template: Template) -> int:
    return template.length - 1 + len(pair.document_ids) + len(pair.summary_ids)


@torch.no_grad()
def _stream_dtype(adapted: AdaptedModel, pair: Pair, template: Template, machine: Machine, first: int) -> torch.dtype:
    """The dtype of the model's own hidden states: kept in it, they are neither rounded nor too large for it."""
    inputs = assemble(adapted, collate([pair], template).to(machine.device))
    with machine.autocast():
        return stages.enter(adapted.parts, inputs.embeddings, min(first, len(adapted.parts.blocks) - 1)).hidden.dtype


@torch.no_grad()
def _computed(
    adapted: AdaptedModel,
    split: Sequence[Pair],
    template: Template,
    machine: Machine,
    first: int,
    groups: Sequence[Sequence[int]],
    starts: np.ndarray,
    dtype: torch.dtype,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, Tensor]]:
    """Every pair's index with its states, [places, D] each."""
    done = 0
    for indices in groups:
        batch = collate([split[i] for i in indices], template).to(machine.device)
        with machine.autocast():
            found = entering(adapted, batch, first).to("cpu", dtype)
        counts = [int(starts[i + 1] - starts[i]) for i in indices]
        pieces = found.split(counts) if found.ndim == 2 else [found[row, :count] for row, count in enumerate(counts)]
        for i, piece in zip(indices, pieces, strict=True):
            yield i, piece.contiguous()
        done += len(indices)
        if progress:
            progress(done, len(split))


@torch.no_grad()
def _agrees(
    cache: TrunkCache, adapted: AdaptedModel, split: Sequence[Pair], template: Template, machine: Machine, index: int
) -> bool:
    """Whether states and losses from the cache are those of the whole model on a document; the model is in eval mode.

    In low precision a document alone is rounded otherwise than in the batch its states come from, token by token, so
    that what is compared there is the states as a whole, and the losses loosely.
    """
    batch = collate([split[index]], template).to(machine.device)
    with machine.autocast():
        whole, resumed = target_losses(adapted, batch, plain=False), cache.losses(adapted, batch, [index])
        fresh = entering(adapted, batch, cache.first)
    kept, fresh = cache.of(index).double(), fresh.to("cpu", cache.dtype).double().reshape(-1, cache.width)
    exact = machine.precision == "fp32"
    loose, apart = (1e-4, 1e-4) if exact else (0.1, 0.03)
    same_states = bool((kept - fresh).norm() <= apart * fresh.norm()) and bool(torch.isfinite(kept).all())
    return same_states and torch.allclose(whole, resumed, rtol=loose, atol=loose)


def _key(
    adapted: AdaptedModel,
    split: Sequence[Pair],
    template: Template,
    machine: Machine,
    model: str,
    first: int,
    dtype: torch.dtype,
) -> str:
    """Everything that the states depend on: weights, tokens, precision, attention, versions, device."""
    config: Any = adapted.parts.model.config
    digest = hashlib.sha256(
        repr(
            (
                TRUNK_VERSION,
                model,
                first,
                len(adapted.parts.blocks),
                template,
                machine.precision,
                str(dtype),
                machine.device.type,
                config._attn_implementation,
                torch.__version__,
                transformers.__version__,
            )
        ).encode()
    )
    for pair in split:
        for ids in (pair.document_ids, pair.summary_ids):
            digest.update(len(ids).to_bytes(4, "little") + np.ascontiguousarray(ids, dtype="<i4").tobytes())
    return digest.hexdigest()[:32]

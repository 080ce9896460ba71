"""Cache of the hidden states that enter the first trained block: computed once per document and kept on disk.

The states never change; they are checked against the whole model on three documents whenever a cache is opened
(`open_cache`). Tested with transformers 5.23.0.
"""

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
import transformers
from torch import Tensor

from triptych.contracts import AdaptedModel
from triptych.corpus.sequence import Pair, Template
from triptych.engine.batching import Batch, by_length, collate, longest_first
from triptych.engine.forward import read_losses, target_losses
from triptych.engine.inputs import assemble
from triptych.engine.model import EngineModel
from triptych.engine.savings import partial_forward
from triptych.engine.within_memory import fitting_batches
from triptych.errors import ResultsError
from triptych.measure.flops import FlopModel
from triptych.storage.disk_cache import DiskCache
from triptych.storage.files import digest, reserve, write_bytes
from triptych.storage.locks import FileLock

# Part of every entry's key. Increase it with any change to this module, `partial_forward`, `attention`, `ready`,
# `inputs.assemble` or `batching.collate` after which the states for the same weights and tokens, or their layout, would
# differ. Leave it for pure refactoring or documentation, so that users keep their gigabytes of states. torch,
# transformers, dtype and attention are in the key as well.
TRUNK_VERSION = 3
STATES = "states.bin"
SEAL = "sha256"
SECONDS = "seconds"
_STORED = {torch.float32: np.float32, torch.bfloat16: np.uint16, torch.float16: np.float16}


@dataclass(frozen=True)
class TrunkCache:
    """Hidden states of a split's pairs, one after another in one file.

    Attributes:
        first: the block they enter; L: they enter the final norm, at the targets only.
        file: the open file of all states, [all positions, D]; read, not mapped, so that it does not count as the
            process's memory.
        starts: the position in the file at which each pair's states start, [pairs].
        lengths: the number of positions of each pair, [pairs].
        width: D.
        dtype: the dtype of the model's own hidden states there.
        seconds: the time it took to compute them, in this run or an earlier one.
        hold: the lock that keeps the entry from being removed while this object lives.
    """

    first: int
    file: IO[bytes]
    starts: np.ndarray
    lengths: np.ndarray
    width: int
    dtype: torch.dtype
    seconds: float
    hold: FileLock

    @property
    def place_bytes(self) -> int:
        """Bytes of the states at one position."""
        return self.width * self.dtype.itemsize

    @property
    def num_bytes(self) -> int:
        """Bytes on disk."""
        return int(self.lengths.sum()) * self.place_bytes

    def bytes_for(self, model: EngineModel, split: Sequence[Pair]) -> int:
        """Number of bytes of another split's states."""
        return sum(_places(model, split, self.first)) * self.place_bytes

    def only(self, indices: Sequence[int]) -> "TrunkCache":
        """The states of a subset of the pairs, in the given order."""
        return replace(self, starts=self.starts[indices], lengths=self.lengths[indices])

    def of(self, index: int) -> Tensor:
        """The states of a pair, [positions, D].

        Raises:
            OSError: the file cannot be read.
        """
        rows = np.empty((int(self.lengths[index]), self.width), _STORED[self.dtype])
        begin = int(self.starts[index]) * self.place_bytes
        if os.preadv(self.file.fileno(), [rows.data.cast("B")], begin) != rows.nbytes:
            raise OSError(errno.EIO, "the file is shorter than when it was opened", self.file.name)
        return torch.from_numpy(rows).view(self.dtype)

    def losses(self, model: EngineModel, batch: Batch, indices: Sequence[int]) -> Tensor:
        """`target_losses` of a batch, skipping the frozen part below `first`: [N].

        Args:
            model: the model.
            batch: the batch.
            indices: the pairs of the batch, row by row.
        """
        parts = model.parts
        if self.first == len(parts.blocks):
            hidden = torch.cat([self.of(i) for i in indices]).to(batch.ids.device)
            hidden = parts.final_norm(hidden) if parts.final_norm is not None else hidden
            return read_losses(parts.head, hidden, batch.targets)
        rows, length = batch.ids.shape
        states = torch.zeros(rows, length, parts.hidden_size, dtype=self.dtype)
        for row, index in enumerate(indices):
            own = self.of(index)
            states[row, : len(own)] = own
        return resumed_losses(model, batch, self.first, states.to(batch.ids.device))


def resumed_losses(model: EngineModel, batch: Batch, first: int, states: Tensor) -> Tensor:
    """`target_losses` of a batch, given the hidden states that enter block `first`: [B, T, D] -> [N]."""
    parts = model.parts
    with torch.no_grad():
        inputs = assemble(model.adapted, batch)
    with model.computing():
        if model.can.prune_in_training:
            stop = len(parts.blocks) - 1
            entry = partial_forward.run_up_to(parts, inputs.embeddings, stop, known=(first, states))
            hidden = partial_forward.last_block_at_targets(parts, entry, inputs, batch, model.recomputes)
            hidden = partial_forward.apply_final_norm(parts, hidden)
        else:
            hidden = partial_forward.run_from(parts, inputs.embeddings, first, states)[inputs.rows, inputs.columns]
    return read_losses(parts.head, hidden, batch.targets)


@torch.no_grad()
def entering(adapted: AdaptedModel, batch: Batch, first: int) -> Tensor:
    """The states to keep for a batch: [B, T, D], or [N, D] at the targets if `first` is L."""
    parts, inputs = adapted.parts, assemble(adapted, batch)
    if first < len(parts.blocks):
        return partial_forward.run_up_to(parts, inputs.embeddings, first).hidden
    entry = partial_forward.run_up_to(parts, inputs.embeddings, len(parts.blocks) - 1)
    return partial_forward.last_block_at_targets(parts, entry, inputs, batch)


def usable_from(model: EngineModel) -> int | None:
    """The block from which cached states may be used; None if nothing would be gained or it would not be exact."""
    if model.modes.everywhere:  # dropout runs in the frozen blocks: their states differ in every step
        return None
    return partial_forward.first_trained(model.adapted) if model.can.prune else None


def trunk_store(folder: Path, max_bytes: int) -> DiskCache:
    """The on-disk store of states.

    Args:
        folder: created if missing.
        max_bytes: states that need more are not kept; older entries are removed to stay below it.
    """
    return DiskCache(folder, max_bytes, SEAL)


def making_flops(split: Sequence[Pair], template: Template, batch_size: int, flops: FlopModel) -> float:
    """FLOPs of computing the states of a split, counted even if an earlier run computed them.

    Args:
        split: the pairs.
        template: how a pair becomes one sequence.
        batch_size: pairs per forward pass.
        flops: FLOPs of one pass, see `flops.entering_flops`.
    """
    total = 0.0
    for group in by_length(split, batch_size):
        targets = [len(split[i].summary_ids) + 1 for i in group]
        length = max(_length(split[i], template) for i in group)
        total += flops.count(len(group), length, sum(targets), len(group) * max(targets))
    return total


def open_cache(
    model: EngineModel,
    split: Sequence[Pair],
    fingerprint: str,
    store: DiskCache,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> TrunkCache | None:
    """Open the states of a split in the store; if missing, one process computes them while the others wait.

    Args:
        model: the model in eval mode.
        split: the pairs.
        fingerprint: the fingerprint of the untouched model's weights.
        store: see `trunk_store`.
        batch_size: pairs per forward pass.
        progress: called with `(pairs done, total pairs)` while states are computed.

    Returns:
        The cache; None if it cannot be used: nothing is frozen below, it is too large, or its losses differ from the
        whole model's.

    Raises:
        ResultsError: the store cannot be written or read.
        OutOfMemory: a pass over a single pair does not fit.
    """
    first = usable_from(model)
    if first is None:
        return None
    layout = _lay_out(model, split, batch_size, first)
    if layout.num_bytes > store.max_bytes:
        return None
    key = _key(model, split, fingerprint, layout)

    def make(entry: Path) -> None:
        begun = time.perf_counter()
        with (entry / STATES).open("w+b") as file:
            reserve(file, layout.num_bytes)  # fails before hours of work rather than after
            for index, states in _computed(model, split, layout, progress):
                file.seek(int(layout.starts[index]) * layout.place_bytes)
                file.write(states.view(torch.uint8).numpy().data)
        write_bytes(entry / SECONDS, f"{time.perf_counter() - begun:.3f}".encode())
        write_bytes(entry / SEAL, digest(entry / STATES).encode())

    def read(entry: Path) -> IO[bytes] | None:
        return (entry / STATES).open("rb", buffering=0) if _is_whole(entry / STATES, layout.num_bytes) else None

    try:
        file, hold = store.entry(key, make, read, num_bytes=layout.num_bytes, alone=True)
        seconds = float((store.folder / key / SECONDS).read_bytes())
    except OSError as error:
        raise ResultsError(
            f"The trunk cache in {str(store.folder)!r} cannot be written or read: {error.strerror or error}. It takes "
            f"{layout.num_bytes / 1e6:,.0f} MB: make room, or set TRIPTYCH_CACHE to a folder on another disk, and "
            "start again."
        ) from error
    starts, lengths = layout.starts[:-1], np.diff(layout.starts)
    cache = TrunkCache(first, file, starts, lengths, layout.width, layout.dtype, seconds, hold)
    order = layout.order
    sample = {order[0], order[len(order) // 2], order[-1]}
    return cache if all(_agrees(cache, model, split, index) for index in sample) else None


@dataclass(frozen=True)
class _Layout:
    """Which states of a split are kept, and where in the file.

    Attributes:
        first: the block they enter.
        order: indices of the pairs in the order in which their states are computed, the longest first.
        batch_size: how many are computed together.
        starts: the start of each pair in the file, then the end, in positions; [pairs + 1].
        width: D.
        dtype: the dtype of the states.
    """

    first: int
    order: list[int]
    batch_size: int
    starts: np.ndarray
    width: int
    dtype: torch.dtype

    @property
    def place_bytes(self) -> int:
        """Bytes of the states at one position."""
        return self.width * self.dtype.itemsize

    @property
    def num_bytes(self) -> int:
        """Bytes on disk."""
        return int(self.starts[-1]) * self.place_bytes


def _lay_out(model: EngineModel, split: Sequence[Pair], batch_size: int, first: int) -> _Layout:
    order = longest_first(split)
    starts = np.concatenate([[0], np.cumsum(_places(model, split, first))]).astype(np.int64)
    dtype = _stream_dtype(model, split[order[-1]], first)
    return _Layout(first, order, batch_size, starts, model.parts.hidden_size, dtype)


def _places(model: EngineModel, split: Sequence[Pair], first: int) -> list[int]:
    """How many states to keep for each pair: only at the targets if they enter the final norm, otherwise everywhere."""
    if first == len(model.parts.blocks):
        return [len(pair.summary_ids) + 1 for pair in split]
    return [_length(pair, model.template) for pair in split]


def _is_whole(file: Path, size: int) -> bool:
    """Whether a file of states has the right size and SHA-256, and a readable file of the seconds it took."""
    seal, seconds = file.with_name(SEAL), file.with_name(SECONDS)
    if not (file.is_file() and file.stat().st_size == size and seal.is_file() and seconds.is_file()):
        return False
    if not re.fullmatch(rb"\d{1,9}\.\d{3}", seconds.read_bytes()):
        return False
    return digest(file).encode() == seal.read_bytes()


def _length(pair: Pair, template: Template) -> int:
    return template.length - 1 + len(pair.document_ids) + len(pair.summary_ids)


@torch.no_grad()
def _stream_dtype(model: EngineModel, pair: Pair, first: int) -> torch.dtype:
    """The dtype of the model's own hidden states: keeping it avoids rounding and overflow."""
    inputs = assemble(model.adapted, collate([pair], model.template).to(model.machine.device))
    stop = min(first, len(model.parts.blocks) - 1)
    with model.machine.autocast():
        return partial_forward.run_up_to(model.parts, inputs.embeddings, stop).hidden.dtype


@torch.no_grad()
def _computed(
    model: EngineModel, split: Sequence[Pair], layout: _Layout, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[int, Tensor]]:
    """Compute the states: yields every pair's index with its states, [positions, D]."""

    def states_of(indices: Sequence[int]) -> Tensor:
        batch = collate([split[i] for i in indices], model.template).to(model.machine.device)
        with model.machine.autocast():
            return entering(model.adapted, batch, layout.first).to("cpu", layout.dtype)

    done = 0
    for indices, found in fitting_batches(model, layout.order, layout.batch_size, states_of):
        counts = [int(layout.starts[i + 1] - layout.starts[i]) for i in indices]
        pieces = found.split(counts) if found.ndim == 2 else [found[row, :count] for row, count in enumerate(counts)]
        for i, piece in zip(indices, pieces, strict=True):
            yield i, piece.contiguous()
        done += len(indices)
        if progress:
            progress(done, len(split))


@torch.no_grad()
def _agrees(cache: TrunkCache, model: EngineModel, split: Sequence[Pair], index: int) -> bool:
    """Whether the cache gives the whole model's states and losses on a document; the model is in eval mode.

    In low precision, a single document is rounded differently, token by token, than in the batch its states come from,
    so the states are compared as a whole and the losses with a loose tolerance.
    """
    batch = collate([split[index]], model.template).to(model.machine.device)
    with model.machine.autocast():
        whole, resumed = target_losses(model, batch), cache.losses(model, batch, [index])
        fresh = entering(model.adapted, batch, cache.first)
    kept, fresh = cache.of(index).double(), fresh.to("cpu", cache.dtype).double().reshape(-1, cache.width)
    exact = model.machine.precision == "fp32"
    loose, apart = (1e-4, 1e-4) if exact else (0.1, 0.03)
    same_states = bool((kept - fresh).norm() <= apart * fresh.norm()) and bool(torch.isfinite(kept).all())
    return same_states and torch.allclose(whole, resumed, rtol=loose, atol=loose)


def _key(model: EngineModel, split: Sequence[Pair], fingerprint: str, layout: _Layout) -> str:
    """A hash of everything the states depend on: weights, tokens, precision, attention, versions, device."""
    config: Any = model.parts.model.config
    everything = (
        TRUNK_VERSION,
        fingerprint,
        layout.first,
        len(model.parts.blocks),
        model.template,
        model.machine.precision,
        str(layout.dtype),
        model.machine.device.type,
        config._attn_implementation,
        torch.__version__,
        transformers.__version__,
    )
    hashed = hashlib.sha256(repr(everything).encode())
    for pair in split:
        for ids in (pair.document_ids, pair.summary_ids):
            hashed.update(len(ids).to_bytes(4, "little") + np.ascontiguousarray(ids, dtype="<i4").tobytes())
    return hashed.hexdigest()[:32]

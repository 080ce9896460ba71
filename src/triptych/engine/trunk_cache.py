"""What enters the first trained block never changes: computed once for every document, kept on disk, memory-mapped."""

import fcntl
import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import triptych
from triptych import store
from triptych.contracts import AdaptedModel
from triptych.corpus import Pair, Template
from triptych.engine import stages
from triptych.engine.batching import Batch, by_length, collate
from triptych.engine.forward import assemble, read_losses, tail_states, target_losses
from triptych.errors import ResultsError
from triptych.files import write_bytes
from triptych.runtime import Runtime

SEAL = "sha256"
SECONDS = "seconds"
_DTYPES = {"fp32": (torch.float32, np.float32), "bf16": (torch.bfloat16, np.uint16), "fp16": (torch.float16, np.float16)}


@dataclass(frozen=True)
class TrunkCache:
    """Hidden states of a split's pairs, one after the other in one file.

    Attributes:
        first: the block they enter; L: they are what enters the final norm, at the targets alone.
        states: [all places, D], memory-mapped.
        starts: where each pair begins in it, and the end: [pairs + 1].
        flops: what computing them takes, whoever did it: the figure of a run does not depend on what was there before.
        seconds: what computing them took, whoever did it.
    """

    first: int
    states: np.ndarray
    starts: np.ndarray
    dtype: torch.dtype
    flops: float
    seconds: float

    @property
    def num_bytes(self) -> int:
        """Bytes on disk."""
        return self.states.nbytes

    def of(self, index: int) -> Tensor:
        """The states of a pair, [places, D], copied out of the file."""
        rows = np.array(self.states[self.starts[index] : self.starts[index + 1]])
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
    runtime: Runtime,
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
    dtype, stored = _DTYPES[runtime.precision]
    shape = (int(starts[-1]), adapted.parts.hidden_size)
    size = shape[0] * shape[1] * np.dtype(stored).itemsize
    if size > max_bytes:
        return None
    total = 0.0
    for group in batch_groups:
        targets = [len(split[i].summary_ids) + 1 for i in group]
        length = max(_length(split[i], template) for i in group)
        total += flops(len(group), length, sum(targets), len(group) * max(targets))
    key = _key(adapted, split, template, runtime, model, first)
    file = folder / key / "states.bin"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{key}.lock"):
            if not _is_whole(file, size):
                _make_room(folder, key, max_bytes - size)
                unfinished = file.with_suffix(".unfinished")
                unfinished.parent.mkdir(exist_ok=True)
                made = np.memmap(unfinished, stored, "w+", shape=shape)
                begun = time.perf_counter()
                _fill(adapted, split, template, runtime, first, batch_groups, made, starts, dtype, progress)
                write_bytes(file.with_name(SECONDS), f"{time.perf_counter() - begun:.3f}".encode())
                write_bytes(file.with_name(SEAL), store.digest(unfinished).encode())
                unfinished.replace(file)
            file.touch()
        states = np.memmap(file, stored, "r", shape=shape)
        seconds = float(file.with_name(SECONDS).read_bytes())
    except OSError as error:
        raise ResultsError(f"{str(folder)!r} cannot be written: {error.strerror}; set TRIPTYCH_CACHE.") from error
    cache = TrunkCache(first, states, starts, dtype, total, seconds)
    return cache if _agrees(cache, adapted, split, template, runtime, batch_groups[-1][-1]) else None


def _is_whole(file: Path, size: int) -> bool:
    """Whether a file of states is the one that was sealed: of its length, and of its SHA-256; and what it took is known."""
    seal, seconds = file.with_name(SEAL), file.with_name(SECONDS)
    if not (file.is_file() and file.stat().st_size == size and seal.is_file() and seconds.is_file()):
        return False
    if not re.fullmatch(rb"\d{1,9}\.\d{3}", seconds.read_bytes()):
        return False
    return store.digest(file).encode() == seal.read_bytes()


def _length(pair: Pair, template: Template) -> int:
    return template.length - 1 + len(pair.document_ids) + len(pair.summary_ids)


@torch.no_grad()
def _fill(adapted, split, template, runtime, first, groups, states, starts, dtype, progress) -> None:
    done = 0
    for indices in groups:
        batch = collate([split[i] for i in indices], template).to(runtime.device)
        with runtime.autocast():
            found = entering(adapted, batch, first).to("cpu", dtype)
        counts = [int(starts[i + 1] - starts[i]) for i in indices]
        pieces = found.split(counts) if found.ndim == 2 else [found[row, :count] for row, count in enumerate(counts)]
        for i, piece in zip(indices, pieces, strict=True):
            raw = piece.contiguous().view(torch.uint16) if dtype == torch.bfloat16 else piece
            states[starts[i] : starts[i + 1]] = raw.numpy()
        done += len(indices)
        if progress:
            progress(done, len(split))
    states.flush()


@torch.no_grad()
def _agrees(cache, adapted, split, template, runtime, index) -> bool:
    """Whether losses from the cache are those of the whole model on the shortest document; the model is in eval mode."""
    batch = collate([split[index]], template).to(runtime.device)
    with runtime.autocast():
        whole, resumed = target_losses(adapted, batch, plain=False), cache.losses(adapted, batch, [index])
    loose = 1e-4 if runtime.precision == "fp32" else 0.1
    return torch.allclose(whole, resumed, rtol=loose, atol=loose)


def _key(adapted: AdaptedModel, split, template: Template, runtime: Runtime, model: str, first: int) -> str:
    """Everything that the states depend on: weights, tokens, precision, versions, device."""
    digest = hashlib.sha256(repr((model, first, len(adapted.parts.blocks), template, runtime.precision, runtime.device.type,
                                  triptych.__version__, torch.__version__)).encode())  # fmt: skip
    for source in (Path(__file__), Path(stages.__file__)):  # the code that made them
        digest.update(source.read_bytes())
    for pair in split:
        for ids in (pair.document_ids, pair.summary_ids):
            digest.update(len(ids).to_bytes(4, "little") + np.ascontiguousarray(ids, dtype="<i4").tobytes())
    return digest.hexdigest()[:32]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_room(folder: Path, key: str, room: int) -> None:
    """Remove the entries used longest ago until what is left fits; one that is open elsewhere stays readable until closed."""
    entries = {file.parent: file.stat() for file in folder.glob("*/states.*") if file.parent.name != key}
    total = sum(stat.st_size for stat in entries.values())
    for entry in sorted(entries, key=lambda e: entries[e].st_mtime_ns):
        if total <= room:
            return
        shutil.rmtree(entry, ignore_errors=True)
        total -= entries[entry].st_size

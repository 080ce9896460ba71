"""Peak memory of a phase of a run, and its rise above the memory in use before."""

import ctypes
import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil
import torch

from triptych.measure.counters import sampled

_MMAP_THRESHOLD = -3  # in malloc.h
_STATUS = Path("/proc/self/status")
_ANONYMOUS = re.compile(rb"^Rss(?:Anon|Shmem):\s*(\d+) kB", re.MULTILINE)


class PeakMemory:
    """The peak memory of a phase, and its rise above the memory in use before the phase first began.

    On CUDA: the allocator's allocated and reserved memory. Elsewhere: the process's memory from `memory_reader`,
    sampled every 5 ms. The peak includes memory in use before, such as the weights; the rise does not.

    Attributes:
        kind: "allocated" on CUDA, otherwise one of the kinds of `memory_reader`.
        peak_bytes: the largest reading.
        rise_bytes: the difference between the largest reading and the one before the phase first began.
        reserved_bytes: the largest reserved memory; None except on CUDA.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.kind, self._read = memory_reader()
        if device.type == "cuda":
            self.kind, self._read = "allocated", lambda: torch.cuda.memory_allocated(device)
        self.peak_bytes = 0
        self.rise_bytes = 0
        self.reserved_bytes: int | None = None
        self._before: int | None = None

    def begin(self) -> None:
        """Collect garbage, release free memory and record the memory in use, from which the rise is counted.

        The first phase does this if it was not called before.
        """
        gc.collect()
        release_free_memory(self.device)
        self._before = self._read()

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Measure inside the context; repeated use keeps the larger peak."""
        if self._before is None:
            self.begin()
        if self.device.type != "cuda":
            with sampled(0.005, lambda: self._see(self._read())):
                yield
            return
        torch.cuda.reset_peak_memory_stats(self.device)
        try:
            yield
        finally:
            self._see(torch.cuda.max_memory_allocated(self.device))
            self.reserved_bytes = max(self.reserved_bytes or 0, torch.cuda.max_memory_reserved(self.device))

    def _see(self, in_use: int) -> None:
        self.peak_bytes = max(self.peak_bytes, in_use)
        self.rise_bytes = max(self.rise_bytes, in_use - (self._before or 0))


@cache
def memory_reader() -> tuple[str, Callable[[], int]]:
    """How this process's memory is read, and a function that reads it in bytes, as close to allocations as possible.

    - "anonymous", on Linux: RssAnon + RssShmem of `/proc/self/status`. Pages of mapped files, such as libraries and
      prepared data, do not count, because the system drops them when memory is short.
    - "unique", if the system does not report that: the pages that no other process shares (psutil's USS).
    - "resident", if it reports neither: all pages in memory, including those of mapped files (RSS).
    """
    process = psutil.Process()
    if _STATUS.is_file() and len(_ANONYMOUS.findall(_STATUS.read_bytes())) == 2:
        return "anonymous", lambda: 1024 * sum(map(int, _ANONYMOUS.findall(_STATUS.read_bytes())))
    if hasattr(process.memory_full_info(), "uss"):
        return "unique", lambda: process.memory_full_info().uss
    return "resident", lambda: process.memory_info().rss


def release_free_memory(device: torch.device) -> None:
    """Return unused memory to the system, so that it does not count in the next phase.

    On CUDA, the allocator returns its unused blocks; on other devices, glibc's heaps return their free pages. With
    other C libraries, nothing is done.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif (trim := _malloc_trim()) is not None:
        trim(0)


def return_blocks_at_once(device: torch.device) -> None:
    """On a CPU, make glibc return freed blocks of 1 MB or more to the system immediately.

    By default, it keeps blocks of up to 32 MB in pieces that later ones may not fit into: a model's weights, gathered
    and freed block by block, would take more memory than the whole model.
    """
    if device.type == "cpu" and _malloc_trim() is not None:
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 2**20)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """The `malloc_trim` of glibc, or None if the C library has none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    # musl and macOS have no such function, and Windows has no library of that name
    except (AttributeError, OSError, TypeError):
        return None

"""What a run costs, measured from outside: clocks, FLOPs, memory, energy, parameter counts. Told nothing by any
method."""

import ctypes
import gc
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from torch import nn

RAPL = Path("/sys/class/powercap")
_STATUS = Path("/proc/self/status")
_ANONYMOUS = re.compile(rb"^Rss(?:Anon|Shmem):\s*(\d+) kB", re.MULTILINE)


class Clocks:
    """Named clocks of which exactly one runs at a time, so that they add up to the wall clock of the process.

    Args:
        synchronize: waits for the device; called whenever a clock is read.
        base: the clock that runs when no other does; it counts from the start of the process.
    """

    def __init__(self, synchronize: Callable[[], None], base: str):
        self.synchronize = synchronize
        self.seconds: dict[str, float] = {base: process_seconds()}
        self.carried = 0.0  # seconds of earlier processes
        self._stack = [base]
        self._since = time.perf_counter()

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Run the clock `name`; the one that ran before stands still meanwhile."""
        self._settle()
        self._stack.append(name)
        try:
            yield
        finally:
            self._settle()
            self._stack.pop()

    def carry(self, name: str, seconds: float) -> None:
        """Put on a clock what an earlier process, which was interrupted, spent on work that is kept."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.carried += seconds

    def wall_seconds(self) -> float:
        """What the clocks add up to, by another clock: this process so far, and what was carried over."""
        return process_seconds() + self.carried

    def read(self) -> dict[str, float]:
        """Seconds on each clock up to now."""
        self._settle()
        return dict(self.seconds)

    def _settle(self) -> None:
        self.synchronize()
        now = time.perf_counter()
        self.seconds[self._stack[-1]] = self.seconds.get(self._stack[-1], 0.0) + now - self._since
        self._since = now


def process_seconds() -> float:
    """Seconds since this process began: what the clocks must add up to. On Linux by a clock that nobody can set."""
    stat = Path("/proc/self/stat")
    if stat.is_file():
        began = int(stat.read_bytes().rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began
    return max(time.time() - psutil.Process().create_time(), 0.0)


@dataclass(frozen=True)
class Counts:
    """Parameters by unique storage."""

    trainable: int
    total: int


def count_parameters(*modules: nn.Module | None) -> Counts:
    """Parameters of modules, a tied one once: trainable and all."""
    found = {id(parameter): parameter for module in modules if module is not None for parameter in module.parameters()}
    return Counts(sum(p.numel() for p in found.values() if p.requires_grad), sum(p.numel() for p in found.values()))


class WorkShape(NamedTuple):
    """What the arithmetic of a pass over a batch depends on.

    Attributes:
        rows: B, rows of the batch.
        length: T, positions of each row, padding and virtual tokens included.
        logits: N, places where logits are computed.
        chosen: B S, places at which the last block attends, where it runs at chosen places alone: every row has as many
            as the row that has most.
    """

    rows: int
    length: int
    logits: int
    chosen: int


@dataclass(frozen=True)
class FlopModel:
    """FLOPs of one forward and backward pass, as a function of its shape.

    A causal LM does work linear in positions (every weight matrix), work quadratic in the row's length (attention:
    scores and mixing, B T^2), work at each place where logits are computed (the head), and, where the last block runs
    at chosen places alone, its attention from each of them to all T. Some methods add work that every pass does once,
    whatever its shape (DoRA norms its weights). Above `logits_at_once` logits the head is computed a second time in the
    backward pass. So

        F(B, T, N, S) = f + a B T + b B T^2 + c N + d (B S) T + [N > limit] e N

    The coefficients are fitted to passes that `FlopCounterMode` counted by dispatch, on the `meta` device with plain
    attention (whose products are all counted), and must explain each within 0.1%. A multiply-add is 2 FLOPs. Attention
    is counted as its whole products: that a fused kernel leaves out the upper triangle, or computes scores again in the
    backward pass, changes nothing here.

    Attributes:
        per_position: a.
        per_pair: b.
        per_logit: c.
        per_chosen_pair: d.
        per_pass: f.
        per_logit_again: e.
        logits_at_once: the limit in places where logits are computed; None: there is none.
    """

    per_position: float
    per_pair: float
    per_logit: float
    per_chosen_pair: float = 0.0
    per_pass: float = 0.0
    per_logit_again: float = 0.0
    logits_at_once: int | None = None

    def count(self, rows: int, length: int, logits: int, chosen: int | None = None) -> float:
        """FLOPs of a pass.

        Args:
            rows: B.
            length: T, with padding and virtual tokens.
            logits: N.
            chosen: B S; default: N, which is right where all rows have as many.
        """
        again = self.logits_at_once is not None and logits > self.logits_at_once
        return (
            self.per_pass
            + self.per_position * rows * length
            + self.per_pair * rows * length**2
            + (self.per_logit + self.per_logit_again * again) * logits
            + self.per_chosen_pair * (logits if chosen is None else chosen) * length
        )


def fit_flops(passes: Sequence[tuple[Sequence[int], int]], logits_at_once: int | None = None) -> FlopModel:
    """The coefficients of `FlopModel`, by least squares over more passes than unknowns.

    Args:
        passes: `((rows, positions, logits), FLOPs counted by dispatch)`, or the four numbers of a `WorkShape`.
        logits_at_once: above so many logits the head is computed again; None: never. Some of the passes must have more.

    Raises:
        ArithmeticError: a pass does not follow the formula within 0.1%, or there are too few passes to check it.
    """
    shapes = [WorkShape(rows, length, logits, *(chosen or [logits])) for (rows, length, logits, *chosen), _ in passes]
    flops = np.array([counted for _, counted in passes], dtype=np.float64)
    again = [logits_at_once is not None and shape.logits > logits_at_once for shape in shapes]
    matrix = np.array(
        [[b * t, b * t * t, n, s * t, 1.0, n * more] for (b, t, n, s), more in zip(shapes, again, strict=True)],
        np.float64,
    )
    # each pass counts by its relative error: large ones do not outweigh small ones
    matrix /= np.maximum(flops, 1.0)[:, None]
    scale = matrix.max(axis=0)
    scale[scale == 0] = 1.0
    solution, _, rank, _ = np.linalg.lstsq(matrix / scale, flops / np.maximum(flops, 1.0), rcond=1e-10)
    if len(passes) <= rank:
        raise ArithmeticError(f"{len(passes)} passes cannot check a formula with {rank} coefficients.")
    a, b, c, d, f, e = (solution / scale).tolist()
    model = FlopModel(a, b, c, d, f, e, logits_at_once)
    for shape, counted in zip(shapes, flops.tolist(), strict=True):
        if abs(model.count(*shape) - counted) > 1e-3 * counted:
            raise ArithmeticError(
                f"A pass of shape {tuple(shape)} took {counted:.0f} FLOPs; the formula gives {model.count(*shape):.0f}."
            )
    return model


@contextmanager
def sampled(seconds: float, sample: Callable[[], object]) -> Iterator[None]:
    """Call `sample` at once, every so many seconds from a thread of its own, and at the end."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(seconds):
            sample()

    sample()
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        sample()


def release_free_memory(device: torch.device) -> None:
    """Give memory that is free but still held back to the system, so that a phase measured next does not start with it.

    CUDA's allocator returns its unused blocks; on other devices the heaps of the C library return their free pages,
    where it is glibc. Elsewhere nothing is done.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif (trim := _malloc_trim()) is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's `malloc_trim`, or None where the C library has none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    # musl and macOS have no such function, Windows no library of that name
    except (AttributeError, OSError, TypeError):
        return None


@cache
def memory_reader() -> tuple[str, Callable[[], int]]:
    """What this process's memory is read as, and the reading in bytes: as near to what it has allocated as the system
    tells.

    - "anonymous", Linux: RssAnon + RssShmem of `/proc/self/status`. Pages of mapped files, such as libraries and
      prepared data,
      are not part of it, since the system drops them when memory is short.
    - "unique", where the system tells no such thing: the pages that no other process shares (psutil's USS).
    - "resident", where it tells neither: all pages in memory, those of mapped files included (RSS).
    """
    process = psutil.Process()
    if _STATUS.is_file() and len(_ANONYMOUS.findall(_STATUS.read_bytes())) == 2:
        return "anonymous", lambda: 1024 * sum(map(int, _ANONYMOUS.findall(_STATUS.read_bytes())))
    if hasattr(process.memory_full_info(), "uss"):
        return "unique", lambda: process.memory_full_info().uss
    return "resident", lambda: process.memory_info().rss


class PeakMemory:
    """The peak memory of one phase, and by how much it rose above what was in use before the phase first began.

    On CUDA: what the allocator had handed out, and what it held reserved. Elsewhere: the memory of the process by
    `memory_reader`, sampled every 5 ms. The peak includes what was there before, such as the weights; the rise does
    not.

    Attributes:
        kind: "allocated" on CUDA, elsewhere one of `memory_reader`.
        peak_bytes: the largest reading.
        rise_bytes: how far the largest reading lies above the one before the phase first began.
        reserved_bytes: None elsewhere than on CUDA.
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
        """Collect garbage, give back free memory, and note what is in use: the rise is counted from here.

        The first phase does so by itself, if nobody has before.
        """
        gc.collect()
        release_free_memory(self.device)
        self._before = self._read()

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Measure while inside; entered again, the larger peak stays."""
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


@dataclass(frozen=True)
class Counter:
    """A reading that only rises. One that integrates is the finer the more often it is read."""

    kind: str
    read: Callable[[], float]
    integrates: bool = False

    @contextmanager
    def during(self, add: Callable[[float], None]) -> Iterator[None]:
        """Tell `add` by how much it rose while inside."""
        before = self.read()
        try:
            with sampled(0.05, self.read) if self.integrates else nullcontext():
                yield
        finally:
            add(self.read() - before)


class Busy:
    """How long the device worked in one phase; over how long it was held, that is the mean utilisation.

    On CUDA: NVML's utilisation (the share of time in which a kernel ran), sampled every 50 ms and integrated. On a CPU:
    the processor time of the process, all its threads. Of several processes each would see its own part: then it is not
    measured.
    """

    def __init__(self, device: torch.device, processes: int = 1):
        self.seconds: float | None = None
        counter = _busy_counter(device, processes)
        self._counter = counter if isinstance(counter, Counter) else None
        self.note: str | None = f"not measured: {counter}" if isinstance(counter, str) else None

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Measure while inside; entered again, it adds."""
        with self._counter.during(self._add) if self._counter else nullcontext():
            yield

    def _add(self, seconds: float) -> None:
        self.seconds = (self.seconds or 0.0) + seconds


class Energy:
    """Joules of one phase, or None with the reason. Never 0.

    On CUDA: NVML's total-energy counter; where a GPU has none, its power sampled every 50 ms and integrated. On a CPU:
    RAPL.
    """

    def __init__(self, device: torch.device):
        self.joules: float | None = None
        self.kind: str | None = None
        counter = _nvml_energy(device) if device.type == "cuda" else _rapl_energy()
        self._counter = counter if isinstance(counter, Counter) else None
        self.note: str | None = (
            f"not measured: {counter if isinstance(counter, str) else 'the energy counter did not move'}"
        )

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Measure while inside; entered again, it adds."""
        with self._counter.during(self._add) if self._counter else nullcontext():
            yield

    def _add(self, joules: float) -> None:
        if joules > 0 and self._counter:
            self.joules, self.kind, self.note = (self.joules or 0.0) + joules, self._counter.kind, None


class TrainingMeters:
    """Memory, energy and the device's work over the optimizer steps, and over nothing else.

    Args:
        processes: how many work on the run.
    """

    def __init__(self, device: torch.device, processes: int = 1):
        self.memory, self.energy, self.busy = PeakMemory(device), Energy(device), Busy(device, processes)
        self.devices = num_devices(device, processes)

    def begin(self) -> None:
        """Training is about to begin: what earlier work left is given back, and the rise of memory is counted from
        here."""
        self.memory.begin()

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Measure while inside."""
        with self.memory.phase(), self.energy.phase(), self.busy.phase():
            yield

    def readings(self, train_seconds: float) -> dict[str, Any]:
        """What was measured, by the names of `records.Cost`."""
        return {
            "device_seconds": train_seconds * self.devices,
            "busy_seconds": self.busy.seconds,
            "busy_note": self.busy.note,
            "peak_memory_bytes": self.memory.peak_bytes,
            "peak_memory_kind": self.memory.kind,
            "added_peak_memory_bytes": self.memory.rise_bytes,
            "reserved_peak_memory_bytes": self.memory.reserved_bytes,
            "energy_joules": self.energy.joules,
            "energy_kind": self.energy.kind,
            "energy_note": self.energy.note,
        }

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, fit for JSON."""
        memory = [self.memory.peak_bytes, self.memory.reserved_bytes, self.memory.rise_bytes]
        return {
            "memory": memory,
            "busy": self.busy.seconds,
            "energy": [self.energy.joules, self.energy.kind, self.energy.note],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the sums of an earlier process."""
        self.memory.peak_bytes, self.memory.reserved_bytes, self.memory.rise_bytes = state["memory"]
        self.busy.seconds = state["busy"]
        self.energy.joules, self.energy.kind, self.energy.note = state["energy"]


def num_devices(device: torch.device, processes: int) -> int:
    """What training holds: GPUs, one a process; on a CPU the cores that the process may use."""
    if device.type != "cpu":
        return processes
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def integral(rate: Callable[[], float]) -> Callable[[], float]:
    """The integral of a rate over time, by the trapezoids between one reading and the next."""
    total, last, since = 0.0, rate(), time.perf_counter()

    def read() -> float:
        nonlocal total, last, since
        now, current = time.perf_counter(), rate()
        total += (now - since) * (last + current) / 2
        last, since = current, now
        return total

    return read


def _busy_counter(device: torch.device, processes: int) -> Counter | str:
    if processes > 1:
        return f"{processes} processes worked, and each sees its own part alone"
    if device.type == "cpu":
        return Counter("processor time", time.process_time)
    nvml = _nvml(device) if device.type == "cuda" else f"nothing here shows the utilisation of {device.type}"
    if isinstance(nvml, str):
        return nvml
    pynvml, handle = nvml
    try:
        share = integral(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
    except pynvml.NVMLError as error:
        return f"NVML gives no utilisation here ({error})"
    return Counter("NVML utilisation, integrated", share, integrates=True)


def _nvml_energy(device: torch.device) -> Counter | str:
    nvml = _nvml(device)
    if isinstance(nvml, str):
        return nvml
    pynvml, handle = nvml
    try:
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        return Counter("NVML energy counter", lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000)
    except pynvml.NVMLError:  # GPUs before Volta have no such counter
        pass
    try:
        watts = integral(lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000)
    except pynvml.NVMLError as error:
        return f"NVML gives neither energy nor power here ({error})"
    return Counter("NVML power, integrated", watts, integrates=True)


def _nvml(device: torch.device) -> tuple[Any, Any] | str:
    """NVML and its handle of a device, found by the device's own name, since torch numbers only those that it may
    see."""
    try:
        import pynvml
    except ImportError:
        return "the package nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except pynvml.NVMLError as error:
        return f"NVML does not answer here ({error})"


def _rapl_energy() -> Counter | str:
    domains = sorted(RAPL.glob("intel-rapl:?")) if RAPL.is_dir() else []
    if not domains:
        return "this machine shows no RAPL energy counter"
    counters = [domain / "energy_uj" for domain in domains]
    if not all(os.access(counter, os.R_OK) for counter in counters):
        return "the RAPL energy counter is readable by the administrator alone"
    limits = [float((domain / "max_energy_range_uj").read_text()) for domain in domains]
    last = [float(counter.read_text()) for counter in counters]
    total = [0.0]

    def read() -> float:
        for i, counter in enumerate(counters):
            now = float(counter.read_text())
            total[0] += (now - last[i]) % limits[i]
            last[i] = now
        return total[0] / 1e6

    return Counter("RAPL", read)

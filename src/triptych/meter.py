"""What a run costs, measured from outside: clocks, FLOPs, memory, energy, parameter counts. Told nothing by any method."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn

RAPL = Path("/sys/class/powercap")


class Clocks:
    """Named clocks of which exactly one runs at a time, so that they add up to the wall clock of the process.

    Args:
        synchronize: waits for the device; called whenever a clock is read.
        base: the clock that runs when no other does; it counts from the start of the process.
        elapsed: seconds carried over from a run that was interrupted.
    """

    def __init__(self, synchronize: Callable[[], None], base: str, elapsed: dict[str, float] | None = None):
        self.synchronize = synchronize
        self.seconds: dict[str, float] = dict(elapsed or {})
        self.seconds[base] = self.seconds.get(base, 0.0) + process_seconds()
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
    """Seconds since this process began, by the wall clock: what the clocks must add up to."""
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


@dataclass(frozen=True)
class FlopModel:
    """FLOPs of one forward and backward pass, as a function of its shape.

    A causal LM does work linear in positions (every weight matrix), work quadratic in the row's length (attention: scores and
    mixing, B T^2), work at each place where logits are computed (the head), and, where the last block runs at these places
    alone, its attention from each of them to all T. So for B rows of T positions and N logits

        F(B, T, N) = a B T + b B T^2 + c N + d N T

    The coefficients are fitted to passes that `FlopCounterMode` counted by dispatch, on the `meta` device with plain
    attention (whose products are all counted), and must explain each within 0.1%. A multiply-add is 2 FLOPs.
    """

    per_position: float
    per_pair: float
    per_logit: float
    per_logit_pair: float = 0.0

    def count(self, rows: int, length: int, logits: int) -> float:
        """FLOPs of a pass over `rows` rows of `length` positions with `logits` places where logits are computed."""
        at_logits = self.per_logit + self.per_logit_pair * length
        return self.per_position * rows * length + self.per_pair * rows * length**2 + at_logits * logits


def fit_flops(passes: Sequence[tuple[tuple[int, int, int], int]]) -> FlopModel:
    """The coefficients of `FlopModel`, by least squares over more passes than unknowns.

    Args:
        passes: `((rows, positions, logits), FLOPs counted by dispatch)`.

    Raises:
        ArithmeticError: a pass does not follow the formula within 0.1%.
    """
    shapes, flops = zip(*passes, strict=True)
    matrix = np.array([[rows * t, rows * t * t, n, n * t] for rows, t, n in shapes], dtype=np.float64)
    scale = matrix.max(axis=0)
    solution, *_ = np.linalg.lstsq(matrix / scale, np.array(flops, dtype=np.float64), rcond=1e-10)
    model = FlopModel(*(solution / scale).tolist())
    for shape, counted in passes:
        if abs(model.count(*shape) - counted) > 1e-3 * counted:
            raise ArithmeticError(f"A pass of shape {shape} took {counted} FLOPs; the formula gives {model.count(*shape):.0f}.")
    return model


class PeakMemory:
    """The peak memory of one phase, reset when it begins.

    On CUDA: the allocator's peak. Elsewhere: the resident memory of the process, sampled every 5 ms.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.kind = "allocated" if device.type == "cuda" else "resident"
        self.peak_bytes = 0
        self.reserved_bytes: int | None = None

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Measure while inside; entered again, the larger peak stays."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            try:
                yield
            finally:
                self.peak_bytes = max(self.peak_bytes, torch.cuda.max_memory_allocated(self.device))
                self.reserved_bytes = max(self.reserved_bytes or 0, torch.cuda.max_memory_reserved(self.device))
            return
        done, process = threading.Event(), psutil.Process()

        def sample() -> None:
            while not done.wait(0.005):
                self.peak_bytes = max(self.peak_bytes, process.memory_info().rss)

        self.peak_bytes = max(self.peak_bytes, process.memory_info().rss)
        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.peak_bytes = max(self.peak_bytes, process.memory_info().rss)


class Energy:
    """Joules of one phase: NVML's total-energy counter on CUDA, RAPL on a CPU, else None with the reason. Never 0."""

    def __init__(self, device: torch.device):
        self.joules: float | None = None
        self._read = _nvml_reader(device) if device.type == "cuda" else _rapl_reader()
        reason = self._read if isinstance(self._read, str) else "the energy counter did not move"
        self.note: str | None = f"not measured: {reason}"

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Measure while inside; entered again, it adds."""
        if isinstance(self._read, str):
            yield
            return
        before = self._read()
        try:
            yield
        finally:
            used = self._read() - before
            if used > 0:
                self.joules, self.note = (self.joules or 0.0) + used, None


def _rapl_reader() -> Callable[[], float] | str:
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

    return read


def _nvml_reader(device: torch.device) -> Callable[[], float] | str:
    try:
        import pynvml
    except ImportError:
        return "the package nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(device.index or 0)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        return f"NVML gives no energy counter here ({error})"
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000.0

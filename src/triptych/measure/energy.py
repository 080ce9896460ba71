"""Measure the energy of a phase of a run in joules, or give the reason why it is not measured."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from triptych.measure.counters import Counter, integral
from triptych.measure.nvml import open_nvml

RAPL = Path("/sys/class/powercap")


class Energy:
    """Joules used in a phase, or None with the reason; never 0.

    On CUDA: NVML's total-energy counter or, if a GPU has none, its power, sampled every 50 ms and integrated. On a CPU:
    the RAPL counters of its packages.

    Attributes:
        joules: energy used; None if nothing was measured.
        kind: the counter used; None if nothing was measured.
        note: why nothing was measured; None if something was.
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
        """Measure inside the context; repeated use accumulates."""
        with self._counter.during(self._add) if self._counter else nullcontext():
            yield

    def _add(self, joules: float) -> None:
        if joules > 0 and self._counter:
            self.joules, self.kind, self.note = (self.joules or 0.0) + joules, self._counter.kind, None


def _nvml_energy(device: torch.device) -> Counter | str:
    nvml = open_nvml(device)
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

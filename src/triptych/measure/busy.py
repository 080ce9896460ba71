"""Measure how long the device was busy in a phase of a run, or give the reason why it is not measured."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from triptych.measure.counters import Counter, integral
from triptych.measure.nvml import open_nvml


class Busy:
    """How long the device was busy in a phase; divided by `device_seconds`, this is the mean utilization.

    On CUDA: NVML's utilization (the share of time in which a kernel ran), sampled every 50 ms and integrated. On a CPU:
    the processor time of the process with all its threads. With several processes, nothing is measured, because each
    would see only its own part.

    Attributes:
        seconds: busy time; None if nothing was measured.
        note: why nothing is measured; None if it is measured.
    """

    def __init__(self, device: torch.device, processes: int = 1):
        self.seconds: float | None = None
        counter = _busy_counter(device, processes)
        self._counter = counter if isinstance(counter, Counter) else None
        self.note: str | None = f"not measured: {counter}" if isinstance(counter, str) else None

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Measure inside the context; repeated use accumulates."""
        with self._counter.during(self._add) if self._counter else nullcontext():
            yield

    def _add(self, seconds: float) -> None:
        self.seconds = (self.seconds or 0.0) + seconds


def _busy_counter(device: torch.device, processes: int) -> Counter | str:
    if processes > 1:
        return f"{processes} processes worked, and each sees its own part alone"
    if device.type == "cpu":
        return Counter("processor time", time.process_time)
    nvml = open_nvml(device) if device.type == "cuda" else f"nothing here shows the utilization of {device.type}"
    if isinstance(nvml, str):
        return nvml
    pynvml, handle = nvml
    try:
        share = integral(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
    except pynvml.NVMLError as error:
        return f"NVML gives no utilization here ({error})"
    return Counter("NVML utilization, integrated", share, integrates=True)

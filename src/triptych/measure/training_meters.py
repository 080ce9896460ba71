"""All training meters: memory, energy and device activity during the optimizer steps only."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from triptych.measure.busy import Busy
from triptych.measure.energy import Energy
from triptych.measure.memory import PeakMemory
from triptych.measure.nvml import other_processes
from triptych.measure.other_work import OtherWork

CONSIDERABLE = 0.1  # share of the cores above which others' use is noted; an idle machine has about 0.02
MIN_SECONDS = 5.0  # of training; below this, a moment of other work would dominate


class TrainingMeters:
    """Memory, energy and device activity during the optimizer steps only.

    Args:
        device: the training device.
        processes: number of processes in the run.
    """

    def __init__(self, device: torch.device, processes: int = 1):
        self.memory, self.energy, self.busy = PeakMemory(device), Energy(device), Busy(device, processes)
        self.device, self.devices = device, num_devices(device, processes)
        self.shared = False  # whether others used the GPU when training began or ended
        self.others = OtherWork() if device.type == "cpu" and processes == 1 else None  # other ranks are not others

    def begin(self) -> None:
        """Release memory left by earlier work; the rise of memory is counted from here."""
        self.memory.begin()
        self._look_around()

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Measure inside the context."""
        with self.memory.phase(), self.energy.phase(), self.busy.phase():
            yield

    def readings(self, train_seconds: float) -> dict[str, Any]:
        """The measurements, by the names of `records.Cost`."""
        self._look_around()
        return {
            "device_seconds": train_seconds * self.devices,
            "busy_seconds": self.busy.seconds,
            "busy_note": self.busy.note,
            "shared_note": self._shared_note(),
            "peak_memory_bytes": self.memory.peak_bytes,
            "peak_memory_kind": self.memory.kind,
            "added_peak_memory_bytes": self.memory.rise_bytes,
            "reserved_peak_memory_bytes": self.memory.reserved_bytes,
            "energy_joules": self.energy.joules,
            "energy_kind": self.energy.kind,
            "energy_note": self.energy.note,
        }

    def _look_around(self) -> None:
        if self.device.type == "cuda":
            self.shared = self.shared or other_processes(self.device) > 0
        if self.others is not None:
            self.others.look()

    def _shared_note(self) -> str | None:
        if self.others is not None and self.others.seconds >= MIN_SECONDS and self.others.share >= CONSIDERABLE:
            share = f"{round(self.others.share, 1):.0%}"
            return (
                f"processes other than this run used about {share} of the cores while this method trained: its times "
                "are longer than they would be alone"
            )
        if not self.shared:
            return None
        return (
            "other processes worked on the GPU in training: times, utilization and energy are not this method's alone"
        )

    def state_dict(self) -> dict[str, Any]:
        """The sums so far as JSON values."""
        self._look_around()
        memory = [self.memory.peak_bytes, self.memory.reserved_bytes, self.memory.rise_bytes]
        return {
            "memory": memory,
            "busy": self.busy.seconds,
            "energy": [self.energy.joules, self.energy.kind, self.energy.note],
            "shared": self.shared,
            "others": [self.others.seconds, self.others.core_seconds] if self.others is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the sums of an earlier process."""
        self.memory.peak_bytes, self.memory.reserved_bytes, self.memory.rise_bytes = state["memory"]
        self.busy.seconds = state["busy"]
        self.energy.joules, self.energy.kind, self.energy.note = state["energy"]
        self.shared = state.get("shared", False)  # checkpoints of earlier versions contain only the above
        if self.others is not None and state.get("others") is not None:
            self.others.seconds, self.others.core_seconds = state["others"]


def num_devices(device: torch.device, processes: int) -> int:
    """Number of devices used in training: one GPU per process, or on a CPU, the cores available to the process."""
    if device.type != "cpu":
        return processes
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

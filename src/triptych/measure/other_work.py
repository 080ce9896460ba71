"""Measure the work of other processes on this process's cores."""

import os
import sys
import time
from typing import NamedTuple

import psutil

_WORKING = ("user", "nice", "system", "irq", "softirq", "steal")  # busy states of a core, without waiting


class _Reading(NamedTuple):
    """Seconds so far: elapsed, worked by the cores, and worked by this process."""

    clock: float
    worked: float
    own: float


class OtherWork:
    """The share of this process's cores that other processes used between looks.

    It is the time the system counts as worked on these cores, minus the processor time of this process and its ended
    children: phases in which this process uses only one core, or waits, do not count as others' work. Time that a
    hypervisor gave to other machines does count.

    Attributes:
        seconds: seconds between looks so far.
        core_seconds: core seconds used by others.
    """

    def __init__(self) -> None:
        self.seconds = self.core_seconds = 0.0
        self._last: _Reading | None = None

    def look(self) -> None:
        """Add the work of others since the last look; the first look starts the measurement."""
        before, self._last = self._last, _read()
        if before is not None and self._last is not None:
            clock, worked, own = (now - then for now, then in zip(self._last, before, strict=True))
            self.seconds += clock
            self.core_seconds += max(worked - own, 0.0)

    @property
    def share(self) -> float:
        """The share of the cores, from 0 to 1; 0 if the system does not report it."""
        return min(self.core_seconds / (self.seconds * len(_cores())), 1.0) if self.seconds else 0.0


def _cores() -> list[int]:
    """The cores that this process may use."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _read() -> _Reading | None:
    """The current sums; None if the system does not report them, as in a container without /proc."""
    try:
        times = psutil.cpu_times(percpu=True)
        own = psutil.Process().cpu_times()
        worked = sum(getattr(times[core], state, 0.0) for core in _cores() for state in _WORKING)
    except (OSError, RuntimeError, IndexError, psutil.Error):
        return None
    mine = own.user + own.system + getattr(own, "children_user", 0.0) + getattr(own, "children_system", 0.0)
    return _Reading(time.monotonic(), worked, mine)

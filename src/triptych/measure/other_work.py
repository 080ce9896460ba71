"""What other processes did on the cores of this one while it was measured."""

import os
import sys
import time
from typing import NamedTuple

import psutil

_WORKING = ("user", "nice", "system", "irq", "softirq", "steal")  # states of a core; waiting is none of them


class _Reading(NamedTuple):
    """Seconds so far: of the clock, worked by the cores, and of these by this process."""

    clock: float
    worked: float
    own: float


class OtherWork:
    """The share of this process's cores that others used between looks.

    What the system counts as worked on these cores, less the processor time of this process and its ended children: a
    phase in which this process works on one core alone, or waits, does not count as others' work. What a hypervisor
    gave to other machines does.

    Attributes:
        seconds: between looks so far.
        core_seconds: of others.
    """

    def __init__(self) -> None:
        self.seconds = self.core_seconds = 0.0
        self._last: _Reading | None = None

    def look(self) -> None:
        """Add what others did since the last look; the first one begins."""
        before, self._last = self._last, _read()
        if before is not None and self._last is not None:
            clock, worked, own = (now - then for now, then in zip(self._last, before, strict=True))
            self.seconds += clock
            self.core_seconds += max(worked - own, 0.0)

    @property
    def share(self) -> float:
        """Of the cores, from 0 to 1; 0 where the system does not tell."""
        return min(self.core_seconds / (self.seconds * len(_cores())), 1.0) if self.seconds else 0.0


def _cores() -> list[int]:
    """The cores that this process may use."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _read() -> _Reading | None:
    """The present sums; None where the system does not tell, as in a container without /proc."""
    try:
        times = psutil.cpu_times(percpu=True)
        own = psutil.Process().cpu_times()
        worked = sum(getattr(times[core], state, 0.0) for core in _cores() for state in _WORKING)
    except (OSError, RuntimeError, IndexError, psutil.Error):
        return None
    mine = own.user + own.system + getattr(own, "children_user", 0.0) + getattr(own, "children_system", 0.0)
    return _Reading(time.monotonic(), worked, mine)

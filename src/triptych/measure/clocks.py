"""Named clocks of a run, exactly one of which runs at a time, so that they add up to its wall time."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


class Clocks:
    """Named clocks, exactly one of which runs at a time, so that they add up to the process's wall time.

    Args:
        synchronize: a function that waits for the device; called whenever a clock is read.
        base: the clock that runs when no other does, counting from the start of the process.
    """

    def __init__(self, synchronize: Callable[[], None], base: str):
        self.synchronize = synchronize
        self.seconds: dict[str, float] = {base: process_seconds()}
        self.carried = 0.0  # seconds of earlier processes
        self._stack = [base]
        self._since = time.perf_counter()

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Run the clock `name` inside the context; the clock that ran before is paused."""
        self._settle()
        self._stack.append(name)
        try:
            yield
        finally:
            self._settle()
            self._stack.pop()

    def carry(self, name: str, seconds: float) -> None:
        """Add to a clock the time that an interrupted process spent on work that is kept."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.carried += seconds

    def wall_seconds(self) -> float:
        """Seconds of this process so far plus those carried over, by a separate clock: the clocks add up to this."""
        return process_seconds() + self.carried

    def read(self) -> dict[str, float]:
        """Seconds on each clock so far."""
        self._settle()
        return dict(self.seconds)

    def _settle(self) -> None:
        self.synchronize()
        now = time.perf_counter()
        self.seconds[self._stack[-1]] = self.seconds.get(self._stack[-1], 0.0) + now - self._since
        self._since = now


def process_seconds() -> float:
    """Seconds since this process started; on Linux, by a clock that cannot be set."""
    stat = Path("/proc/self/stat")
    if stat.is_file():
        began = int(stat.read_bytes().rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began
    return max(time.time() - psutil.Process().create_time(), 0.0)

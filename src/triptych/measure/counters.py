"""Monotonic counters, and a thread that samples a reading during a phase."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

INTERVAL = 0.05  # seconds between two readings of a counter that integrates


@contextmanager
def sampled(seconds: float, sample: Callable[[], object]) -> Iterator[None]:
    """Call `sample` at the start, every `seconds` seconds from a separate thread, and at the end."""
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


@dataclass(frozen=True)
class Counter:
    """A reading that only increases.

    Attributes:
        kind: the kind of reading, for the record.
        read: returns the current reading.
        integrates: whether the reading is an integral over time, which is more accurate the more often it is read.
    """

    kind: str
    read: Callable[[], float]
    integrates: bool = False

    @contextmanager
    def during(self, add: Callable[[float], None]) -> Iterator[None]:
        """Call `add` with the increase of the reading inside the context."""
        before = self.read()
        try:
            with sampled(INTERVAL, self.read) if self.integrates else nullcontext():
                yield
        finally:
            add(self.read() - before)


def integral(rate: Callable[[], float]) -> Callable[[], float]:
    """The integral of a rate over time, by the trapezoidal rule between readings."""
    total, last, since = 0.0, rate(), time.perf_counter()

    def read() -> float:
        nonlocal total, last, since
        now, current = time.perf_counter(), rate()
        total += (now - since) * (last + current) / 2
        last, since = current, now
        return total

    return read

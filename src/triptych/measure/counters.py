"""Readings that only rise, and a thread that takes a reading again and again while a phase lasts."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

INTERVAL = 0.05  # seconds between two readings of a counter that integrates


@contextmanager
def sampled(seconds: float, sample: Callable[[], object]) -> Iterator[None]:
    """Call `sample` at the beginning, every so many seconds from a separate thread, and at the end."""
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
    """A reading that only rises.

    Attributes:
        kind: what is read, for the record.
        read: gives the reading now.
        integrates: the reading is an integral over time, which is more accurate the more often it is read.
    """

    kind: str
    read: Callable[[], float]
    integrates: bool = False

    @contextmanager
    def during(self, add: Callable[[float], None]) -> Iterator[None]:
        """Give `add` by how much the reading rose inside."""
        before = self.read()
        try:
            with sampled(INTERVAL, self.read) if self.integrates else nullcontext():
                yield
        finally:
            add(self.read() - before)


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

"""Log what a suite did as time-stamped lines: in `OUT/log.txt`, and for each run in the log of its folder."""

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from triptych.errors import ResultsError
from triptych.reporting.lines import all_flags
from triptych.reporting.rows import synthetic_notice
from triptych.results import layout
from triptych.results.lock import Lock
from triptych.results.records import Comparison
from triptych.run.events import Event, KeptEvent, Listener, RemainingEvent, RunId
from triptych.suite.lines import Detail, EventLine, EventLines
from triptych.text.characters import for_terminal


class SuiteLog:
    """A `Listener` that appends the lines of events to files, and passes every event on.

    A log that cannot be written stops no run, and nothing is written into a folder whose lock was lost.

    Args:
        lock: the lock of the results folder.
        folders: folders of the runs whose lines also go to their own logs.
        listener: called with every event.
    """

    def __init__(self, lock: Lock, folders: Mapping[RunId, Path], listener: Listener):
        self._lock, self._folders, self._listener = lock, folders, listener
        self._lines = EventLines()

    def __call__(self, run: RunId | None, event: Event) -> None:
        """Log an event, then pass it on."""
        if run is not None:
            touched = not isinstance(event, KeptEvent)  # a finished run's folder stays as it is
            self._write(self._lines.of_run(run, event), self._folders.get(run) if touched else None)
        elif isinstance(event, RemainingEvent):
            self._write(self._lines.remaining(event), None)
        self._listener(run, event)

    def write(self, text: str) -> None:
        """Append a line that does not come from an event to the suite's log."""
        self._write([EventLine(text, Detail.RESULT)], None)

    @contextmanager
    def noting_interruption(self) -> Iterator[None]:
        """Log the signal if the work inside is interrupted."""
        try:
            yield
        except KeyboardInterrupt as error:
            signum = getattr(error, "signum", signal.SIGINT)
            self.write(f"interrupted by {signal.Signals(signum).name}")
            raise

    def _write(self, lines: list[EventLine], folder: Path | None) -> None:
        further = [folder] if folder is not None and folder.is_dir() else []
        _append(self._lock, [line.text for line in lines if line.detail < Detail.STEP], further)


def log_result(lock: Lock, comparison: Comparison) -> None:
    """Append the result of a comparison, its verdict and flags, to the log of its folder."""
    _append(lock, [*filter(None, [synthetic_notice(comparison)]), comparison.verdict, *all_flags(comparison)])


def _append(lock: Lock, lines: Sequence[str], further: Sequence[Path] = ()) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    text = "".join(f"{now} {for_terminal(line)}\n" for line in lines if line)
    if not text:
        return
    with suppress(OSError, ResultsError):
        lock.check()
        for place in (lock.folder, *further):
            with layout.log_file(place).open("a", encoding="utf-8") as file:
                file.write(text)

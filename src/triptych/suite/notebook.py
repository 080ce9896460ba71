"""What a notebook shows while a suite runs: one bar that stays in its cell, with a line for each ended run."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from triptych.run.events import (
    STAGES,
    BeginEvent,
    DoneEvent,
    EstimateEvent,
    EvaluationEvent,
    Event,
    FailedEvent,
    KeptEvent,
    Listener,
    ProgressEvent,
    ReadyEvent,
    RemainingEvent,
    ResolvedEvent,
    RunId,
    StageEvent,
    StepEvent,
    ignore,
)
from triptych.suite.lines import scores_in_words
from triptych.text import formats

UPDATE_SECONDS = 0.25  # between two updates of the cell


def usual_listener() -> Listener:
    """A bar in a notebook; elsewhere a listener that shows nothing."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return NotebookBar() if hasattr(shell, "kernel") else ignore


@contextmanager
def listener_for_a_while(listener: Listener | None) -> Iterator[Listener]:
    """Yield the given listener, else the usual one, whose bar is removed at the end: the result says it all."""
    chosen = listener or usual_listener()
    try:
        yield chosen
    finally:
        if listener is None and isinstance(chosen, NotebookBar):
            chosen.clear()


class NotebookBar:
    """Shows the events of a suite, or of one method, in the cell of a notebook; a `Listener`."""

    def __init__(self) -> None:
        self._total, self._ended = 0, 0
        self._heading = ""
        self._lines: list[str] = []
        self._began: dict[RunId, float] = {}
        self._stages: dict[RunId, str] = {}
        self._place: Any = None
        self._shown = 0.0

    def __call__(self, run: RunId | None, event: Event) -> None:
        """Process an event, and show it at once or with the next ones."""
        at_once = True
        match event:
            case ResolvedEvent():
                self._heading = "preparing data"
            case EstimateEvent():
                self._heading = f"timed {event.label}, {event.index + 1} of {event.total}"
            case ReadyEvent():
                self._heading = ""
                self._lines += [*event.changes, *event.notes]
            case RemainingEvent():
                left = "" if event.seconds is None else f", about {formats.seconds(event.seconds)} left"
                self._heading = f"{event.done} of {formats.number_of(event.total, 'run')}{left}"
            case KeptEvent() if run:
                self._end(run, event.total, "already finished, kept")
            case BeginEvent() if run:
                self._total, self._began[run] = event.total, time.monotonic()
                self._stages[run] = "starting"
            case DoneEvent() if run:
                seconds = time.monotonic() - self._began.get(run, time.monotonic())
                scores = f", {found}" if (found := scores_in_words(event)) else ""
                self._end(run, self._total, f"done in {seconds:.0f} s{scores}")
            case FailedEvent() if run:
                self._end(run, event.total, f"FAILED: {event.message}")
            case EvaluationEvent() if run:
                self._stages[run] = f"epoch {event.epoch}, validation loss {event.validation_loss:.4f}"
            case StageEvent() if run:
                self._stages[run] = STAGES[event.stage]
            case ProgressEvent() if run:
                stage = self._stages.get(run, "").partition(":")[0]
                self._stages[run], at_once = f"{stage}: {event.done} of {event.total}", event.done == event.total
            case StepEvent() if run:
                self._stages[run] = f"training: step {event.step} of up to {event.total}, loss {event.loss:.3f}"
                at_once = False
            case _:
                at_once = False
        if at_once or time.monotonic() - self._shown > UPDATE_SECONDS:
            self._show()

    def html(self) -> str:
        """What the cell shows."""
        total = max(self._total, 1)
        lines = [
            f'<progress value="{self._ended}" max="{total}" style="width:16em"></progress> '
            + escape(self._heading or f"{self._ended} of {formats.number_of(self._total, 'run')}"),
            *(escape(f"{_name(run)}: {stage}") for run, stage in self._stages.items()),
            *map(escape, self._lines),
        ]
        return f"<div>{'<br>'.join(lines)}</div>"

    def clear(self) -> None:
        """Empty the cell."""
        if self._place is not None:
            from IPython.display import HTML

            self._place.update(HTML(""))

    def _end(self, run: RunId, total: int, how: str) -> None:
        self._total, self._ended = total, self._ended + 1
        self._stages.pop(run, None)
        self._lines.append(f"{_name(run)}: {how}")

    def _show(self) -> None:
        from IPython.display import HTML, display

        self._shown = time.monotonic()
        if self._place is None:
            self._place = display(HTML(self.html()), display_id=True)
        else:
            self._place.update(HTML(self.html()))


def _name(run: RunId) -> str:
    return f"{run.name}, seed {run.seed}"

"""The events of a suite as lines of text, for a terminal, a pipe or a log."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from triptych.run.events import (
    STAGES,
    BeginEvent,
    DoneEvent,
    EvaluationEvent,
    Event,
    FailedEvent,
    KeptEvent,
    NoteEvent,
    ProgressEvent,
    RemainingEvent,
    RunId,
    StageEvent,
    StepEvent,
    TrialEvent,
    TriedEvent,
)
from triptych.text import formats

LINE_SECONDS = 60.0  # between two lines about the progress of a suite


class Detail(IntEnum):
    """How detailed a line is."""

    FAILURE = 0
    RESULT = 1
    STAGE = 2  # what bars show, if there are any
    STEP = 3


class EventLine(NamedTuple):
    """A line of text, and how detailed it is."""

    text: str
    detail: Detail


@dataclass
class _Run:
    """A run in progress.

    Attributes:
        name: its number in the suite, label and seed, as its lines begin.
        began: when it began.
        doing: what it is doing now, in words.
        first_step: when the first step of the stage was reported, and the tokens until then.
        epochs: maximum epochs of training; None: not known, because its start was not reported.
    """

    name: str
    began: float
    doing: str = "starting"
    first_step: tuple[float, int] | None = None
    epochs: int | None = None


@dataclass
class EventLines:
    """Turns the events of runs, which may be in progress at the same time, into lines.

    Args:
        clock: returns the current time in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _runs: dict[RunId, _Run] = field(default_factory=dict, init=False)
    _said: float | None = field(default=None, init=False)
    _done: int = field(default=-1, init=False)

    def of_run(self, run: RunId, event: Event) -> list[EventLine]:
        """The lines of an event about a run; most have one, some none.

        Raises:
            ValueError: the event is about the suite.
        """
        match event:
            case KeptEvent():
                return [EventLine(f"{_numbered(run, event)}: already finished, kept", Detail.RESULT)]
            case BeginEvent():
                self._runs[run] = _Run(_numbered(run, event), self.clock())
                return [EventLine(f"{self._runs[run].name}: starting", Detail.STAGE)]
            case FailedEvent():
                begun = self._runs.pop(run, None)  # it may have failed before it began
                name = begun.name if begun else _numbered(run, event)
                return [EventLine(f"{name}: FAILED: {event.message}", Detail.FAILURE)]
        active = self._active(run)
        match event:
            case DoneEvent():
                del self._runs[run]
                scores = f": {found}" if (found := scores_in_words(event)) else ""
                return [EventLine(f"{active.name}: done in {self.clock() - active.began:.0f} s{scores}", Detail.RESULT)]
            case TriedEvent():
                del self._runs[run]
                what = f"the search trial FAILED, the run will retry it: {event.message}"
                return [EventLine(f"{active.name}: {what}", Detail.FAILURE)] if event.message else []
            case StageEvent():
                active.doing, active.first_step, active.epochs = STAGES[event.stage], None, event.epochs
                if event.stage == "train":
                    epochs = formats.number_of(event.epochs or 0, "epoch")
                    what = f"training, up to {epochs}, {formats.number_of(event.total or 0, 'step')}"
                    return [EventLine(f"{active.name}: {what}", Detail.STAGE)]
                detail = Detail.STAGE if event.stage == "generation" else Detail.STEP
                return [EventLine(f"{active.name}: {active.doing}", detail)]
            case ProgressEvent():
                stage = active.doing.partition(":")[0]
                active.doing = f"{stage}: {event.done:,} of {event.total:,}"
                return []
            case StepEvent():
                active.doing = f"step {event.step:,} of {event.total:,}, {self.details(run, event)}"
                return [EventLine(f"{active.name}: {active.doing}", Detail.STEP)]
            case EvaluationEvent():
                speed = event.tokens / event.train_seconds if event.train_seconds else 0.0
                what = (
                    f"epoch {event.epoch}, training loss {event.train_loss:.4f}, "
                    f"validation loss {event.validation_loss:.4f}, {speed:,.0f} tokens/s"
                )
                return [EventLine(f"{active.name}: {what}", Detail.RESULT)]
            case NoteEvent():
                return [EventLine(f"{active.name}: {event.message}", Detail.RESULT)]
            case TrialEvent():
                loss = event.validation_loss
                reached = f"validation loss {loss:.4f}" if loss is not None else "diverged"
                return [EventLine(f"{active.name}: learning rate {event.learning_rate:g}: {reached}", Detail.RESULT)]
            case _:
                raise ValueError(f"a {event.event} event is about the suite, and the run {run} is named")

    def remaining(self, event: RemainingEvent) -> list[EventLine]:
        """The progress of the suite, after every run and once a minute, with what its runs are doing."""
        now = self.clock()
        if self._done == event.done and self._said is not None and now - self._said < LINE_SECONDS:
            return []
        begins, self._said, self._done = self._said is None, now, event.done
        if begins and not event.done:
            return []
        doing = "".join(f"; {run.name}: {run.doing}" for run in self._runs.values())
        return [EventLine(f"{remaining_words(event)}{doing}", Detail.STAGE)]

    def name(self, run: RunId) -> str:
        """The beginning of a run's lines."""
        return self._active(run).name

    def details(self, run: RunId, event: StepEvent) -> str:
        """Epoch, loss and speed after a step."""
        active = self._active(run)
        if active.first_step is None:
            active.first_step = (self.clock(), event.tokens)
        began, before = active.first_step
        elapsed = self.clock() - began
        rate = f", {(event.tokens - before) / elapsed:,.0f} tokens/s" if elapsed > 0.5 else ""
        # the epoch that the step belongs to: `event.epoch` counts finished ones, at an epoch's last step that one too
        epoch = event.epoch + 1 if active.epochs is None else math.ceil(event.step * active.epochs / event.total)
        return f"epoch {epoch}, loss {event.loss:.3f}{rate}"

    def _active(self, run: RunId) -> _Run:
        if run not in self._runs:  # an event that arrives late, from a worker that was lost
            self._runs[run] = _Run(f"{run.name}, seed {run.seed}", self.clock())
        return self._runs[run]


def remaining_words(event: RemainingEvent) -> str:
    """The progress of a suite, in words."""
    known = event.seconds is not None and event.done < event.total
    left = f", about {formats.seconds(event.seconds)} left" if known else ""
    runs = formats.number_of(event.total, "run")
    return f"{event.done} of {runs} done after {formats.seconds(event.elapsed_seconds)}{left}"


def scores_in_words(event: DoneEvent) -> str:
    """The test loss and R-1 of a finished run, if it has them."""
    scores = [
        *([f"test loss {formats.loss(event.test_loss)}"] if event.test_loss is not None else []),
        *([f"R-1 {formats.rouge_score(event.rouge1)}"] if event.rouge1 is not None else []),
    ]
    return ", ".join(scores)


def _numbered(run: RunId, event: KeptEvent | BeginEvent | FailedEvent) -> str:
    return f"[{event.index + 1}/{event.total}] {run.name}, seed {run.seed}"

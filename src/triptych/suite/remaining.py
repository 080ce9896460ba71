"""Estimate how long a suite still takes, from what its runs took so far."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from triptych.analysis.costs import losses_computed
from triptych.config.schedule import num_evaluations
from triptych.contracts import Method
from triptych.run.entries import SuiteEntry
from triptych.run.events import (
    BeginEvent,
    DoneEvent,
    Event,
    FailedEvent,
    KeptEvent,
    RemainingEvent,
    RunId,
    StageEvent,
    StepEvent,
)
from triptych.run.preflight import CheckedSuite
from triptych.run.search import planned_trials

START_SECONDS = 8.0  # of a run, whatever its work: its process starts, the model is loaded
EVENT_SECONDS = 5.0  # between two events while runs are in progress


@dataclass(frozen=True)
class Work:
    """What a run computes, in forward passes of the base model over a pair.

    Attributes:
        search: the learning-rate search, which one run of a method does for all.
        training: all epochs of training.
        rest: evaluation and generation.
    """

    search: float
    training: float
    rest: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.search + self.training + self.rest


def work_of(checked: CheckedSuite, entry: SuiteEntry, first: bool) -> Work:
    """Roughly what a run of an entry computes: training may stop early, and summaries may be shorter.

    Args:
        checked: the suite.
        entry: the entry.
        first: whether it is the first run of the entry, which does the search.
    """
    counts = checked.parameters.get(entry.label)
    if counts is None:
        return Work(0.0, 0.0, 0.0)
    suite, corpus = checked.suite, checked.corpus
    t, s, decoding = suite.training, suite.search, suite.decoding
    # forward, backward through the activations, and backward into what is trained
    passes = 2 + min(counts.num_trainable_parameters / counts.num_base_parameters, 1.0)
    epochs = t.max_epochs if entry.trains else 0
    search = 0.0
    if entry.trains and first:
        assert isinstance(entry.plugin, Method)
        trials = planned_trials(suite, entry.plugin, len(corpus.train))
        judged = min(len(corpus.validation), s.validation_documents)
        search = passes * sum(trials) * t.global_batch_size + len(trials) * judged
    written = decoding.num_beams * decoding.max_new_tokens / suite.limits.document_tokens
    evaluated = losses_computed(len(corpus.validation), num_evaluations(epochs, t.eval_every), len(corpus.test))
    return Work(
        search=search,
        training=epochs * passes * len(corpus.train),
        rest=evaluated + len(corpus.test) * (1 + written),
    )


@dataclass
class _Active:
    """A run in progress: when it began, and when and at which step its training began."""

    began: float
    stage: str = ""
    trains_since: float = 0.0
    first_step: int | None = None
    step: int = 0
    steps: int = 0


@dataclass
class RemainingTime:
    """Follows the events of a suite, and estimates the remaining time.

    If a method has finished runs, its other runs are assumed to take as long; the rest are estimated from the seconds
    per unit of work. Runs are assumed to be carried out one after another.

    Args:
        work: the work of each run, in order.
        clock: returns the current time in seconds.
    """

    work: Mapping[RunId, Work]
    clock: Callable[[], float] = time.monotonic
    _active: dict[RunId, _Active] = field(default_factory=dict, init=False)
    _took: dict[RunId, float] = field(default_factory=dict, init=False)
    _ended: set[RunId] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._began = self._said = self.clock()

    def follow(self, run: RunId, event: Event) -> RemainingEvent | None:
        """Process an event; returns the remaining time if it should be reported now."""
        now, known = self.clock(), run in self.work  # trials carried out ahead of their run are not known
        active = self._active.get(run)
        match event:
            case BeginEvent() if known:
                self._active[run] = _Active(now)
            case KeptEvent() if known:
                self._ended.add(run)
                return None
            case DoneEvent() | FailedEvent() if known:
                self._ended.add(run)
                began = self._active.pop(run, None)
                if isinstance(event, DoneEvent) and began is not None:
                    self._took[run] = now - began.began
                return self._say(now)
            case StageEvent() if active is not None:
                active.stage = event.stage
                if event.stage == "train":
                    active.trains_since, active.first_step = now, None
            case StepEvent() if active is not None:
                if active.first_step is None:
                    active.first_step = event.step - 1
                active.step, active.steps = event.step, event.total
        return self._say(now) if now - self._said >= EVENT_SECONDS else None

    def _say(self, now: float) -> RemainingEvent:
        self._said = now
        return RemainingEvent(
            done=len(self._ended), total=len(self.work), elapsed_seconds=now - self._began, seconds=self.seconds(now)
        )

    def seconds(self, now: float) -> float | None:
        """The seconds that are left; None if nothing was measured yet."""
        per_unit = self._seconds_per_unit(now)
        if per_unit is None:
            return None
        left = 0.0
        for run, work in self.work.items():
            if run not in self._ended:
                left += self._left_of(run, work, per_unit, now)
        return left

    def _seconds_per_unit(self, now: float) -> float | None:
        """Seconds per unit of work, from finished runs and the steps of those in progress."""
        seconds = units = 0.0
        for run, took in self._took.items():
            seconds, units = seconds + max(took - START_SECONDS, 0.0), units + self.work[run].total
        for run, active in self._active.items():
            if active.first_step is not None and active.steps:
                seconds += now - active.trains_since
                units += self.work[run].training * (active.step - active.first_step) / active.steps
        if units:
            return seconds / units
        return 0.0 if self._took and not any(self.work[run].total for run in self.work) else None

    def _left_of(self, run: RunId, work: Work, per_unit: float, now: float) -> float:
        """The seconds that are left of a run that has not ended."""
        active = self._active.get(run)
        alike = [took for other, took in self._took.items() if other.name == run.name]
        whole = sum(alike) / len(alike) if alike else START_SECONDS + work.total * per_unit
        if active is None:
            return whole
        if active.first_step is not None and active.steps:
            per_step = (now - active.trains_since) / (active.step - active.first_step)
            rest = work.rest * per_unit
            return (active.steps - active.step) * per_step + (rest if active.stage != "generation" else rest / 2)
        return max(whole - (now - active.began), 0.0)

"""The events that a run reports: one type per event, sent as JSON lines between processes."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from triptych.config.schema import Suite
from triptych.errors import RunFailed, shorten
from triptych.results.records import DesignPlan, Record
from triptych.run.plan import SuitePlan

StageName = Literal["preparation", "evaluation", "search", "train", "generation", "checkpoint"]

STAGES: dict[StageName, str] = {  # as shown to users
    "preparation": "preparing data",
    "evaluation": "evaluating",
    "search": "searching for the learning rate",
    "train": "training",
    "generation": "writing summaries",
    "checkpoint": "saving",
}


class RunId(NamedTuple):
    """The run, or trial of its search, that an event is about.

    Attributes:
        name: the method's label; in a suite followed by the number of training documents or the trial's learning rate,
            unless it is one of the suite's own runs.
        seed: the seed.
    """

    name: str
    seed: int


class _Event(BaseModel):
    """Base class: frozen, with undeclared fields forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def fields(self) -> dict[str, Any]:
        """The fields to write: the event's name, then the fields that were set."""
        return {"event": self.__pydantic_fields__["event"].default, **self.model_dump(exclude_unset=True)}


class _WholeEvent(_Event):
    """An event that is written with all its fields, nested ones as JSON values."""

    def fields(self) -> dict[str, Any]:
        """The fields to write: the event's name, then every field."""
        return self.model_dump(mode="json")


class StageEvent(_Event):
    """A stage begins; for training, `epochs` and `total` are the maximum epochs and optimizer steps."""

    event: Literal["stage"] = "stage"
    stage: StageName
    epochs: int | None = None
    total: int | None = None


class ProgressEvent(_Event):
    """The number of a stage's documents, pairs or steps that are done."""

    event: Literal["progress"] = "progress"
    done: int
    total: int


class NoteEvent(_Event):
    """A message for the reader of the run's output."""

    event: Literal["note"] = "note"
    message: str


class TrialEvent(_Event):
    """A trial of the learning-rate search has ended; `validation_loss` is None if it diverged."""

    event: Literal["trial"] = "trial"
    learning_rate: float
    validation_loss: float | None


class _TrainingEvent(_Event):
    """The state of training after an optimizer step.

    Attributes:
        epoch: epochs finished.
        step: optimizer steps so far.
        tokens: tokens trained on so far.
        energy_joules: energy used by all steps so far; None: not measured.
        train_flops: FLOPs executed by all steps so far; None: not counted.
        train_seconds: time on the training clock.
        total: maximum number of optimizer steps.
    """

    epoch: int
    step: int
    tokens: int
    energy_joules: float | None
    train_flops: float | None
    train_seconds: float
    total: int

    def fields(self) -> dict[str, Any]:
        """The fields to write: those specific to the event, then the state of training."""
        return dict(sorted(super().fields().items(), key=lambda field: field[0] in _TrainingEvent.model_fields))

    def history_line(self) -> dict[str, Any]:
        """The event as a line of `history.jsonl`."""
        line = self.fields()
        del line["total"]
        return line


class StepEvent(_TrainingEvent):
    """An optimizer step: its training loss and learning rate."""

    event: Literal["step"] = "step"
    loss: float
    learning_rate: float


class EvaluationEvent(_TrainingEvent):
    """An evaluation: the mean training loss since the last one, and the validation loss."""

    event: Literal["evaluation"] = "evaluation"
    train_loss: float
    validation_loss: float


class ErrorEvent(_Event):
    """A child process ends with an error; only the parent receives this event and reports a failed run."""

    event: Literal["error"] = "error"
    message: str


class DesignEvent(_WholeEvent):
    """The suite's sizes were chosen for a time budget; this event concerns no run."""

    event: Literal["design"] = "design"
    design: DesignPlan


class ResolvedEvent(_WholeEvent):
    """The suite's settings are validated and every key is set; nothing has been read yet. This event concerns no run.

    Attributes:
        suite: the settings.
        preset: the preset that they are based on; empty if they come from a results folder.
        out: the results folder.
    """

    event: Literal["resolved"] = "resolved"
    suite: Suite
    preset: str
    out: str


class PlanEvent(_WholeEvent):
    """Model, data and every method were checked; describes what the suite will do. This event concerns no run."""

    event: Literal["plan"] = "plan"
    plan: SuitePlan


class EstimateEvent(_WholeEvent):
    """A dry run timed a method; this event concerns no run.

    Attributes:
        label: the method's.
        seconds: maximum duration of one of its runs.
        index: the method's index, from 0.
        total: number of methods.
    """

    event: Literal["estimate"] = "estimate"
    label: str
    seconds: float
    index: int
    total: int


class ReadyEvent(_Event):
    """The suite was checked and its runs begin; this event concerns no run.

    Attributes:
        out: the results folder.
        notes: notes on the data: which splits were cut by a seed, and what is not read.
        language: what ROUGE counts, and why.
        changes: what the suite adds to an existing results folder, and what stays in it.
    """

    event: Literal["ready"] = "ready"
    out: str
    notes: list[str]
    language: str
    changes: list[str] = []


class KeptEvent(_Event):
    """The run was already finished and is kept; it is number `index` (from 0) of `total` runs."""

    event: Literal["kept"] = "kept"
    index: int
    total: int


class BeginEvent(_Event):
    """The run, or one of its trials, begins; the run is number `index` (from 0) of `total` runs."""

    event: Literal["begin"] = "begin"
    index: int
    total: int


class TriedEvent(_Event):
    """A trial made ahead of its run has ended; `message` says what went wrong, if anything."""

    event: Literal["tried"] = "tried"
    message: str | None


class DoneEvent(_Event):
    """The run is finished.

    Attributes:
        test_loss: nats per target token; None: the run has no model.
        rouge1: mean F1 on the test split, 0-100; None: not scored.
    """

    event: Literal["done"] = "done"
    test_loss: float | None = None
    rouge1: float | None = None

    @classmethod
    def of(cls, record: Record) -> "DoneEvent":
        """The event for a finished run with this record."""
        return cls(test_loss=record.loss.test, rouge1=record.rouge.rouge1 if record.rouge else None)


class RemainingEvent(_WholeEvent):
    """The progress of the suite, reported after every run and from time to time; this event concerns no run.

    Attributes:
        done: runs that have ended, including kept and failed ones.
        total: number of runs in the suite.
        elapsed_seconds: time since its first run began.
        seconds: estimated time left, based on its runs so far; None: nothing has been measured yet.
    """

    event: Literal["remaining"] = "remaining"
    done: int
    total: int
    elapsed_seconds: float
    seconds: float | None


class FailedEvent(_Event):
    """The run failed; `message` says why. It is number `index` (from 0) of `total` runs."""

    event: Literal["failed"] = "failed"
    message: str
    index: int
    total: int


RunEvent = StageEvent | ProgressEvent | NoteEvent | TrialEvent | StepEvent | EvaluationEvent
ChildEvent = RunEvent | ErrorEvent
JobEvent = KeptEvent | BeginEvent | TriedEvent | DoneEvent | FailedEvent
SuiteEvent = ResolvedEvent | DesignEvent | PlanEvent | EstimateEvent | ReadyEvent | RemainingEvent
Event = RunEvent | JobEvent | SuiteEvent
Listener = Callable[[RunId | None, Event], None]  # None: the event concerns the suite as a whole

_child_event: TypeAdapter[ChildEvent] = TypeAdapter(Annotated[ChildEvent, Field(discriminator="event")])


def ignore(run: RunId | None, event: Event) -> None:
    """A listener that does nothing."""


def format_event(event: Event | ErrorEvent) -> str:
    """An event as one line of JSON, without a line break."""
    return json.dumps(event.fields())


def stream_line(run: RunId | None, event: Event) -> str:
    """An event as printed by `triptych compare --events`: a line of JSON with the time and the run it is about.

    Args:
        run: the run it is about; None: the suite as a whole.
        event: the event.
    """
    about = None if run is None else run._asdict()
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    return json.dumps({"time": now, "run": about, **event.fields()})


def parse_event(line: str) -> ChildEvent:
    """Parse a line written by `format_event`.

    Raises:
        RunFailed: the line is not JSON, its event is unknown, or a field is missing, unknown or of the wrong type.
    """
    try:
        return _child_event.validate_json(line)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise RunFailed(
            f"The run reported {shorten(repr(line.strip()))}, which is not an event of this version: {problem}."
        ) from None

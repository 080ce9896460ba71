"""What a run reports while it works: one type per event, written as JSON lines between processes."""

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

STAGES: dict[StageName, str] = {  # as people are shown them
    "preparation": "preparing data",
    "evaluation": "evaluating",
    "search": "searching the learning rate",
    "train": "training",
    "generation": "writing summaries",
    "checkpoint": "saving",
}


class RunId(NamedTuple):
    """The run, or the trial of its search, that an event is about.

    Attributes:
        name: the method's label; in a suite also the number of training documents, or the trial's learning rate, where
            that is not the suite's own run.
        seed: the seed.
    """

    name: str
    seed: int


class _Event(BaseModel):
    """Frozen and closed: a field that is not declared is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def fields(self) -> dict[str, Any]:
        """The event as it is written: its name, then the fields that were given."""
        return {"event": self.__pydantic_fields__["event"].default, **self.model_dump(exclude_unset=True)}


class _WholeEvent(_Event):
    """An event that is written with all its fields, nested ones as JSON holds them."""

    def fields(self) -> dict[str, Any]:
        """The event as it is written: its name, then every field."""
        return self.model_dump(mode="json")


class StageEvent(_Event):
    """A stage begins; `epochs` and `total` optimizer steps, at most, are given for training."""

    event: Literal["stage"] = "stage"
    stage: StageName
    epochs: int | None = None
    total: int | None = None


class ProgressEvent(_Event):
    """How many of the documents, pairs or steps of a stage are done."""

    event: Literal["progress"] = "progress"
    done: int
    total: int


class NoteEvent(_Event):
    """A sentence that a reader of the run's output should see."""

    event: Literal["note"] = "note"
    message: str


class TrialEvent(_Event):
    """A trial of the learning-rate search is made; `validation_loss` is None where it diverged."""

    event: Literal["trial"] = "trial"
    learning_rate: float
    validation_loss: float | None


class _TrainingEvent(_Event):
    """The state of training after an optimizer step.

    Attributes:
        epoch: epochs that are finished.
        step: optimizer steps so far.
        tokens: tokens trained on so far.
        energy_joules: energy used by the steps so far; None: not measured.
        train_flops: executed by the steps so far; None: not counted.
        train_seconds: the training clock.
        total: optimizer steps, at most.
    """

    epoch: int
    step: int
    tokens: int
    energy_joules: float | None
    train_flops: float | None
    train_seconds: float
    total: int

    def fields(self) -> dict[str, Any]:
        """The event as it is written: what is particular to it first, then the state of training."""
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
    """The end of an epoch: its mean training loss, and the validation loss after it."""

    event: Literal["evaluation"] = "evaluation"
    train_loss: float
    validation_loss: float


class ErrorEvent(_Event):
    """A child process ends because of an error; it goes to the parent alone, which reports a failed run."""

    event: Literal["error"] = "error"
    message: str


class DesignEvent(_WholeEvent):
    """The sizes of the suite were chosen for a time; it concerns no run."""

    event: Literal["design"] = "design"
    design: DesignPlan


class ResolvedEvent(_WholeEvent):
    """The settings of the suite are checked and every key has its value; nothing was read yet. It concerns no run.

    Attributes:
        suite: the settings.
        preset: the preset that they began from; empty where they are those of a results folder.
        out: the results folder.
    """

    event: Literal["resolved"] = "resolved"
    suite: Suite
    preset: str
    out: str


class PlanEvent(_WholeEvent):
    """Model, data and every method were checked: what the suite is going to do. It concerns no run."""

    event: Literal["plan"] = "plan"
    plan: SuitePlan


class EstimateEvent(_WholeEvent):
    """A dry run timed a method; it concerns no run.

    Attributes:
        label: the method's.
        seconds: of one of its runs, at most.
        index: which method it is, from 0.
        total: how many methods there are.
    """

    event: Literal["estimate"] = "estimate"
    label: str
    seconds: float
    index: int
    total: int


class ReadyEvent(_Event):
    """The suite was checked and its runs begin; it concerns no run.

    Attributes:
        out: the results folder.
        notes: what to know of the data: what was cut by a seed, what is not read.
        language: what ROUGE counts, and why.
        changes: what the suite adds to that of a results folder that exists, and what stays in it.
    """

    event: Literal["ready"] = "ready"
    out: str
    notes: list[str]
    language: str
    changes: list[str] = []


class KeptEvent(_Event):
    """The run was finished before and is kept; it is number `index` (from 0) of `total` runs."""

    event: Literal["kept"] = "kept"
    index: int
    total: int


class BeginEvent(_Event):
    """The run begins, or a trial of the run does; the run is number `index` (from 0) of `total` runs."""

    event: Literal["begin"] = "begin"
    index: int
    total: int


class TriedEvent(_Event):
    """A trial that was made ahead of its run has ended; `message` says what went wrong."""

    event: Literal["tried"] = "tried"
    message: str | None


class DoneEvent(_Event):
    """The run is finished.

    Attributes:
        test_loss: nats per target token; None: it has no model.
        rouge1: the mean over the test split, F1 in 0-100; None: not scored.
    """

    event: Literal["done"] = "done"
    test_loss: float | None = None
    rouge1: float | None = None

    @classmethod
    def of(cls, record: Record) -> "DoneEvent":
        """The event that a run with this record is finished."""
        return cls(test_loss=record.loss.test, rouge1=record.rouge.rouge1 if record.rouge else None)


class RemainingEvent(_WholeEvent):
    """How far the suite is, after every run and now and then; it concerns no run.

    Attributes:
        done: runs that have ended, kept and failed ones among them.
        total: runs of the suite.
        elapsed_seconds: since its first run began.
        seconds: what the rest takes, by what its runs took so far; None: nothing was measured yet.
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
    """The listener that does nothing."""


def format_event(event: Event | ErrorEvent) -> str:
    """An event as one line of JSON, without its line break."""
    return json.dumps(event.fields())


def stream_line(run: RunId | None, event: Event) -> str:
    """An event as `triptych compare --events` prints it: a line of JSON with its time and the run that it is about.

    Args:
        run: None: the event concerns the suite as a whole.
        event: the event.
    """
    about = None if run is None else run._asdict()
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    return json.dumps({"time": now, "run": about, **event.fields()})


def parse_event(line: str) -> ChildEvent:
    """The event in a line that `format_event` wrote.

    Raises:
        RunFailed: the line is not JSON, its event is unknown, or a field is missing, unknown or of another type.
    """
    try:
        return _child_event.validate_json(line)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise RunFailed(
            f"The run reported {shorten(repr(line.strip()))}, which is not an event of this version: {problem}."
        ) from None

"""What a person sees while a suite runs: live bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import assert_never

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from triptych.cli.printing import print_text, show_design
from triptych.run.events import (
    STAGES,
    BeginEvent,
    DesignEvent,
    DoneEvent,
    EvaluationEvent,
    Event,
    FailedEvent,
    KeptEvent,
    NoteEvent,
    ProgressEvent,
    ReadyEvent,
    RunId,
    StageEvent,
    StepEvent,
    TrialEvent,
    TriedEvent,
)


@dataclass
class ActiveRun:
    """A run that is under way.

    Attributes:
        name: its number in the suite, label and seed, as lines begin.
        bar: its progress bar.
        began: when it began.
        first_step: when the first step of the stage was reported, and the tokens until then.
    """

    name: str
    bar: TaskID
    began: float = field(default_factory=time.monotonic)
    first_step: tuple[float, int] | None = None


class ProgressView:
    """Shows the events of a suite, whose runs may be under way at the same time; a `Listener` and a context manager.

    Args:
        console: where to print; standard error, so that standard output holds the result alone.

    Attributes:
        out: the results folder of the suite, as soon as its runs begin.
        failed: the runs that failed, in words.
    """

    def __init__(self, console: Console):
        self.console = console
        self.live = console.is_terminal
        self._progress = Progress(
            TextColumn("[bold]{task.description}", table_column=Column(no_wrap=True, ratio=2)),
            BarColumn(bar_width=18),
            MofNCompleteColumn(),
            TextColumn("{task.fields[details]}", table_column=Column(no_wrap=True, ratio=2)),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            expand=True,
        )
        self.out: str | None = None
        self.failed: list[str] = []
        self._suite = self._progress.add_task("suite", total=None, details="")
        self._runs: dict[RunId, ActiveRun] = {}

    def __enter__(self) -> "ProgressView":
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self._progress.stop()

    def __call__(self, run: RunId | None, event: Event) -> None:
        """Show one event."""
        if run is None:
            self._show_suite(event)
        else:
            self._show_run(run, event)

    def _show_suite(self, event: Event) -> None:
        match event:
            case DesignEvent():
                show_design(self.console, event.design)
            case ReadyEvent():
                self.out = event.out
                for change in event.changes:
                    self.print(change)
                for note in event.notes:
                    self.print(f"data: {note}")
                self.print(event.language)
                if self.live:
                    self._progress.start()
            case _:
                raise ValueError(f"a {event.event} event is about a run, and none is named")

    def _show_run(self, run: RunId, event: Event) -> None:
        match event:
            case KeptEvent():
                self._progress.update(self._suite, total=event.total)
                self._progress.advance(self._suite)
                self.print(f"{_name(run, event)}: done before, kept")
            case BeginEvent():
                self._progress.update(self._suite, total=event.total)
                self._begin(run, _name(run, event))
            case FailedEvent():
                name = self._runs[run].name if run in self._runs else _name(run, event)  # it failed before it began
                self.print(f"{name}: FAILED: {event.message}")
                self.failed.append(f"{run.name} (seed {run.seed})")
                self._end(run)
                self._progress.advance(self._suite)
            case DoneEvent():
                active = self._active(run)
                self.print(f"{active.name}: done in {time.monotonic() - active.began:.0f} s")
                self._end(run)
                self._progress.advance(self._suite)
            case TriedEvent():
                if event.message:
                    self.print(f"{self._active(run).name}: the trial FAILED, the run repeats it: {event.message}")
                self._end(run)
            case StageEvent():
                self._show_stage(run, event)
            case ProgressEvent():
                self._progress.update(self._active(run).bar, total=event.total, completed=event.done)
            case StepEvent():
                self._show_step(self._active(run), event)
            case EvaluationEvent():
                speed = event.tokens / event.train_seconds if event.train_seconds else 0.0
                self.print(
                    f"{self._active(run).name}: epoch {event.epoch}, training loss {event.train_loss:.4f}, "
                    f"validation loss {event.validation_loss:.4f}, {speed:,.0f} tokens/s"
                )
            case NoteEvent():
                self.print(f"{self._active(run).name}: {event.message}")
            case TrialEvent():
                loss = event.validation_loss
                reached = f"validation loss {loss:.4f}" if loss is not None else "diverged"
                self.print(f"{self._active(run).name}: learning rate {event.learning_rate:g}: {reached}")
            case DesignEvent() | ReadyEvent():
                raise ValueError(f"a {event.event} event is about the suite, and the run {run} is named")
            case _:
                assert_never(event)

    def print(self, text: str) -> None:
        """Print a line above the bars."""
        print_text(self.console, text)

    def _begin(self, run: RunId, name: str) -> None:
        if run in self._runs:  # begun again elsewhere: its worker was lost
            self._end(run)
        self._runs[run] = ActiveRun(name, self._progress.add_task("starting", total=None, details=""))
        if not self.live:
            self.print(f"{name}: starting")

    def _active(self, run: RunId) -> ActiveRun:
        if run not in self._runs:  # an event that arrives late, from a worker that was lost
            self._begin(run, f"{run.name}, seed {run.seed}")
        return self._runs[run]

    def _end(self, run: RunId) -> None:
        if run in self._runs:
            self._progress.remove_task(self._runs.pop(run).bar)

    def _show_stage(self, run: RunId, event: StageEvent) -> None:
        active, words = self._active(run), STAGES[event.stage]
        active.first_step = None
        description = f"{run.name} · seed {run.seed} · {words}"
        self._progress.reset(active.bar, total=event.total, description=description, details="", visible=True)
        if event.stage == "train" and not self.live:
            self.print(f"{active.name}: training, up to {event.epochs} epochs, {event.total} steps")
        elif event.stage == "generation" and not self.live:
            self.print(f"{active.name}: {words}")

    def _show_step(self, active: ActiveRun, event: StepEvent) -> None:
        if active.first_step is None:
            active.first_step = (time.monotonic(), event.tokens)
        began, before = active.first_step
        elapsed = time.monotonic() - began
        rate = f", {(event.tokens - before) / elapsed:,.0f} tokens/s" if elapsed > 0.5 else ""
        details = f"epoch {event.epoch + 1}, loss {event.loss:.3f}{rate}"
        self._progress.update(active.bar, total=event.total, completed=event.step, details=details)


@contextmanager
def scoring_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar of scored predictions, on a terminal; yields the function to call with how many of how many are scored."""
    progress = Progress(
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress:
        bar = progress.add_task("scoring", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _name(run: RunId, event: KeptEvent | BeginEvent | FailedEvent) -> str:
    return f"[{event.index + 1}/{event.total}] {run.name}, seed {run.seed}"

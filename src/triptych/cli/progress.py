"""What a person sees while a suite runs: live bars on a terminal, plain lines elsewhere."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import assert_never

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from triptych.cli.printing import print_text, show_design, show_plan, show_settings
from triptych.run.events import (
    STAGES,
    BeginEvent,
    DesignEvent,
    DoneEvent,
    EstimateEvent,
    EvaluationEvent,
    Event,
    FailedEvent,
    KeptEvent,
    Listener,
    NoteEvent,
    PlanEvent,
    ProgressEvent,
    ReadyEvent,
    RemainingEvent,
    ResolvedEvent,
    RunId,
    StageEvent,
    StepEvent,
    TrialEvent,
    TriedEvent,
    stream_line,
)
from triptych.suite.lines import Detail, EventLine, EventLines
from triptych.text import formats

CHECKING = "checking model, data and methods"
BUSY = 0.5  # load per core; above it, times measured now are too long


class Waiting:
    """A spinner with a clock, shown on a terminal during work without measurable progress.

    Args:
        console: where to show it.
        shown: False: nothing is shown.
    """

    def __init__(self, console: Console, shown: bool = True):
        self._console, self._shown = console, shown and console.is_terminal
        self._progress: Progress | None = None

    def begin(self, text: str) -> None:
        """Show it with a text, replacing the one before."""
        self.end()
        if self._shown:
            columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._progress.add_task(text, total=None)
            self._progress.start()

    def end(self) -> None:
        """Hide it."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class ProgressView:
    """Shows the events of a suite, whose runs may be in progress at the same time; a `Listener` and a context manager.

    Args:
        console: where to print; standard error, so that standard output has only the result.
        detail: the lines to show; None: those of results if bars show the rest, else those of stages too.

    Attributes:
        out: the results folder of the suite; None until its runs begin.
        failed: the runs that failed, in words.
    """

    def __init__(self, console: Console, detail: Detail | None = None):
        self.console = console
        self.detail = detail if detail is not None else Detail.RESULT if console.is_terminal else Detail.STAGE
        self.live = console.is_terminal and self.detail > Detail.FAILURE
        self._progress = Progress(
            TextColumn("[bold]{task.description}", table_column=Column(no_wrap=True, ratio=2)),
            BarColumn(bar_width=18),
            MofNCompleteColumn(),
            TextColumn("{task.fields[details]}", table_column=Column(no_wrap=True, ratio=2)),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            expand=True,
        )
        self.out: str | None = None
        self.failed: list[str] = []
        self._suite = self._progress.add_task("suite", total=None, details="")
        self._bars: dict[RunId, TaskID] = {}
        self._lines = EventLines()
        self._planned = False
        self._waiting = Waiting(console, self.live)

    def __enter__(self) -> "ProgressView":
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.end()
        if self.live:
            self._progress.stop()

    def __call__(self, run: RunId | None, event: Event) -> None:
        """Show one event."""
        if run is None:
            self._show_suite(event)
            return
        for line in self._lines.of_run(run, event):
            self._print_line(line)
        self._move_bars(run, event)

    def _show_suite(self, event: Event) -> None:
        speaks = self.detail > Detail.FAILURE
        match event:
            case ResolvedEvent() if self.live:  # elsewhere nobody waits, and the first line may be what is wrong
                show_settings(self.console, event.suite, event.preset, event.out)
                self._waiting.begin(CHECKING)
            case PlanEvent() if speaks:
                self._waiting.end()
                if not self.live:
                    show_settings(self.console, event.plan.suite, event.plan.preset, event.plan.out)
                show_plan(self.console, event.plan)
                self._planned = True
            case DesignEvent() if speaks:
                show_design(self.console, event.design)
            case ReadyEvent():
                self._waiting.end()
                self.out = event.out
                for text in (*event.changes, *(f"data: {note}" for note in event.notes), event.language):
                    if speaks and not (self._planned and text not in event.changes):  # the plan has shown the rest
                        self.print(text)
                if self.live:
                    self._progress.start()
            case RemainingEvent():
                left = "" if event.seconds is None else f"about {formats.seconds(event.seconds)} left"
                self._progress.update(self._suite, total=event.total, details=left)
                for line in self._lines.remaining(event):
                    self._print_line(line)
            case ResolvedEvent() | PlanEvent() | DesignEvent() | EstimateEvent():
                pass
            case _:
                raise ValueError(f"a {event.event} event is about a run, and none is named")

    def _move_bars(self, run: RunId, event: Event) -> None:
        match event:
            case KeptEvent():
                self._progress.update(self._suite, total=event.total)
                self._progress.advance(self._suite)
            case BeginEvent():
                self._progress.update(self._suite, total=event.total)
                self._end(run)  # started again elsewhere: its worker was lost
                self._bar(run)
            case FailedEvent():
                self.failed.append(f"{run.name} (seed {run.seed})")
                self._end(run)
                self._progress.advance(self._suite)
            case DoneEvent():
                self._end(run)
                self._progress.advance(self._suite)
            case TriedEvent():
                self._end(run)
            case StageEvent():
                description = f"{run.name} · seed {run.seed} · {STAGES[event.stage]}"
                bar = self._bar(run)
                self._progress.reset(bar, total=event.total, description=description, details="", visible=True)
            case ProgressEvent():
                self._progress.update(self._bar(run), total=event.total, completed=event.done)
            case StepEvent():
                details = self._lines.details(run, event)
                self._progress.update(self._bar(run), total=event.total, completed=event.step, details=details)
            case EvaluationEvent() | NoteEvent() | TrialEvent():
                pass
            case ResolvedEvent() | DesignEvent() | PlanEvent() | EstimateEvent() | ReadyEvent() | RemainingEvent():
                raise ValueError(f"a {event.event} event is about the suite, and the run {run} is named")
            case _:
                assert_never(event)

    def print(self, text: str) -> None:
        """Print a line above the bars."""
        print_text(self.console, text)

    def _print_line(self, line: EventLine) -> None:
        if line.detail <= self.detail:
            self.print(line.text)

    def _bar(self, run: RunId) -> TaskID:
        if run not in self._bars:
            self._bars[run] = self._progress.add_task("starting", total=None, details="")
        return self._bars[run]

    def _end(self, run: RunId) -> None:
        if run in self._bars:
            self._progress.remove_task(self._bars.pop(run))


class DryRunView:
    """Shows the plan of a dry run, then the time of each method as it is measured; a `Listener` and a context manager.

    Args:
        console: standard output.
        timing: whether methods are timed after the plan.
    """

    def __init__(self, console: Console, timing: bool):
        self.console, self.timing = console, timing
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._labels: list[str] = []
        self._waiting = Waiting(console)
        self._bar = self._progress.add_task("timing", total=None)

    def __enter__(self) -> "DryRunView":
        self._load, self._cores = os.getloadavg()[0], os.cpu_count() or 1
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.end()
        self._progress.stop()

    def __call__(self, run: RunId | None, event: Event) -> None:
        """Show one event."""
        match event:
            case ResolvedEvent():
                show_settings(self.console, event.suite, event.preset, event.out, "; nothing is written now")
                self._waiting.begin(CHECKING)
            case DesignEvent():
                show_design(self.console, event.design)
            case PlanEvent():
                self._waiting.end()
                show_plan(self.console, event.plan)
                self._labels = [row.label for row in event.plan.rows]
                if self.timing:
                    self._begin_timing()
            case EstimateEvent():
                time = formats.seconds(event.seconds)
                print_text(self.console, f"  {event.label}: at most about {time} a run")
                self._show_next(event.index + 1)

    def _begin_timing(self) -> None:
        if self._load > BUSY * self._cores:
            cores = formats.number_of(self._cores, "core")
            print_text(
                self.console,
                f"This machine is busy (load {self._load:.1f} on {cores}): while it is, runs take longer than the "
                "times that follow.",
            )
        self._progress.update(self._bar, total=len(self._labels))
        self._progress.start()
        self._show_next(0)

    def _show_next(self, index: int) -> None:
        """Show what is being timed, as a line if there is no bar."""
        doing = f"timing {self._labels[index]}" if index < len(self._labels) else "timing"
        self._progress.update(self._bar, completed=index, description=doing)
        if index < len(self._labels) and not self.console.is_terminal:
            print_text(self.console, f"  {doing}")


def write_stream(listener: Listener) -> Listener:
    """Wrap a listener so that every event is also written to standard output, as a line of JSON."""

    def listen(run: RunId | None, event: Event) -> None:
        print(stream_line(run, event), flush=True)
        listener(run, event)

    return listen


@contextmanager
def counting_bar(console: Console, doing: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal; yields the function to call with the number done and the number in all.

    Args:
        console: where the bar is drawn.
        doing: what is being done, such as `scoring`.
    """
    progress = Progress(
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress:
        bar = progress.add_task(doing, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)

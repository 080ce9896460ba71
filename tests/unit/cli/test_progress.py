"""What a user sees of a suite's events."""

import io
import re

import pytest
from rich.console import Console

from triptych.cli.printing import show_settings
from triptych.cli.progress import STAGES, DryRunView, ProgressView
from triptych.config.reading import preset_settings
from triptych.config.schema import make_suite
from triptych.results.records import Data, DesignPlan, SplitCounts
from triptych.run import events
from triptych.run.events import (
    BeginEvent,
    DesignEvent,
    DoneEvent,
    EstimateEvent,
    EvaluationEvent,
    FailedEvent,
    KeptEvent,
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
)
from triptych.run.plan import ExamplePair, PlannedRow, SuitePlan
from triptych.suite.lines import Detail

LORA = RunId("lora", 0)
STATE = {"step": 4, "tokens": 90, "energy_joules": None, "train_flops": None, "train_seconds": 0.5, "total": 8}
BEGIN = BeginEvent(index=1, total=6)
NAME = "[2/6] lora, seed 0"

# an event of a run that has begun, and its line; None: it only moves a bar
LINES = [
    (KeptEvent(index=1, total=6), f"{NAME}: already finished, kept"),
    (BEGIN, f"{NAME}: starting"),
    (StageEvent(stage="preparation"), None),
    (StageEvent(stage="train", epochs=3, total=12), f"{NAME}: training, up to 3 epochs, 12 steps"),
    (StageEvent(stage="train", epochs=1, total=1), f"{NAME}: training, up to 1 epoch, 1 step"),
    (StageEvent(stage="generation"), f"{NAME}: writing summaries"),
    (ProgressEvent(done=1, total=4), None),
    (NoteEvent(message="no trunk cache"), f"{NAME}: no trunk cache"),
    (TrialEvent(learning_rate=0.01, validation_loss=1.25), f"{NAME}: learning rate 0.01: validation loss 1.2500"),
    (TrialEvent(learning_rate=0.1, validation_loss=None), f"{NAME}: learning rate 0.1: diverged"),
    (StepEvent(epoch=0, loss=2.0, learning_rate=0.1, **STATE), None),
    (
        EvaluationEvent(epoch=1, train_loss=2.0, validation_loss=1.5, **STATE),
        f"{NAME}: epoch 1, training loss 2.0000, validation loss 1.5000, 180 tokens/s",
    ),
    (TriedEvent(message=None), None),
    (TriedEvent(message="no memory"), f"{NAME}: the search trial FAILED, the run will retry it: no memory"),
    (DoneEvent(), f"{NAME}: done in 0 s"),
    (DoneEvent(test_loss=1.25, rouge1=31.4159), f"{NAME}: done in 0 s: test loss 1.2500, R-1 31.42"),
    (DoneEvent(rouge1=31.4159), f"{NAME}: done in 0 s: R-1 31.42"),
    (FailedEvent(message="no memory", index=1, total=6), f"{NAME}: FAILED: no memory"),
]


@pytest.mark.parametrize(
    ("number", "said"), [(1, "1 epoch, 1 document per step"), (2, "2 epochs, 2 documents per step")]
)
def test_settings_are_counted_in_whole_words(number, said):
    """One epoch and one beam are not "1 epochs" and "1 beams"."""
    console = Console(file=io.StringIO(), width=200)
    settings = {
        "training": {"max_epochs": number, "global_batch_size": number},
        "decoding": {"num_beams": number, "max_new_tokens": number},
    }
    show_settings(console, make_suite(settings), "demo", "results/demo")
    shown = console.file.getvalue()
    assert said in shown and f"; {number} beam{'s' * (number > 1)}, up to {number} token{'s' * (number > 1)}\n" in shown


def make_view(terminal: bool = False, detail: Detail | None = None) -> ProgressView:
    """A view that prints into a string, and its console."""
    return ProgressView(Console(file=io.StringIO(), width=200, force_terminal=terminal), detail)


def printed(view: ProgressView) -> list[str]:
    """The lines so far."""
    return view.console.file.getvalue().splitlines()


def tasks(view: ProgressView) -> list[tuple[str, float, float | None]]:
    """Each bar: its text, the amount done, and the total."""
    return [(task.description, task.completed, task.total) for task in view._progress.tasks]


@pytest.mark.parametrize(("event", "line"), LINES, ids=[f"{i}-{event.event}" for i, (event, _) in enumerate(LINES)])
def test_each_event_has_its_line(event, line):
    """Without a terminal, an event gives one line that names the run, or none."""
    view = make_view()
    if not isinstance(event, KeptEvent | BeginEvent):
        view(LORA, BEGIN)
    before = printed(view)
    view(LORA, event)
    assert printed(view)[len(before) :] == ([] if line is None else [line])


def test_every_event_is_shown():
    """The list of lines is complete, except for events about the whole suite."""
    assert {type(event) for event, _ in LINES} | set(events.SuiteEvent.__args__) == set(events.Event.__args__)


def test_a_suite_that_is_ready_shows_what_a_reader_must_know():
    """Truncations, unread files and what ROUGE counts are shown before the first run; the results folder is kept."""
    view = make_view()
    view(None, ReadyEvent(out="results/mine", notes=["Not read: extra.csv."], language="ROUGE counts words."))
    assert printed(view) == ["data: Not read: extra.csv.", "ROUGE counts words."] and view.out == "results/mine"


def test_a_chosen_design_is_shown(monkeypatch):
    """Sizes chosen for a time budget are printed where the events are."""
    view, design, shown = make_view(), DesignPlan.model_construct(command="triptych compare"), []
    monkeypatch.setattr("triptych.cli.progress.show_design", lambda *given: shown.append(given))
    view(None, DesignEvent(design=design))
    assert shown == [(view.console, design)]


@pytest.mark.parametrize(("run", "event"), [(None, DoneEvent()), (LORA, ReadyEvent(out="x", notes=[], language=""))])
def test_an_event_about_nothing_is_an_error(run, event):
    """An event of a run names the run; an event of the suite names none."""
    with pytest.raises(ValueError, match=event.event):
        make_view()(run, event)


def test_bars_follow_the_runs():
    """One bar counts finished runs, and each active run has a bar for its stage, removed when it ends."""
    view = make_view(terminal=True)
    view(RunId("full", 0), KeptEvent(index=0, total=6))
    view(LORA, BEGIN)
    view(RunId("lora", 1), BeginEvent(index=2, total=6))
    assert tasks(view) == [("suite", 1, 6), ("starting", 0, None), ("starting", 0, None)]
    view(LORA, StageEvent(stage="train", epochs=3, total=12))
    view(LORA, StepEvent(epoch=0, loss=2.0, learning_rate=0.1, **STATE))
    view(RunId("lora", 1), StageEvent(stage="generation"))
    view(RunId("lora", 1), ProgressEvent(done=5, total=9))
    assert tasks(view)[1:] == [("lora · seed 0 · training", 4, 8), ("lora · seed 1 · writing summaries", 5, 9)]
    view(LORA, DoneEvent())
    view(RunId("lora", 1), FailedEvent(message="no memory", index=2, total=6))
    assert view.failed == ["lora (seed 1)"]
    assert tasks(view) == [("suite", 3, 6)]
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in printed(view)]
    assert lines == [
        "[1/6] full, seed 0: already finished, kept",
        f"{NAME}: done in 0 s",
        "[3/6] lora, seed 1: FAILED: no memory",
    ]


def test_a_failed_trial_is_shown_and_is_not_counted_as_a_run():
    """The line names the trial and the error; the number of finished runs does not change."""
    view, trial = make_view(), RunId("lora at 0.001", 0)
    view(trial, BeginEvent(index=2, total=6))
    view(trial, TriedEvent(message="no memory"))
    assert printed(view)[-1] == "[3/6] lora at 0.001, seed 0: the search trial FAILED, the run will retry it: no memory"
    assert tasks(view) == [("suite", 0, 6)]


def test_a_run_that_failed_before_it_began_is_shown():
    """A run whose worker never started has a line, and counts as ended."""
    view = make_view()
    view(LORA, FailedEvent(message="no worker", index=1, total=6))
    assert printed(view) == [f"{NAME}: FAILED: no worker"] and tasks(view) == [("suite", 1, None)]


def test_a_run_that_begins_again_elsewhere_has_one_bar():
    """If a worker is lost, the new one takes over the bar; a late event of the old one is still shown."""
    view = make_view()
    view(LORA, BEGIN)
    view(LORA, BEGIN)
    assert len(tasks(view)) == 2
    view(LORA, DoneEvent())
    view(LORA, NoteEvent(message="late"))
    assert printed(view)[-1] == "lora, seed 0: late"


def test_every_stage_of_a_run_has_words():
    """Every stage that a run may report has a text."""
    assert set(STAGES) == set(events.StageName.__args__)


PLAN = SuitePlan(
    suite=make_suite({"model": "gpt2", "data": "./mine"}),
    preset="assignment",
    out="results/mine",
    data=Data(
        source="./mine",
        synthetic=False,
        fingerprint="",
        splits={"train": SplitCounts(read=9, dropped_empty=1, dropped_long_summary=2, used=6, truncated=4)},
        notes=["Not read: extra.csv."],
    ),
    columns={"document": "ticket_text", "summary": "tl_dr"},
    example=ExamplePair(id="a1", document="The printer", summary="It burns.", document_tokens=512, summary_tokens=3),
    language="ROUGE counts English words.",
    num_base_parameters=124439808,
    rows=(
        PlannedRow(label="lead-3", kind="lead-3", seeds=(0,)),
        PlannedRow(
            label="a-row-with-a-long-name-of-its-own",
            kind="lora",
            seeds=(0, 1, 2),
            done=1,
            num_trainable_parameters=294912,
            num_added_parameters=294912,
            targets=("c_attn",),
            stored_bytes=1179648,
            checkpoint_bytes=21233664,
        ),
    ),
)


@pytest.mark.parametrize("width", [80, 200])
def test_a_plan_shows_what_is_known_before_anything_is_measured(width):
    """Preset, columns, an example, counts with reasons, unread files, methods, parameters and disk are shown at any
    width."""
    console = Console(file=io.StringIO(), width=width)
    view = ProgressView(console)
    view(None, ResolvedEvent(suite=PLAN.suite, preset="assignment", out="results/mine"))
    view(None, PlanEvent(plan=PLAN))
    view(None, ReadyEvent(out="results/mine", notes=PLAN.data.notes, language=PLAN.language))
    text = console.file.getvalue()
    for words in (
        "Suite 'assignment': model gpt2, data ./mine; results in results/mine",
        "from the preset 'assignment'\n",
        "train: 6 of 9 documents used, 3 dropped (1 empty, 2 with a summary above 128 tokens), 4 truncated",
        "columns: document = ticket_text, summary = tl_dr",
        "example a1, of which 512 tokens are read: The printer",
        "its summary, 3 tokens: It burns.",
        "294,912",
        "a-row-with-a-long-name-of-its-own",
        "adapts these matrices: c_attn",
        "4 runs on gpt2 of 124,439,808 parameters; about 3.5 MB of trained parameters in results/mine, "
        "and up to 21.2 MB more while a run is unfinished (its checkpoints).",
    ):
        assert words in text
    assert text.count("Not read: extra.csv.") == 1 and text.count("ROUGE counts English words.") == 1


def test_a_preset_is_described_where_its_model_and_data_are_taken():
    """With another model or other data the preset's description does not apply, and is left out."""
    for data, described in (("newswire", True), ("./mine", False)):
        suite = make_suite({**preset_settings("demo"), "data": data})
        console = Console(file=io.StringIO(), width=200)
        show_settings(console, suite, "demo", "results/demo")
        assert ("from the preset 'demo': the embedded model and data" in console.file.getvalue()) == described


def test_a_dry_run_shows_the_plan_first_and_each_time_as_it_comes(monkeypatch):
    """The plan is printed before any method is timed; a busy machine is mentioned, a quiet one is not."""
    for load, busy in ((7.5, True), (0.1, False)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        monkeypatch.setattr("os.cpu_count", lambda: 2)
        console = Console(file=io.StringIO(), width=200)
        with DryRunView(console, timing=True) as view:
            view(None, ResolvedEvent(suite=PLAN.suite, preset="assignment", out="results/mine"))
            view(None, PlanEvent(plan=PLAN))
            assert "294,912" in console.file.getvalue()
            assert console.file.getvalue().endswith("  timing lead-3\n")
            view(None, EstimateEvent(label="lead-3", seconds=6.0, index=0, total=2))
            assert console.file.getvalue().endswith("a run\n  timing a-row-with-a-long-name-of-its-own\n")
            view(None, EstimateEvent(label="lora", seconds=723.4, index=1, total=2))
        text = console.file.getvalue()
        assert "; nothing is written now" in text and text.endswith("  lora: at most about 12 min 03 s a run\n")
        assert ("busy (load 7.5 on 2 cores)" in text) == busy


def test_quiet_shows_failures_alone_and_verbose_every_step():
    """`--quiet` prints only failures and no bar; `--verbose` prints a line for each step; without either, neither."""
    step = StepEvent(epoch=0, loss=2.0, learning_rate=0.1, **STATE)
    told = {}
    for detail in (Detail.FAILURE, None, Detail.STEP):
        view = make_view(detail=detail)
        view(None, ResolvedEvent(suite=PLAN.suite, preset="assignment", out="results/mine"))
        view(None, PlanEvent(plan=PLAN))
        view(None, ReadyEvent(out="x", notes=["a note"], language="words"))
        before = len(printed(view))
        for event in (BEGIN, step, FailedEvent(message="no memory", index=1, total=6)):
            view(LORA, event)
        told[detail] = before, printed(view)[before:]
    failed = f"{NAME}: FAILED: no memory"
    assert told[Detail.FAILURE] == (0, [failed])
    assert told[None][1] == [f"{NAME}: starting", failed]
    assert told[Detail.STEP][1] == [f"{NAME}: starting", f"{NAME}: step 4 of 8, epoch 1, loss 2.000", failed]
    assert not make_view(terminal=True, detail=Detail.FAILURE).live


@pytest.mark.parametrize(("step", "epoch"), [(1, 1), (15, 1), (16, 1), (17, 2), (32, 2)])
def test_a_steps_line_names_the_epoch_that_it_belongs_to(step, epoch):
    """The last step of an epoch is shown with that epoch, not the next."""
    view = make_view(detail=Detail.STEP)
    state = STATE | {"step": step, "total": 32, "epoch": step // 16}
    for event in (
        BEGIN,
        StageEvent(stage="train", epochs=2, total=32),
        StepEvent(loss=2.0, learning_rate=0.1, **state),
    ):
        view(LORA, event)
    assert printed(view)[-1] == f"{NAME}: step {step} of 32, epoch {epoch}, loss 2.000"


def test_how_far_a_suite_is_is_said_after_each_run_and_now_and_then(monkeypatch):
    """Plain lines give the remaining time after each run, and progress once a minute; a bar always does."""
    now = [0.0]
    view = make_view()
    view._lines.clock = lambda: now[0]
    view(LORA, BEGIN)
    view(LORA, StepEvent(epoch=0, loss=2.0, learning_rate=0.1, **STATE))
    for seconds in (0, 5, 59, 61, 66):
        now[0] = seconds
        view(None, RemainingEvent(done=0, total=6, elapsed_seconds=seconds, seconds=120.0))
    lines = printed(view)[1:]
    assert lines == [f"0 of 6 runs done after 61.0 s, about 2 min 00 s left; {NAME}: step 4 of 8, epoch 1, loss 2.000"]
    view(LORA, DoneEvent())
    view(None, RemainingEvent(done=1, total=6, elapsed_seconds=66, seconds=None))
    assert printed(view)[-1] == "1 of 6 runs done after 66.0 s"
    assert view._progress.tasks[0].total == 6 and view._progress.tasks[0].fields["details"] == ""

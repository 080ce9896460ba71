"""The plan of a checked suite, as plain data: what it will do, and what is already done."""

from pathlib import Path

from triptych.errors import ResultsError, shorten
from triptych.results import layout
from triptych.run.checkpoints import room_needed
from triptych.run.corpus import open_data
from triptych.run.plan import ExamplePair, PlannedRow, SuitePlan
from triptych.run.preflight import CheckedSuite
from triptych.suite.finished import finished_record, refuse_missing_metrics
from triptych.suite.planned_runs import PlannedRun

EXAMPLE_CHARACTERS = 160  # of each text of the example


def make_plan(checked: CheckedSuite, preset: str, out: Path, fresh: bool = False) -> SuitePlan:
    """The plan of a suite.

    Args:
        checked: the checked suite.
        preset: the preset that its settings started from.
        out: the results folder.
        fresh: nothing in `out` counts as done.

    Raises:
        ResultsError: runs are left to do, and finished ones were scored by a metric that is not known here.
    """
    found = checked.parameters
    rows = []
    for entry in checked.entries:
        runs = [
            PlannedRun(checked.suite, out, entry, seed, entry.label)
            for planned, seed in checked.runs
            if planned.label == entry.label
        ]
        counts = found.get(entry.label)
        stored_bytes = 4 * counts.num_trainable_parameters if counts else 0
        rows.append(
            PlannedRow(
                label=entry.label,
                kind=entry.kind,
                seeds=tuple(run.seed for run in runs),
                done=0 if fresh else sum(map(_is_done, runs)),
                num_trainable_parameters=counts.num_trainable_parameters if counts else None,
                num_added_parameters=counts.num_added_parameters if counts else None,
                targets=checked.targets.get(entry.label, ()),
                stored_bytes=stored_bytes,
                checkpoint_bytes=room_needed(stored_bytes, checked.suite) if entry.trains else 0,
            )
        )
    plan = SuitePlan(
        suite=checked.suite,
        preset=preset,
        out=str(out),
        data=checked.corpus.data,
        columns=open_data(checked.suite).columns_read(),
        example=_example(checked),
        language=checked.language.reason,
        num_base_parameters=next((counts.num_base_parameters for counts in found.values()), None),
        rows=tuple(rows),
        smaller=tuple(
            make_plan(smaller, preset, layout.scaled_folder(out, size), fresh)
            for size, smaller in checked.scaled.items()
        ),
        notes=checked.notes,
        model_commit=checked.base.commit,
    )
    if plan.num_left and not fresh:
        refuse_missing_metrics(out)
    return plan


def _is_done(run: PlannedRun) -> bool:
    """Whether a run is finished; one that was made with other settings is refused later."""
    try:
        return finished_record(run) is not None
    except ResultsError:
        return False


def _example(checked: CheckedSuite) -> ExamplePair:
    train = checked.corpus.train
    pair = train[0]
    return ExamplePair(
        id=shorten(pair.id, 60),
        document=shorten(train.document(0), EXAMPLE_CHARACTERS),
        summary=shorten(train.reference(0), EXAMPLE_CHARACTERS),
        document_tokens=len(pair.document_ids),
        summary_tokens=len(pair.summary_ids),
    )

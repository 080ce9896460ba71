"""Carry out the runs of a suite that are not finished yet, and record those that fail."""

from collections.abc import Sequence
from pathlib import Path

import triptych
from triptych.results import json_files, layout
from triptych.results.lock import Lock
from triptych.results.records import Record
from triptych.run.events import BeginEvent, DoneEvent, Event, FailedEvent, KeptEvent, Listener, RunId
from triptych.run.preflight import CheckedSuite
from triptych.storage.files import make_folder
from triptych.suite.executors import Executor, Job, one_by_one
from triptych.suite.finished import finished_record, finished_records
from triptych.suite.folder import write_suite
from triptych.suite.log import SuiteLog
from triptych.suite.planned_runs import PlannedRun, list_runs
from triptych.suite.remaining import RemainingTime, work_of
from triptych.text import formats
from triptych.text.characters import whole


def run_suite(
    plan: CheckedSuite,
    out: Path,
    lock: Lock,
    device: str | None,
    plugins: Sequence[str],
    listener: Listener,
    executor: Executor = one_by_one,
) -> list[str]:
    """Carry out every run that is not finished yet, each in a child process.

    A run that fails, dies or hangs is recorded as failed, and the others continue.

    Args:
        plan: the checked suite.
        out: the results folder.
        lock: its lock, held by every child process too.
        device: cpu, cuda or mps; None: the best there is.
        plugins: plug-in files that the child processes import.
        listener: called with every event.
        executor: carries out the runs.

    Returns:
        The runs that failed, as text: "lora (seed 1)".

    Raises:
        ResultsError: a finished run was made with another base model, other documents or other settings; or OUT was
            moved or replaced meanwhile, and nothing is written there any more.
    """
    runs = list_runs(plan, out)
    records = finished_records(plan, out, runs)
    write_suite(out, plan.suite)
    checked = plan.by_folder(out)
    for folder, smaller in checked.items():
        if folder != out:
            make_folder(folder)
            write_suite(folder, smaller.suite)
    names_with_search = {
        run.name
        for run, record in zip(runs, records, strict=True)
        if (record is not None and record.search) or layout.search_file(run.out, run.entry.label).is_file()
    }
    runs_that_search = set()
    for run, record in zip(runs, records, strict=True):
        if record is None and run.name not in names_with_search:
            runs_that_search.add(run.id)  # the first unfinished run of a name makes its search; the others read it
            names_with_search.add(run.name)
    work = {run.id: work_of(checked[run.out], run.entry, run.id in runs_that_search) for run in runs}
    remaining = RemainingTime(work)
    log = SuiteLog(lock, {run.id: layout.run_folder(run.out, run.entry.label, run.seed) for run in runs}, listener)
    count = formats.number_of(len(runs), "run")
    begins = "resumed, " if layout.log_file(out).exists() else ""
    log.write(f"{begins}triptych {triptych.__version__}: {plan.suite.model} on {plan.suite.data}, {count}")

    def listen(run: RunId | None, event: Event) -> None:
        if isinstance(event, BeginEvent):
            lock.check()
        log(run, event)
        if run is not None and (text := remaining.follow(run, event)) is not None:
            log(None, text)

    pending: dict[Job, PlannedRun] = {}
    for index, (run, record) in enumerate(zip(runs, records, strict=True)):
        if record is not None:
            listen(run.id, KeptEvent(index=index, total=len(runs)))
        else:
            pending[run.job(device, plugins, index, len(runs), searches=run.id in runs_that_search)] = run

    failed = []
    with log.noting_interruption():
        for job, error in executor(list(pending), lock, listen):
            lock.check()
            run = pending[job]
            if error is None:
                if (record := finished_record(run)) is not None:
                    listen(job.run, DoneEvent.of(record))
                    continue
                error = "The process of the run ended without a complete record."
            failure = Record(
                label=run.entry.label,
                kind=run.entry.kind,
                seed=run.seed,
                status="failed",
                config=run.suite.of_runs(),
                options=run.entry.options,
                error=whole(error),
            )
            json_files.write_json(job.folder / "record.json", failure.sealed())
            failed.append(f"{run.name} (seed {run.seed})")
            listen(job.run, FailedEvent(message=error, index=job.index, total=job.total))
    return failed

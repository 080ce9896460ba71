"""Run one method of a suite in this process: for a person or a launcher, or as the child process of a suite."""

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config import reading
from triptych.config.schema import Suite
from triptych.errors import TriptychError
from triptych.machine import is_main_process
from triptych.results import layout
from triptych.results.lock import Lock, check_free
from triptych.results.records import Record
from triptych.run import entries, experiment, preflight
from triptych.run.entries import SuiteEntry
from triptych.run.events import (
    BeginEvent,
    DoneEvent,
    ErrorEvent,
    Event,
    Listener,
    ReadyEvent,
    RunId,
    format_event,
    ignore,
)
from triptych.storage.cache_place import cache_folder
from triptych.suite.finished import finished_records, refuse_missing_metrics
from triptych.suite.folder import check_claim, claim_folder, write_suite
from triptych.suite.log import SuiteLog
from triptych.suite.planned_runs import list_runs


@dataclass(frozen=True)
class MethodRequest:
    """A method to run.

    Attributes:
        suite: the resolved suite.
        entries: all its entries; how documents are cut depends on all of them.
        entry: the entry to run.
        seeds: the seeds to run it with.
        out: the results folder.
        device: cpu, cuda or mps; None: the best there is.
        plugins: files that plug-ins were loaded from; the record's command names them.
        changes: sentences about what the suite adds to that of the results folder, and what that has in addition.
    """

    suite: Suite
    entries: Sequence[SuiteEntry]
    entry: SuiteEntry
    seeds: Sequence[int]
    out: Path
    device: str | None
    plugins: Sequence[str]
    changes: Sequence[str] = ()


def make_request(
    label: str,
    suite_file: str | Path | None,
    preset: str | None,
    settings: Mapping[str, Any],
    methods: Sequence[str] | None,
    seeds: Sequence[int] | None,
    out: str | Path | None,
    device: str | None,
    plugins: Sequence[str],
) -> MethodRequest:
    """Find a method and its seeds in a suite; if the suite does not name the method, it becomes its only one.

    The suite of an existing results folder is extended with the method and the seeds.

    Args:
        label: the label of the method.
        suite_file: a suite file, or None.
        preset: the name of a preset, or None.
        settings: keys of a suite that override those of file and preset.
        methods: the methods of the suite; None: those that it names.
        seeds: which of a suite file's seeds to run; without a suite file, the suite's seeds. None: all.
        out: the results folder; None: `results/NAME`.
        device: cpu, cuda or mps; None: the best there is.
        plugins: plug-in files, which are imported already.

    Raises:
        ConfigError: a setting, the label or a seed is not one of the suite's.
        ResultsError: the results folder has another suite.
    """
    merged = reading.merge_settings(suite_file, preset, settings)
    if seeds is not None and suite_file is None:
        merged["seeds"], seeds = list(seeds), None
    known = [*merged.get("methods", Suite().methods), *merged.get("method", {})]
    suite, found = entries.resolve(merged, methods if methods is not None or label in known else [label])
    entry = entries.find_entry(found, label)
    chosen = entries.choose_seeds(suite, entry, seeds)
    folder = layout.results_folder(out, suite.name)
    claim = check_claim(folder, suite, fresh=False)
    suite, found = claim.suite, entries.suite_entries(claim.suite)
    return MethodRequest(suite, found, entry, chosen, folder, device, tuple(plugins), claim.changes)


def train_method(request: MethodRequest, listener: Listener) -> list[Record]:
    """Check the method, claim the results folder, and run the method with each seed.

    Under a launcher such as torchrun, only the main process checks, claims, reports and writes.

    Raises:
        InputError: the method cannot be run; nothing was written.
        TriptychError: a run failed.
    """
    if not is_main_process():
        return [_run(request, seed, ignore) for seed in request.seeds]
    suite, entry = request.suite, request.entry
    check_free(request.out)
    plan = preflight.check_suite(suite, request.entries, request.device, cache_folder(), only=entry)
    notes, language = plan.corpus.data.sentences(), plan.language.reason
    changes = list(request.changes)
    listener(None, ReadyEvent(out=str(request.out), notes=notes, language=language, changes=changes))
    refuse_missing_metrics(request.out)
    records = []
    with claim_folder(request.out, suite) as lock:
        if changes:
            finished_records(plan, request.out, list_runs(plan, request.out))  # refuses what may not be in one table
        write_suite(request.out, suite)
        folders = {RunId(entry.label, s): layout.run_folder(request.out, entry.label, s) for s in request.seeds}
        log = SuiteLog(lock, folders, listener)
        with log.noting_interruption():
            for index, seed in enumerate(request.seeds):
                run = RunId(entry.label, seed)
                log(run, BeginEvent(index=index, total=len(request.seeds)))
                records.append(_run(request, seed, lock.guard(log)))
                log(run, DoneEvent.of(records[-1]))
    return records


def run_as_child(request: MethodRequest, lock: Lock | None, write: Callable[[Event], None], rate: float | None) -> None:
    """Run the method with each seed, or make one trial of its search, as the child process of a suite.

    The parent has checked the suite and claimed the folder.

    Args:
        request: the method and its seeds.
        lock: the parent's lock, checked before every event; None: not checked.
        write: called with each event.
        rate: the learning rate of the one trial to make; None: make the runs.

    Raises:
        TriptychError: a run failed, or the folder is no longer the one that the parent claimed.
    """

    def listen(run: RunId | None, event: Event) -> None:
        if lock is not None:
            lock.check()
        write(event)

    if rate is not None:
        experiment.run_trial(request.suite, request.entry, rate, request.out, request.device, listen)
        return
    for seed in request.seeds:
        _run(request, seed, listen)


@contextmanager
def events_on_stdout() -> Iterator[Callable[[Event], None]]:
    """Reserve standard output for events; yields the function that writes one.

    Everything else that is printed goes to standard error. An exception inside is written as an error event and raised
    again.
    """
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(event: Event | ErrorEvent) -> None:
        print(format_event(event), file=stream, flush=True)

    try:
        yield write
    except Exception as error:
        message = str(error) if isinstance(error, TriptychError) else f"{type(error).__name__}: {error}"
        write(ErrorEvent(message=message))
        traceback.print_exc()
        raise


def _run(request: MethodRequest, seed: int, listener: Listener) -> Record:
    suite, entry, out, device = request.suite, request.entry, request.out, request.device
    return experiment.run_experiment(suite, entry, seed, out, device, listener, request.plugins)

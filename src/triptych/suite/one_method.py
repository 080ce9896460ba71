"""Run one method of a suite in this process: for a person or a launcher, or as the child process of a suite."""

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from triptych.errors import TriptychError
from triptych.results import layout
from triptych.results.lock import Lock, check_free
from triptych.results.records import Record
from triptych.run import experiment, preflight
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
from triptych.suite.folder import claim_folder, write_suite
from triptych.suite.log import SuiteLog
from triptych.suite.method_request import MethodRequest
from triptych.suite.planned_runs import list_runs
from triptych.suite.processes import is_main_process


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
        replaced = {(entry.label, seed) for seed in request.seeds}
        others = [run for run in list_runs(plan, request.out) if (run.entry.label, run.seed) not in replaced]
        finished_records(plan, request.out, others)  # refuses what may not be in one table
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

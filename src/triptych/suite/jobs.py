"""Many runs: plan, a fresh process each, resume, compare, report."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config.schema import Suite
from triptych.contracts import Method
from triptych.errors import ResultsError
from triptych.models.base import BaseModel
from triptych.results import consistency, layout, reading, store
from triptych.results.lock import LOCK, Lock, locked
from triptych.results.records import Data, Record
from triptych.run.entries import Row
from triptych.run.events import BeginEvent, DoneEvent, Event, FailedEvent, KeptEvent, Listener, RunId
from triptych.run.preflight import Plan
from triptych.run.search import read_trials, spread
from triptych.storage.files import is_temporary, leads_out, sweep
from triptych.suite.executors import Executor, Job, one_by_one
from triptych.text.characters import whole


@contextmanager
def claim(out: Path, suite: Suite, fresh: bool = False) -> Iterator[Lock]:
    """Take the lock of OUT and make OUT ready for this suite: new, or holding the same suite, which is then resumed.

    Args:
        out: the results folder.
        suite: the resolved suite.
        fresh: move what OUT holds to another name first, unless a suite is at work there.

    Raises:
        ResultsError: OUT holds another suite or other files, another process works there, or it cannot be written.
    """
    check_folder(out, suite, fresh)
    if fresh and out.exists():
        _set_aside(out)
    _make_folder(out)
    with locked(out) as lock:
        _settle(out, suite)
        sweep(out)
        yield lock


def _set_aside(out: Path) -> None:
    """Rename a results folder that nobody works in."""
    with locked(out):
        number = 1
        while (kept := out.with_name(f"{out.name}.before-{number}")).exists():
            number += 1
        try:
            out.rename(kept)
        except OSError as error:
            raise ResultsError(f"The folder {str(out)!r} cannot be renamed: {error.strerror}.") from error


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(f"The folder {str(out)!r} cannot be made: {error.strerror}.") from error


def _settle(out: Path, suite: Suite) -> None:
    """Write `suite.json` into a folder whose lock is held, unless the same suite is there."""
    check_folder(out, suite, fresh=False)
    if not (out / "suite.json").exists():
        store.write_json(out / "suite.json", suite.model_dump(mode="json"))


def check_folder(out: Path, suite: Suite, fresh: bool) -> None:
    """Whether OUT could be claimed, without writing anything.

    Raises:
        ResultsError: it would not.
    """
    if out.exists() and not out.is_dir():
        raise ResultsError(f"{str(out)!r} is a file; --out needs a folder.")
    if fresh or not out.exists():
        return
    for path in out.rglob("*"):
        if path.is_symlink() and leads_out(path, out):
            raise ResultsError(
                f"The link {str(path)!r} leads out of the results folder; nothing is written there: remove it."
            )
    if not (out / "suite.json").exists():
        if any(path.name != LOCK and not is_temporary(path) for path in out.iterdir()):
            raise ResultsError(f"The folder {str(out)!r} holds other files; give --out an empty or a new folder.")
        return
    there, wanted = (one.model_dump(mode="json") for one in (reading.read_suite(out / "suite.json"), suite))
    different = _difference(there, wanted)
    if different:
        key, old, new = different
        raise ResultsError(
            f"The folder {str(out)!r} holds another suite: {key} is {old!r} there and {new!r} here. "
            "Give another --out, or --fresh to start over (what is there is kept under another name)."
        )


def _difference(there: Any, wanted: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first place where two settings differ."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        for name in dict.fromkeys([*there, *wanted]):
            place = f"{key}.{name}" if key else str(name)
            if found := _difference(there.get(name), wanted.get(name), place):
                return found
        return None
    return None if there == wanted else (key, there, wanted)


def finished_record(run: "Planned") -> Record | None:
    """The record of a run that has finished; None where there is none, or its files are not whole or not of one run.

    Raises:
        ResultsError: the record is whole and was made with other settings than the suite's: it is not made again
            unasked.
    """
    label, seed = run.row.label, run.seed
    folder = layout.run_folder(run.out, label, seed)
    try:
        found = reading.read_run(folder, label, seed, run.suite)
    except ResultsError:
        _refuse_other_settings(folder, run.suite)
        return None
    return found.record if found.done else None


def _refuse_other_settings(folder: Path, suite: Suite) -> None:
    try:
        record = store.read_as(folder / "record.json", Record, "a record")
    except ResultsError:
        return
    unlike = next(consistency.other_settings(record, suite), None) if record.status == "done" else None
    if unlike is not None:
        raise ResultsError(
            f"{str(folder / 'record.json')!r} {unlike}. Give another --out, or --fresh to start over, or move the "
            "run's folder away."
        )


def refuse_other_weights(finished: Iterable[tuple["Planned", Record]]) -> None:
    """Finished runs were made with the weights that the model has now: rows of two base models are never compared.

    Args:
        finished: the runs and their records.

    Raises:
        ResultsError: one was made with others.
    """
    here: str | None = None
    for run, record in finished:
        recorded = record.provenance.model_fingerprint if record.provenance else None
        if recorded is None:
            continue
        here = here or BaseModel.of(run.suite).fingerprint
        if recorded != here:
            raise ResultsError(
                f"{str(layout.run_folder(run.out, run.row.label, run.seed))!r} was made with other weights or another "
                f"configuration than {run.suite.model!r} has now. Give the same model, another --out, or --fresh to "
                "start over."
            )


def refuse_other_data(finished: Iterable[tuple["Planned", Record]], data: Mapping[Path, Data]) -> None:
    """Finished runs were made with the documents that the suite has now: rows of other documents are never compared.

    Args:
        finished: the runs and their records.
        data: what the runs of each results folder would have now.

    Raises:
        ResultsError: one was made with others, or with other tokens of them.
    """
    for run, record in finished:
        if record.data is None:
            continue
        now = data[run.out]
        where = str(layout.run_folder(run.out, run.row.label, run.seed))
        remedy = "Give the same data, another --out, or --fresh to start over."
        if record.data.fingerprint != now.fingerprint:
            raise ResultsError(f"{where!r} was made with other documents than {run.suite.data!r} has now. {remedy}")
        if record.parameters is not None and record.data.token_fingerprint not in (None, now.token_fingerprint):
            raise ResultsError(
                f"{where!r} was made with other tokens of the documents in {run.suite.data!r} than they have now: the "
                f"tokenizer or the way they are cut has changed. {remedy}"
            )


@dataclass(frozen=True)
class Planned:
    """A run of a suite, and the results folder it goes to."""

    suite: Suite
    out: Path
    row: Row
    seed: int
    name: str  # the row, and the number of documents where that is not the suite's own

    @property
    def id(self) -> RunId:
        """What the run's events are about."""
        return RunId(self.name, self.seed)

    def job(self, device: str | None, plugins: Sequence[str], index: int = 0, total: int = 1) -> Job:
        """The run as a command, the `index`th (from 0) of `total`."""
        out, label = self.out.resolve(), self.row.label
        arguments = ["train", label, str(out / "suite.json"), "--seeds", str(self.seed), "--out", str(out), "--events"]
        arguments += ["--device", device] if device else []
        arguments += [part for plugin in plugins for part in ("--plugin", plugin)]
        trials = tuple(
            Job(
                RunId(f"{self.name} at {rate:g}", self.seed),
                self.name,
                (*arguments, "--trial", repr(rate)),
                layout.trials_folder(out, label),
                index,
                total,
            )
            for rate in self.rates_to_try()
        )
        folder = layout.run_folder(out, label, self.seed)
        return Job(self.id, self.name, tuple(arguments), folder, index, total, trials)

    def rates_to_try(self) -> list[float]:
        """The learning rates of the row's search that were not tried yet; trials of other data are made again by the
        run."""
        if not self.row.trains or layout.search_file(self.out, self.row.label).exists():
            return []
        assert isinstance(self.row.plugin, Method)
        grid = spread(self.row.plugin.learning_rates, self.suite.search.trials)
        tried = {trial.learning_rate for trial in read_trials(layout.trials_folder(self.out, self.row.label), grid)}
        return [rate for rate in grid if rate not in tried] if len(grid) > 1 else []


def planned_runs(plan: Plan, out: Path) -> list[Planned]:
    """Every run of a suite in order: its own, then those on fewer training documents."""
    found = [Planned(plan.suite, out, row, seed, row.label) for row, seed in plan.runs]
    for size, smaller in plan.scaled.items():
        folder = layout.scaled_folder(out, size)
        found += [
            Planned(smaller.suite, folder, row, seed, f"{row.label} on {size} documents") for row, seed in smaller.runs
        ]
    return found


def carry_out(
    plan: Plan,
    out: Path,
    lock: Lock,
    device: str | None,
    plugins: Sequence[str],
    listener: Listener,
    executor: Executor = one_by_one,
) -> list[str]:
    """Every run that is not done yet, each in a process of its own.

    A run that fails, dies or hangs is recorded as failed, and the others go on.

    Args:
        lock: OUT's, held by every run too.
        executor: where the runs are carried out.

    Returns:
        The runs that failed, in words.

    Raises:
        ResultsError: a finished run was made with another base model or other documents; or OUT was moved or replaced
            meanwhile, and nothing is written there any more.
    """
    runs = planned_runs(plan, out)
    records = [finished_record(run) for run in runs]
    finished = [(run, record) for run, record in zip(runs, records, strict=True) if record is not None]
    refuse_other_weights(finished)
    scaled = {layout.scaled_folder(out, size): smaller for size, smaller in plan.scaled.items()}
    refuse_other_data(finished, {folder: each.corpus.data for folder, each in {out: plan, **scaled}.items()})
    for folder, smaller in scaled.items():
        _make_folder(folder)
        _settle(folder, smaller.suite)
    pending: dict[Job, Planned] = {}
    for index, (run, record) in enumerate(zip(runs, records, strict=True)):
        if record is not None:
            listener(run.id, KeptEvent(index=index, total=len(runs)))
        else:
            pending[run.job(device, plugins, index, len(runs))] = run

    def listen(run: RunId | None, event: Event) -> None:
        if isinstance(event, BeginEvent):
            lock.check()
        listener(run, event)

    failed = []
    for job, error in executor(list(pending), lock, listen):
        lock.check()
        if error is None:
            listener(job.run, DoneEvent())
            continue
        run = pending[job]
        failure = Record(
            label=run.row.label,
            kind=run.row.kind,
            seed=run.seed,
            status="failed",
            config=run.suite.model_dump(mode="json"),
            options=run.row.options,
            error=whole(error),
        )
        store.write_json(job.folder / "record.json", failure.model_dump(mode="json"))
        failed.append(f"{run.name} (seed {run.seed})")
        listener(job.run, FailedEvent(message=error, index=job.index, total=job.total))
    return failed

"""Many runs: plan, a fresh process each, resume, compare, report."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from triptych import store
from triptych.analysis import comparison as comparing
from triptych.analysis import loading
from triptych.config import Suite
from triptych.errors import ResultsError
from triptych.preflight import Plan
from triptych.records import Comparison, Record
from triptych.report.write import write_report
from triptych.rows import Row

Emit = Callable[[str, int, dict[str, Any]], None]
LOCK = ".lock"


def claim(out: Path, suite: Suite, fresh: bool) -> None:
    """Make OUT ready for this suite: new, or holding the same suite, which is then resumed.

    Raises:
        ResultsError: OUT holds another suite or other files, or cannot be written.
    """
    check_folder(out, suite, fresh)
    if fresh and out.exists():
        number = 1
        while (kept := out.with_name(f"{out.name}.before-{number}")).exists():
            number += 1
        out.rename(kept)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(f"The folder {str(out)!r} cannot be made: {error.strerror}.") from error
    if not (out / "suite.json").exists():
        store.write_json(out / "suite.json", suite.model_dump(mode="json"))


def check_folder(out: Path, suite: Suite, fresh: bool) -> None:
    """Whether `claim` would succeed, without writing anything.

    Raises:
        ResultsError: it would not.
    """
    if out.exists() and not out.is_dir():
        raise ResultsError(f"{str(out)!r} is a file; --out needs a folder.")
    if fresh or not out.exists():
        return
    home = out.resolve()
    for path in out.rglob("*"):
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(home):
            raise ResultsError(f"The link {str(path)!r} leads out of the results folder; nothing is written there: remove it.")
    if not (out / "suite.json").exists():
        if any(path.name != LOCK for path in out.iterdir()):
            raise ResultsError(f"The folder {str(out)!r} holds other files; give --out an empty or a new folder.")
        return
    there, wanted = store.read_json(out / "suite.json"), suite.model_dump(mode="json")
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


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Only one process works in OUT; the lock goes with the process that held it.

    Raises:
        ResultsError: another process works there.
    """
    with (out / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ResultsError(f"Another process works in {str(out)!r}; wait for it, or give another --out.") from None
        yield


def is_done(out: Path, row: Row, seed: int) -> bool:
    """Whether a run has finished: its record is whole and says so."""
    try:
        content = store.read_json(store.run_folder(out, row.label, seed) / "record.json")
        return Record.model_validate(content).status == "done"
    except (ResultsError, ValidationError):
        return False


def carry_out(plan: Plan, out: Path, device: str | None, plugins: Sequence[str], emit: Emit) -> list[Record]:
    """Every run that is not done yet, each in a process of its own, one after the other.

    A run that fails is recorded as failed, and the others go on.

    Returns:
        The records of failed runs.
    """
    failed = []
    for index, (row, seed) in enumerate(plan.runs):
        if is_done(out, row, seed):
            emit(row.label, seed, {"event": "kept", "index": index, "total": len(plan.runs)})
            continue
        emit(row.label, seed, {"event": "begin", "index": index, "total": len(plan.runs)})
        error = _run_process(row, seed, out, device, plugins, emit)
        if error is not None:
            record = Record(
                label=row.label, kind=row.kind, seed=seed, status="failed", config=plan.suite.model_dump(mode="json"),
                options=row.options, error=error,
            )
            store.write_json(store.run_folder(out, row.label, seed) / "record.json", record.model_dump(mode="json"))
            failed.append(record)
            emit(row.label, seed, {"event": "failed", "message": error})
        else:
            emit(row.label, seed, {"event": "done"})
    return failed


def _run_process(row: Row, seed: int, out: Path, device: str | None, plugins: Sequence[str], emit: Emit) -> str | None:
    """One run in a fresh process; returns what went wrong, or None."""
    folder = store.run_folder(out, row.label, seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "triptych", "train", row.label, str(out / "suite.json"), "--seeds", str(seed),
               "--out", str(out), "--events"]  # -P: a module in the working folder is not a library of ours
    command += ["--device", device] if device else []
    command += [part for plugin in plugins for part in ("--plugin", plugin)]
    message = None
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                message = event["message"] if event["event"] == "error" else message
                emit(row.label, seed, event)
            status = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
    if status == 0:
        return None
    if status == -signal.SIGINT or status == 130:
        raise KeyboardInterrupt
    died = f"the process died of {signal.Signals(-status).name}" if status < 0 else f"the process ended with status {status}"
    return message or f"{died}; see {os.path.relpath(folder / 'log.txt', out)}"


def conclude(out: Path) -> Comparison:
    """From the records of a finished suite: `comparison.json`, tables and reports.

    Raises:
        ResultsError: the runs cannot be compared; the message says which field differs.
    """
    return _publish(loading.load(out), out)



def conclude_joined(outs: Sequence[Path], to: Path | None) -> tuple[Comparison, Path]:
    """Write one comparison of several results folders.

    Raises:
        ResultsError: a folder is unreadable, or its runs may not go into one table.
    """
    if len(outs) > 1 and to is None:
        raise ResultsError("Several folders are joined into a new one: name it with --to DIR.")
    results = loading.load(outs[0], partial=True) if len(outs) == 1 else comparing.join([loading.load(out) for out in outs])
    target = to or outs[0]
    return _publish(results, target), target


def _publish(results: loading.Results, folder: Path) -> Comparison:
    """Compare, and write `comparison.json` and every document into a folder."""
    comparison = comparing.compare(results)
    store.write_json(folder / "comparison.json", comparison.model_dump(mode="json"))
    write_report(results, comparison, folder)
    return comparison

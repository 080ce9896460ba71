"""Finished runs: which are kept when a suite is resumed, and which may not be compared with new ones."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from triptych.contracts import Metric
from triptych.errors import ResultsError
from triptych.models.base import BaseModel
from triptych.registry import registered
from triptych.results import layout, reading
from triptych.results.records import Data, Record
from triptych.results.resuming import options_for, plugins_in
from triptych.run.preflight import CheckedSuite
from triptych.suite.planned_runs import PlannedRun
from triptych.text import formats


def finished_record(run: PlannedRun) -> Record | None:
    """The record of a finished run; None if there is none, or its files are incomplete or belong to several runs.

    Raises:
        OtherSettings: the record is complete but was made with other settings than the suite's; such a run is
            repeated only on request.
    """
    label, seed = run.entry.label, run.seed
    folder = layout.run_folder(run.out, label, seed)
    try:
        found = reading.read_run(folder, label, seed, run.suite)
    except reading.OtherSettings:
        raise
    except ResultsError:
        return None
    return found.record if found.done else None


def finished_records(plan: CheckedSuite, out: Path, runs: Sequence[PlannedRun]) -> list[Record | None]:
    """The record of each run of a suite, None if it is not finished; finished ones must belong in one table.

    Args:
        plan: the checked suite.
        out: the results folder.
        runs: all its runs.

    Raises:
        ResultsError: a finished run was made with another base model, other documents or other settings.
    """
    records = [finished_record(run) for run in runs]
    finished = [(run, record) for run, record in zip(runs, records, strict=True) if record is not None]
    refuse_other_weights(finished)
    refuse_other_data(finished, {folder: each.corpus.data for folder, each in plan.by_folder(out).items()})
    return records


def refuse_other_weights(finished: Iterable[tuple[PlannedRun, Record]]) -> None:
    """Make sure that finished runs were made with the current weights: methods of two base models are never compared.

    Args:
        finished: the runs and their records.

    Raises:
        ResultsError: a run was made with other weights.
    """
    here: str | None = None
    for run, record in finished:
        recorded = record.provenance.model_fingerprint if record.provenance else None
        if recorded is None:
            continue
        here = here or BaseModel.of(run.suite).fingerprint
        if recorded != here:
            raise ResultsError(
                f"{str(layout.run_folder(run.out, run.entry.label, run.seed))!r} was made with other weights or "
                f"another configuration than {run.suite.model!r} has now. Give the same model, another --out, or "
                f"--fresh to start over.{_moved(recorded, here)}"
            )


def _moved(recorded: str, here: str) -> str:
    """How to keep a Hub model whose branch now names another commit; empty for any other model."""
    name, _, commit = recorded.partition("+")[0].rpartition("@")  # without a quantization
    return _branch_moved("model_revision", commit) if name and name == here.rpartition("@")[0] else ""


def _branch_moved(key: str, commit: str) -> str:
    """How to keep what a Hub branch named before."""
    return f" Its branch has moved on: --set {key}={commit} is what it was."


def refuse_other_data(finished: Iterable[tuple[PlannedRun, Record]], data: Mapping[Path, Data]) -> None:
    """Make sure that finished runs were made with the current documents: methods on other documents are never compared.

    Args:
        finished: the runs and their records.
        data: what the runs of each results folder would read now.

    Raises:
        ResultsError: a run was made with other documents, or with other tokens of them.
    """
    for run, record in finished:
        if record.data is None:
            continue
        now = data[run.out]
        where = str(layout.run_folder(run.out, run.entry.label, run.seed))
        remedy = "Give the same data, another --out, or --fresh to start over."
        if record.data.fingerprint != now.fingerprint:
            old, new = record.data.commit, now.commit
            moved = _branch_moved("data_revision", old) if old and old != new else ""
            raise ResultsError(
                f"{where!r} was made with other documents than {run.suite.data!r} has now."
                f"{_other_pairs_fit(record.data, now)} {remedy}{moved}"
            )
        if record.parameters is not None and record.data.token_fingerprint not in (None, now.token_fingerprint):
            raise ResultsError(
                f"{where!r} was made with other tokens of the documents in {run.suite.data!r} than they have now: the "
                "tokenizer has changed, or the way they are cut, for example because of a new method with more virtual "
                f"tokens. {remedy}"
            )


def _other_pairs_fit(recorded: Data, now: Data) -> str:
    """A sentence if as many pairs were read, but not as many dropped for a long summary; empty otherwise."""
    for name, counts in recorded.splits.items():
        new = now.splits.get(name)
        if new is not None and new.read == counts.read and new.dropped_long_summary != counts.dropped_long_summary:
            return (
                " Other pairs fit into the context of the model: the tokenizer has changed, or a new method has more "
                "virtual tokens."
            )
    return ""


def refuse_missing_metrics(out: Path) -> None:
    """Make sure that every metric that scored finished runs is known here, so that further runs do not lack its column.

    Args:
        out: the results folder that runs are to be added to.

    Raises:
        ResultsError: a metric is unknown, for example because its plug-in was not given again.
    """
    known = registered(Metric)
    for file in sorted([*out.glob("runs/*/*/record.json"), *out.glob("scaling/*/runs/*/*/record.json")]):
        try:
            record = reading.read_record(file)
        except ResultsError:
            continue  # a run that is not finished
        if lacking := sorted(record.signatures.keys() - known.keys()):
            command = record.provenance.command if record.provenance is not None else ""
            files = options_for(plugins_in(command) or ["FILE.py"])
            raise ResultsError(
                f"The runs in {str(out)!r} were also scored by {formats.listed(lacking)}, and a run that is added must "
                f"be too: give {shlex.join(files)}."
            )

"""Read a results folder, its suite and its records into plain objects; errors name the file, line and remedy."""

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from triptych.config.schema import Suite, make_suite
from triptych.errors import ConfigError, ResultsError, shorten
from triptych.results import layout
from triptych.results.consistency import other_settings, problems, setting
from triptych.results.integrity import check_files, remedy
from triptych.results.json_files import read_json_lines, read_object, refuse
from triptych.results.records import (
    ROUGE_TYPES,
    SCHEMA_VERSION,
    Comparison,
    KeptChecks,
    OutputChecks,
    Prediction,
    Record,
    Rescored,
    RescoredRun,
    ScoredFiles,
)
from triptych.results.resuming import options_for, plugins_in, resuming
from triptych.storage.files import digest
from triptych.storage.given_documents import find_documents

# Suite keys of earlier versions; where their values matter, they are read from a record's config.
RETIRED = frozenset({"search.train_documents", "search.epochs"})
SCORED = "scored.json"
_ALL_FIELDS = set(Prediction.model_fields)
_SCORE_AGAIN = "score the files again with `triptych score`"
_Kind = TypeVar("_Kind", bound=BaseModel)


class OtherSettings(ResultsError):
    """An intact record was made with other settings than the suite's; resuming does not silently replace it."""


@dataclass(frozen=True)
class SavedRun:
    """A run of the suite: one method with one seed. A failed run has only a record."""

    record: Record
    history: tuple[dict[str, Any], ...]
    predictions: tuple[Prediction, ...]

    @property
    def done(self) -> bool:
        """Whether the run finished."""
        return self.record.status == "done"

    @property
    def trained(self) -> bool:
        """Whether anything was trained in this run."""
        return self.record.trained

    @property
    def name(self) -> str:
        """Label and seed of the run, in words."""
        return f"{self.record.label} (seed {self.record.seed})"

    def setting(self, field: str) -> Any:
        """A value of the run's config by its dotted name; None if it is absent."""
        return setting(self.record.config, field)

    def number(self, option: str) -> float | None:
        """A numeric option of the method; None if it is absent or, as a plug-in may have it, something else."""
        value = self.record.options.get(option)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return None
        return value if abs(value) <= sys.float_info.max else None

    def count(self, option: str) -> int | None:
        """An integer option of the method, 0 or more; None if it is absent or something else."""
        value = self.number(option)
        return value if isinstance(value, int) and value >= 0 else None


@dataclass(frozen=True)
class Results:
    """A results folder: the suite, its runs in the suite's order, and the planned runs that are missing.

    Attributes:
        scaled: the results on fewer training documents, by number of documents.
        files: the scored files, if the predictions come from other tools.
        notes: full sentences on what was read but is not in the results.
        documents: the test documents by id; empty if they cannot be read here or may not be shown.
        command: the command that made the results; empty if not known.
        kept_checks: the results of the checks of summaries, in a copy without texts.
    """

    out: Path
    suite: Suite
    runs: tuple[SavedRun, ...]
    missing: tuple[tuple[str, int], ...] = ()
    scaled: Mapping[int, "Results"] = field(default_factory=dict)
    files: ScoredFiles | None = None
    notes: tuple[str, ...] = ()
    documents: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    kept_checks: OutputChecks | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The methods that have a run, in the suite's order."""
        return tuple(dict.fromkeys(run.record.label for run in self.runs))

    @property
    def has_texts(self) -> bool:
        """Whether the summaries are available, not only their scores."""
        return not any(run.record.texts_left_out for run in self.runs)

    def without_texts(self) -> "Results":
        """A copy without documents, summaries and references, for a report on data that may not be shared."""
        return replace(self, runs=tuple(replace(run, predictions=()) for run in self.runs), documents={})

    def of(self, label: str) -> tuple[SavedRun, ...]:
        """The finished runs of a method, in the order of their seeds in the suite."""
        return tuple(run for run in self.runs if run.record.label == label and run.done)


def read_results(out: Path, partial: bool = False, later_scores: bool = True) -> Results:
    """Read a results folder: its suite, and the record, history and predictions of every run.

    If the suite asks for data-size curves, the folders `OUT/scaling/N` are read as well.

    Args:
        out: the results folder.
        partial: accept an unfinished suite, and list its missing runs under `missing`.
        later_scores: include the scores in `OUT/scores` of metrics that scored the predictions after the runs.

    Raises:
        ResultsError: a file is missing, truncated, malformed, has another schema, or does not belong to its folder.
    """
    if not out.is_dir():
        raise ResultsError(
            f"There is no results folder {str(out)!r}. Give the folder that `triptych compare --out` wrote."
        )
    scored = is_scored(out)
    files = _read(out / SCORED, ScoredFiles, "a list of scored files", _SCORE_AGAIN) if scored else None
    suite = read_suite(out / "suite.json") if files is None else suite_of(files)
    runs: list[SavedRun] = []
    missing: list[tuple[str, int]] = []
    for label in suite.methods:
        found = {
            seed: read_run(folder, label, seed, suite)
            for seed in suite.seeds
            if ((folder := layout.run_folder(out, label, seed)) / "record.json").is_file()
        }
        runs.extend(found.values())
        missing.extend((label, seed) for seed in _expected(suite, found) if seed not in found)
    _refuse_strangers(out, suite)
    if missing and files is not None:
        names = ", ".join(f"{label}/{seed}" for label, seed in missing)
        refuse(out / SCORED, f"names predictions that are not in runs/: {names}", _SCORE_AGAIN)
    if missing and not partial:
        names = ", ".join(f"{label}/{seed}" for label, seed in missing)
        raise ResultsError(
            f"The suite in {str(out)!r} has not finished: no record.json in runs/ for {names}. "
            f"Finish it: {resuming(out)}."
        )
    if not runs:
        raise ResultsError(f"{str(out)!r} holds no finished run. Run it: {resuming(out)}.")
    folders = {size: layout.scaled_folder(out, size) for size in suite.scaling.train_documents}
    there = {
        size: folder for size, folder in folders.items() if not partial or any(folder.glob("runs/*/*/record.json"))
    }
    scaled = {size: read_results(folder, partial) for size, folder in there.items()}
    runs, notes = _with_later_scores(out, runs) if later_scores else (runs, [])
    results = Results(out, suite, tuple(runs), tuple(missing), scaled, files, tuple(notes), command=_command(out))
    kept = layout.kept_checks_file(out)
    if results.has_texts or not kept.is_file():
        return results
    return replace(results, kept_checks=_read(kept, KeptChecks, "checks of summaries", "copy the folder again").checks)


def _command(out: Path) -> str:
    """The command that made the results; empty if not known."""
    path = layout.command_file(out)
    found = read_object(path, "remove it: only the report shows it").get("command") if path.is_file() else ""
    return found if isinstance(found, str) else ""


def read_rescored(path: Path) -> Rescored:
    """Read one `OUT/scores/METRIC.json`.

    Raises:
        ResultsError: the file is malformed.
    """
    return _read(path, Rescored, "a file of a metric's scores", "remove it, or score again")


def _with_later_scores(out: Path, runs: Sequence[SavedRun]) -> tuple[list[SavedRun], list[str]]:
    """Add later scores to the runs; also return sentences on scores of other predictions than those there now."""
    runs, notes = list(runs), []
    for path in sorted(layout.scores_folder(out).glob("*.json")):
        found = read_rescored(path)
        by_run = {(run.label, run.seed): run for run in found.runs}
        absent = []
        for place, run in enumerate(runs):
            if not run.done:
                continue
            scored = by_run.get((run.record.label, run.record.seed))
            folder = layout.run_folder(out, run.record.label, run.record.seed)
            if scored is None or scored.predictions_sha256 != digest(folder / "predictions.jsonl"):
                absent.append(run.name)
            else:
                runs[place] = _with_scores(run, found, scored, path)
        if absent:
            plugins = options_for(plugins_in(found.command))
            again = shlex.join(["triptych", "score", str(out), "--metric", found.metric, *plugins])
            notes.append(
                f"The scores of the metric {found.metric} do not cover {', '.join(absent)}, made since: run {again} to "
                "score them."
            )
    return runs, notes


def _with_scores(run: SavedRun, found: Rescored, scored: RescoredRun, path: Path) -> SavedRun:
    if any(len(values) != len(run.predictions) for values in scored.scores.values()):
        refuse(path, f"does not have a score for each prediction of {run.name}", "remove it, or score again")
    predictions = [
        line.model_copy(
            update={"scores": line.scores | {name: values[place] for name, values in scored.scores.items()}}
        )
        for place, line in enumerate(run.predictions)
    ]
    means = {name: math.fsum(values) / len(values) for name, values in scored.scores.items()}
    record = run.record.model_copy(
        update={
            "further_scores": run.record.further_scores | means,
            "signatures": run.record.signatures | {found.metric: found.signature},
        }
    )
    return replace(run, record=record, predictions=tuple(predictions))


def suite_of(files: ScoredFiles) -> Suite:
    """Scored files as a suite without a model: systems are its methods, and sets of predictions its seeds."""
    names = dict.fromkeys(file.name for file in files.systems)
    seeds = sorted({file.seed for file in files.systems})
    facts = {"name": files.name, "model": "", "data": files.data, "methods": [*names], "seeds": seeds}
    return make_suite({**files.settings, **facts})


def without_retired(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings saved by an earlier version, without keys that no longer have a meaning."""
    return {
        key: {name: inner for name, inner in value.items() if f"{key}.{name}" not in RETIRED}
        if isinstance(value, dict)
        else value
        for key, value in settings.items()
    }


def read_suite(path: Path) -> Suite:
    """Read the resolved suite of a results folder.

    Raises:
        ResultsError: the file is missing, malformed or not a suite of this version.
    """
    if not path.exists():
        refuse(path, "is missing", f"give a results folder that `triptych compare` wrote, or {remedy(path)}")
    settings = read_object(path, remedy(path))
    try:
        return make_suite(find_documents(without_retired(settings), path.parent))
    except ConfigError as error:
        what = f"is not a suite of this version: {str(error).rstrip('.')}"
        refuse(path, what, "read it with the version that wrote it, or run the suite again with --fresh")


def read_record(path: Path) -> Record:
    """Read one `record.json`.

    Raises:
        ResultsError: the file is missing, malformed or of another schema version.
    """
    return _read(path, Record, "a record", remedy(path))


def read_finished(folder: Path) -> Record:
    """Read the record of a finished run, and check that the files next to it are those that the run wrote.

    Args:
        folder: `OUT/runs/LABEL/SEED`.

    Raises:
        ResultsError: there is no record, the run failed, or a file next to the record was changed or replaced.
    """
    record = read_record(folder / "record.json")
    if record.status != "done":
        raise ResultsError(f"The run in {str(folder)!r} failed: there is nothing to load.")
    check_files(folder, record)
    return record


def settings_of(record: Record, folder: Path) -> Suite:
    """The suite that a record was made with, as stored in the record, pinned to the commits that were read then.

    Args:
        record: record of the run.
        folder: folder of the run, for the message.

    Raises:
        ResultsError: the settings are not a suite of this version.
    """
    try:
        return make_suite(find_documents(without_retired(record.pinned_config()), folder))
    except ConfigError as error:
        file = folder / "record.json"
        refuse(file, f"does not contain the settings of a suite: {str(error).rstrip('.')}", remedy(file))


def is_scored(out: Path) -> bool:
    """Whether a folder holds scored files of other tools instead of a suite's runs."""
    return not (out / "suite.json").exists() and (out / SCORED).exists()


def is_published(out: Path) -> bool:
    """Whether a folder has a comparison without its suite: figures to read, but no runs to compare."""
    return (out / "comparison.json").is_file() and not any((out / name).exists() for name in ("suite.json", SCORED))


def read_comparison(out: Path) -> Comparison:
    """Read `OUT/comparison.json`.

    Raises:
        ResultsError: the file is missing, malformed or of another schema version.
    """
    return _read(out / "comparison.json", Comparison, "a comparison", f"write it again: triptych report {out}")


def read_predictions(path: Path) -> tuple[Prediction, ...]:
    """Read one `predictions.jsonl`, in file order.

    Raises:
        ResultsError: the file is missing, a line is cut or malformed, or a ROUGE score is missing.
    """
    predictions = []
    for number, data in read_json_lines(path, remedy(path)):
        for key in ("id", "reference"):  # the same in every run of a suite, so kept in memory once
            if isinstance(data.get(key), str):
                data[key] = sys.intern(data[key])
        if isinstance(data.get("scores"), dict):  # a file of a large run has half a million score names
            data["scores"] = {sys.intern(name): score for name, score in data["scores"].items()}
        try:
            prediction = Prediction.model_validate(data)
        except ValidationError as error:
            refuse(path, f"is not a prediction: {_first_problem(error)}", remedy(path), number)
        absent = [metric for metric in ROUGE_TYPES if metric not in prediction.scores]
        if absent:
            refuse(path, f"has no score {absent[0]!r}", remedy(path), number)
        object.__setattr__(prediction, "__pydantic_fields_set__", _ALL_FIELDS)  # shared by all predictions
        predictions.append(prediction)
    return tuple(predictions)


def read_history(path: Path) -> tuple[dict[str, Any], ...]:
    """Read one `history.jsonl`: a dict for each logged step or evaluation.

    Raises:
        ResultsError: the file is missing, or a line is cut, malformed or has no `event`.
    """
    events = []
    for number, data in read_json_lines(path, remedy(path)):
        if not isinstance(data.get("event"), str):
            refuse(path, "has no 'event'", remedy(path), number)
        events.append(data)
    return tuple(events)


def read_run(folder: Path, label: str, seed: int, suite: Suite) -> SavedRun:
    """Read a run's folder and check that its files belong together and to the suite.

    Args:
        folder: `OUT/runs/LABEL/SEED`.
        label: the expected label.
        seed: the expected seed.
        suite: the suite it should belong to.

    Raises:
        OtherSettings: the record is intact and from a finished run with other settings than the suite's.
        ResultsError: a file is missing, malformed, or from another run.
    """
    file = folder / "record.json"
    record = read_record(file)
    unlike = next(other_settings(record, suite), None) if record.status == "done" else None
    if unlike is not None:
        raise OtherSettings(
            f"{str(file)!r} {unlike}. Remedy: give another --out, or --fresh to start over, or move the run's folder "
            "away."
        )
    if (record.label, record.seed) != (label, seed):
        refuse(file, f"belongs to {record.label!r}, seed {record.seed}", "put it back into its own folder")
    if record.status == "failed":
        return SavedRun(record, (), ())
    if record.rouge is None:
        refuse(file, "says 'done' but has no ROUGE", remedy(file))
    history = read_history(folder / "history.jsonl") if record.training is not None else ()
    run = SavedRun(record, history, read_predictions(folder / "predictions.jsonl"))
    for name, what in problems(record, history, run.predictions):
        refuse(folder / name, what, remedy(folder / name))
    check_files(folder, record)
    return run


def _expected(suite: Suite, found: dict[int, SavedRun]) -> tuple[int, ...]:
    """The seeds a method must have: the first, and all others once the method is known to train."""
    trains = any(run.trained for run in found.values())
    return suite.seeds if trains else suite.seeds[:1]


def _refuse_strangers(out: Path, suite: Suite) -> None:
    """Raise if there is a run that is not in the suite, rather than ignore it."""
    for record in sorted(out.glob("runs/*/*/record.json")):
        label, seed = record.parts[-3:-1]
        if seed.isdigit() and (label not in suite.methods or int(seed) not in suite.seeds):
            refuse(record, "belongs to a run that is not in suite.json", "move its folder away")


def _read(path: Path, kind: type[_Kind], name: str, do: str) -> _Kind:
    """Read a file of this schema version.

    Args:
        path: the file.
        kind: what it contains.
        name: its name in messages.
        do: what to do if it is missing or contains something else.
    """
    data = read_object(path, do)
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        refuse(
            path,
            f"has schema_version {version!r}, this version of triptych reads {SCHEMA_VERSION}",
            "read it with the version that wrote it, or make it again with this one",
        )
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        refuse(path, f"is not {name}: {_first_problem(error)}", do)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where, what = shorten(".".join(str(part) for part in problem["loc"])), problem["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what

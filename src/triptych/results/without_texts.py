"""Copy a results folder without the texts of documents, references and summaries, so that it can be shared."""

import hashlib
import shutil
from pathlib import Path

from triptych.errors import ResultsError
from triptych.results import json_files, layout
from triptych.results.integrity import digests
from triptych.results.reading import Results, SavedRun, read_record
from triptych.results.records import KeptChecks, OutputChecks
from triptych.storage.files import is_temporary

COPIED = ("suite.json", "checks.json", "runs/", "scaling/")  # if they exist
_FOLDERS = ("runs", "scaling")  # replaced as a whole
_FILES = frozenset(("record.json", "history.jsonl", "predictions.jsonl", "search.json", "suite.json"))  # in these


def copy_without_texts(results: Results, checks: OutputChecks | None, to: Path) -> None:
    """Write suite, records, histories, searches and scores to another folder that `triptych report` can read.

    Each summary and reference is replaced by its SHA-256, so that equal ones can still be recognized; `checks.json`
    keeps what needs the texts. Adapters are not copied.

    Args:
        results: what to copy, with its points of the data-size curves.
        checks: checks of its summaries.
        to: the folder; an existing copy is replaced.

    Raises:
        ResultsError: the folder holds runs or other files that are not such a copy; nothing was written.
    """
    _check_replaceable(to)
    for name in _FOLDERS:
        shutil.rmtree(to / name, ignore_errors=True)
    _write_copy(results, checks, to)


def _check_replaceable(to: Path) -> None:
    """Check that what a copy replaces in a folder is nothing but an earlier copy."""
    for path in sorted(path for name in _FOLDERS for path in (to / name).rglob("*")):
        if path.is_dir() or is_temporary(path):
            continue
        if path.name not in _FILES:
            raise ResultsError(
                f"{str(to)!r} holds {str(path.relative_to(to))!r}, which is not from a copy without texts and would be "
                "removed: name another folder."
            )
        if path.name == "record.json" and not read_record(path).texts_left_out:
            raise ResultsError(
                f"{str(to)!r} holds runs with their texts: name a folder without runs, or remove {str(to / 'runs')!r}."
            )


def _write_copy(results: Results, checks: OutputChecks | None, to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    json_files.write_json(to / "suite.json", results.suite.model_dump(mode="json"))
    if checks is None:
        layout.kept_checks_file(to).unlink(missing_ok=True)
    else:
        json_files.write_json(layout.kept_checks_file(to), KeptChecks(checks=checks).to_dict())
    for run in results.runs:
        _copy_run(run, results.out, to)
    for size, smaller in results.scaled.items():
        _write_copy(smaller, None, layout.scaled_folder(to, size))


def _copy_run(run: SavedRun, out: Path, to: Path) -> None:
    label, seed = run.record.label, run.record.seed
    folder = layout.run_folder(to, label, seed)
    folder.mkdir(parents=True)
    history = layout.run_folder(out, label, seed) / "history.jsonl"
    for source, copy in (
        (history, folder / "history.jsonl"),
        (layout.search_file(out, label), layout.search_file(to, label)),
    ):
        if source.is_file():
            shutil.copyfile(source, copy)
    if run.predictions:
        lines = (line.model_dump(mode="json") for line in run.predictions)
        if not run.record.texts_left_out:
            lines = (
                line | {"prediction": _digest(line["prediction"]), "reference": _digest(line["reference"])}
                for line in lines
            )
        json_files.write_json_lines(folder / "predictions.jsonl", lines)
    record = run.record.model_copy(update={"texts_left_out": True, "files": digests(folder)})
    json_files.write_json(folder / "record.json", record.sealed())


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

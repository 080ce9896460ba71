"""Check that the files next to a record are those that its run wrote."""

import shlex
from pathlib import Path

from triptych.results.json_files import refuse
from triptych.results.records import Record
from triptych.results.resuming import plugin_options, resuming
from triptych.storage.files import digest

TEXT_FILES = ("history.jsonl", "predictions.jsonl")
ADAPTER_FILES = ("adapter/triptych.json", "adapter/adapter_config.json")  # the first contains the digest of the tensors


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a run that belongs to its record, by path within the run's folder."""
    return {name: digest(folder / name) for name in (*TEXT_FILES, *ADAPTER_FILES) if (folder / name).is_file()}


def check_files(folder: Path, record: Record) -> None:
    """Check that a history, predictions or adapter next to a record belong to the same run.

    A copy may lack some of them; whoever needs a file reports it. Records of earlier versions have no digests, so their
    files cannot be checked.

    Args:
        folder: folder of the run.
        record: the contents of its `record.json`.

    Raises:
        ResultsError: a file was changed, truncated or replaced.
    """
    for name in (*TEXT_FILES, *ADAPTER_FILES):
        expected = record.files.get(name)
        if expected is not None and (folder / name).exists() and digest(folder / name) != expected:
            refuse(
                folder / name,
                "is not the file that this run wrote: its SHA-256 is not the one in record.json, so it was changed, "
                "truncated or replaced",
                remedy(folder / name),
            )


def remedy(file: Path) -> str:
    """What to do about a damaged or missing file of a results folder, depending on its name."""
    if file.name == "suite.json":
        out = file.parents[2] if file.parent.parent.name == "scaling" else file.parent
        return (
            "copy it from where the suite was run; if it is lost, run the suite again: "
            f"{shlex.join(['triptych', 'compare', 'SUITE', '--out', str(out), '--fresh', *plugin_options(out)])} "
            "(existing files are kept under another name)"
        )
    folder = file.parents[1] if file.parent.name == "adapter" else file.parent
    out = folder.parents[2] if len(folder.parents) > 2 else Path("OUT")
    return f"copy it from where the suite was run, or delete the folder {folder} and resume the suite: {resuming(out)}"

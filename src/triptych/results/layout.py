"""Paths in a results folder, OUT."""

from pathlib import Path


def results_folder(out: str | Path | None, suite_name: str) -> Path:
    """OUT: the given folder, else `results/NAME`."""
    return Path("results") / suite_name if out is None else Path(out)


def run_folder(out: Path, label: str, seed: int) -> Path:
    """`OUT/runs/LABEL/SEED`."""
    return out / "runs" / label / str(seed)


def command_file(out: Path) -> Path:
    """`OUT/command.json`: the `compare` command, and those that added to its results."""
    return out / "command.json"


def log_file(folder: Path) -> Path:
    """`log.txt` in a results folder or in the folder of a run: timestamped lines about what was done."""
    return folder / "log.txt"


def search_file(out: Path, label: str) -> Path:
    """`OUT/runs/LABEL/search.json`: the finished learning-rate search of a method."""
    return out / "runs" / label / "search.json"


def trials_folder(out: Path, label: str) -> Path:
    """`OUT/runs/LABEL/trials`: finished trials of an unfinished search."""
    return out / "runs" / label / "trials"


def scores_folder(out: Path) -> Path:
    """`OUT/scores`: a file for each metric that scored the stored predictions later."""
    return out / "scores"


def kept_checks_file(out: Path) -> Path:
    """`OUT/checks.json`: in a copy without texts, the results of the checks that need them."""
    return out / "checks.json"


def scaled_folder(out: Path, train_documents: int) -> Path:
    """`OUT/scaling/N`: a separate results folder, with the methods trained on N documents."""
    return out / "scaling" / str(train_documents)

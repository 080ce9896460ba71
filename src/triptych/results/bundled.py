"""Locate the parts of a fine-tuned model in an unpacked bundle: its adapter, base model and record."""

from pathlib import Path

from triptych.results import layout

TUNED, BASES, RESULTS = "models/tuned", "models/base", "results"  # folders of a bundle


def tuned_folder(label: str, seed: int) -> str:
    """`models/tuned/LABEL/SEED`, the folder of a fine-tuned model within the bundle."""
    return f"{TUNED}/{label}/{seed}"


def record_folder(run: Path) -> Path:
    """The folder with a run's record and predictions: its own, or the one in the results of an unpacked bundle.

    Args:
        run: `OUT/runs/LABEL/SEED`, or `models/tuned/LABEL/SEED` of a bundle.
    """
    if (run / "record.json").is_file():
        return run
    return _in_results(run) or run


def predictions_file(run: Path) -> Path:
    """The path of a run's stored predictions, which may not exist: its own, or in the results of an unpacked bundle."""
    own = run / "predictions.jsonl"
    if own.is_file():
        return own
    return (_in_results(run) or run) / own.name


def base_in_bundle(run: Path, model: str) -> str | None:
    """The folder of the base model in the bundle that contains a fine-tuned model; None if there is none.

    Args:
        run: `models/tuned/LABEL/SEED` of a bundle, or any other folder.
        model: the name of the base model in the run's record.
    """
    root = _root(run)
    if root is None or model == ".." or Path(model).name != model:
        return None
    folder = root / BASES / model
    return str(folder) if (folder / "config.json").is_file() else None


def _root(run: Path) -> Path | None:
    """The folder of the unpacked bundle; None for a run elsewhere."""
    folder = run.resolve()
    if len(folder.parents) < 4:
        return None
    root = folder.parents[3]
    return root if folder.parents[1] == root / TUNED and (root / RESULTS / "suite.json").is_file() else None


def _in_results(run: Path) -> Path | None:
    root, folder = _root(run), run.resolve()
    if root is None or not folder.name.isdecimal():
        return None
    found = layout.run_folder(root / RESULTS, folder.parent.name, int(folder.name))
    return found if (found / "record.json").is_file() else None

"""Find the run for a short name: a results folder, the folder of a method, or `OUT@best`; needs no torch."""

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from triptych.config.schema import Columns
from triptych.errors import InputError, ResultsError
from triptych.results import layout
from triptych.results.bundled import record_folder
from triptych.results.integrity import ADAPTER_FILES
from triptych.results.reading import Results, is_scored, read_record, read_results
from triptych.results.records import Record
from triptych.results.resuming import plugin_options
from triptych.storage.files import named_path

BEST = "@best"
_ADAPTER = Path(ADAPTER_FILES[1]).name  # of an adapter saved by peft
_RUNS = ("runs/*/*", "*/*", "*")  # below OUT, below its runs, below a method
WHAT = "a run (OUT/runs/LABEL/SEED, with record.json) nor an adapter saved by peft (with adapter_config.json)"


@dataclass(frozen=True)
class FoundRun:
    """A run or an adapter.

    Attributes:
        folder: where it is.
        message: a sentence on what was chosen and why; empty if the folder itself was named.
    """

    folder: Path
    message: str = ""


def refuse_scored(out: Path) -> None:
    """Make sure that a folder is not one of scored files.

    Raises:
        ResultsError: it holds scores of other tools' outputs, of which there is no model.
    """
    if is_scored(out):
        raise ResultsError(f"{str(out)!r} holds scored files, not runs: there is no model to load.")


def is_run_folder(folder: Path) -> bool:
    """Whether a folder is a run or an adapter, or has runs below it as `find_run` looks for them."""
    return _is_run(folder) or any(_is_run(each) for pattern in _RUNS for each in folder.glob(pattern))


def _is_run(folder: Path) -> bool:
    return _has_record(folder) or (folder / _ADAPTER).is_file()


def _has_record(folder: Path) -> bool:
    return (record_folder(folder) / "record.json").is_file()


def find_run(name: str | Path) -> FoundRun:
    """The run that a name refers to.

    Args:
        name: `OUT/runs/LABEL/SEED`, or an adapter saved by peft; the folder of a method, if one of its seeds finished;
            OUT, if one trained run in it finished, or else one run; or `OUT@best`: the trained method with the best
            mean on the suite's primary measure (if tied, the one with the lower test loss, or the higher R-1 if the
            loss is primary), with the seed of the lowest validation loss.

    Raises:
        ResultsError: there is no such run, or the name is ambiguous; the message lists the candidates.
    """
    folder = named_path(name)
    for out in (folder, *folder.parents[1:3]):  # OUT, OUT/runs/LABEL or OUT/runs/LABEL/SEED
        refuse_scored(out)
    if _is_run(folder):
        return FoundRun(folder)
    if str(name).endswith(BEST) and not folder.exists():
        return _best(Path(str(name).removesuffix(BEST)))
    if not folder.is_dir():
        raise ResultsError(
            f"There is no folder {str(name)!r}. A run is OUT/runs/LABEL/SEED; OUT/runs/LABEL or OUT if it has only "
            f"one; or OUT{BEST}, the best trained method."
        )
    below = (sorted(each for each in folder.glob(pattern) if _has_record(each)) for pattern in _RUNS)
    found = next((runs for runs in below if runs), [])
    records = {run: read_record(record_folder(run) / "record.json") for run in found}
    runs = {run: record for run, record in records.items() if record.status == "done"}
    if not found:
        raise ResultsError(f"{str(name)!r} is neither {WHAT}.")
    if not runs:
        raise ResultsError(f"No run in {str(name)!r} finished.")
    trained = [run for run, record in runs.items() if record.trained]
    choice = trained if len(trained) == 1 else list(runs)
    if len(choice) > 1:
        listed = "".join(f"\n  {run}{_score(record)}" for run, record in runs.items())
        best = f"\n  {folder}{BEST}" if (folder / "suite.json").is_file() and trained else ""
        raise ResultsError(f"{str(name)!r} holds several runs. Name one of them:{listed}{best}")
    return FoundRun(choice[0], f"{name} is {choice[0]}{_score(runs[choice[0]])}.")


def known_columns(names: Sequence[str | Path]) -> list[Columns]:
    """The columns that runs were trained on, according to their records; missing runs are skipped."""
    found = []
    for name in names:
        with suppress(InputError, ValueError):
            record = read_record(record_folder(find_run(name).folder) / "record.json")
            found.append(Columns.model_validate(record.config.get("columns") or {}))
    return found


def runs_of_row(out: Path, label: str, seeds: Sequence[int]) -> list[Path]:
    """The folders of a method's finished runs, lowest validation loss first."""
    folders = [layout.run_folder(out, label, seed) for seed in seeds]

    def loss(folder: Path) -> float:
        found = read_record(folder / "record.json").loss.validation
        return float("inf") if found is None else found

    return sorted(folders, key=loss)


def how_to_use(results: Results, label: str, runs: Sequence[Path]) -> str:
    """Where a method's runs are, and the commands that use one of them.

    Args:
        results: the results folder.
        label: the method.
        runs: folders of the method's runs, the one to use first.
    """
    first, plugins = str(runs[0]), plugin_options(results.out)
    tuned = {layout.run_folder(results.out, run.record.label, run.record.seed) for run in results.runs if run.trained}
    where = (
        f"The run of {label}"
        if len(runs) == 1
        else f"Of the {len(runs)} runs of {label}, the one with the lowest validation loss"
    )
    lines = [f"{where}: {runs[0]}", f"  {shlex.join(['triptych', 'summarize', first, '--file', 'FILE', *plugins])}"]
    if runs[0] in tuned:
        lines.append(f"  {shlex.join(['triptych', 'export', first, 'DIR', *plugins])}")
    return "\n".join(lines)


def _best(out: Path) -> FoundRun:
    from triptych.analysis.comparison import compare_results
    from triptych.analysis.verdict import mean_of, ranking, shown_to_differ
    from triptych.text.measures import digits_of, name_of, second_measure

    comparison = compare_results(read_results(out, partial=True))
    measure = comparison.primary_measure
    ranked = ranking(comparison.rows, measure)
    trained = [label for label in ranked if comparison.rows[label].trained]
    if not trained:
        raise ResultsError(f"No method in {str(out)!r} was trained: there is no best one. It has {', '.join(ranked)}.")
    second = second_measure(measure)
    means = {label: [mean_of(comparison.rows[label], one) for one in (measure, second)] for label in ranked}
    equal = [label for label in trained if means[label][0] == means[trained[0]][0]]
    equal = ranking({label: comparison.rows[label] for label in equal}, second) or equal  # break ties
    if len(equal) > 1 and means[equal[0]] == means[equal[1]]:
        folders = "".join(f"\n  {out / 'runs' / label}" for label in equal)
        raise ResultsError(f"Several methods in {str(out)!r} are equally good. Name one of them:{folders}")
    best, name = equal[0], name_of(measure)
    runs = runs_of_row(out, best, comparison.rows[best].seeds)
    mean = f"{means[best][0]:.{digits_of(measure)}f}"
    parts = [f"{out}{BEST} is {runs[0]}: of the trained methods, {best} has the best mean {name}, {mean}"]
    if len(runs) > 1:
        parts[0] += f", and of its {len(runs)} seeds this one has the lowest validation loss"
    close = [
        label for label in trained if label != best and not shown_to_differ(comparison.tests, measure, best, label)
    ]
    if close:
        parts.append(f"no significant difference from it: {', '.join(close)}")
    ahead = [label for label in ranked[: ranked.index(best)] if label not in trained]
    if ahead:
        parts.append(f"better without training: {', '.join(ahead)}")
    return FoundRun(runs[0], f"{'; '.join(parts)}.")


def _score(record: Record) -> str:
    return f" (R-1 {record.rouge.rouge1:.2f})" if record.rouge is not None else ""

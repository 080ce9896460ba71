"""Compare the runs in results folders and write the comparison, the tables and the reports."""

from collections.abc import Sequence
from pathlib import Path

from triptych.analysis import comparison as comparing
from triptych.errors import ResultsError, RunFailed
from triptych.reporting.write import write_report
from triptych.results.lock import locked
from triptych.results.reading import read_results
from triptych.results.records import Comparison


def report_suite(out: Path) -> Comparison:
    """Report a suite whose runs have ended, in its own folder, whose lock is held.

    Raises:
        RunFailed: every run failed; each has a record that says why.
        ResultsError: the runs cannot be compared; the message says which field differs.
    """
    results = read_results(out)
    if not any(run.done for run in results.runs):
        raise RunFailed(comparing.none_finished(results))
    comparison = comparing.compare_results(results)
    write_report(results, comparison, out)
    return comparison


def report_folders(outs: Sequence[Path], to: Path, texts: bool = True) -> Comparison:
    """Write one comparison of one results folder or several.

    Args:
        outs: the results folders; runs of one that has not ended are left out where it is the only one.
        to: the folder to write to.
        texts: with summaries in the reports.

    Raises:
        ResultsError: a folder is unreadable, its runs may not be compared in one table, or another process works where
            it is written.
    """
    several = len(outs) > 1
    found = [read_results(out, partial=not several) for out in outs]
    results = comparing.join_results(found) if several else found[0]
    comparison = comparing.compare_results(results)  # refuses what may not be compared, before anything is written
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(f"The folder {str(to)!r} cannot be made: {error.strerror}.") from error
    with locked(to):
        write_report(results if texts else results.without_texts(), comparison, to)
    return comparison

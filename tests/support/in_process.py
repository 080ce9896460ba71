"""Runs of a suite in the test's process instead of child processes."""

from triptych.results import json_files
from triptych.run import entries, experiment


def run_here(job, lock, listener, start=None) -> None:
    """Carry out a run in this process; `tests/processes/test_suite.py` tests child processes."""
    out = job.folder.parents[2]
    made, table = entries.resolve(json_files.read_json(out / "suite.json"))
    experiment.run_experiment(
        made, entries.find_entry(table, job.arguments[1]), job.run.seed, out, None, lambda run, event: listener(event)
    )

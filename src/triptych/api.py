"""What the command line does, from Python."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.config import reading
from triptych.planning import planner
from triptych.plugins import import_plugins
from triptych.results.records import Comparison, Record
from triptych.run import entries, experiment, preflight, setup
from triptych.run.events import Listener, ignore
from triptych.suite import jobs
from triptych.use import summarizers


def compare(
    suite_file: str | Path | None = None,
    *,
    out: str | Path,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    methods: Sequence[str] | None = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
    listener: Listener = ignore,
    within: str | None = None,
) -> Comparison:
    """Run every row of a suite in a process of its own, compare, and write tables and reports to `out`.

    The same suite in an `out` that exists goes on where it stopped.

    Args:
        suite_file: a suite in TOML, or `OUT/suite.json`.
        out: the results folder.
        preset: settings to start from; `assignment` where there is a suite file, a model or data, else `demo`.
        settings: keys of a suite file, tables as dictionaries, laid on top.
        methods: labels of the rows; None: those of the suite.
        device: cpu, cuda or mps; None: the best there is.
        plugins: Python files with plug-ins.
        listener: called with each event of `triptych.run.events` and the run that it is about.
        within: the time for all runs, such as `8h` or `30min`: seeds, test documents, epochs and training pairs are
            chosen as `plan` does, the same for every row; an `out` that exists keeps its own. None: the suite's sizes
            are as they are.

    Returns:
        What `OUT/comparison.json` holds. A run that failed is named in its row's `failed_seeds`.

    Raises:
        InputError: the suite cannot be carried out; nothing was written.
    """
    import_plugins(plugins)
    folder = Path(out)
    merged = _settings(suite_file, preset, settings)
    if within is not None:
        merged = planner.settings_within(within, merged, methods, folder, device)
    resolved, table = entries.resolve(merged, methods)
    jobs.check_folder(folder, resolved, fresh=False)
    plan = preflight.check(resolved, table, device, setup.cache_folder())
    with jobs.claim(folder, resolved) as lock:
        jobs.carry_out(plan, folder, lock, device, plugins, listener)
        return jobs.conclude(folder)


def train(
    label: str,
    suite_file: str | Path | None = None,
    *,
    out: str | Path,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
    listener: Listener = ignore,
) -> list[Record]:
    """Run one row of a suite in this process, under each of its seeds, into `OUT/runs/LABEL/SEED`.

    Args:
        label: a method, a baseline, or a label of the suite's own.
        suite_file, out, preset, settings, device, plugins, listener: as for `compare`.

    Returns:
        A record for each seed.

    Raises:
        TriptychError: the row cannot be run, or a run failed.
    """
    import_plugins(plugins)
    resolved, table = entries.resolve(_settings(suite_file, preset, settings))
    row = entries.find_row(table, label)
    folder = Path(out)
    preflight.check(resolved, table, device, setup.cache_folder(), only=row)
    with jobs.claim(folder, resolved) as lock:
        return [
            experiment.run(resolved, row, seed, folder, device, lock.guard(listener))
            for seed in entries.choose_seeds(resolved, row, None)
        ]


def load(
    run: str | Path, *, model: str | None = None, device: str | None = None, plugins: Sequence[str] = ()
) -> summarizers.Trained:
    """A run, or an adapter that peft saved, ready to summarize: `load(RUN).summarize(texts)`.

    Args:
        run: `OUT/runs/LABEL/SEED`, or the adapter's folder.
        model: the base model, where it is not to be had under its recorded name.
        device, plugins: as for `compare`.

    Raises:
        InputError: there is nothing to load, or it does not belong to the model.
    """
    return load_all([run], model=model, device=device, plugins=plugins)[0]


def load_all(
    runs: Sequence[str | Path], *, model: str | None = None, device: str | None = None, plugins: Sequence[str] = ()
) -> list[summarizers.Trained]:
    """Several runs in order, as `load` loads them, with each base model in memory once."""
    import_plugins(plugins)
    return summarizers.load_all([Path(run) for run in runs], model, device)


def _settings(suite_file: str | Path | None, preset: str | None, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    over = dict(settings or {})
    chosen = preset or ("assignment" if suite_file or over.keys() & {"model", "data"} else "demo")
    merged = reading.preset_settings(chosen)
    if suite_file:
        merged = reading.merge_tables(merged, reading.read_suite_file(Path(suite_file)))
    return reading.merge_tables(merged, over)

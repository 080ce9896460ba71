"""The request to run one method of a suite: found and checked without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config import reading
from triptych.config.schema import Suite
from triptych.results import layout
from triptych.run import entries
from triptych.run.entries import SuiteEntry
from triptych.suite.folder import check_claim


@dataclass(frozen=True)
class MethodRequest:
    """A method to run.

    Attributes:
        suite: the resolved suite.
        entries: all its entries; how documents are cut depends on all of them.
        entry: the entry to run.
        seeds: the seeds to run it with.
        out: the results folder.
        device: cpu, cuda or mps; None: the best there is.
        plugins: files that plug-ins were loaded from; the record's command names them.
        changes: sentences about what the suite adds to that of the results folder, and what that has in addition.
    """

    suite: Suite
    entries: Sequence[SuiteEntry]
    entry: SuiteEntry
    seeds: Sequence[int]
    out: Path
    device: str | None
    plugins: Sequence[str]
    changes: Sequence[str] = ()


def make_request(
    label: str,
    suite_file: str | Path | None,
    preset: str | None,
    settings: Mapping[str, Any],
    methods: Sequence[str] | None,
    seeds: Sequence[int] | None,
    out: str | Path | None,
    device: str | None,
    plugins: Sequence[str],
) -> MethodRequest:
    """Find a method and its seeds in a suite; if the suite does not name the method, it becomes its only one.

    The suite of an existing results folder is extended with the method and the seeds.

    Args:
        label: the label of the method.
        suite_file: a suite file, or None.
        preset: the name of a preset, or None.
        settings: keys of a suite that override those of file and preset.
        methods: the methods of the suite; None: those that it names.
        seeds: which of a suite file's seeds to run; without a suite file, the suite's seeds. None: all.
        out: the results folder; None: `results/NAME`.
        device: cpu, cuda or mps; None: the best there is.
        plugins: plug-in files, which are imported already.

    Raises:
        ConfigError: a setting, the label or a seed is not one of the suite's.
        ResultsError: the results folder has another suite.
    """
    merged = reading.merge_settings(suite_file, preset, settings)
    if seeds is not None and suite_file is None:
        merged["seeds"], seeds = list(seeds), None
    known = [*merged.get("methods", Suite().methods), *merged.get("method", {})]
    suite, found = entries.resolve(merged, methods if methods is not None or label in known else [label])
    entry = entries.find_entry(found, label)
    chosen = entries.choose_seeds(suite, entry, seeds)
    folder = layout.results_folder(out, suite.name)
    claim = check_claim(folder, suite, fresh=False)
    suite, found = claim.suite, entries.suite_entries(claim.suite)
    if not entry.trains and seeds is None:  # it runs once, with the first seed of the folder
        chosen = entries.choose_seeds(suite, entry, None)
    return MethodRequest(suite, found, entry, chosen, folder, device, tuple(plugins), claim.changes)

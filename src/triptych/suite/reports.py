"""Compare the runs in results folders and write the comparison, the tables and the reports."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from triptych.analysis import comparison as comparing
from triptych.config.schema import ReportSettings, Suite, make_suite
from triptych.errors import ConfigError, RunFailed, shorten
from triptych.reporting.authors_text import read_authors_text
from triptych.reporting.write import write_report
from triptych.results import json_files
from triptych.results.lock import locked
from triptych.results.reading import read_results
from triptych.results.records import Comparison
from triptych.results.without_texts import copy_without_texts
from triptych.run.articles import with_documents
from triptych.storage.files import make_folder


def check_authors_text(out: Path) -> None:
    """Make sure, before anything is run, that the report can show the author's texts.

    Raises:
        ResultsError: a text or a figure in it cannot be shown; the message says which.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shown when the report is written
        read_authors_text([out])


def report_suite(out: Path) -> Comparison:
    """Report a suite whose runs have ended in its own folder, whose lock is held.

    Raises:
        RunFailed: every run failed; each has a record that says why.
        ResultsError: the runs cannot be compared; the message says which field differs.
    """
    results = with_documents(read_results(out))
    if not any(run.done for run in results.runs):
        raise RunFailed(comparing.none_finished(results))
    comparison = comparing.compare_results(results)
    write_report(results, comparison, out)
    return comparison


def report_folders(
    outs: Sequence[Path], to: Path, texts: bool = True, settings: Mapping[str, Any] | None = None
) -> Comparison:
    """Write one comparison of one or more results folders.

    Args:
        outs: the results folders; if there is only one, its unfinished runs are left out.
        to: the folder to write to.
        texts: include summaries in the reports; without them, a single results folder that is reported elsewhere is
            also copied: suite, records, histories and scores.
        settings: the section `report` of a suite, and no other; if a folder is reported in place, its `suite.json`
            keeps them.

    Raises:
        ConfigError: another key is given, or a value is not text.
        ResultsError: a folder is unreadable, its runs may not be compared in one table, another process works in `to`,
            or `to` has other runs where the copy would go.
    """
    several = len(outs) > 1
    added = _report_settings(settings or {})
    found = [read_results(out, partial=not several) for out in outs]
    results = comparing.join_results(found) if several else found[0]
    results = replace(with_documents(results), suite=_with_report(results.suite, added))
    comparison = comparing.compare_results(results)  # refuses what may not be compared, before anything is written
    make_folder(to)
    in_place = [to.resolve()] == [out.resolve() for out in outs]
    with locked(to, "write elsewhere what there is so far: --to DIR"):
        if not texts and not several and not in_place and results.files is None:
            copy_without_texts(results, comparison.checks, to)
        write_report(results if texts and results.has_texts else results.without_texts(), comparison, to)
        if added and (to / "suite.json").is_file() and in_place:
            kept = make_suite(json_files.read_object(to / "suite.json"))  # as it is now that no one else can extend it
            json_files.write_json(to / "suite.json", _with_report(kept, added).model_dump(mode="json"))
    return comparison


def _report_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The given keys of the section `report`, checked."""
    for key in settings:
        if key != "report":
            raise ConfigError(
                f"A report of finished runs takes only settings of [report], and {shorten(repr(key))} is not one. "
                f"Available: {', '.join(f'report.{name}' for name in ReportSettings.model_fields)}."
            )
    checked = make_suite(dict(settings)).report
    return checked.model_dump(include=checked.model_fields_set)


def _with_report(suite: Suite, added: Mapping[str, Any]) -> Suite:
    return suite.model_copy(update={"report": suite.report.model_copy(update=added)})

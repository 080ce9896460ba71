"""Score, test and report the predictions of any tool like `compare`, without a model."""

import platform
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from triptych import __version__
from triptych.analysis import comparison as comparing
from triptych.analysis.outputs import output_flags
from triptych.config.reading import nested
from triptych.config.schema import is_label, make_suite
from triptych.contracts import Metric
from triptych.errors import ConfigError, ResultsError, explain_validation, nearest, shorten
from triptych.plugins import import_plugins
from triptych.reporting.write import write_report
from triptych.results import integrity, json_files, layout
from triptych.results.lock import locked
from triptych.results.reading import SCORED, Results, SavedRun, suite_of
from triptych.results.records import Comparison, Prediction, Record, ScoredFile, ScoredFiles
from triptych.run import scoring
from triptych.scored import predictions
from triptych.scored.stored import ScoringProgress, rescore_all
from triptych.storage.files import expand_path, leads_out, make_folder, named_path
from triptych.text import languages

KIND = "predictions"
SETTINGS = ("analysis", "rouge", "report")  # suite sections for scoring, judging and reporting


@dataclass(frozen=True)
class Request:
    """What to score, and how.

    Attributes:
        systems: name and file of each set of predictions, in order; a name given again is another seed of the system.
        references: a file with the references; None: the files have a column with them.
        columns: column names other than the usual ones.
        by_order: join the files by the order of their rows even if they have ids.
        metrics: names of the metrics to use; None: all registered ones.
        settings: suite keys for scoring and judging.
    """

    systems: tuple[tuple[str, str], ...]
    references: str | None = None
    columns: predictions.PredictionColumns = predictions.USUAL
    by_order: bool = False
    metrics: tuple[str, ...] | None = None
    settings: Mapping[str, Any] | None = None


def score(
    systems: Mapping[str, str | Path | Sequence[str | Path]] | str | Path,
    *,
    references: str | Path | None = None,
    out: str | Path | None = None,
    report: bool = True,
    columns: Mapping[str, str] | None = None,
    by_order: bool = False,
    metrics: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    plugins: Sequence[str] = (),
    progress: ScoringProgress | None = None,
) -> Comparison:
    """Score, test and report predictions that any tool wrote; no model is loaded, and torch is not needed.

    Args:
        systems: by name, a file of predictions, or several: one for each seed. A table (CSV, TSV, JSON lines, Parquet)
            with the columns `id`, `prediction`, `reference`, `document` or other usual names; or plain text, one
            prediction per line. Or a results folder: its stored predictions are scored by `metrics` and its tables
            rewritten.
        references: a file with the references in the same formats; None: the files have a column with them.
        out: a folder for scores, tables and reports; None: nothing is written.
        report: also write report.pdf and report.html.
        columns: names of columns that do not have the usual names, by `id`, `prediction`, `reference`, `document`; a
            file without such a column is read by the usual names.
        by_order: join the files by the order of their rows even if they have ids.
        metrics: registered metrics to use in addition to ROUGE and the text's shape; None: all registered ones.
        settings: suite keys for scoring and judging (`rouge`, `analysis`), tables as dictionaries.
        plugins: Python files with plug-ins.
        progress: called with the number of predictions scored and the total.

    Returns:
        The contents of `OUT/comparison.json`.

    Raises:
        InputError: a name, file, column or metric cannot be used; nothing was written.
    """
    import_plugins(plugins, ("metrics",))
    if isinstance(systems, str | Path):
        if references is not None or out is not None or columns or by_order:
            raise ConfigError("A results folder takes only metrics: score(OUT, metrics=[...]).")
        return rescore_all(named_path(systems), metrics or (), nested(settings or {}), report, progress or _ignore)[
            -1
        ].comparison
    for name, files in systems.items():
        if not isinstance(files, str | Path) and not files:
            raise ConfigError(f"The system {name!r} has no file of predictions.")
    if isinstance(metrics, str):
        metrics = [metrics]
    pairs = tuple(
        (name, str(file))
        for name, files in systems.items()
        for file in ([files] if isinstance(files, str | Path) else files)
    )
    request = Request(
        pairs,
        None if references is None else str(references),
        named_columns(columns or {}),
        by_order,
        None if metrics is None else tuple(metrics),
        nested(settings or {}),
    )
    comparison, _ = score_and_publish(request, None if out is None else named_path(out), report, progress or _ignore)
    return comparison


def score_and_publish(
    request: Request, out: Path | None, report: bool, progress: ScoringProgress
) -> tuple[Comparison, Results]:
    """Score files and compare them; if a folder is given, write what `publish` writes.

    Raises:
        InputError: as for `read_and_score` and `publish`; nothing was written.
    """
    if out is not None:
        check_folder(out)
    name = out.resolve().name if out is not None else "scores"
    results = read_and_score(request, name, progress)
    return (publish(results, out, report) if out is not None else comparing.compare_results(results)), results


def named_columns(names: Mapping[str, str]) -> predictions.PredictionColumns:
    """Column names by role.

    Raises:
        ConfigError: an unknown role is named, or a name is not a string.
    """
    try:
        return predictions.PredictionColumns(**names)
    except ValidationError as error:
        raise ConfigError(explain_validation(error, "columns", predictions.PredictionColumns)) from None


def read_and_score(request: Request, name: str, progress: ScoringProgress) -> Results:
    """Read, join and score the files.

    Args:
        request: what to score.
        name: name of the comparison.
        progress: called with the number of predictions scored and the total.

    Raises:
        InputError: a name, file, column or metric cannot be used; the message says which and what to do.
    """
    _check_names(request.systems)
    _check_settings(request.settings or {})
    scoring.metrics(languages.ANY, _names(request.metrics))  # refuse an unknown name before anything is read
    references = None
    if request.references is not None:
        references = predictions.read_prediction_file(request.references, request.columns, references=True)
    systems: dict[str, list[predictions.Lines]] = {}
    for system, file in request.systems:
        read = predictions.read_prediction_file(file, request.columns, elsewhere=references is not None)
        systems.setdefault(system, []).append(read)
    predictions.check_named(request.columns, [lines for sets in systems.values() for lines in sets], references)
    joined = predictions.join_predictions(systems, references, request.by_order)
    files = [
        ScoredFile(name=system, seed=seed, file=str(lines.path), sha256=lines.digest)
        for system, sets in systems.items()
        for seed, lines in enumerate(sets)
    ]
    source = references or next(lines for sets in systems.values() for lines in sets if lines.has_references)
    scored = ScoredFiles(
        name=name,
        data=f"the references of {source.path.name}",
        systems=files,
        references=ScoredFile(name="", file=str(references.path), sha256=references.digest) if references else None,
        joined_by="order" if joined.by_order else "id",
        documents_known=any(joined.documents),
        settings=dict(request.settings or {}),
        flags=[*joined.notes, *_same_contents(systems)],
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(["triptych", *sys.argv[1:]]),
        versions={
            "python": platform.python_version(),
            "triptych": __version__,
            **{package: version(package) for package in ("rouge-score", "numpy", "scipy")},
        },
    )
    asked = make_suite(dict(request.settings or {})).rouge.language
    language = languages.choose(
        asked, [joined.references[i] for i in scoring.evenly_chosen(len(joined.ids))], source.path.name
    )
    metrics = scoring.metrics(language.name, _names(request.metrics))
    _check_metrics(request.metrics or (), metrics, joined)
    total = len(files) * len(joined.ids)
    runs = []
    for place, scored_file in enumerate(files):
        texts = joined.predictions[scored_file.name][scored_file.seed]
        lines = []
        for index, text in enumerate(texts):
            lines.append(_score_one(metrics, joined, index, text))
            progress(place * len(texts) + index + 1, total)
        runs.append(_run(scored_file, lines, joined, metrics, language))
    return Results(Path(name), suite_of(scored), tuple(runs), files=scored)


def publish(results: Results, out: Path, report: bool) -> Comparison:
    """Compare, and write scored predictions, `comparison.json`, the tables and, if requested, reports to a folder.

    Raises:
        ResultsError: the folder holds something else, or cannot be written.
    """
    comparison = comparing.compare_results(results)
    make_folder(out)
    with locked(out):
        check_folder(out)
        _write(results, comparison, out, report)
    return comparison


def _write(results: Results, comparison: Comparison, out: Path, report: bool) -> None:
    assert results.files is not None
    made, old = out / ".runs-new", out / ".runs-old"
    for leftover in (made, old):
        shutil.rmtree(leftover, ignore_errors=True)
    for run in results.runs:
        folder = made / layout.run_folder(Path(), run.record.label, run.record.seed).relative_to("runs")
        json_files.write_json_lines(
            folder / "predictions.jsonl", (line.model_dump(mode="json") for line in run.predictions)
        )
        record = run.record.model_copy(update={"files": integrity.digests(folder)})
        json_files.write_json(folder / "record.json", record.sealed())
    if (out / "runs").exists():
        (out / "runs").rename(old)
    made.rename(out / "runs")
    json_files.write_json(out / SCORED, results.files.model_dump(mode="json"))
    shutil.rmtree(old, ignore_errors=True)
    write_report(results, comparison, out, report)


def check_folder(out: Path) -> None:
    """Check that a folder for scores is new, empty, or holds scores, which are then replaced.

    Raises:
        ResultsError: it is a file, a results folder of `compare`, or holds something else.
    """
    if out.exists() and not out.is_dir():
        raise ResultsError(f"{str(out)!r} is a file; --out needs a folder.")
    if not out.exists():
        return
    if (out / "suite.json").exists():
        raise ResultsError(f"The folder {str(out)!r} holds the runs of a comparison; give --out a new folder.")
    if not (out / SCORED).exists() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise ResultsError(f"The folder {str(out)!r} holds other files; give --out an empty or a new folder.")
    for path in out.rglob("*"):
        if path.is_symlink() and leads_out(path, out):
            raise ResultsError(
                f"The link {str(path)!r} leads out of the results folder; nothing is written there: remove it."
            )


def _check_names(systems: Sequence[tuple[str, str]]) -> None:
    """Check that names are labels and no name has the same file twice."""
    if not systems:
        raise ConfigError("There is nothing to score. Give at least one NAME=FILE.")
    for name, file in systems:
        if not is_label(name):
            raise ConfigError(
                f"{shorten(repr(name))} cannot be the name of a system (of {shorten(repr(file))}): use at most 100 "
                "letters, digits, '-', '_' and '.', not starting with '-' or '.'. It names a folder and a row of "
                "tables."
            )
    seen: set[tuple[str, Path]] = set()
    for name, file in systems:
        key = (name, expand_path(file).resolve())
        if key in seen:
            raise ConfigError(
                f"{name!r} has the file {shorten(repr(file))} twice. A name given again is another seed of that "
                "system: give the file of another run, or another name."
            )
        seen.add(key)


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Check that only suite keys for scoring, judging and reporting are given."""
    for key in settings:
        if key not in SETTINGS:
            raise ConfigError(
                f"Files are scored without a suite, so {shorten(repr(key))} has no meaning.{nearest(key, SETTINGS)}"
            )
    if make_suite(dict(settings)).analysis.primary == "loss":
        raise ConfigError("analysis.primary is 'loss', but files of predictions have no loss. Name a ROUGE score.")


def _check_metrics(asked: Sequence[str], metrics: Mapping[str, Metric], joined: predictions.Joined) -> None:
    """Check that every requested metric gives a score."""
    texts = next(iter(joined.predictions.values()))[0]
    for name in asked:
        alone = {name: metrics[name]}
        if not any(_score_one(alone, joined, index, text).scores for index, text in enumerate(texts)):
            missing = (
                ": its scores need the documents. Add them as a column to a file of predictions or to --references, "
                "and name it with --columns document=NAME if its name is not a usual one"
            )
            raise ConfigError(f"The metric {name!r} gives no score{'' if all(joined.documents) else missing}.")


def _same_contents(systems: Mapping[str, Sequence[predictions.Lines]]) -> list[str]:
    """Warn about sets of one system with equal predictions, which are not repetitions."""
    flags = []
    for name, sets in systems.items():
        texts = {tuple(row.prediction for row in lines.rows) for lines in sets}
        if len(texts) < len(sets):
            flags.append(
                f"{name}: {len(sets)} sets of predictions, of which only {len(texts)} differ: "
                "equal ones do not count as seeds."
            )
    return flags


def _ignore(done: int, total: int) -> None:
    """The progress function that does nothing."""


def _names(asked: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if asked is None else tuple(dict.fromkeys((*scoring.ALWAYS, *asked)))


def _score_one(metrics: Mapping[str, Metric], joined: predictions.Joined, index: int, text: str) -> Prediction:
    reference = joined.references[index]
    scores = scoring.score_text(metrics, text, reference, joined.documents[index] or "")
    return Prediction(id=joined.ids[index], prediction=text, reference=reference, scores=scores)


def _run(
    file: ScoredFile,
    lines: Sequence[Prediction],
    joined: predictions.Joined,
    metrics: Mapping[str, Metric],
    language: languages.Language,
) -> SavedRun:
    shape = scoring.text_shape(lines).model_copy(update={"share_at_cap": None})
    texts = [line.prediction for line in lines]
    record = Record(
        label=file.name,
        kind=KIND,
        seed=file.seed,
        status="done",
        config={},
        options={"file": file.file, "sha256": file.sha256},
        rouge=scoring.rouge(lines, language),
        text_shape=shape,
        further_scores=scoring.further_scores(lines),
        signatures={name: metric.signature() for name, metric in metrics.items()},
        notes={"warnings": output_flags(texts, joined.references, joined.documents)},
    )
    return SavedRun(record, (), tuple(lines))

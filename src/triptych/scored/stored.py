"""Score the stored predictions of a results folder by a metric after its runs, without loading a model."""

import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from triptych import __version__
from triptych.analysis import comparison as comparing
from triptych.config.schema import make_suite
from triptych.contracts import Metric
from triptych.errors import ConfigError, ResultsError
from triptych.registry import find
from triptych.reporting.write import write_report
from triptych.results import json_files, layout
from triptych.results.lock import locked
from triptych.results.reading import Results, SavedRun, read_results
from triptych.results.records import Comparison, Rescored, RescoredRun
from triptych.run import scoring
from triptych.run.articles import documents_of, with_documents
from triptych.storage.files import digest
from triptych.text import languages

ScoringProgress = Callable[[int, int], None]  # called with the number of predictions scored and the total
SAME = 1e-9  # tolerance between two scores by the same metric


@dataclass(frozen=True)
class Outcome:
    """The outcome of scoring again.

    Attributes:
        file: where the scores are; None if the runs already have them.
        comparison: the comparison, with the scores in its tables.
        message: a full sentence on what was done.
    """

    file: Path | None
    comparison: Comparison
    message: str


def rescore_all(
    out: Path, metrics: Sequence[str], settings: Mapping[str, Any], report: bool, progress: ScoringProgress
) -> list[Outcome]:
    """Score the stored predictions of a results folder by several metrics in turn; see `rescore`.

    Args:
        out: a results folder, of runs or of scored files.
        metrics: the metrics' registered names.
        settings: suite keys; only `rouge.language` has a meaning here.
        report: also write report.pdf and report.html.
        progress: called with the number of predictions scored and the total.

    Raises:
        ConfigError: no metric is named, a name is unknown, or another setting is given.
        ResultsError: as for `rescore`.
    """
    if not metrics:
        raise ConfigError(f"{str(out)!r} is a results folder: name what scores its predictions with --metric M.")
    if settings.keys() - {"rouge"}:
        raise ConfigError("For a results folder, --set accepts only rouge.language=NAME.")
    language = make_suite(dict(settings)).rouge.language if settings else None
    for name in metrics:
        find(Metric, name)  # refuse an unknown one before another one has written its scores
    return [rescore(out, name, report, progress, language) for name in metrics]


def rescore(out: Path, name: str, report: bool, progress: ScoringProgress, language: str | None = None) -> Outcome:
    """Score every stored prediction of a finished results folder by a registered metric, and rewrite the tables.

    The scores go to `OUT/scores/METRIC.json`; no file of a run is changed. If the metric also scored the runs
    themselves, it is compared with their scores: if the signatures are equal, nothing is added; else its scores get
    names of their own.

    Args:
        out: a results folder, of runs or of scored files.
        name: the metric's registered name.
        report: also write report.pdf and report.html.
        progress: called with the number of predictions scored and the total.
        language: language of the words, one of `languages.LANGUAGES`; None: that of the runs' ROUGE.

    Raises:
        ConfigError: no metric has that name.
        ResultsError: the folder is unfinished or unreadable; the metric gives no score, or other scores than before.
    """
    find(Metric, name)  # refuse an unknown name before anything is read
    results = read_results(out, later_scores=False)
    if not results.has_texts:
        raise ResultsError(f"{str(out)!r} holds scores without the summaries: score them where they were written.")
    counted = next((run.record.rouge.language for run in results.runs if run.record.rouge is not None), None)
    references = [line.reference for line in next(run for run in results.runs if run.done).predictions]
    some = [references[place] for place in scoring.evenly_chosen(len(references))]
    asked = languages.choose(language or counted or results.suite.rouge.language, some, results.suite.data)
    metric = scoring.metrics(asked.name, [name])[name]
    documents = documents_of(results)
    done = [run for run in results.runs if run.done]
    total, count = sum(len(run.predictions) for run in done), 0
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for run in done:
        scored = found.setdefault((run.record.label, run.record.seed), [])
        for line in run.predictions:
            document = documents.get(line.id, "") if documents else ""
            scored.append(scoring.score_text({name: metric}, line.prediction, line.reference, document))
            count += 1
            progress(count, total)
    if not any(scores for scored in found.values() for scores in scored):
        raise ResultsError(_no_score(name, results, bool(documents)))
    return _conclude(out, name, metric.signature(), found, bool(documents), report)


def _no_score(name: str, results: Results, known: bool) -> str:
    """Why a metric gives no score, and what to do."""
    if known:
        return f"The metric {name!r} gives no score for these predictions."
    if results.files is not None:
        return (
            f"The metric {name!r} gives no score: it needs the documents, and a folder of scored files does not keep "
            f"them. Score the files again with --metric {name} (triptych score NAME=FILE ...), one with a column of "
            "documents."
        )
    return (
        f"The metric {name!r} gives no score: it needs the documents, and the data {results.suite.data!r} cannot be "
        "read here, or is not what the runs had. Score where the data are, or put them back."
    )


def _conclude(
    out: Path,
    name: str,
    signature: str,
    found: dict[tuple[str, int], list[dict[str, float]]],
    known: bool,
    report: bool,
) -> Outcome:
    """Keep the scores, unless the runs already have them, and rewrite the tables."""
    with locked(out, "score a copy of the folder"):
        results = read_results(out, later_scores=False)
        runs = {(run.record.label, run.record.seed): run for run in results.runs if run.done}
        if runs.keys() != found.keys():
            raise ResultsError(f"The runs in {str(out)!r} changed while they were scored. Score them again.")
        if all(run.record.signatures.get(name) == signature for run in runs.values()):
            _compare(runs, found, name)
            message = f"The metric {name} gives the scores that the runs already have: nothing was added."
            return Outcome(None, comparing.compare_results(with_documents(read_results(out))), message)
        taken = {score for run in runs.values() for score in run.predictions[0].scores}
        rescored = Rescored(
            metric=name,
            signature=signature,
            documents_known=known,
            runs=[_run(out, run, found[key], taken) for key, run in runs.items()],
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            command=shlex.join(["triptych", *sys.argv[1:]]),
            versions={"python": platform.python_version(), "triptych": __version__, "numpy": version("numpy")},
        )
        file = layout.scores_folder(out) / f"{quote(name, safe='')}.json"
        json_files.write_json(file, rescored.model_dump(mode="json"))
        results = with_documents(read_results(out))
        comparison = comparing.compare_results(results)
        write_report(results, comparison, out, report)
    needs = find(Metric, name).of_document and not known
    without = "; the documents are not known, so scores that need them are left out" if needs else ""
    names = ", ".join(dict.fromkeys(score for run in rescored.runs for score in run.scores))
    return Outcome(file, comparison, f"Scored by {name}: {names}{without}.")


def _run(out: Path, run: SavedRun, scores: list[dict[str, float]], taken: set[str]) -> RescoredRun:
    """The scores of a run; names that the run already uses are marked."""
    folder = layout.run_folder(out, run.record.label, run.record.seed)
    scoring.refuse_missing_scores({line.id: found for line, found in zip(run.predictions, scores, strict=True)})
    columns = {f"{score} (again)" if score in taken else score: [line[score] for line in scores] for score in scores[0]}
    return RescoredRun(
        label=run.record.label,
        seed=run.record.seed,
        predictions_sha256=digest(folder / "predictions.jsonl"),
        scores=columns,
    )


def _compare(
    runs: dict[tuple[str, int], SavedRun], found: dict[tuple[str, int], list[dict[str, float]]], name: str
) -> None:
    """Check that a metric with the same signature gives the same scores."""
    for key, run in runs.items():
        for line, scores in zip(run.predictions, found[key], strict=True):
            other = [score for score, value in scores.items() if abs(value - line.scores.get(score, value)) > SAME]
            if other:
                raise ResultsError(
                    f"predictions.jsonl of {run.name} has {other[0]} {line.scores[other[0]]!r} for {line.id!r}, but "
                    f"the metric {name} gives {scores[other[0]]!r} under the same signature: the file was changed."
                )

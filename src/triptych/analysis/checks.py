"""Check summaries for errors against their articles, without another model, with intervals and tests."""

from collections.abc import Mapping, Sequence

import numpy as np

from triptych.analysis.inference import Array, Sample, sample_of
from triptych.analysis.pairs import mean_estimate, paired_tests
from triptych.config.schema import Analysis
from triptych.results.reading import Results, SavedRun
from triptych.results.records import Estimate, OutputChecks, PairedTest, Prediction
from triptych.text import languages
from triptych.text.grounding import Article, finished, grounding, names_in, num_words

MOST_SUMMARIES = 60_000  # checked in total; beyond it, evenly spaced documents are taken, the same for every method
# Each measure and its unit; first those that need the article.
OF_ARTICLE = {
    "wrong_numbers": "summaries in 100",
    "wrong_names": "summaries in 100",
    "new_words": "words in 100",
    "new_triples": "word triples in 100",
    "coverage": "words in 100",
    "density": "words",
    "lead_overlap": "word pairs in 100",
}
OF_TEXT = {"unfinished": "summaries in 100", "relative_length": "percent of the reference's words"}
_TESTED = ("wrong_numbers", "wrong_names", "coverage", "unfinished")  # measures on which pairs of methods are tested
_UNBOUNDED = ("density", "relative_length")


def output_checks(results: Results) -> OutputChecks | None:
    """Check the summaries of every finished method; None if there are none.

    Args:
        results: with the articles by id, if known; otherwise only the measures that need no article are computed.
    """
    done = [run for run in results.runs if run.done and run.predictions]
    if not done:
        return None
    total = len(done[0].predictions)
    taken = min(total, max(1, MOST_SUMMARIES // len(done)))
    places = [place * total // taken for place in range(taken)]
    lines = [done[0].predictions[place] for place in places]
    language = next((run.record.rouge.language for run in done if run.record.rouge is not None), None) or languages.ANY
    known = all(line.id in results.documents for line in lines)
    articles = [Article(results.documents[line.id], language) for line in lines] if known else []
    references = [line.reference for line in lines]
    names = names_in([*(article.text for article in articles), *references], language) if known else frozenset()
    measured = {
        label: _of_row(runs, places, articles, names, language)
        for label in results.labels
        if (runs := [run for run in results.of(label) if run.predictions])
    }
    itself = _of_texts(references, references, articles, names, language)
    scores = {label: _samples(values) for label, values in measured.items()}
    trained = {label: len(results.of(label)) for label in measured if results.of(label)[0].trained}
    return OutputChecks(
        documents_known=known,
        num_documents=taken,
        units=(OF_ARTICLE if known else {}) | OF_TEXT,
        references={measure: float(np.mean(values)) for measure, values in itself.items()},
        rows={label: {measure: _estimate(one) for measure, one in of.items()} for label, of in scores.items()},
        tests=_tests(scores, results.suite.analysis, trained),
    )


def _estimate(one: Sample) -> Estimate:
    """A mean with its interval, cut off at zero: no measure here can be negative."""
    found = mean_estimate(one)
    return found if found.low is None else found.model_copy(update={"low": max(0.0, found.low)})


def _of_row(
    runs: Sequence[SavedRun],
    places: Sequence[int],
    articles: Sequence[Article],
    names: frozenset[str],
    language: str,
) -> dict[str, Array]:
    """Each measure of a method's summaries, [S, N]."""
    of_seeds = []
    for run in runs:
        lines: list[Prediction] = [run.predictions[place] for place in places]
        texts, references = [line.prediction for line in lines], [line.reference for line in lines]
        of_seeds.append(_of_texts(texts, references, articles, names, language))
    return {measure: np.array([of[measure] for of in of_seeds]) for measure in of_seeds[0]}


def _of_texts(
    texts: Sequence[str],
    references: Sequence[str],
    articles: Sequence[Article],
    names: frozenset[str],
    language: str,
) -> dict[str, list[float]]:
    """Each measure of some summaries; without articles, only those that need none."""
    found: dict[str, list[float]] = {}
    if articles:
        each = [grounding(text, article, names) for text, article in zip(texts, articles, strict=True)]
        found = {measure: [one[measure] for one in each] for measure in OF_ARTICLE}
    found["unfinished"] = [100.0 * (bool(text.strip()) and not finished(text)) for text in texts]
    found["relative_length"] = [
        100 * num_words(text, language) / max(1, num_words(reference, language))
        for text, reference in zip(texts, references, strict=True)
    ]
    return found


def _samples(values: Mapping[str, Array]) -> dict[str, Sample]:
    return {
        measure: sample_of(array, None if measure in _UNBOUNDED else (0.0, 100.0)) for measure, array in values.items()
    }


def _tests(
    scores: Mapping[str, Mapping[str, Sample]], analysis: Analysis, trained: Mapping[str, int]
) -> list[PairedTest]:
    """Paired tests on each tested measure, corrected like those of the table, but without a margin."""
    units = OF_ARTICLE | OF_TEXT
    chosen = {
        label: {measure: one for measure, one in of.items() if measure in _TESTED} for label, of in scores.items()
    }
    tests = paired_tests(chosen, analysis, trained, power=False)
    return [test.model_copy(update={"units": units[test.metric]}) for test in tests]

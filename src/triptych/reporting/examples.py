"""Examples and the web page's browser: summaries next to excerpts of their articles, with unsupported parts marked."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from triptych.results.reading import Results, SavedRun
from triptych.results.records import Prediction
from triptych.text import formats, languages, measures
from triptych.text.grounding import Article, Mark, marks, names_in, telling_sentences

_MOST_PREDICTIONS = 20_000  # in the web page; a page with ten times as many opens slowly
_MOST_CHARACTERS = 15_000_000  # of summaries and references in the web page
_LONGEST_EXAMPLE = 900  # characters of a summary in print; the web page shows all of it
_SENTENCES = 4  # sentences of an article that are shown
_MARKED = (
    " Bold and underlined: numbers and names that are not in the article; italics: other words that are not in it. "
    "The most telling sentences of each article are shown."
)
_UNKNOWN = " The articles are not available, so nothing is marked."


def examples(results: Results) -> list[dict[str, Any]]:
    """The same documents for every method: the best, the median, the worst, and the one on which methods differ most.

    Args:
        results: the results, with their documents if these may be shown.
    """
    first = {
        label: runs[0] for label in results.labels if (runs := [run for run in results.of(label) if run.predictions])
    }
    if not first:
        return []
    language = _language(results)
    chosen = _chosen_places([run.predictions for run in _judged(first.values())])
    found = []
    names = _names(results, [next(iter(first.values())).predictions[place] for place in chosen.values()])
    for why, place in chosen.items():
        lines = {label: run.predictions[place] for label, run in first.items()}
        line = next(iter(lines.values()))
        article = results.documents.get(line.id, "")
        shown = [line.reference, *(one.prediction for one in lines.values())]
        found.append(
            {
                "id": line.id,
                "why": why,
                "main": why == next(iter(chosen)),
                "reference": _short(line.reference),
                "article": " … ".join(telling_sentences(article, shown, _SENTENCES, language)) if article else "",
                "rows": [
                    {
                        "label": label,
                        "pieces": _pieces(
                            _short(one.prediction), Article(article, language) if article else None, names
                        ),
                        "score": formats.rouge_score(one.scores.get("rouge1")),
                    }
                    for label, one in lines.items()
                ],
            }
        )
    return found


def examples_rule(results: Results) -> str:
    """How the examples were chosen and what is marked in them."""
    judged = _judged([runs[0] for label in results.labels if (runs := results.of(label))])
    chosen = "The examples are chosen by a fixed rule, from the R-1 of"
    first = "seed" if results.files is None else "set of predictions"
    marked = _MARKED if results.documents else _UNKNOWN
    if len(judged) == 1:
        return (
            f"{chosen} {judged[0].record.label} with the first {first}: the documents with the median, the best and "
            f"the worst score.{marked}"
        )
    who = "systems" if results.files is not None else "trained methods" if judged[0].trained else "methods"
    return (
        f"{chosen} the {who} with the first {first}: the documents with the best, the median and the worst mean, and "
        f"the one on which the {who} differ most.{marked}"
    )


def browser_data(
    results: Results, most: int = _MOST_PREDICTIONS, most_characters: int = _MOST_CHARACTERS
) -> dict[str, Any]:
    """References and predictions for the page's browser, with the most telling sentences of articles, never whole ones.

    Args:
        results: the loaded results.
        most: maximum predictions in the page. If there are more, documents spread evenly over the test split are taken,
            the same for every run, and `total` gives the full number.
        most_characters: maximum characters of summaries and references in the page; if there are more, fewer documents
            are taken.
    """
    finished = [run for run in results.runs if run.done and run.predictions]
    if not finished:
        return {"metrics": {}, "documents": [], "runs": [], "total": 0}
    total = len(finished[0].predictions)
    lengths = [
        len(lines[0].reference) + sum(len(line.prediction) for line in lines)
        for lines in zip(*(run.predictions for run in finished), strict=True)
    ]
    within = most_characters * total // max(1, sum(lengths))
    taken = min(total, max(1, most // len(finished)), max(1, within))
    places = [place * total // taken for place in range(taken)]
    lines = [finished[0].predictions[place] for place in places]
    data: dict[str, Any] = {
        "metrics": measures.ROUGE,
        "documents": [[line.id, line.reference] for line in lines],
        "runs": [
            {
                "label": run.record.label,
                "seed": run.record.seed,
                "predictions": [
                    [line.prediction, *[round(line.scores[metric], 2) for metric in measures.ROUGE]]
                    for line in (run.predictions[place] for place in places)
                ],
            }
            for run in finished
        ],
        "total": total,
    }
    if all(line.id in results.documents for line in lines):
        _add_articles(data, results, lines, finished, places)
    return data


def _add_articles(
    data: dict[str, Any],
    results: Results,
    lines: Sequence[Prediction],
    finished: Sequence[SavedRun],
    places: Sequence[int],
) -> None:
    """Add an excerpt of every article, and the places where summaries have numbers or names not in the article."""
    language, names = _language(results), _names(results, lines)
    articles = [Article(results.documents[line.id], language) for line in lines]
    data["excerpts"] = [
        " … ".join(telling_sentences(article.text, [line.reference], _SENTENCES, language))
        for article, line in zip(articles, lines, strict=True)
    ]
    for run, shown in zip(finished, data["runs"], strict=True):
        shown["unsupported"] = [
            [
                [mark.begin, mark.end]
                for mark in marks(run.predictions[place].prediction, article, names)
                if _wrong(mark)
            ]
            for place, article in zip(places, articles, strict=True)
        ]


_MOST_UNLIKE = "Largest difference between methods"


def _chosen_places(scored: Sequence[Sequence[Prediction]]) -> dict[str, int]:
    """The indices of the documents chosen by the rule, keyed by reason, the main one first; none is chosen twice."""
    number = min(map(len, scored))
    scores = [[predictions[place].scores["rouge1"] for predictions in scored] for place in range(number)]
    by_mean = sorted(range(number), key=lambda place: (-fmean(scores[place]), place))
    by_spread = sorted(range(number), key=lambda place: (min(scores[place]) - max(scores[place]), place))
    middle = number // 2
    median = by_mean[middle:] + by_mean[:middle]
    first = {_MOST_UNLIKE: by_spread} if len(scored) > 1 else {"Median": median}
    orders = first | {"Best": by_mean, "Median": median, "Worst": by_mean[::-1]}
    chosen: dict[str, int] = {}
    for why, order in orders.items():
        if (place := next((place for place in order if place not in chosen.values()), None)) is not None:
            chosen[why] = place
    return chosen


def _judged(runs: Iterable[SavedRun]) -> list[SavedRun]:
    """The runs by whose scores examples are chosen: those of trained methods; if there is none, all."""
    runs = list(runs)
    return [run for run in runs if run.trained] or runs


def _names(results: Results, lines: Sequence[Prediction]) -> frozenset[str]:
    texts = [*(results.documents.get(line.id, "") for line in lines), *(line.reference for line in lines)]
    return names_in(texts, _language(results))


def _language(results: Results) -> str:
    found = next((run.record.rouge.language for run in results.runs if run.record.rouge is not None), None)
    return found or languages.ANY


def _pieces(text: str, article: Article | None, names: frozenset[str]) -> list[dict[str, str]]:
    """A text split at its marks: `wrong` for an unsupported number or name, `new` for another word, else empty."""
    pieces, end = [], 0
    for mark in marks(text, article, names) if article is not None else []:
        pieces += [(text[end : mark.begin], ""), (text[mark.begin : mark.end], "wrong" if _wrong(mark) else "new")]
        end = mark.end
    pieces.append((text[end:], ""))
    return [{"text": part, "mark": mark} for part, mark in pieces if part] or [{"text": "", "mark": ""}]


def _wrong(mark: Mark) -> bool:
    return mark.kind != "word"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_EXAMPLE else text[:_LONGEST_EXAMPLE] + " … (cut in print)"

"""ROUGE of a generated summary against its reference, by the package `rouge_score`.

Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004. What papers call R-L is the summary-level
`rougeLsum`, which needs a sentence on each line; `rougeL` takes the whole text as one sequence.
"""

from functools import cached_property
from importlib.metadata import version

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from triptych import __version__, sentences
from triptych.contracts import Metric
from triptych.registry import register

TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@register("rouge")
class RougeScore(Metric):
    """ROUGE-1, -2, -L and -Lsum: F1 in 0-100, words stemmed."""

    @cached_property
    def _scorer(self) -> RougeScorer:
        return RougeScorer(list(TYPES), tokenizer=DefaultTokenizer(use_stemmer=True))

    def score(self, prediction: str, reference: str, document: str) -> dict[str, float]:
        """F1 x 100 of each type, unrounded; 0 where the prediction or the reference has no word."""
        scores = self._scorer.score(one_sentence_a_line(reference), one_sentence_a_line(prediction))
        return {name: 100.0 * scores[name].fmeasure for name in TYPES}

    def signature(self) -> str:
        """Types, statistic, stemmer, how sentences are told, and the versions of what computes them."""
        parts = ("+".join(TYPES), "F1", "stemmer:yes", f"sentences:lines-or-triptych-{sentences.VERSION}",
                 f"rouge_score:{version('rouge_score')}", f"version:{__version__}")  # fmt: skip
        return "|".join(parts)


def one_sentence_a_line(text: str) -> str:
    """A text of several lines as it is, since its lines are its sentences; any other is split into sentences."""
    text = text.strip()
    return text if "\n" in text else "\n".join(sentences.split_sentences(text))

"""ROUGE of a generated summary against its reference, with scores equal to those of the package `rouge_score`.

Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004. What papers call R-L is the summary-level
`rougeLsum`, which expects one sentence per line; `rougeL` treats the whole text as one sequence. English is split into
words by rouge_score's own tokenizer, every other language by `triptych.text.words`. The scores are computed by
`triptych.metrics.subsequences`, bit for bit as rouge_score does.
"""

from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

from pydantic import Field

from triptych import __version__
from triptych.contracts import Metric
from triptych.metrics import subsequences
from triptych.registry import register
from triptych.results.records import ROUGE_SCORES, ROUGE_TYPES
from triptych.text import languages, sentences, words

if TYPE_CHECKING:
    from rouge_score.tokenizers import Tokenizer


@register("rouge")
class RougeScore(Metric):
    """ROUGE-1, -2, -L and -Lsum: F1 in 0-100; English words stemmed, other scripts by word or by character."""

    language: languages.LanguageName = Field(
        languages.AUTO,
        description="language of the words, from the suite's [rouge] language; without a suite, auto decides for each "
        "reference",
    )

    @cached_property
    def _tokenizers(self) -> dict[str, "Tokenizer"]:
        return {}

    def score(self, prediction: str, reference: str, document: str) -> dict[str, float]:
        """F1 x 100 of each ROUGE type, unrounded; 0 if the prediction or the reference has no word.

        Args:
            prediction: the generated summary.
            reference: the reference summary.
            document: not used.
        """
        scores = self.scores(prediction, reference)
        return {name: scores[name] for name in ROUGE_TYPES}

    def scores(self, prediction: str, reference: str) -> dict[str, float]:
        """F1, precision and recall x 100 of each ROUGE type, by the names in `ROUGE_SCORES`.

        A summary that is longer than its reference has the lower precision, a shorter one the lower recall.

        Args:
            prediction: the generated summary.
            reference: the reference summary.
        """
        from triptych.text.tokenizers import tokenizer  # importing nltk takes longer than all of `triptych list`

        name = languages.choose(self.language, [reference]).name if self.language == languages.AUTO else self.language
        if name not in self._tokenizers:
            self._tokenizers[name] = tokenizer(name)
        wanted, given = (
            [self._tokenizers[name].tokenize(line) for line in sentence_per_line(text).split("\n")]
            for text in (reference, prediction)
        )
        all_wanted, all_given = ([token for line in lines for token in line] for lines in (wanted, given))
        found = (
            subsequences.rouge_n(all_wanted, all_given, 1),
            subsequences.rouge_n(all_wanted, all_given, 2),
            subsequences.rouge_l(all_wanted, all_given),
            subsequences.rouge_l_sum(wanted, given),
        )
        values = ([score.fmeasure, score.precision, score.recall] for score in found)
        return dict(zip(ROUGE_SCORES, (100.0 * value for three in values for value in three), strict=True))

    def signature(self) -> str:
        """Types, statistic, stemmer, sentence splitter, language, tokenizer, and versions of everything involved."""
        english, auto = self.language == languages.ENGLISH, self.language == languages.AUTO
        stemmer = (
            f"snowball-{self.language}" if self.language in languages.STEMMED else "yes" if english or auto else "no"
        )
        counted = "rouge_score" if english else f"unicode-{words.WORD_RULES_VERSION}"
        parts = (
            "+".join(ROUGE_TYPES),
            "F1",
            f"stemmer:{stemmer}",
            f"sentences:lines-or-triptych-{sentences.SENTENCE_RULES_VERSION}",
            f"rouge_score:{version('rouge_score')}",
            f"lang:{self.language}",
            f"tok:{'by-language' if auto else counted}",
            f"version:{__version__}",
        )
        return "|".join(parts)


def sentence_per_line(text: str) -> str:
    """The text with one sentence per line: unchanged if it has several lines, else split into sentences."""
    text = text.strip()
    return text if "\n" in text else "\n".join(sentences.split_sentences(text))

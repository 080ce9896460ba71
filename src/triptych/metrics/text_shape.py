"""Statistics of a summary's text: length, copying from the document, repetition. Length alone affects ROUGE a lot."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from triptych.contracts import Metric
from triptych.registry import register
from triptych.text import languages, words


@register("text-shape")
class TextShapeMetric(Metric):
    """Length in words, novel bigrams, longest copied span, repeated trigrams, and whether the summary is empty."""

    of_document: ClassVar[tuple[str, ...]] = ("novel_bigrams", "longest_copied_words")
    language: languages.LanguageName = Field(
        languages.AUTO,
        description="language of the suite's [rouge]; it only decides how capital I is folded",
    )

    def score(self, prediction: str, reference: str, document: str) -> dict[str, float]:
        """The statistics of one summary: counts in words, shares in 0-1.

        Args:
            prediction: the generated summary.
            reference: the reference summary; only its length is used.
            document: the document; empty if unknown.

        Returns:
            prediction_words, reference_words: lengths.
            empty: 1 if the prediction has no word, else 0.
            novel_bigrams: share of the prediction's bigrams that are not in the document; 0 below two words.
            longest_copied_words: length of the longest run of words that the document also contains.
            repeated_trigrams: share of the prediction's trigrams that occurred earlier in it; 0 below three words.
        """
        predicted, source = (shape_words(text, self.language) for text in (prediction, document))
        bigrams, trigrams = _ngrams(predicted, 2), _ngrams(predicted, 3)
        known = set(_ngrams(source, 2))
        return {
            "prediction_words": float(len(predicted)),
            "reference_words": float(len(shape_words(reference, self.language))),
            "empty": float(not predicted),
            "novel_bigrams": sum(pair not in known for pair in bigrams) / len(bigrams) if bigrams else 0.0,
            "longest_copied_words": float(longest_common_span(predicted, source)),
            "repeated_trigrams": 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0,
        }

    def signature(self) -> str:
        """The rules by which words are found and compared."""
        dotless = "|dotless-i" if self.language in languages.DOTLESS_I else ""
        return f"text-shape|words:folded,punctuation-off,unicode-{words.WORD_RULES_VERSION}{dotless}|2"


def shape_words(text: str, language: str = languages.ANY) -> list[str]:
    """Words in lower case without surrounding punctuation.

    `3.5`, `don't` and `well-known` are one word each, as is each character of a script without spaces.

    Args:
        text: any text.
        language: one of `languages.LANGUAGES`.
    """
    return [word for word, _, _ in words.word_spans(text, language in languages.DOTLESS_I)]


def longest_common_span(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest run of consecutive words that both contain; O(len(a) len(b)), vectorized over `b`."""
    numbers = {word: number for number, word in enumerate(dict.fromkeys(b))}
    other = np.array([numbers[word] for word in b], dtype=np.int64)
    run = np.zeros(len(b) + 1, dtype=np.int64)  # run[j + 1]: length of the common span that ends at b[j]
    longest = 0
    for word in a:
        run[1:] = np.where(other == numbers.get(word, -1), run[:-1] + 1, 0)
        longest = max(longest, int(run.max()))
    return longest


def _ngrams(sequence: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(sequence[start:] for start in range(n)), strict=False))


def copied_spans(text: str, document: str, least: int, language: str = languages.ANY) -> list[tuple[int, int]]:
    """`(begin, end)`, in characters, of each part of a text that was copied from the document.

    Args:
        text: the summary.
        document: what it may have been copied from.
        least: minimum number of consecutive words for a shared run to count as copied.
        language: one of `languages.LANGUAGES`.
    """
    found = list(words.word_spans(text, language in languages.DOTLESS_I))
    known = set(_ngrams(shape_words(document, language), least))
    covered = [False] * len(found)
    for start, ngram in enumerate(_ngrams([word for word, _, _ in found], least)):
        if ngram in known:
            covered[start : start + least] = [True] * least
    spans: list[tuple[int, int]] = []
    for place, ((_, begin, end), copied) in enumerate(zip(found, covered, strict=True)):
        if copied and place and covered[place - 1]:
            spans[-1] = (spans[-1][0], end)
        elif copied:
            spans.append((begin, end))
    return spans


def matching_words(text: str, other: str, present: bool, language: str = languages.ANY) -> list[tuple[int, int]]:
    """`(begin, end)`, in characters, of each word of a text that another text contains, or does not.

    Args:
        text: the text whose words are looked up.
        other: the text to look them up in.
        present: return the words that `other` contains; else those that it does not.
        language: one of `languages.LANGUAGES`.
    """
    known = set(shape_words(other, language))
    found = words.word_spans(text, language in languages.DOTLESS_I)
    return [(begin, end) for word, begin, end in found if (word in known) == present]

"""ROUGE scores of token lists, bit for bit equal to those of `rouge_score`, computed with bit vectors.

For every pair of sentences, rouge_score fills a table of m x n cells in Python to find a longest common subsequence.
Here a row of that table is one integer in which bit j - 1 is 0 if the length of the subsequence rises at column j
(Crochemore, Iliopoulos, Pinzon and Reid 2001, "A fast and practical bit-vector algorithm for the longest common
subsequence problem"). Backtracking makes the same choices as rouge_score, so that it finds the same one of several
longest subsequences.
"""

from collections import Counter
from collections.abc import Sequence

from rouge_score.scoring import Score, fmeasure

Sentences = Sequence[Sequence[str]]
_NOTHING = Score(precision=0.0, recall=0.0, fmeasure=0.0)


def rouge_n(reference: Sequence[str], prediction: Sequence[str], n: int) -> Score:
    """ROUGE-N: precision, recall and F1 of common n-grams, in 0-1.

    Args:
        reference: tokens.
        prediction: tokens.
        n: length of the n-grams.
    """
    wanted, given = (
        Counter(zip(*(tokens[start:] for start in range(n)), strict=False)) for tokens in (reference, prediction)
    )
    hits = sum(min(count, given[ngram]) for ngram, count in wanted.items())
    return _score(hits, max(given.total(), 1), max(wanted.total(), 1))


def rouge_l(reference: Sequence[str], prediction: Sequence[str]) -> Score:
    """ROUGE-L: precision, recall and F1 of the longest common subsequence, in 0-1; 0 if either side is empty.

    Args:
        reference: tokens.
        prediction: tokens.
    """
    if not reference or not prediction:
        return _NOTHING
    length = _rising(_rows(reference, prediction)[-1], len(prediction))
    return _score(length, len(prediction), len(reference))


def rouge_l_sum(reference: Sentences, prediction: Sentences) -> Score:
    """ROUGE-Lsum: precision, recall and F1 of the union of longest common subsequences over sentences, in 0-1.

    All are 0 if either text has no token. See Lin 2004, section 3.2; a token counts at most as often as both have it.

    Args:
        reference: the tokens of each sentence.
        prediction: the tokens of each sentence.
    """
    wanted, given = (
        Counter(token for tokens in sentences for token in tokens) for sentences in (reference, prediction)
    )
    if not wanted or not given:
        return _NOTHING
    predicted, referred = given.total(), wanted.total()
    hits = 0
    for tokens in reference:
        found: set[int] = set().union(*(common_places(tokens, other) for other in prediction))
        for place in sorted(found):
            token = tokens[place]
            if given[token] > 0 and wanted[token] > 0:
                hits += 1
                given[token] -= 1
                wanted[token] -= 1
    return _score(hits, predicted, referred)


def common_places(reference: Sequence[str], prediction: Sequence[str]) -> list[int]:
    """Positions in the reference of one longest common subsequence, in order: the one that rouge_score finds."""
    rows = _rows(reference, prediction)
    i, j = len(reference), len(prediction)
    places = []
    while i > 0 and j > 0:
        if reference[i - 1] == prediction[j - 1]:
            i, j = i - 1, j - 1
            places.append(i)
        elif _rising(rows[i], j - 1) > _rising(rows[i - 1], j):
            j -= 1
        else:
            i -= 1
    return places[::-1]


def _score(hits: int, given: int, wanted: int) -> Score:
    """Precision, recall and F1 from the numbers of common, predicted and reference tokens."""
    precision, recall = hits / given, hits / wanted
    return Score(precision=precision, recall=recall, fmeasure=fmeasure(precision, recall))


def _rows(reference: Sequence[str], prediction: Sequence[str]) -> list[int]:
    """Row i of the table for each i from 0, as an integer in which bit j - 1 is 0 if the row rises at column j."""
    where: dict[str, int] = {}
    for place, token in enumerate(prediction):
        where[token] = where.get(token, 0) | 1 << place
    full = (1 << len(prediction)) - 1
    row = full
    rows = [row]
    for token in reference:
        if matches := where.get(token):
            met = row & matches
            row = (row + met | row - met) & full
        rows.append(row)
    return rows


def _rising(row: int, column: int) -> int:
    """The value in a column of a row: how often the row has risen up to that column."""
    return column - (row & (1 << column) - 1).bit_count()

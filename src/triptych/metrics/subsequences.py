"""ROUGE of tokens, bit for bit as `rouge_score` computes it, with its longest common subsequences from bit vectors.

rouge_score fills a table of m x n cells in Python for every pair of sentences. Here a row of that table is one whole
number: bit j - 1 is 0 where the length of the longest common subsequence rises at column j (Crochemore, Iliopoulos,
Pinzon and Reid 2001, "A fast and practical bit-vector algorithm for the longest common subsequence problem"). The way
back through the table takes the turns that rouge_score takes, so that the same one of several longest subsequences is
found.
"""

from collections import Counter
from collections.abc import Sequence

from rouge_score.scoring import fmeasure

Sentences = Sequence[Sequence[str]]


def rouge_n(reference: Sequence[str], prediction: Sequence[str], n: int) -> float:
    """F1 in 0-1 of the n-grams of both."""
    wanted, given = (
        Counter(zip(*(tokens[start:] for start in range(n)), strict=False)) for tokens in (reference, prediction)
    )
    hits = sum(min(count, given[ngram]) for ngram, count in wanted.items())
    return fmeasure(hits / max(given.total(), 1), hits / max(wanted.total(), 1))


def rouge_l(reference: Sequence[str], prediction: Sequence[str]) -> float:
    """F1 in 0-1 of the longest common subsequence; 0 where either is empty."""
    if not reference or not prediction:
        return 0.0
    length = _rising(_rows(reference, prediction)[-1], len(prediction))
    return fmeasure(length / len(prediction), length / len(reference))


def rouge_l_sum(reference: Sentences, prediction: Sentences) -> float:
    """F1 in 0-1 of the union of longest common subsequences, sentence by sentence; 0 where either has no token.

    Lin 2004, section 3.2; a token is hit at most as often as both texts have it.
    """
    wanted, given = (
        Counter(token for tokens in sentences for token in tokens) for sentences in (reference, prediction)
    )
    if not wanted or not given:
        return 0.0
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
    return fmeasure(hits / predicted, hits / referred)


def common_places(reference: Sequence[str], prediction: Sequence[str]) -> list[int]:
    """Places in the reference of one longest common subsequence, in order: the one that rouge_score finds."""
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


def _rows(reference: Sequence[str], prediction: Sequence[str]) -> list[int]:
    """Row i of the table, for each i from 0: bit j - 1 is 0 where it rises at column j."""
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
    """The number in a column of a row: how often the row has risen by then."""
    return column - (row & (1 << column) - 1).bit_count()

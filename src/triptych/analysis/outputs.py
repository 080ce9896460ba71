"""Warnings about outputs that make a comparison unfair: empty, repeated, echoed or truncated texts."""

import re
from collections import Counter
from collections.abc import Sequence

from triptych.text import formats

NOTABLE_SHARE = 0.01  # share of documents; below it, nothing but empty outputs is reported
ECHOED_WORDS = 20  # this many first words in common with the document are no coincidence
WHOLE = 0.9  # share of the document's words; an output that repeats this much contains the prompt
BEGINS = 0.1  # share of outputs; a smaller share may well begin like their news article
CUT = 0.1  # how much larger the share of outputs without a sentence end is than that of references
AT_LONGEST = 0.1  # share of outputs of the maximum length, and at least `FEWEST_AT_LONGEST`; rare without a limit
FEWEST_AT_LONGEST = 5
BELOW = 3  # lengths below the longest; with a limit, each has fewer than half as many outputs as the longest
FEWEST = 20  # with fewer outputs, a share says nothing
_END = re.compile(r"[.!?…。！？｡।॥؟۔]+[\s\"'”’»)\]}」』]*\Z")


def output_flags(predictions: Sequence[str], references: Sequence[str], documents: Sequence[str | None]) -> list[str]:
    """Warnings about one set of outputs, in full sentences.

    Args:
        predictions: one output per document.
        references: the references of the same documents.
        documents: the documents themselves; None for an unknown one.
    """
    found = (
        _empty(predictions),
        _repeated(predictions, references),
        _echoed(predictions, documents),
        _copied_reference(predictions, references),
        _without_end(predictions, references),
        _equally_long(predictions, references),
    )
    return [sentence for sentence in found if sentence]


def _empty(predictions: Sequence[str]) -> str:
    count = sum(not text.strip() for text in predictions)
    what = formats.verb(count, "is empty and scores", "are empty and score")
    return f"{_of(count, predictions)} outputs {what} 0." if count else ""


def _repeated(predictions: Sequence[str], references: Sequence[str]) -> str:
    """Warn about outputs that several documents share, beyond what references share."""
    count, most = _twice(predictions)
    if count - _twice(references)[0] <= max(NOTABLE_SHARE * len(predictions), 1):
        return ""
    return f"{_of(count, predictions)} outputs also occur for another document; the most frequent is {_quoted(most)}."


def _twice(texts: Sequence[str]) -> tuple[int, str]:
    counts = Counter(" ".join(text.split()) for text in texts if text.strip())
    most = counts.most_common(1)
    return sum(count for count in counts.values() if count > 1), most[0][0] if most else ""


def _echoed(predictions: Sequence[str], documents: Sequence[str | None]) -> str:
    """Warn about outputs that begin like their document."""
    begins = whole = 0
    for text, document in zip(predictions, documents, strict=True):
        source, words = (document or "").split(), text.split()
        shared = next(
            (place for place, pair in enumerate(zip(words, source, strict=False)) if pair[0] != pair[1]), None
        )
        shared = min(len(words), len(source)) if shared is None else shared
        begins += shared >= ECHOED_WORDS
        whole += shared >= max(WHOLE * len(source), ECHOED_WORDS)
    if whole > NOTABLE_SHARE * len(predictions):
        what = formats.verb(whole, "begins with its", "begin with their")
        return (
            f"{_of(whole, predictions)} outputs {what} whole document: the prompt was left in "
            f"{formats.verb(whole, 'it', 'them')}, so what is scored is not the summary."
        )
    if begins > BEGINS * len(predictions):
        what, whose, copies = (
            formats.verb(begins, *forms)
            for forms in (("begins", "begin"), ("its", "their"), ("it copies", "they copy"))
        )
        return (
            f"{_of(begins, predictions)} outputs {what} with the first {ECHOED_WORDS} words or more of {whose} "
            f"document: {copies} its beginning, or the prompt was left in {formats.verb(begins, 'it', 'them')}."
        )
    return ""


def _copied_reference(predictions: Sequence[str], references: Sequence[str]) -> str:
    count = sum(bool(a.strip()) and a.split() == b.split() for a, b in zip(predictions, references, strict=True))
    if count <= max(NOTABLE_SHARE * len(predictions), 1):
        return ""
    return f"{_of(count, predictions)} outputs equal their reference word for word: are these predictions?"


def _without_end(predictions: Sequence[str], references: Sequence[str]) -> str:
    """Warn about outputs that end in the middle of a sentence more often than references do."""
    there = [text for text in predictions if text.strip()]
    if len(there) < FEWEST:
        return ""
    open_ends, of_references = (
        sum(not _END.search(text) for text in texts) / len(texts) for texts in (there, references)
    )
    if open_ends - of_references <= CUT:
        return ""
    return (
        f"{_percent(open_ends)} of the outputs end without final punctuation, against {_percent(of_references)} of the "
        "references: they were probably cut at a token limit, which lowers their recall."
    )


def _equally_long(predictions: Sequence[str], references: Sequence[str]) -> str:
    """Warn about outputs that pile up at the maximum number of words; texts that end by themselves do not."""
    lengths = Counter(len(text.split()) for text in predictions if text.strip())
    total = sum(lengths.values())
    if total < FEWEST or len(lengths) < 2:
        return ""
    longest = max(lengths)
    share = lengths[longest] / total
    counts = Counter(len(text.split()) for text in references)
    if lengths[longest] < FEWEST_AT_LONGEST or share < AT_LONGEST:
        return ""
    if lengths[longest] <= 2 * max(lengths[longest - step] for step in range(1, BELOW + 1)):
        return ""
    if counts[max(counts)] / len(references) >= AT_LONGEST:
        return ""
    return (
        f"{_percent(share)} of the outputs have exactly {longest:,} words and none has more: they may have been cut "
        "there."
    )


def _of(count: int, texts: Sequence[str]) -> str:
    return f"{count:,} of {len(texts):,}"


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")

"""How well an article supports its summary: unsupported numbers and names, new words, extractive fragments, the lead.

Coverage and density are defined as in Grusky, Naaman and Artzi 2018, "Newsroom: A Dataset of 1.3 Million Summaries with
Diverse Extractive Strategies", section 4. Numbers and names are only looked up in the article: one that occurs there
but is used wrongly is not detected.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum

from triptych.text import languages, words
from triptych.text.sentences import split_sentences

LEAD_SENTENCES = 3
CAPITALIZED_NOUNS = ("german",)  # languages in which capitalized words need not be names
_NUMBER = re.compile(r"\d+(?:[.,'’\u00a0\u202f]\d+)*")
_THOUSANDS = re.compile(r"\d{1,3}(?:[.,'’\u00a0\u202f]\d{3})+")
_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_TEENS = "seventeen eighteen nineteen twenty"
_TENS = "thirty forty fifty sixty seventy eighty ninety"
_IN_WORDS = {word: str(number) for number, word in enumerate(f"{_UNITS} {_TEENS}".split())} | {
    word: str(number) for number, word in zip(range(30, 100, 10), _TENS.split(), strict=True)
}
_JOINTS = re.compile(r"[-'’.]")
_BEGINS = re.compile(r"(?:^|[.!?:;…。！？\n\-–—])[\s\"'“”‘’«»()\[\]]*\Z")
_END = re.compile(r"[.!?…。！？｡।॥؟۔]+[\s\"'”’»)\]}」』]*\Z")


@dataclass(frozen=True)
class Mark:
    """A character range of a summary that its article does not support; `kind` is `number`, `name` or `word`."""

    kind: str
    begin: int
    end: int


@dataclass(frozen=True)
class Article:
    """An article, prepared for comparison with summaries.

    Attributes:
        text: the whole article.
        language: the language in which words are counted, one of `languages.LANGUAGES`.
    """

    text: str
    language: str = languages.ANY

    @cached_property
    def words(self) -> list[str]:
        """Its words, folded, in order."""
        return [word for word, _, _ in _spans(self.text, self.language)]

    @cached_property
    def known(self) -> frozenset[str]:
        """Its words, and the parts of compound words."""
        return frozenset(part for word in self.words for part in _parts(word))

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Its numbers, written in digits or in English words, in a normal form."""
        digits = {_plain_number(found.group()) for found in _NUMBER.finditer(self.text)}
        return frozenset(digits | {_IN_WORDS[word] for word in self.known if word in _IN_WORDS})

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """The positions of each word."""
        found: dict[str, list[int]] = defaultdict(list)
        for place, word in enumerate(self.words):
            found[word].append(place)
        return found

    @cached_property
    def lead(self) -> frozenset[tuple[str, ...]]:
        """The word bigrams of its first three sentences."""
        sentences = split_sentences(self.text)[:LEAD_SENTENCES]
        begin = [word for sentence in sentences for word, _, _ in _spans(sentence, self.language)]
        return frozenset(_grams(begin, 2))

    @cached_property
    def triples(self) -> frozenset[tuple[str, ...]]:
        """Its word trigrams."""
        return frozenset(_grams(self.words, 3))


def grounding(summary: str, article: Article, names: frozenset[str]) -> dict[str, float]:
    """How well an article supports its summary; all values except the density are in 0-100.

    Args:
        summary: any text.
        article: the article it summarizes.
        names: words that are names even at the beginning of a sentence, from `names_in`.

    Returns:
        wrong_numbers, wrong_names: 100 if the summary has a number, or a name, that the article does not have, else 0.
        new_words, new_triples: the share of its words, and of its word trigrams, that the article does not have.
        coverage: the share of its words that lie in fragments of the article.
        density: the mean, over its words, of the length in words of the fragment that each lies in.
        lead_overlap: the share of its word bigrams that are in the first three sentences of the article.
    """
    found = [word for word, _, _ in _spans(summary, article.language)]
    kinds = {mark.kind for mark in marks(summary, article, names)}
    fragments = list(_fragments(found, article))
    pairs, triples = _grams(found, 2), _grams(found, 3)
    return {
        "wrong_numbers": 100.0 * ("number" in kinds),
        "wrong_names": 100.0 * ("name" in kinds),
        "new_words": _percent(word not in article.places for word in found),
        "new_triples": _percent(triple not in article.triples for triple in triples),
        "coverage": 100 * sum(fragments) / len(found) if found else 0.0,
        "density": sum(length * length for length in fragments) / len(found) if found else 0.0,
        "lead_overlap": _percent(pair in article.lead for pair in pairs),
    }


def marks(summary: str, article: Article, names: frozenset[str]) -> list[Mark]:
    """The numbers, names and other words of a summary that its article does not have, in order."""
    found = []
    for word, begin, end in _spans(summary, article.language):
        written = summary[begin:end]
        if any(character.isdigit() for character in written):
            numbers = [_plain_number(number.group()) for number in _NUMBER.finditer(written)]
            kind = "number" if any(number not in article.numbers for number in numbers) else ""
        elif _is_name(summary, word, begin, names, article.language):
            kind = "" if _is_known(word, article) else "name"
        elif word in _IN_WORDS and word != "one":
            kind = "number" if _IN_WORDS[word] not in article.numbers else ""
        else:
            kind = "" if _is_known(word, article) else "word"
        if kind:
            found.append(Mark(kind, begin, end))
    return found


def names_in(texts: Iterable[str], language: str = languages.ANY) -> frozenset[str]:
    """The words that are capitalized within a sentence in these texts and never written in lower case."""
    capitalized, ordinary = set(), set()
    for text in texts:
        for word, begin, _ in _spans(text, language):
            if not text[begin].isupper():
                ordinary.add(word)
            elif not _begins_sentence(text, begin):
                capitalized.add(word)
    return frozenset(capitalized - ordinary)


def num_words(text: str, language: str = languages.ANY) -> int:
    """The number of words in a text."""
    return sum(1 for _ in _spans(text, language))


def finished(text: str) -> bool:
    """Whether a text ends like a sentence."""
    return _END.search(text) is not None


def telling_sentences(article: str, summaries: Sequence[str], most: int, language: str = languages.ANY) -> list[str]:
    """The sentences of an article that share the most words with its summaries, in article order.

    Each is chosen for words that the sentences chosen before it do not have; words that are frequent in the article
    count little.

    Args:
        article: the text.
        summaries: summaries of the article.
        most: maximum number of sentences.
        language: one of `languages.LANGUAGES`.
    """
    sentences = split_sentences(article)
    found = [{word for word, _, _ in _spans(sentence, language)} for sentence in sentences]
    wanted = {word for summary in summaries for word, _, _ in _spans(summary, language)}
    weight = {word: 1 / sum(word in sentence for sentence in found) for word in set().union(*found) & wanted}
    chosen: list[int] = []
    for _ in range(min(most, len(sentences))):
        gains = [fsum(weight.get(word, 0.0) for word in sentence) for sentence in found]  # exact, whatever the order
        best = max(range(len(sentences)), key=lambda place: (place not in chosen, gains[place], -place))
        if best in chosen or not gains[best]:
            break
        chosen.append(best)
        for word in found[best]:
            weight.pop(word, None)
    return [sentences[place] for place in sorted(chosen)]


def _spans(text: str, language: str) -> Iterator[tuple[str, int, int]]:
    return words.word_spans(text, language in languages.DOTLESS_I)


def _parts(word: str) -> list[str]:
    """A word and, for a compound, its parts that are longer than one letter."""
    return [word, *(part for part in _JOINTS.split(word) if len(part) > 1)] if _JOINTS.search(word) else [word]


def _is_known(word: str, article: Article) -> bool:
    """Whether a word, or all parts of a compound, are in the article: `Rinex's` if the article has `Rinex`."""
    return word in article.known or all(part in article.known for part in _parts(word)[1:] or [word])


def _is_name(text: str, word: str, begin: int, names: frozenset[str], language: str) -> bool:
    """Whether a word is capitalized and, at the beginning of a sentence, known to be a name."""
    if not text[begin].isupper() or len(word) < 2 or language in CAPITALIZED_NOUNS:
        return False
    return word in names or not _begins_sentence(text, begin)


def _begins_sentence(text: str, begin: int) -> bool:
    return _BEGINS.search(text[max(0, begin - 12) : begin]) is not None


def _plain_number(text: str) -> str:
    """A number in ASCII digits, without thousands separators, leading zeros and trailing decimal zeros."""
    digits = "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in text)
    if _THOUSANDS.fullmatch(digits):
        digits = re.sub(r"\D", "", digits)
    digits = re.sub(r"\D", ".", digits)
    if digits.count(".") == 1:
        digits = digits.rstrip("0").rstrip(".")
    return digits.lstrip("0") or "0"


def _fragments(summary: Sequence[str], article: Article) -> Iterator[int]:
    """The lengths of a summary's extractive fragments, each the longest match after the end of the previous one."""
    place = 0
    while place < len(summary):
        longest = 0
        for start in article.places.get(summary[place], ()):
            length = 1
            while (
                place + length < len(summary)
                and start + length < len(article.words)
                and summary[place + length] == article.words[start + length]
            ):
                length += 1
            longest = max(longest, length)
        if longest:
            yield longest
        place += max(longest, 1)


def _grams(sequence: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(sequence[start:] for start in range(n)), strict=False))


def _percent(facts: Iterable[bool]) -> float:
    """The share of facts that are true, in 0-100; 0 if there are none."""
    found = list(facts)
    return 100 * sum(found) / len(found) if found else 0.0

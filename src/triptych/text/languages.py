"""Choose the language in which ROUGE counts words: set by the suite or detected from the references.

English is counted as in rouge_score: words of a-z and 0-9, stemmed with Porter's algorithm. Other languages are counted
by `triptych.text.words`, and stemmed only if the suite names a language that has a stemmer: a stemmer for the wrong
language conflates unrelated words, so only English is stemmed when the language is detected.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import regex
from pydantic import AfterValidator

from triptych.errors import ConfigError, nearest

AUTO, ANY, ENGLISH = "auto", "any", "english"
STEMMED = (
    "arabic",
    "danish",
    "dutch",
    "finnish",
    "french",
    "german",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
)
DOTLESS_I = ("azerbaijani", "turkish")  # languages in which I is the capital of the dotless small i
_CODES = {
    "ar": "arabic",
    "az": "azerbaijani",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "he": "hebrew",
    "hi": "hindi",
    "hu": "hungarian",
    "it": "italian",
    "ja": "japanese",
    "ko": "korean",
    "nb": "norwegian",
    "nl": "dutch",
    "nn": "norwegian",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "th": "thai",
    "tr": "turkish",
    "vi": "vietnamese",
    "zh": "chinese",
}
LANGUAGES = (AUTO, ANY, *sorted(set(_CODES.values())))

MOST_DROPPED = 0.1  # English is refused if this share of the letters would not be counted, or of references is affected
_MOST_FOREIGN = 0.05  # the same shares, above which `auto` does not choose English
_LEAST_FUNCTION_WORDS = 0.05  # English news has 14-21% of them; other languages in Latin script at most 2.3%
_FORGIVEN = 3  # number of function words that may be missing: a few headlines may have none
_MOST_OTHER = 0.05  # function words of other languages per English one: more is a mixture
_MOST_ACCENTED = 0.02  # share of non-ASCII letters in a text too short to contain a function word
_LEAST_DOTLESS_I = 0.01  # share of the letters; Turkish has 5%
_LEAST_SAID = 0.005  # a smaller share of uncounted letters is not reported


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Frequent in English but not in other languages in Latin script (unlike "in", "on", "at" and "for").
_ENGLISH = _words(
    "the and to of that with from by this it his they are were been has which who after said will would their its not "
    "but"
)
# Frequent in another language, but neither English words nor common parts of names (unlike "de", "la" and "van").
_OTHER = _words(
    "des et est une dans qui que pas pour avec aux sont cette é à una por como más su não uma em dos ao il che della "
    "è sono gli nel und das ist nicht ein eine auf dem für zu sich het een niet dat zijn voor te og det er som ikke "
    "på av til att är och inte yang dan dari untuk ini dengan di pada itu dalam ang ng mga ay wa kwa katika bir bu "
    "için ile olarak nie się jest w z że si și în din pentru să az és hogy nem egy ja ei"
)
_LATIN_WORD = regex.compile(r"[\p{Latin}\p{M}]+")
_NOT_ASCII_LETTER = regex.compile(r"[^\P{L}A-Za-z]")
_LETTER = regex.compile(r"\p{L}")


@dataclass(frozen=True, slots=True)
class Language:
    """The language in which summaries are counted.

    Attributes:
        name: one of `LANGUAGES` except "auto".
        reason: a sentence that says what is counted and why.
    """

    name: str
    reason: str

    @property
    def dotless_i(self) -> bool:
        """Whether I is the capital of ı."""
        return self.name in DOTLESS_I


def _check_name(name: str) -> str:
    """The canonical name of a language given by its name or ISO 639-1 code."""
    known = name.strip().lower()
    known = _CODES.get(known, known)
    if known not in LANGUAGES:
        raise ValueError(
            f"not a known language.{nearest(known[:100], LANGUAGES)} Use {ANY!r} for a language that is not listed: "
            "words of any script, no stemmer"
        )
    return known


LanguageName = Annotated[str, AfterValidator(_check_name)]  # one of `LANGUAGES`; ISO 639-1 codes are also accepted


def choose(asked: str, references: Iterable[str], source: str = "these data") -> Language:
    """Choose the language in which summaries are counted, from the setting and the references.

    `auto` gives "english" if the references look like English, "turkish" if they contain the letter ı, and "any"
    otherwise.

    Args:
        asked: the setting, one of `LANGUAGES`.
        references: reference summaries; a few thousand are enough.
        source: the name of the data, for the message.

    Raises:
        ConfigError: English was requested, but a tenth or more of the references' letters would not be counted.
    """
    found = _Evidence.of(references)
    if asked == ENGLISH and max(found.dropped, found.losing) >= MOST_DROPPED:
        raise ConfigError(
            f"rouge.language is 'english', which counts a-z and 0-9 alone: {found.dropped:.0%} of the letters in the "
            f"references of {source!r} would not be counted ({found.scripts()}); {found.losing:.0%} of the "
            "references would "
            "lose a tenth or more. Leave it to be decided with --set rouge.language=auto, or name their language."
        )
    name = found.decide() if asked == AUTO else asked
    why = f"rouge.language {asked}" + (f": {found.why(name)}" if asked == AUTO else "")
    uncounted = (
        f" {found.dropped:.1%} of their letters are not a-z and not counted."
        if name == ENGLISH and found.dropped >= _LEAST_SAID
        else ""
    )
    return Language(name, f"ROUGE counts {_counted(name, found.unspaced)} ({why}).{uncounted}")


def _counted(name: str, unspaced: list[str]) -> str:
    if name == ENGLISH:
        return "English words by their Porter stem, as rouge_score does"
    characters = f", each character of {' and '.join(unspaced)} as a word," if unspaced else ""
    if name in STEMMED:
        return f"words of any script{characters} by their Snowball stem for {name.capitalize()}"
    casing = " with I as the capital of ı" if name in DOTLESS_I else ""
    return f"whole words of any script{casing}{characters} without a stemmer"


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What the references show about their language.

    Attributes:
        letters: number of letters by script.
        dropped: share of the letters that English counting would drop.
        losing: share of the references that would lose a tenth of their letters or more.
        dotless_i: share of ı and İ among the letters.
        words: number of words in Latin script.
        english: number of English function words among them.
        other: number of function words of other languages among them.
    """

    letters: Counter[str]
    dropped: float
    losing: float
    dotless_i: float
    words: int
    english: int
    other: int

    @classmethod
    def of(cls, references: Iterable[str]) -> "_Evidence":
        characters: Counter[str] = Counter()
        vocabulary: Counter[str] = Counter()
        losing = count = 0
        for reference in references:
            text = unicodedata.normalize("NFC", reference)
            count += 1
            characters.update(text)
            vocabulary.update(_LATIN_WORD.findall(text.lower()))
            if not text.isascii() and (foreign := len(_NOT_ASCII_LETTER.findall(text))):
                losing += foreign >= MOST_DROPPED * len(_LETTER.findall(text))
        letters: Counter[str] = Counter()
        dropped = 0
        for character, times in characters.items():
            if _LETTER.match(character):
                letters[_script(character)] += times
                dropped += times * (not character.isascii())
        total = max(letters.total(), 1)
        return cls(
            letters,
            dropped / total,
            losing / max(count, 1),
            (characters["ı"] + characters["İ"]) / total,
            vocabulary.total(),
            sum(vocabulary[word] for word in _ENGLISH),
            sum(vocabulary[word] for word in _OTHER),
        )

    def decide(self) -> str:
        """The language that `auto` chooses."""
        if self._is_english():
            return ENGLISH
        return "turkish" if self.dotless_i >= _LEAST_DOTLESS_I else ANY

    def _is_english(self) -> bool:
        if max(self.dropped, self.losing) >= _MOST_FOREIGN:
            return False
        if self.other > _MOST_OTHER * self.english + (self.english > 0):  # a single one may be a name
            return False
        if self.english + _FORGIVEN < _LEAST_FUNCTION_WORDS * self.words:
            return False
        return self.english > 0 or self.dropped < _MOST_ACCENTED

    def why(self, name: str) -> str:
        """The reason for choosing a language, as a clause."""
        if name == ENGLISH:
            share = (
                f", {self.english / self.words:.0%} of their words are the, and, to and the like"
                if self.english
                else ""
            )
            return f"the references read as English{share}"
        if name in DOTLESS_I:
            return "the references have the letter ı"
        if self.letters.total() - self.letters["Latin"] > _MOST_FOREIGN * self.letters.total():
            return f"the letters of the references are {self.scripts()}"
        return "the references are in Latin letters and do not read as English; name their language to have its stemmer"

    def scripts(self) -> str:
        """The three most frequent scripts with their shares, as text."""
        total = max(self.letters.total(), 1)
        named = [
            f"{times / total:.0%} {script}" for script, times in self.letters.most_common(3) if times >= 0.005 * total
        ]
        return ", ".join(named)

    @property
    def unspaced(self) -> list[str]:
        """The frequent scripts in which each character counts as a word."""
        least = _MOST_FOREIGN * self.letters.total()
        return [script for script, times in self.letters.most_common() if script in _UNSPACED and times >= least]


_SCRIPT_NAMES = {"CJK": "Han", "IDEOGRAPHIC": "Han", "KATAKANA-HIRAGANA": "Katakana", "MODIFIER": "other"}
_UNSPACED = ("Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar", "Yi")


def _script(letter: str) -> str:
    """The script of a letter, which is the first word of its Unicode name."""
    plain = unicodedata.normalize("NFKC", letter)[:1]
    first = unicodedata.name(plain, "OTHER").split(" ")[0]
    return _SCRIPT_NAMES.get(first, first.capitalize())

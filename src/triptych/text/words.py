"""Split text in any script into words, for ROUGE in languages other than English and for summary statistics.

Words are runs of letters with their combining marks, and runs of digits. In scripts written without spaces (Han, Kana,
Thai, Lao, Khmer, Myanmar and related ones) each character with its marks is a word. Words are folded before comparison,
as in Unicode's NFKC_Casefold: compatibility forms (full-width letters and digits, half-width Kana, ligatures, Arabic
presentation forms) become plain ones, accents are composed, case is folded, and characters that only control the
display (joiners, direction marks, soft hyphens, variation selectors) are removed.
"""

import unicodedata
from collections.abc import Iterator

import regex

WORD_RULES_VERSION = 1  # part of the metrics' signatures, because changing the rules changes scores

# Line_Break=SA ("complex context") is Unicode's name for the scripts of South East Asia without spaces between words.
_UNSPACED = r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{Yi}\p{Line_Break=SA}]&&[\p{L}\p{Nl}]]"
# In addition to marks in the strict sense: the vowel sign "am" of Thai and Lao, and the half-width voicing marks of
# Kana.
_MARKS = r"[\p{Mn}\p{Mc}\u0E33\u0EB3\uFF9E\uFF9F]"
_STACKERS = r"\u1039\u17D2\u1A60"  # Myanmar, Khmer, Tai Tham: the next consonant is written below the one before
_CHARACTER = rf"{_UNSPACED}{_MARKS}*+(?:(?<=[{_STACKERS}]){_UNSPACED}{_MARKS}*+)*+"
_LETTER = rf"[[\p{{L}}\p{{N}}]--{_UNSPACED}]"
_IGNORED = r"[\p{Default_Ignorable_Code_Point}\u0640--\u200B]"  # U+0640 stretches Arabic; U+200B separates words
_WORD = regex.compile(rf"{_CHARACTER}|{_LETTER}[{_LETTER}{_MARKS}]*+", regex.V1)
_BEGIN = rf"[{_LETTER}_]"
_SHAPE_PART = rf"{_BEGIN}[{_BEGIN}{_MARKS}{_IGNORED}]*+"
_SHAPE_WORD = regex.compile(rf"{_CHARACTER}|{_SHAPE_PART}(?:['’׳״\-.,]{_SHAPE_PART})*+", regex.V1)
_DROPPED = regex.compile(_IGNORED, regex.V1)
# Signs inside a word: the apostrophe of Ukrainian, geresh and gershayim of Hebrew (also as quotes), the dot of
# Catalan's l·l.
_INSIDE = regex.compile(
    r"""(?<=\p{Cyrillic}\p{M}*)['’ʼ](?=\p{Cyrillic})|(?<=\p{Hebrew}\p{M}*)["'”’״׳](?=\p{Hebrew})|(?<=l)·(?=l)"""
)


def fold(text: str, dotless_i: bool = False) -> str:
    """The folded form of a text, in which words are compared.

    Args:
        text: any text; the result may be longer or shorter.
        dotless_i: whether capital I is the capital of ı and İ that of i, as in Turkish; by default I belongs to i.
    """
    if text.isascii() and not dotless_i:
        return text.lower()
    text = _DROPPED.sub("", unicodedata.normalize("NFKC", text))
    if dotless_i:
        text = text.replace("İ", "i").replace("I", "ı")
    text = unicodedata.normalize("NFKC", text.casefold())
    # NFKC decomposes the "am" of Thai and Lao, which readers see as one character.
    return text.replace("\u0e4d\u0e32", "\u0e33").replace("\u0ecd\u0eb2", "\u0eb3")


def split_words(text: str, dotless_i: bool = False) -> list[str]:
    """The words of a text, folded and in order, without punctuation, symbols and emoji.

    `don't` is two words, as in rouge_score; for ASCII text the words are exactly those of rouge_score without stemming.

    Args:
        text: any text.
        dotless_i: as for `fold`.
    """
    return _WORD.findall(_INSIDE.sub("", fold(text, dotless_i)))


def word_spans(text: str, dotless_i: bool = False) -> Iterator[tuple[str, int, int]]:
    """`(word, begin, end)` of each word as a reader counts them, in order.

    `3.5`, `don't` and `well-known` are one word each. The word is folded; `begin` and `end` are character offsets into
    the original text.

    Args:
        text: any text.
        dotless_i: as for `fold`.
    """
    for match in _SHAPE_WORD.finditer(text):
        yield fold(match.group(), dotless_i), match.start(), match.end()

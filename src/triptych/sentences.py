"""Text into sentences, by rules that need no download.

A sentence ends at `.`, `!` or `?` (and the quotes and brackets that close after it) before white space and something
that can begin a sentence, unless the stop belongs to an abbreviation, an initial or a number. A line break always ends
one. News datelines (`LONDON, England (CNN) -- `) hold no such stop, or one of an abbreviation (`ST. LOUIS`).
"""

import re

VERSION = 1  # part of the ROUGE signature: a change of the rules changes rougeLsum

# Possessive, and tried at the first of several stops only: the time stays linear in whatever text comes.
_STOP = re.compile(r"""(?<![.!?…])([.!?…]++)['"’”)\]]*+(?=\s++['"‘“(\[]*+([\w$£€&-]*+))""")
_LONGEST_WORD = 40  # characters looked back at: more than any abbreviation has
_BEFORE_A_WORD = re.compile(r"""[\s()\[\]"'“”‘’—/]+""")
_INITIALS = re.compile(r"[A-Z](\.[A-Z])*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Followed by the name that they belong to, or by a number.
_BEFORE_A_NAME = _words(
    "mr mrs ms dr prof rev hon fr gen lt col maj capt cmdr cpl sgt pvt adm sen rep gov pres supt det insp messrs st mt ft "
    "vs eg e.g i.e cf al jan feb mar apr aug sept sep oct nov dec"
)
_BEFORE_A_NUMBER = _words("no nos fig vol pp p")
# May end a sentence: they do where a word follows that seldom stands inside one with a capital letter.
_EITHER_WAY = _words("jr sr inc co corp ltd bros etc a.m p.m u.s u.k u.n d.c e.u ph.d m.d b.c a.d l.a n.y ave blvd rd")
_OPENERS = _words(
    "a after all also although an and are as at because both but by can did do during each for from had has have he her "
    "here his how however i if in is it its many more most my no not now of on one or our she since so some still such "
    "that the their then there these they this those though to two under we were what when where which while who why "
    "will with would yet you your"
)


def split_sentences(text: str) -> list[str]:
    """The sentences of a text in order, without the white space around them; none for an empty text."""
    return [sentence for line in text.splitlines() for sentence in _split_line(line)]


def _split_line(line: str) -> list[str]:
    sentences = []
    start = 0
    for stop in _STOP.finditer(line):
        if _ends_sentence(line[max(start, stop.end(1) - _LONGEST_WORD) : stop.end(1)], stop[2]):
            sentences.append(line[start : stop.end()].strip())
            start = stop.end()
    rest = line[start:].strip()
    return [*sentences, rest] if rest else sentences


def _ends_sentence(before: str, following: str) -> bool:
    """Whether the stop that ends `before` ends a sentence, when `following` is the next word."""
    if following[:1].islower():
        return False
    if before.endswith(" ."):  # a stop set apart, as DailyMail's texts have them
        return True
    word = _BEFORE_A_WORD.split(before)[-1].removesuffix(".")
    if word.lower() in _EITHER_WAY or _INITIALS.fullmatch(word):
        return following.lower() in _OPENERS
    if word.lower() in _BEFORE_A_NUMBER:
        return not following[:1].isdigit()
    return word.lower() not in _BEFORE_A_NAME

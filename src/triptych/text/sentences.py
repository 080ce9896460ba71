"""Split text in any script into sentences, with rules that need no download.

A sentence ends at `.`, `!` or `?`, including closing quotes and brackets, if it is followed by white space and a
possible beginning of a sentence, and if the full stop does not belong to an abbreviation, an initial or a number. A
line break always ends a sentence. News datelines (`LONDON, England (CNN) -- `) contain no such stop, or only that of an
abbreviation (`ST. LOUIS`).

The stops of other scripts (`。！？ । ॥ ۔ ؟ ։ ። ။ ། ។` and everything else that Unicode calls a sentence
terminal) end a sentence unless a comma or similar mark follows, or, after a closing bracket, a Japanese particle that
continues the sentence. `;` is the question mark of Greek. Thai and Lao do not mark the end of a sentence, so only line
breaks count.
"""

import regex

SENTENCE_RULES_VERSION = 2  # part of ROUGE's signature, because changing the rules changes rougeLsum

# Quotes and brackets that may close after a stop. Some quotes close in one language (German “ and «) and open in
# another; they count as closing if white space follows.
_CLOSERS = r"""['"’”)\]»›」』）】〉》〕｝］﹂﹄〗〙＂＇]"""
_CLOSERS_BEFORE_SPACE = rf"[{_CLOSERS}“«‹]"
_UNSEEN = r"[\p{Bidi_Control}\u200B-\u200D]"  # invisible characters that control the display
_SHAD = r"[\u0F0D-\u0F12\u0F14]"  # ends a sentence or clause of Tibetan, whose other signs separate syllables
_TERMINAL = rf"[[\p{{Sentence_Terminal}}--[.!?\u104A．]]||{_SHAD}]"  # U+104A is Myanmar's comma
_UNSPACED = r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}]&&\p{L}]"


def _stops(closers: str) -> regex.Pattern[str]:
    """A pattern that matches everything that may end a sentence.

    Its quantifiers are possessive, and of several stops in a row only the first is tried, so that matching takes linear
    time on any text.

    Args:
        closers: pattern of the closing marks that may be between `.` and white space.
    """
    spaced = rf"""(?<![.!?…])(?P<spaced>[.!?…]++|(?<=\p{{Greek}}\p{{M}}?)[;\u037E]){closers}*+
        (?=\s++['"‘“(\[]*+(?P<next>[\w$£€&-]*+))"""
    anywhere = rf"""(?<![{_TERMINAL}．])(?:{_TERMINAL}|．(?!\p{{N}}))++(?:\s?{_SHAD})*+[.!?…]*+[{_CLOSERS}{_UNSEEN}]*+
        (?!\s*+[,،，、;；؛:：—–])(?!(?<=[」』）])(?:と|って|など|を|が))"""
    unspaced = rf"(?<=[{_UNSPACED}{_CLOSERS}])(?:[.!?]++|……++){_CLOSERS}*+(?={_UNSPACED})"
    return regex.compile(rf"{spaced}|{anywhere}|{unspaced}", regex.V1 | regex.X)


_STOP = _stops(_CLOSERS_BEFORE_SPACE)
# French puts a space inside its guillemets, and in right-to-left scripts direction marks follow the stops. English has
# neither: there, » introduces a link and is an opening mark.
_OTHER_CUSTOMS = regex.compile(r"[«\p{Bidi_Class=R}\p{Bidi_Class=AL}]")
_STOP_BY_OTHER_CUSTOMS = _stops(rf"(?:\s?[»›](?=\s)|{_CLOSERS_BEFORE_SPACE}|{_UNSEEN})")
_LONGEST_WORD = 40  # number of characters examined before a stop: longer than any abbreviation
_BEFORE_A_WORD = regex.compile(r"""[\s()\[\]"'“”‘’—/«»„]+""")
_INITIALS = regex.compile(r"\p{Lu}(\.\p{Lu})*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Abbreviations followed by the name they belong to, or by a number.
_BEFORE_A_NAME = _words(
    "mr mrs ms dr prof rev hon fr gen lt col maj capt cmdr cpl sgt pvt adm sen rep gov pres supt det insp messrs st "
    "mt ft vs eg e.g i.e cf al jan feb mar apr aug sept sep oct nov dec"
)
_BEFORE_A_NUMBER = _words("no nos fig vol pp p")
# Abbreviations that may end a sentence: they do if the next word is rarely capitalized within a sentence.
_EITHER_WAY = _words("jr sr inc co corp ltd bros etc a.m p.m u.s u.k u.n d.c e.u ph.d m.d b.c a.d l.a n.y ave blvd rd")
_OPENERS = _words(
    "a after all also although an and are as at because both but by can did do during each for from had has have he "
    "her here his how however i if in is it its many more most my no not now of on one or our she since so some "
    "still such that the their then there these they this those though to two under we were what when where which "
    "while who why will with would yet you your"
)


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, in order and without surrounding white space; an empty list for an empty text."""
    return [sentence for line in text.splitlines() for sentence in _split_line(line)]


def _split_line(line: str) -> list[str]:
    sentences = []
    start = 0
    for stop in (_STOP_BY_OTHER_CUSTOMS if _OTHER_CUSTOMS.search(line) else _STOP).finditer(line):
        end = stop.end("spaced")
        if stop["spaced"] is None or _ends_sentence(line[max(start, end - _LONGEST_WORD) : end], stop["next"]):
            sentences.append(line[start : stop.end()].strip())
            start = stop.end()
    rest = line[start:].strip()
    return [*sentences, rest] if rest else sentences


def _ends_sentence(before: str, following: str) -> bool:
    """Whether the stop that ends `before` ends a sentence, when `following` is the next word."""
    if following[:1] != following[:1].title():  # lower case; Georgian letters do not count as such
        return False
    if before.endswith(" ."):  # a stop after a space, as in DailyMail texts
        return True
    word = _BEFORE_A_WORD.split(before)[-1].removesuffix(".")
    if word.lower() in _EITHER_WAY or _INITIALS.fullmatch(word):
        return following.lower() in _OPENERS
    if word.lower() in _BEFORE_A_NUMBER:
        return not following[:1].isdigit()
    return word.lower() not in _BEFORE_A_NAME

"""The first sentences of an article, which news writers put its gist into: hard to beat on CNN/DailyMail."""

from collections.abc import Sequence

import regex

from triptych.contracts import Baseline
from triptych.registry import register
from triptych.text.sentences import split_sentences

# What DailyMail's pages put above an article, as CNN/DailyMail has it: "By . Associated Press . PUBLISHED: . 07:57 EST,
# 3 May 2013 . | . UPDATED: . 08:12 EST, 3 May 2013 . ".
_BYLINE = r"By \. [^.\n]{1,80} \. (?:and [^.\n]{1,80} \. )*+"
_DATE = r"(?:(?:PUBLISHED|UPDATED|CREATED): \. [^.|\n]{1,40} \. (?:\| \. )?|Last updated at [^.|\n]{1,60} \. )"
_HEADER = regex.compile(rf"\s*+(?:{_BYLINE}{_DATE}*+|{_DATE}++)")


@register("lead-3")
class Lead3(Baseline):
    """The document's first three sentences, copied. See et al. 2017, arXiv 1704.04368, section 4.

    A byline and dates above the article, as older texts of DailyMail have them, are no sentences of it and are passed
    over.
    """

    def predict(self, documents: Sequence[str]) -> list[str]:
        """For each document its first three sentences (fewer where it has fewer), one a line."""
        return ["\n".join(split_sentences(_article(document))[:3]) for document in documents]


def _article(document: str) -> str:
    header = _HEADER.match(document)
    return document[header.end() :] if header else document

"""Lead-3: the first three sentences of an article, a baseline that is hard to beat on news."""

from collections.abc import Sequence

import regex

from triptych.contracts import Baseline
from triptych.registry import register
from triptych.text.sentences import split_sentences

# The header of Daily Mail articles, as it appears in CNN/DailyMail: "By . Associated Press . PUBLISHED: . 07:57 EST, 3
# May 2013 . | . UPDATED: . 08:12 EST, 3 May 2013 . ".
_BYLINE = r"By \. [^.\n]{1,80} \. (?:and [^.\n]{1,80} \. )*+"
_DATE = r"(?:(?:PUBLISHED|UPDATED|CREATED): \. [^.|\n]{1,40} \. (?:\| \. )?|Last updated at [^.|\n]{1,60} \. )"
_HEADER = regex.compile(rf"\s*+(?:{_BYLINE}{_DATE}*+|{_DATE}++)")


@register("lead-3")
class Lead3(Baseline):
    """The document's first three sentences, copied. See et al. 2017, arXiv 1704.04368, section 4.

    A byline and dates above the article, as in older Daily Mail texts, are skipped.
    """

    def predict(self, documents: Sequence[str]) -> list[str]:
        """The first three sentences of each document, one per line; fewer if it has fewer.

        Args:
            documents: texts; a line break ends a sentence.
        """
        return ["\n".join(split_sentences(_article(document))[:3]) for document in documents]


def _article(document: str) -> str:
    """The document without the Daily Mail header."""
    header = _HEADER.match(document)
    return document[header.end() :] if header else document

"""The first sentences of an article, which news writers put its gist into: hard to beat on CNN/DailyMail."""

from collections.abc import Sequence

from triptych.contracts import Baseline
from triptych.registry import register
from triptych.sentences import split_sentences


@register("lead-3")
class Lead3(Baseline):
    """The document's first three sentences, copied. See et al. 2017, arXiv 1704.04368, section 4."""

    def predict(self, documents: Sequence[str]) -> list[str]:
        """For each document its first three sentences (fewer where it has fewer), one a line."""
        return ["\n".join(split_sentences(document)[:3]) for document in documents]

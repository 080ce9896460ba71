"""Newswire, the built-in data set: synthetic news stories with highlights, drawn from a seed.

A story has an opening, two to four facts that its highlights repeat in other words, and color (quotes, background,
stray figures) that its highlights leave out. Each name belongs to only one split, so no split can leak its facts to
another.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from triptych.contracts import SPLITS, Dataset, Example
from triptych.datasets.newswire.writer import write_story
from triptych.errors import DataError
from triptych.registry import register

GENERATOR_VERSION = 1  # incremented whenever an article changes for the same seed, split and index


@register("newswire")
class Newswire(Dataset):
    """Synthetic news stories with highlights, generated from a seed; no download."""

    synthetic: ClassVar[bool] = True

    train_documents: int = Field(2000, ge=1, description="number of stories in the training split")
    validation_documents: int = Field(200, ge=1, description="number of stories in the validation split")
    test_documents: int = Field(200, ge=1, description="number of stories in the test split")
    data_seed: int = Field(0, description="seed of the stories; each seed gives different stories")

    def splits(self) -> tuple[str, ...]:
        """Train, validation and test."""
        return SPLITS

    def examples(self, split: str) -> Iterator[Example]:
        """The stories of a split, in order of their index.

        Raises:
            DataError: there is no such split.
        """
        counts = dict(zip(SPLITS, (self.train_documents, self.validation_documents, self.test_documents), strict=True))
        if split not in counts:
            raise DataError(f"newswire has no split {split!r}; it has {', '.join(SPLITS)}.")
        for index in range(counts[split]):
            story = write_story(split, index, self.data_seed)
            yield Example(story.id, story.document, story.summary)

    def fingerprint(self) -> str:
        """A digest of the fields and the generator's version."""
        state = {"generator": GENERATOR_VERSION, **self.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

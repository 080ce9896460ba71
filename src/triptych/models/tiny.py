"""The embedded model: a very small GPT-2, for the demo and the tests."""

from pathlib import Path

import triptych
from triptych.contracts import EmbeddedModel
from triptych.registry import register


@register("tiny")
class Tiny(EmbeddedModel):
    """A very small GPT-2 trained only on synthetic news, for the demo and the tests."""

    def folder(self) -> Path:
        """The folder written by `scripts/pretrain_tiny.py`."""
        return Path(triptych.__file__).parent / "assets" / "tiny"

"""One sequence for every method: what is before the document, document, separator, summary, EOS."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from triptych.errors import ModelError
from triptych.models.tokens import RunningText, native_failures


@dataclass(frozen=True, slots=True)
class Template:
    """How a sequence is laid out: prefix, document, separator, summary, EOS; the same for every method.

    Attributes:
        prefix_ids: what is before the document: what the tokenizer puts before every text (BOS for Llama types, nothing
            for GPT-2) and the prompt's own text, or what the chat template writes there.
        separator_ids: what is between document and summary.
        eos_id: ends a summary: the tokenizer's EOS, or the chat template's end of a turn.
    """

    prefix_ids: tuple[int, ...]
    separator_ids: tuple[int, ...]
    eos_id: int

    @classmethod
    def of(cls, text: RunningText) -> "Template":
        """Find the layout that a tokenizer gives.

        Args:
            text: what is around document and summary, with the tokenizer.

        Raises:
            ModelError: the tokenizer has no EOS token, or changes a text that it puts special tokens around.
        """
        tokenizer = text.tokenizer
        eos = tokenizer.eos_token_id if text.closing_id is None else text.closing_id
        if eos is None:
            raise ModelError(
                "The tokenizer has no EOS token, so a summary could never end. Set eos_token in its config."
            )
        if text.frame.chat:  # a chat template writes its special tokens itself
            return cls(text.opening_ids, text.separator_ids, eos)
        # Around a text rather than around "": OPT's BOS has the id of its EOS, and only its position shows which it is.
        with native_failures():
            plain = tokenizer("a", add_special_tokens=False)["input_ids"]
            framed = tokenizer("a", add_special_tokens=True)["input_ids"]
        starts = [at for at in range(len(framed)) if framed[at : at + len(plain)] == plain]
        if not plain or not starts:
            raise ModelError("The tokenizer changes a text that it puts special tokens around: it cannot be used here.")
        return cls((*framed[: starts[0]], *text.opening_ids), text.separator_ids, eos)

    def check_vocabulary(self, vocabulary_size: int) -> None:
        """Make sure that prefix, separator and EOS have a token embedding each.

        Args:
            vocabulary_size: V, token embeddings of the model.

        Raises:
            ModelError: one has none.
        """
        check_ids(self.prefix_ids, vocabulary_size, "for what it puts before a text")
        check_ids(self.separator_ids, vocabulary_size, "for the separator")
        check_ids([self.eos_id], vocabulary_size, "for its EOS token")

    @property
    def length(self) -> int:
        """Tokens of a sequence in addition to document and summary: prefix, separator and EOS."""
        return len(self.prefix_ids) + len(self.separator_ids) + 1


@dataclass(frozen=True, slots=True)
class Pair:
    """A tokenised document with its summary; the arrays are read-only views of the cache.

    Attributes:
        id: the example's id.
        document_ids: int32, truncated to what limits and window allow next to this summary.
        summary_ids: int32, of the summary as it follows the separator in running text, with the space before it and
            without EOS.
    """

    id: str
    document_ids: np.ndarray
    summary_ids: np.ndarray


def check_ids(ids: Iterable[int], vocabulary_size: int, where: str) -> None:
    """Make sure that token ids are below the number of the model's token embeddings.

    Args:
        ids: the token ids.
        vocabulary_size: V.
        where: what they are of, for the message.

    Raises:
        ModelError: one is not.
    """
    largest = max(ids, default=-1)
    if largest >= vocabulary_size:
        raise ModelError(
            f"The tokenizer makes the id {largest} {where}, but the model has {vocabulary_size} token embeddings. "
            "Model and tokenizer do not belong together: give a folder in which they do, or resize the embeddings "
            "(model.resize_token_embeddings) and save the model again."
        )

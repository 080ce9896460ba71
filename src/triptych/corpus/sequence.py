"""The sequence that every method uses: prefix, document, separator, summary, EOS."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from triptych.errors import ModelError
from triptych.models.tokens import RunningText, native_failures


@dataclass(frozen=True, slots=True)
class Template:
    """The layout of a sequence: prefix, document, separator, summary, EOS; the same for every method.

    Attributes:
        prefix_ids: the ids before the document: what the tokenizer puts before every text (BOS for Llama types, nothing
            for GPT-2) and the text of the prompt, or what the chat template puts there.
        separator_ids: the ids between document and summary.
        eos_id: the id that ends a summary: the tokenizer's EOS, or the chat template's end of turn.
    """

    prefix_ids: tuple[int, ...]
    separator_ids: tuple[int, ...]
    eos_id: int

    @classmethod
    def of(cls, text: RunningText) -> "Template":
        """Find the layout that a tokenizer produces.

        Args:
            text: the prompt around document and summary, with the tokenizer.

        Raises:
            ModelError: the tokenizer has no EOS token, or changes a text when it adds special tokens around it.
        """
        tokenizer = text.tokenizer
        eos = tokenizer.eos_token_id if text.closing_id is None else text.closing_id
        if eos is None:
            raise ModelError(
                "The tokenizer has no EOS token, so a summary could never end. Set eos_token in its config."
            )
        if text.frame.chat:  # a chat template adds the special tokens itself
            return cls(text.opening_ids, text.separator_ids, eos)
        # Around a text and not around "": OPT's BOS and EOS have the same id, and only the position tells them apart.
        with native_failures():
            plain = tokenizer("a", add_special_tokens=False)["input_ids"]
            framed = tokenizer("a", add_special_tokens=True)["input_ids"]
        starts = [at for at in range(len(framed)) if framed[at : at + len(plain)] == plain]
        if not plain or not starts:
            raise ModelError("The tokenizer changes a text that it puts special tokens around: it cannot be used here.")
        return cls((*framed[: starts[0]], *text.opening_ids), text.separator_ids, eos)

    def check_vocabulary(self, vocabulary_size: int) -> None:
        """Check that all ids of prefix, separator and EOS have a token embedding.

        Args:
            vocabulary_size: V, the number of token embeddings of the model.

        Raises:
            ModelError: an id has no embedding.
        """
        check_ids(self.prefix_ids, vocabulary_size, "for what it puts before a text")
        check_ids(self.separator_ids, vocabulary_size, "for the separator")
        check_ids([self.eos_id], vocabulary_size, "for its EOS token")

    @property
    def length(self) -> int:
        """The number of tokens besides document and summary: prefix, separator and EOS."""
        return len(self.prefix_ids) + len(self.separator_ids) + 1


@dataclass(frozen=True, slots=True)
class Pair:
    """A tokenized document with its summary; the arrays are read-only views of the cache.

    Attributes:
        id: the example's id.
        document_ids: int32, truncated so that document and summary fit the limits and the window.
        summary_ids: int32, the summary tokenized as it follows the separator in running text, with the space before it
            and without EOS.
    """

    id: str
    document_ids: np.ndarray
    summary_ids: np.ndarray


def check_ids(ids: Iterable[int], vocabulary_size: int, where: str) -> None:
    """Check that token ids are below the model's number of token embeddings.

    Args:
        ids: the token ids.
        vocabulary_size: V.
        where: what the ids belong to, for the message.

    Raises:
        ModelError: an id is not below it.
    """
    largest = max(ids, default=-1)
    if largest >= vocabulary_size:
        raise ModelError(
            f"The tokenizer makes the id {largest} {where}, but the model has {vocabulary_size} token embeddings. "
            "Model and tokenizer do not belong together: give a folder in which they do, or resize the embeddings "
            "(model.resize_token_embeddings) and save the model again."
        )

"""Texts as token ids: by themselves, and as they are tokenised in the middle of running text."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import IO

from transformers import PreTrainedTokenizerBase

from triptych.errors import ModelError, shorten

_PROBE = " The council met."
_LEADS = ("a", "1", ".", ":")  # beginnings for a text; some tokenizers join one or another with what follows


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, spelled_out: bool = True) -> list[list[int]]:
    """Token ids of texts, without special tokens around them.

    Args:
        texts: each is tokenised by itself.
        tokenizer: the model's.
        spelled_out: a special token written in a text is plain text; otherwise it is that token.

    Raises:
        ModelError: the tokenizer's native code fails on a text.
    """
    if not texts:
        return []
    with native_failures():
        found = tokenizer(
            list(texts),
            add_special_tokens=False,
            split_special_tokens=spelled_out,
            return_attention_mask=False,
            verbose=False,
        )
    return found["input_ids"]


class RunningText:
    """A separator and summaries with the ids that they have in the text `document + separator + " " + summary`.

    Tokenizers like SentencePiece's (Llama 2, Mistral, T5) put a mark before every text, which running text does not
    have in its middle. For them the ids are taken from a longer text, after a beginning whose own ids are known. A
    tokenizer like GPT-2's needs none of this: its ids are those of the text by itself.

    Args:
        tokenizer: the model's.
        separator: the text between document and summary; it may name special tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, separator: str):
        self._tokenizer = tokenizer
        self._separator = separator

    @cached_property
    def separator_ids(self) -> tuple[int, ...]:
        """The separator's ids after a document."""
        if not self._separator:
            return ()
        lead = self._lead(self._separator, _LEADS, spelled_out=False)
        ids = self._after(lead, [self._separator], spelled_out=False)[0] if lead else None
        return tuple(ids if ids is not None else encode([self._separator], self._tokenizer, spelled_out=False)[0])

    def summary_ids(self, summaries: Sequence[str]) -> list[list[int]]:
        """The ids of each summary after the separator; the space before it is part of them."""
        texts = [" " + summary.strip() for summary in summaries]
        if self.summary_lead is None:
            return encode(texts, self._tokenizer)
        found: list[list[int] | None] = [None] * len(texts)
        for lead in (self.summary_lead, *self._summary_leads):
            missing = [i for i, ids in enumerate(found) if ids is None]
            rest = self._after(lead, [texts[i] for i in missing], spelled_out=True)
            for i, ids in zip(missing, rest, strict=True):
                found[i] = ids
        alone = iter(encode([text for text, ids in zip(texts, found, strict=True) if ids is None], self._tokenizer))
        return [ids if ids is not None else next(alone) for ids in found]

    @cached_property
    def summary_lead(self) -> str | None:
        """The beginning after which summaries are tokenised; None where they need none."""
        return self._lead(_PROBE, self._summary_leads, spelled_out=True)

    @cached_property
    def _summary_leads(self) -> tuple[str, ...]:
        """The separator itself where it is plain text, then others."""
        both = [encode([self._separator], self._tokenizer, spelled_out=each) for each in (False, True)]
        own = (self._separator,) if self._separator and both[0] == both[1] else ()
        return (*own, *_LEADS)

    def _lead(self, text: str, leads: Sequence[str], *, spelled_out: bool) -> str | None:
        """The first beginning after which a text has other ids than by itself; None where one changes none."""
        alone, first = encode([text], self._tokenizer, spelled_out=spelled_out)[0], None
        for lead in leads:
            rest = self._after(lead, [text], spelled_out=spelled_out)[0]
            if rest == alone:
                return None
            first = lead if first is None and rest is not None else first
        return first

    def _after(self, lead: str, texts: Sequence[str], *, spelled_out: bool) -> list[list[int] | None]:
        """Ids of texts after a beginning; None for each text whose first token is joined with the beginning."""
        start = encode([lead], self._tokenizer, spelled_out=spelled_out)[0]
        whole = encode([lead + text for text in texts], self._tokenizer, spelled_out=spelled_out)
        return [ids[len(start) :] if ids[: len(start)] == start else None for ids in whole]


@contextmanager
def native_failures() -> Iterator[None]:
    """Inside, a panic of a tokenizer's native code, which is not an `Exception`, becomes one message.

    Its threads write traces to the standard error of the process: what is written there inside is shown afterwards,
    except after a panic.

    Raises:
        ModelError: the native code panicked.
    """
    try:
        with _held_back():
            yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise ModelError(
            f"The tokenizer fails on a text: {shorten(str(error))}. A pattern in its "
            "tokenizer.json may take too many steps there: use the model's own tokenizer, or leave that text out."
        ) from None


@contextmanager
def _held_back() -> Iterator[None]:
    """Hold back the process's standard error inside; drop it where the block ends with a panic."""
    try:
        before = os.dup(2)
    except OSError:  # the process has none
        yield
        return
    with _memory_file() as held:
        panicked = False
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException as error:
            panicked = is_panic(error)
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)
            held.seek(0)
            if not panicked and (text := held.read()):
                os.write(2, text)


def _memory_file() -> IO[bytes]:
    """A file in memory where the system has such files, else a temporary file."""
    return os.fdopen(os.memfd_create("stderr"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()


def is_panic(error: BaseException) -> bool:
    """Whether an error is a panic of native code, as PyO3 raises it."""
    return type(error).__name__ == "PanicException"

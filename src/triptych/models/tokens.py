"""Texts as token ids, tokenized separately or as part of running text."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import IO

from transformers import PreTrainedTokenizerBase

from triptych.errors import ModelError, shorten
from triptych.models.prompts import Frame, Prompt, frame_of

_PROBE = " The council met."
_PROBES = ("The council met.", "1,000 people", '"No," he said.')
_LEADS = ("a", "1", ".", ":")  # leads to put before a text; some tokenizers join one or another with the text after it


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, spelled_out: bool = True) -> list[list[int]]:
    """Token ids of texts, without adding special tokens.

    Args:
        texts: the texts; each is tokenized separately.
        tokenizer: the model's tokenizer.
        spelled_out: treat special tokens written in a text as plain text; otherwise they are special tokens.

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
    """Token ids of documents, summaries and the texts around them as they are in the complete text.

    Tokenizers like SentencePiece's (Llama 2, Mistral, T5) put a mark before every text, which does not occur in the
    middle of running text. For them, the ids are taken from a longer text after a lead whose own ids are known. A
    tokenizer like GPT-2's needs none of this: its ids are those of the separate text.

    Args:
        tokenizer: the model's tokenizer.
        frame: the texts around document and summary.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, frame: Frame):
        self.tokenizer = tokenizer
        self.frame = frame

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> "RunningText":
        """The running text of a prompt.

        Raises:
            ModelError: the prompt uses a chat template that does not work.
        """
        return cls(tokenizer, frame_of(prompt, tokenizer))

    @cached_property
    def opening_ids(self) -> tuple[int, ...]:
        """The ids of the text before the document; white space at its end may be left out."""
        return tuple(self._alone(self._opening[0]))

    @cached_property
    def separator_ids(self) -> tuple[int, ...]:
        """The ids of the text between document and summary, as they are after a document."""
        middle = self._middle[0]
        if not middle:
            return ()
        lead = self._lead(middle, _LEADS, spelled_out=False)
        ids = self._after(lead, [middle], spelled_out=False)[0] if lead else None
        return tuple(ids if ids is not None else self._alone(middle))

    @cached_property
    def closing_id(self) -> int | None:
        """The special token that ends the summary in the chat template; None if there is none."""
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.get_added_vocab().values()}
        return next((each for each in self._alone(self.frame.closing) if each in special), None)

    def document_ids(self, documents: Iterable[str]) -> list[list[int]]:
        """The untruncated ids of each document after the text before it; special tokens in documents are plain text."""
        opening, space = self._opening
        return self._placed([space + document.strip() for document in documents], self.document_lead, opening)

    def summary_ids(self, summaries: Sequence[str]) -> list[list[int]]:
        """The ids of each summary after the text before it, including the space before the summary."""
        texts = [self.summary_space + summary.strip() for summary in summaries]
        return self._placed(texts, self.summary_lead, self._middle[0])

    @property
    def document_space(self) -> str:
        """White space before a document that is part of its ids, because the tokenizer joins it with the first word."""
        return self._opening[1]

    @property
    def summary_space(self) -> str:
        """The same for a summary; a space unless a chat template is used."""
        return self._middle[1]

    @cached_property
    def document_lead(self) -> str | None:
        """The lead after which documents are tokenized; None if they need none."""
        return self._lead_like(*self._opening) if self.frame.opening else None

    @cached_property
    def summary_lead(self) -> str | None:
        """The lead after which summaries are tokenized; None if they need none."""
        if self.frame.chat:
            return self._lead_like(*self._middle)
        return self._lead(_PROBE, self._leads_of(self.frame.middle), spelled_out=True)

    @cached_property
    def _opening(self) -> tuple[str, str]:
        """The text before the document, and white space at its end that the tokenizer joins with the document."""
        return self._without_joined_space(self.frame.opening)

    @cached_property
    def _middle(self) -> tuple[str, str]:
        """The same for the text before the summary."""
        return self._without_joined_space(self.frame.middle) if self.frame.chat else (self.frame.middle, " ")

    def _without_joined_space(self, text: str) -> tuple[str, str]:
        """A text, split from any white space at its end that is part of the following token."""
        for end in dict.fromkeys((len(text), len(text) - text.endswith(" "), len(text.rstrip()))):
            rest = self._after(text[:end], [text[end:] + probe for probe in _PROBES], spelled_out=False)
            if None not in rest:
                return text[:end], text[end:]
        return text, ""

    def _alone(self, text: str) -> list[int]:
        """The ids of a separate text of the suite or the template, which may contain special tokens."""
        return encode([text], self.tokenizer, spelled_out=False)[0] if text else []

    def _leads_of(self, text: str) -> tuple[str, ...]:
        """Leads similar to a text: the text if it is plain, else its end after the last special token; then others."""
        if not self.frame.chat and text:
            both = [encode([text], self.tokenizer, spelled_out=each) for each in (False, True)]
            return (text, *_LEADS) if both[0] == both[1] else _LEADS
        end = max((text.rfind(token) + len(token) for token in self._special_texts if token in text), default=0)
        return tuple(dict.fromkeys([*([text[end:]] if text[end:] else []), "\n", *_LEADS]))

    @cached_property
    def _special_texts(self) -> tuple[str, ...]:
        return (*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab())

    def _placed(self, texts: Sequence[str], lead: str | None, before: str) -> list[list[int]]:
        """Ids of texts after a lead, or one like `before` if the lead joins a text; without a lead, separately."""
        if lead is None:
            return encode(texts, self.tokenizer)
        found: list[list[int] | None] = [None] * len(texts)
        for each in (lead, *self._leads_of(before)):
            missing = [i for i, ids in enumerate(found) if ids is None]
            rest = self._after(each, [texts[i] for i in missing], spelled_out=True)
            for i, ids in zip(missing, rest, strict=True):
                found[i] = ids
        alone = iter(encode([text for text, ids in zip(texts, found, strict=True) if ids is None], self.tokenizer))
        return [ids if ids is not None else next(alone) for ids in found]

    def _lead_like(self, before: str, space: str) -> str | None:
        """The plain lead that gives texts the same ids as `before`; None if these are the ids of the separate texts.

        Texts may not be tokenized after `before` itself, where a special token in a text would not stay plain text.
        """
        texts = [space + probe for probe in _PROBES]
        wanted = self._after(before, texts, spelled_out=False)

        def fits(found: Sequence[list[int] | None]) -> bool:
            return all(ids is None or ids == own for ids, own in zip(wanted, found, strict=True))

        if fits(encode(texts, self.tokenizer)):
            return None
        leads = self._leads_of(before)
        return next((lead for lead in leads if fits(self._after(lead, texts, spelled_out=True))), None)

    def _lead(self, text: str, leads: Sequence[str], *, spelled_out: bool) -> str | None:
        """The first lead after which a text has different ids than separately; None if a lead changes nothing."""
        alone, first = encode([text], self.tokenizer, spelled_out=spelled_out)[0], None
        for lead in leads:
            rest = self._after(lead, [text], spelled_out=spelled_out)[0]
            if rest == alone:
                return None
            first = lead if first is None and rest is not None else first
        return first

    def _after(self, lead: str, texts: Sequence[str], *, spelled_out: bool) -> list[list[int] | None]:
        """Ids of texts after a lead; None for each text whose first token is joined with the lead."""
        start = encode([lead], self.tokenizer, spelled_out=spelled_out)[0]
        whole = encode([lead + text for text in texts], self.tokenizer, spelled_out=spelled_out)
        return [ids[len(start) :] if ids[: len(start)] == start else None for ids in whole]


@contextmanager
def native_failures() -> Iterator[None]:
    """A context that turns a panic of a tokenizer's native code, which is not an `Exception`, into a `ModelError`.

    Its threads write traces to the process's standard error: output written there inside the context is shown
    afterwards, except after a panic.

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
    """Hold back the process's standard error inside the context; drop it if the block ends with a panic."""
    try:
        before = os.dup(2)
    except OSError:  # the process has no standard error
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
    """An in-memory file if the system supports it, otherwise a temporary file."""
    return os.fdopen(os.memfd_create("stderr"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()


def is_panic(error: BaseException) -> bool:
    """Whether an error is a panic of native code, as raised by PyO3."""
    return type(error).__name__ == "PanicException"

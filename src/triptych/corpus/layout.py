"""How a pair is laid out in the model's context: what is around it, and where its document is cut."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from triptych.config.schema import Limits
from triptych.contracts import Example
from triptych.corpus.arrow import PairRow, SplitWriter
from triptych.corpus.sequence import Template
from triptych.errors import ConfigError
from triptych.models.prompts import Prompt
from triptych.models.tokens import RunningText


@dataclass(frozen=True, slots=True)
class PairLayout:
    """What pairs are tokenised and cut by.

    Attributes:
        text: gives documents and summaries their ids.
        template: the ids around them.
        limits: how many tokens of a document are read.
        window: positions the model has; None: no fixed limit.
        reserved: positions that virtual tokens take, at most, over all methods.
        longest: tokens around document and summary, at most, over all methods; 0: this prompt's own.
        new_tokens: tokens that a summary may have when it is generated.
    """

    text: RunningText
    template: Template
    limits: Limits
    window: int | None
    reserved: int
    longest: int
    new_tokens: int

    @classmethod
    def of(cls, text: RunningText, **sizes: Any) -> "PairLayout":
        """The layout of a running text, with the template that its tokenizer gives it.

        Args:
            text: what is around document and summary.
            sizes: the other attributes.

        Raises:
            ModelError: the tokenizer cannot be used.
        """
        return cls(text, Template.of(text), **sizes)

    def asked(self, prompt: Prompt) -> "PairLayout":
        """The same with another prompt.

        Raises:
            ModelError: the tokenizer cannot be used with it.
        """
        text = RunningText.of(self.text.tokenizer, prompt)
        return replace(self, text=text, template=Template.of(text))

    @property
    def around(self) -> int:
        """Tokens around document and summary that count: those of the longest prompt."""
        return max(self.longest, self.template.length)

    def room(self, summary_tokens: int) -> int | None:
        """Tokens left for a document next to a summary of that length; None: no window."""
        return None if self.window is None else self.window - self.reserved - self.around - summary_tokens

    @property
    def read_tokens(self) -> int:
        """Tokens of a document from which its summary is generated, whatever its reference is."""
        room = self.room(self.new_tokens)
        return self.limits.document_tokens if room is None else min(self.limits.document_tokens, room)

    def check(self, vocabulary_size: int) -> None:
        """Make sure that the model can read a sequence with at least one token of a document.

        Args:
            vocabulary_size: token embeddings of the model.

        Raises:
            ConfigError: the window has no room for it.
            ModelError: the tokenizer makes ids for which the model has no embedding.
        """
        self.template.check_vocabulary(vocabulary_size)
        summary = max(self.limits.summary_tokens, self.new_tokens)
        needed = self.around + self.reserved + summary + 1
        if self.window is not None and self.window < needed:
            prefix, separator = len(self.template.prefix_ids), len(self.template.separator_ids)
            longer = self.around - self.template.length
            raise ConfigError(
                f"The model has {self.window} positions, but prefix {prefix} + virtual tokens {self.reserved} + "
                f"document 1 + separator {separator} + summary {summary} + EOS 1"
                f"{f' + the longer prompt of another method {longer}' if longer else ''} = {needed} are needed at "
                "least. Lower limits.summary_tokens, decoding.max_new_tokens or the number of virtual tokens, or take "
                "a model with a longer window."
            )

    def key(self) -> list[Any]:
        """What ids and cuts depend on besides limits and tokenizer."""
        template = [self.template.prefix_ids, self.template.separator_ids, self.template.eos_id]
        return [self.window, self.reserved, self.read_tokens, template, self.text.summary_lead]

    def further_key(self) -> list[Any]:
        """The same for a prompt that is more than a separator; empty: it is not, or another method's is longer."""
        text, extra = self.text, self.around - self.template.length
        if not (text.frame.opening or text.frame.chat or extra):
            return []
        return [text.document_space, text.document_lead, text.summary_space, text.frame.chat, extra]

    def write(self, examples: Sequence[Example], writer: SplitWriter) -> None:
        """Tokenise pairs, and write them into a split."""
        documents = self.text.document_ids([example.document for example in examples])
        summaries = self.text.summary_ids([example.summary for example in examples])
        rows: list[PairRow] = []
        for example, document, summary in zip(examples, documents, summaries, strict=True):
            room = self.room(len(summary))
            most = self.limits.document_tokens if room is None else min(self.limits.document_tokens, room)
            read, in_loss = min(len(document), self.read_tokens), min(len(document), most)
            writer.truncated += len(document) > read
            writer.shortened += in_loss < read
            texts = (example.id, example.document.strip(), example.summary.strip())
            rows.append((*texts, document[: max(read, in_loss)], summary, read, in_loss))
        writer.write(rows)

"""How a pair is laid out in the model's context: the prompt around it, and where the document is truncated."""

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
    """How pairs are tokenized and truncated.

    Attributes:
        text: tokenizes documents and summaries.
        template: the ids around them.
        limits: how many tokens of a document are read.
        window: the model's context length; None: no fixed limit.
        reserved: the most positions that virtual tokens take in any method.
        longest: the most tokens around document and summary in any method; 0: those of this prompt.
        new_tokens: the most tokens of a generated summary.
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
        """The layout of a running text, with the template of its tokenizer.

        Args:
            text: the prompt around document and summary, with the tokenizer.
            sizes: the other attributes.

        Raises:
            ModelError: the tokenizer cannot be used.
        """
        return cls(text, Template.of(text), **sizes)

    def asked(self, prompt: Prompt) -> "PairLayout":
        """The same layout with another prompt.

        Raises:
            ModelError: the tokenizer cannot be used with this prompt.
        """
        text = RunningText.of(self.text.tokenizer, prompt)
        return replace(self, text=text, template=Template.of(text))

    @property
    def around(self) -> int:
        """The number of tokens around document and summary, counting the longest prompt."""
        return max(self.longest, self.template.length)

    def room(self, summary_tokens: int) -> int | None:
        """The number of tokens left for a document next to a summary of this length; None: no window."""
        return None if self.window is None else self.window - self.reserved - self.around - summary_tokens

    @property
    def read_tokens(self) -> int:
        """The number of document tokens from which a summary is generated, independent of the reference."""
        room = self.room(self.new_tokens)
        return self.limits.document_tokens if room is None else min(self.limits.document_tokens, room)

    def check(self, vocabulary_size: int) -> None:
        """Check that the model can read a sequence with at least one document token.

        Args:
            vocabulary_size: number of token embeddings of the model.

        Raises:
            ConfigError: the window has no room for it.
            ModelError: the tokenizer produces ids for which the model has no embedding.
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
        """What token ids and truncation depend on, besides the limits and the tokenizer."""
        template = [self.template.prefix_ids, self.template.separator_ids, self.template.eos_id]
        return [self.window, self.reserved, self.read_tokens, template, self.text.summary_lead]

    def further_key(self) -> list[Any]:
        """The rest of the key, for a prompt with more than a separator or if another method's is longer; else empty."""
        text, extra = self.text, self.around - self.template.length
        if not (text.frame.opening or text.frame.chat or extra):
            return []
        return [text.document_space, text.document_lead, text.summary_space, text.frame.chat, extra]

    def write(self, examples: Sequence[Example], writer: SplitWriter) -> None:
        """Tokenize pairs and write them to a split."""
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

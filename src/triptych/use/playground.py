"""Summaries of one article by every trained run of a results folder, with their scores and what they copied."""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.errors import ConfigError, InputError, ResultsError
from triptych.metrics.text_shape import copied_spans, shape_words
from triptych.models.base import BaseModel
from triptych.results import layout
from triptych.results.reading import read_finished, read_record, read_suite
from triptych.run import scoring, setup
from triptych.run.entries import runs_in_order, suite_entries
from triptych.text import languages
from triptych.use import summarizers

MAX_CHARACTERS = 200_000  # of an article; longer ones are refused
MAX_EXAMPLES = 200  # test documents to pick from
LEAST_COPIED = 4  # consecutive words that are marked as copied
# words of a summary times words of its reference: ROUGE-L needs a table of that size (32 MB) and two seconds
MAX_PAIRS = 4_000_000


@dataclass(frozen=True)
class Answer:
    """What one run made of an article; without a text until it is done.

    Attributes:
        label: the run's label.
        text: the summary; None while it is being written.
        seconds: that this summary took.
        num_words: words of the summary.
        scores: ROUGE F1 in 0-100 against a reference, where one was given.
        copied: `(begin, end)` of what the article contains as well, in characters of the text.
        notes: what a reader should know of this summary, such as that the article was too long for it.
    """

    label: str
    text: str | None = None
    seconds: float = 0.0
    num_words: int = 0
    scores: dict[str, float] | None = None
    copied: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """A test document to pick."""

    id: str
    text: str
    reference: str


class Playground:
    """The runs of a finished suite, loaded once and shared by everyone who uses the page.

    Args:
        loaded: what summarizes, in the order in which it is shown.
        documents: test documents to pick from.
        title: the suite's name.
        synthetic: the model or the documents are made up.
        language: what ROUGE counts, one of `languages.LANGUAGES`; "auto": decided from each reference.
    """

    def __init__(
        self,
        loaded: Sequence[summarizers.Trained],
        documents: Sequence[Document],
        title: str,
        synthetic: bool,
        language: str = languages.AUTO,
    ):
        self.loaded, self.documents, self.title, self.synthetic = loaded, documents, title, synthetic
        self.language = language
        self._rouge = scoring.metrics(language)["rouge"]

    @classmethod
    def open(cls, out: Path, model: str | None = None, device: str | None = None) -> "Playground":
        """Load every method of OUT that has finished, under its first seed.

        Raises:
            ResultsError: OUT holds no finished run.
        """
        suite = read_suite(out / "suite.json")
        entries = suite_entries(suite)
        first: dict[str, Path] = {}
        counted: str | None = None  # the language that the runs were scored in, where they noted it
        for entry, seed in runs_in_order(suite, entries):
            folder = layout.run_folder(out, entry.label, seed)
            file = folder / "record.json"
            if entry.label not in first and file.is_file() and read_record(file).status == "done":
                first[entry.label] = folder  # where a seed failed, the next may have finished
                record = read_finished(folder)
                counted = counted or (record.rouge.language if record.rouge else None)
        if not first:
            raise ResultsError(f"{str(out)!r} holds no finished run: run `triptych compare --out {out}` first.")
        loaded = summarizers.load_summarizers(list(first.values()), model, device)
        documents: list[Document] = []
        try:
            base = BaseModel(model or suite.model, suite.model_revision)
            corpus = setup.load_corpus(suite, entries, base, setup.cache_folder())
            test = corpus.test
            chosen = range(min(len(test), MAX_EXAMPLES))
            documents = [Document(test[i].id, test.document(i), test.reference(i)) for i in chosen]
            synthetic = corpus.data.synthetic
            counted = counted or scoring.choose_language(suite, corpus).name
        except InputError:  # the data are elsewhere now; an article can still be pasted
            synthetic = False
        return cls(
            loaded,
            documents,
            suite.name,
            synthetic or BaseModel.of(suite).is_synthetic,
            counted or suite.rouge.language,
        )

    def answer(self, article: str, reference: str = "") -> Iterator[list[Answer]]:
        """Give the answers so far, one for each run, again whenever a run is done.

        Raises:
            InputError: the article is empty or too long; the message is for its reader.
        """
        if not article.strip():
            raise ConfigError("There is no article yet: paste one, or pick a test document.")
        check_text(article, "article")
        check_text(reference, "reference")
        answers = [Answer(trained.label) for trained in self.loaded]
        yield list(answers)
        for place, trained in enumerate(self.loaded):
            began = time.monotonic()
            ((_, summary),) = trained.stream([article])
            answers[place] = self._judge(trained.label, summary, article, reference, time.monotonic() - began)
            yield list(answers)

    def _judge(self, label: str, summary: summarizers.Summary, article: str, reference: str, seconds: float) -> Answer:
        notes = []
        if summary.truncated:
            notes.append(f"read {summary.read_tokens:,} of {summary.document_tokens:,} tokens")
        if summary.at_cap:
            notes.append(f"cut off at {summary.num_tokens:,} tokens")
        if not summary.text:
            notes.append("no text")
        scores = None
        if reference.strip() and _most_words(summary.text) * _most_words(reference) > MAX_PAIRS:
            notes.append("too long to score")
        elif reference.strip():
            scores = self._rouge.score(summary.text, reference, article)
        return Answer(
            label,
            summary.text,
            seconds,
            len(shape_words(summary.text, self.language)),
            scores,
            tuple(copied_spans(summary.text, article, LEAST_COPIED, self.language)),
            tuple(notes),
        )


_WORDS = re.compile(r"[A-Za-z0-9]+|[^\W_]")


def _most_words(text: str) -> int:
    """The most words that ROUGE can count in a text; in some scripts it counts each letter as one."""
    return sum(1 for _ in _WORDS.finditer(text))


def check_text(text: str, what: str) -> None:
    """Make sure that a text can be worked on; `what` names it in the message.

    Raises:
        ConfigError: it is too long, or contains characters that no text has.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            f"The {what} has {len(text):,} characters, and {MAX_CHARACTERS:,} is the most. Paste a part of it."
        )
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"The {what} is damaged: it contains a NUL byte or half a character. Copy it again.")

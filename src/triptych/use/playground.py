"""Summarize one article by chosen runs of a results folder, with scores and what each took from the article."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.errors import ConfigError, InputError, ResultsError
from triptych.metrics.text_shape import copied_spans, matching_words, shape_words
from triptych.models.base import BaseModel
from triptych.results import layout
from triptych.results.reading import read_finished, read_record, read_suite
from triptych.results.resuming import resuming
from triptych.run import scoring
from triptych.run.corpus import load_corpus
from triptych.run.entries import runs_in_order, suite_entries
from triptych.storage.cache_place import cache_folder
from triptych.text import languages
from triptych.text.synthetic import synthetic_parts, synthetic_sentence
from triptych.use import summarizers
from triptych.use.find_run import refuse_scored
from triptych.use.samples import SAMPLES

MAX_CHARACTERS = 200_000  # in an article; longer ones are refused
MAX_SHOWN = 20_000  # characters of an article to show with what a summary used of them
MAX_EXAMPLES = 200  # test documents to pick from
MAX_BEAMS = 8
LEAST_COPIED = 4  # consecutive words that are marked as copied
LEAST_LETTERS = 4  # minimum length of an article's word that is marked because the summary has it too
# words of a summary times words of its reference: at this size, ROUGE-L needs a table of 32 MB and two seconds
MAX_PAIRS = 4_000_000

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Answer:
    """One run's summary of an article; without text until it is done.

    Attributes:
        label: the run's label.
        text: the summary; None while it is being written.
        seconds: seconds that this summary took.
        num_words: words of the summary.
        scores: ROUGE F1 in 0-100 against a reference, if one was given.
        copied: `(begin, end)` of what the article also contains, in characters of the text.
        added: `(begin, end)` of each word that the article does not contain, in characters of the text.
        used: `(begin, end)` of what the summary copied, in characters of the article.
        echoed: `(begin, end)` of each longer word that the summary also contains, in characters of the article.
        notes: notes on this summary, such as that the article was too long for it.
    """

    label: str
    text: str | None = None
    seconds: float = 0.0
    num_words: int = 0
    scores: dict[str, float] | None = None
    copied: Spans = ()
    added: Spans = ()
    used: Spans = ()
    echoed: Spans = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """A document to pick: one from the test split, or a sample without a reference."""

    id: str
    text: str
    reference: str


@dataclass(frozen=True)
class Choice:
    """The choices for summarizing an article.

    Attributes:
        labels: the methods; None: all.
        seed: the training seed; None: the first that finished. A method without a run with that seed shows its first.
        num_beams: beams; None: as in the runs.
        max_new_tokens: maximum tokens of a summary; None: as in the runs.
    """

    labels: tuple[str, ...] | None = None
    seed: int | None = None
    num_beams: int | None = None
    max_new_tokens: int | None = None


class Playground:
    """The runs of a finished suite, shared by all users of the page; each method has one run in memory at a time.

    Args:
        loaded: loaded runs, in display order.
        documents: documents to pick from.
        title: the suite's name.
        notice: a sentence on what is synthetic; empty if nothing is.
        language: language for ROUGE, one of `languages.LANGUAGES`; "auto": decided from each reference.
        folders: the folder of each finished run, by label and seed.
        load: function that loads the run of a folder.
        out: the results folder, if any.
    """

    def __init__(
        self,
        loaded: Sequence[summarizers.Trained],
        documents: Sequence[Document],
        title: str,
        notice: str = "",
        language: str = languages.AUTO,
        folders: Mapping[tuple[str, int], Path] | None = None,
        load: Callable[[Path], summarizers.Trained] = summarizers.load_summarizer,
        out: Path | None = None,
    ):
        self.documents, self.title, self.notice, self.language = documents, title, notice, language
        self.out = out
        self._folders, self._load = dict(folders or {}), load
        self._first = {trained.label: trained.folder for trained in loaded}
        self._loaded = {trained.label: trained for trained in loaded}
        self._warm: set[Path] = set()
        self._working = threading.Lock()  # a stopped run ends in its thread while the next waits here
        self._rouge = scoring.metrics(language)["rouge"]

    @classmethod
    def open(cls, out: Path, model: str | None = None, device: str | None = None) -> "Playground":
        """Load every method in OUT with a finished run, using its first finished seed.

        Raises:
            ResultsError: OUT has no finished run.
        """
        refuse_scored(out)
        suite = read_suite(out / "suite.json")
        entries = suite_entries(suite)
        folders: dict[tuple[str, int], Path] = {}
        first: dict[str, Path] = {}
        counted: str | None = None  # the language that the runs were scored in, if recorded
        for entry, seed in runs_in_order(suite, entries):
            folder = layout.run_folder(out, entry.label, seed)
            file = folder / "record.json"
            if file.is_file() and read_record(file).status == "done":
                folders[entry.label, seed] = folder
                if entry.label not in first:
                    first[entry.label] = folder  # if a seed failed, the next may have finished
                    record = read_finished(folder)
                    counted = counted or (record.rouge.language if record.rouge else None)
        if not first:
            raise ResultsError(f"{str(out)!r} holds no finished run. Run it: {resuming(out)}.")
        loader = summarizers.SummarizerLoader(model, device)
        loaded = [loader.load(folder) for folder in first.values()]
        documents: list[Document] = []
        try:
            base = BaseModel(model or suite.model, suite.model_revision)
            corpus = load_corpus(suite, entries, base, cache_folder())
            test = corpus.test
            chosen = range(min(len(test), MAX_EXAMPLES))
            documents = [Document(test[i].id, test.document(i), test.reference(i)) for i in chosen]
            synthetic = corpus.data.synthetic
            counted = counted or scoring.choose_language(suite, corpus).name
        except InputError:  # the data have moved; an article can still be pasted
            synthetic = False
        return cls(
            loaded,
            [*documents, *sample_documents()],
            suite.name,
            synthetic_sentence(synthetic_parts(BaseModel.of(suite).is_synthetic, synthetic)),
            counted or suite.rouge.language,
            folders,
            loader.load,
            out,
        )

    @property
    def labels(self) -> list[str]:
        """The methods, in display order."""
        return list(self._first)

    @property
    def seeds(self) -> list[int]:
        """The training seeds with finished runs."""
        return sorted({seed for _, seed in self._folders})

    @property
    def decoding(self) -> tuple[int, int] | None:
        """Beams and maximum tokens of a summary, as in the runs; None if no run has a model."""
        models = [trained for trained in self._loaded.values() if isinstance(trained, summarizers.TrainedModel)]
        return (models[0].decoding.num_beams, models[0].decoding.max_new_tokens) if models else None

    @property
    def most_new_tokens(self) -> int:
        """The maximum tokens that can be chosen: twice those of the runs, with half of the context left free."""
        usual = self.decoding[1] if self.decoding else 1
        lengths = [
            trained.adapted.parts.max_positions
            for trained in self._loaded.values()
            if isinstance(trained, summarizers.TrainedModel)
        ]
        return max(usual, min([2 * usual, *[length // 2 for length in lengths if length is not None]]))

    def answer(self, article: str, reference: str = "", choice: Choice | None = None) -> Iterator[list[Answer]]:
        """Yield the answers so far, one for each run, at the start and whenever a run is done.

        Args:
            article: the article to summarize.
            reference: a reference summary; empty if there is none.
            choice: which methods, seed and decoding; None: all methods, as in their runs.

        Raises:
            InputError: the article is empty or too long, or the choice is not available; the message is for the user.
        """
        if not article.strip():
            raise ConfigError("There is no article yet: paste one, or pick a test document.")
        check_text(article, "article")
        check_text(reference, "reference")
        choice = choice or Choice()
        labels = self._check(choice)
        answers = [Answer(label) for label in labels]
        yield list(answers)
        for place, label in enumerate(labels):
            with self._working:
                answers[place] = self._answer(label, article, reference, choice)
            yield list(answers)

    def _check(self, choice: Choice) -> list[str]:
        """The chosen labels, in the order of the suite.

        Raises:
            ConfigError: there is no such method, seed, number of beams or length.
        """
        chosen = self.labels if choice.labels is None else [each for each in self.labels if each in choice.labels]
        if not chosen or len(chosen) < len(set(choice.labels or ())):
            raise ConfigError("Choose at least one of the offered methods.")
        if choice.seed is not None and choice.seed not in self.seeds:
            raise ConfigError("No run has finished with this seed.")
        if choice.num_beams is not None and not 1 <= choice.num_beams <= MAX_BEAMS:
            raise ConfigError(f"Choose from 1 to {MAX_BEAMS} beams.")
        if choice.max_new_tokens is not None and not 1 <= choice.max_new_tokens <= self.most_new_tokens:
            raise ConfigError(f"A summary may have from 1 to {self.most_new_tokens} tokens.")
        return chosen

    def _run(self, label: str, seed: int | None) -> summarizers.Trained:
        """The run of a method with a seed; it replaces the method's other run in memory."""
        folder = self._first[label] if seed is None else self._folders.get((label, seed), self._first[label])
        if self._loaded[label].folder != folder:
            self._loaded[label] = self._load(folder)
        return self._loaded[label]

    def _answer(self, label: str, article: str, reference: str, choice: Choice) -> Answer:
        trained = self._run(label, choice.seed)
        try:
            if isinstance(trained, summarizers.TrainedModel):
                if trained.folder not in self._warm:  # setup at the first use does not count towards a summary's time
                    list(trained.decoding_as(max_new_tokens=1).stream([article]))
                    self._warm.add(trained.folder)
                trained = trained.decoding_as(choice.num_beams, choice.max_new_tokens)
            began = time.monotonic()
            ((_, summary),) = trained.stream([article])
        except (ValueError, NotImplementedError) as error:  # raised by transformers if it refuses beams
            reason = " ".join(str(error).split())[:300]
            return Answer(label, "", notes=(f"not written: {reason}",))
        return self._judge(label, summary, article, reference, time.monotonic() - began)

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
            tuple(matching_words(summary.text, article, False, self.language)),
            tuple(copied_spans(article[:MAX_SHOWN], summary.text, LEAST_COPIED, self.language)),
            tuple(
                (begin, end)
                for begin, end in matching_words(article[:MAX_SHOWN], summary.text, True, self.language)
                if end - begin >= LEAST_LETTERS
            ),
            tuple(notes),
        )


def sample_documents() -> list[Document]:
    """The samples as documents to pick."""
    return [Document(f"Sample, {name[:1].lower()}{name[1:]}", text, "") for name, text in SAMPLES.items()]


_WORDS = re.compile(r"[A-Za-z0-9]+|[^\W_]")


def _most_words(text: str) -> int:
    """The maximum number of words that ROUGE can count in a text; in some scripts each letter counts as one."""
    return sum(1 for _ in _WORDS.finditer(text))


def check_text(text: str, what: str) -> None:
    """Check that a text can be processed; `what` names it in the message.

    Raises:
        ConfigError: it is too long, or contains invalid characters.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            f"The {what} has {len(text):,} characters, but {MAX_CHARACTERS:,} is the most. Paste a part of it."
        )
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"The {what} is damaged: it contains a NUL byte or half a character. Copy it again.")

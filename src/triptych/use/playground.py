"""A local web page: one article, every row's summary side by side. Nothing is loaded from a network."""

import os
import re
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from triptych.config.schema import make_suite
from triptych.errors import ConfigError, InputError, ResultsError
from triptych.metrics.text_shape import copied_spans, shape_words
from triptych.models.base import BaseModel
from triptych.results import layout, store
from triptych.results.records import Record
from triptych.run import scoring, setup
from triptych.run.entries import planned_runs, suite_rows
from triptych.text import languages
from triptych.use import summarizers

MAX_CHARACTERS = 200_000  # of an article; longer ones are met with a message
MAX_EXAMPLES = 200  # test documents to pick from
LEAST_COPIED = 4  # words in a row that are marked as copied
MAX_WAITING = 20  # requests in the queue; who comes after is told to try again
# words of a summary x words of its reference: ROUGE-L takes a table of that size (32 MB), two seconds
MAX_PAIRS = 4_000_000
SCORES = (("R-1", "rouge1"), ("R-2", "rouge2"), ("R-Lsum", "rougeLsum"))


@dataclass(frozen=True)
class Answer:
    """What a row made of an article; without a text while it is not done.

    Attributes:
        seconds: for this row alone.
        scores: ROUGE F1 in 0-100 against a reference, where one was given.
        copied: `(begin, end)` of what also stands in the article, in characters of the text.
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
    """The rows of a finished suite, loaded once and shared by everyone who uses the page.

    Args:
        rows: what summarizes, in the order it is shown.
        documents: test documents to pick from.
        title: the suite's name.
        synthetic: the model or the documents are made up.
        language: what ROUGE counts, one of `languages.LANGUAGES`; "auto": decided from each reference.
    """

    def __init__(
        self,
        rows: Sequence[summarizers.Trained],
        documents: Sequence[Document],
        title: str,
        synthetic: bool,
        language: str = languages.AUTO,
    ):
        self.rows, self.documents, self.title, self.synthetic = rows, documents, title, synthetic
        self.language = language
        self._rouge = scoring.metrics(language)["rouge"]

    @classmethod
    def open(cls, out: Path, model: str | None = None, device: str | None = None) -> "Playground":
        """Every row of OUT that has finished, under its first seed.

        Raises:
            ResultsError: OUT holds no finished run.
        """
        suite = make_suite(store.read_json(out / "suite.json"))
        table = suite_rows(suite)
        first: dict[str, Path] = {}
        counted: str | None = None  # the language that the runs were scored in, where they noted it
        for row, seed in planned_runs(suite, table):
            folder = layout.run_folder(out, row.label, seed)
            file = folder / "record.json"
            if row.label not in first and file.is_file() and store.read_as(file, Record, "record").status == "done":
                first[row.label] = folder  # where a seed failed, the next may have finished
                record = summarizers.read_record(folder)
                counted = counted or (record.rouge.language if record.rouge else None)
        if not first:
            raise ResultsError(f"{str(out)!r} holds no finished run: run `triptych compare --out {out}` first.")
        loaded = summarizers.load_all(list(first.values()), model, device)
        documents: list[Document] = []
        try:
            base = BaseModel(model or suite.model, suite.model_revision)
            corpus = setup.load_corpus(suite, table, base, setup.cache_folder())
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
        """The answers so far, one for each row, again whenever a row is done.

        Raises:
            InputError: the article is empty or too long; the message is for its reader.
        """
        if not article.strip():
            raise ConfigError("There is no article yet: paste one, or pick a test document.")
        check_text(article, "article")
        check_text(reference, "reference")
        answers = [Answer(row.label) for row in self.rows]
        yield list(answers)
        for place, row in enumerate(self.rows):
            began = time.monotonic()
            ((_, summary),) = row.stream([article])
            answers[place] = self._judge(row, summary, article, reference, time.monotonic() - began)
            yield list(answers)

    def _judge(
        self, row: summarizers.Trained, summary: summarizers.Summary, article: str, reference: str, seconds: float
    ) -> Answer:
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
            row.label,
            summary.text,
            seconds,
            len(shape_words(summary.text, self.language)),
            scores,
            tuple(copied_spans(summary.text, article, LEAST_COPIED, self.language)),
            tuple(notes),
        )


_WORDS = re.compile(r"[A-Za-z0-9]+|[^\W_]")


def _most_words(text: str) -> int:
    """As many words as a text can have for ROUGE, which takes each letter of some scripts for one."""
    return sum(1 for _ in _WORDS.finditer(text))


def check_text(text: str, what: str) -> None:
    """A text that can be worked on; `what` it is stands in the message.

    Raises:
        ConfigError: it is too long, or holds characters that no text has.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            f"The {what} has {len(text):,} characters, and {MAX_CHARACTERS:,} is the most. Paste a part of it."
        )
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"The {what} is damaged: it holds a NUL byte or half a character. Copy it again.")


def show(answers: Sequence[Answer], note: str = "") -> str:
    """The answers as HTML, and a note on all of them; whatever was generated is text in it, never markup."""
    written = sum(answer.text is not None for answer in answers)
    told = f"{written} of {len(answers)} summaries written" + ("" if written == len(answers) else " …") + escape(note)
    return f'<p class="told" role="status">{told}</p><ul class="rows">{"".join(map(_card, answers))}</ul>'


def show_message(text: str) -> str:
    """A message to the reader."""
    return f'<p class="message" role="alert">{escape(text)}</p>'


def _card(answer: Answer) -> str:
    if answer.text is None:
        return f'<li class="row"><h2>{escape(answer.label)}</h2><p class="facts">writing …</p></li>'
    facts = [f"{answer.seconds:.1f} s" if answer.seconds >= 0.05 else "under 0.1 s", f"{answer.num_words} words"]
    if answer.scores is not None:
        facts += [f"{title} {answer.scores[name]:.1f}" for title, name in SCORES]
    told = " · ".join(f"<span>{escape(fact)}</span>" for fact in [*facts, *answer.notes])
    return (
        f'<li class="row"><h2>{escape(answer.label)}</h2><p class="summary">{_marked(answer)}</p>'
        f'<p class="facts">{told}</p></li>'
    )


def _title(document: Document) -> str:
    """What a document is picked by: its id and how it begins."""
    return f"{document.id}: {textwrap.shorten(document.text[:500], 60, placeholder=' …')}"


def _marked(answer: Answer) -> str:
    """The text with what was copied from the article marked."""
    assert answer.text is not None
    pieces, place = [], 0
    for begin, end in answer.copied:
        pieces += [escape(answer.text[place:begin]), "<mark>", escape(answer.text[begin:end]), "</mark>"]
        place = end
    return "".join([*pieces, escape(answer.text[place:])])


STYLE = """
#pick input { padding-right: 2rem; text-overflow: ellipsis; }
#about h1 { font-size: 1.5rem; font-weight: 600; margin: 0 0 .5rem; overflow-wrap: anywhere; }
.told { margin: 0 0 .5rem; }
.rows { list-style: none; margin: 0; padding: 0; display: grid; gap: .8rem; }
.rows { grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
#results .row { margin: 0; border: 1px solid var(--border-color-primary); }
.row { border-radius: .5rem; padding: .7rem .9rem; overflow-wrap: anywhere; }
#results .row h2 { margin: 0 0 .3rem; font-size: 1rem; }
.row .summary { white-space: pre-line; margin: 0 0 .5rem; }
.row .facts { margin: 0; font-size: .85rem; color: var(--body-text-color); opacity: .8; }
#results .row p { display: block; }
#results .row .facts { margin-top: .5rem; }
.row .facts span { white-space: nowrap; }
.row mark { background: #ffe08a; color: #201a00; border-radius: .2rem; }
.message { border-left: .3rem solid #e0483e; background: #e0483e1f; padding: .5rem .8rem; margin: 0; }
@media (max-width: 640px) { .gradio-container { padding: .5rem !important; } }
"""


def import_gradio() -> Any:
    """gradio, told to report nothing to anybody.

    Raises:
        ConfigError: it is absent.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before its import, which reads it
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError:
        raise ConfigError("The page needs the extra `play`, which is absent: pip install 'triptych[play]'.") from None
    return gradio


def build_page(playground: Playground) -> Any:
    """The page as a gradio application, its queue set up."""
    gradio = import_gradio()
    documents = playground.documents

    def pick(place: int | None) -> tuple[str, str]:
        return (documents[place].text, documents[place].reference) if place is not None else ("", "")

    def run(article: str | None, reference: str | None, place: int | None = None) -> Iterator[str]:
        note, (picked, its_own) = "", pick(place)
        if reference and reference.split() == its_own.split() and (article or "").split() != picked.split():
            reference, note = "", " The reference is that of the document picked, not of this article: no scores."
        try:
            for answers in playground.answer(article or "", reference or ""):
                yield show(answers, note)
        except InputError as error:
            yield show_message(str(error))

    warning = "<strong>Model or documents are synthetic: summaries say nothing about real text.</strong> "
    note = warning if playground.synthetic else ""
    with gradio.Blocks(title=f"Triptych: {playground.title}", analytics_enabled=False) as page:
        marked = f"Marked: at least {LEAST_COPIED} words in a row that also stand in the article."
        gradio.HTML(
            f"<h1>{escape(playground.title)}: one article, every row</h1><p>{note}{marked}</p>", elem_id="about"
        )
        if documents:
            titles = [(_title(document), place) for place, document in enumerate(documents)]
            label = "Pick a test document, or paste an article below"
            choice = gradio.Dropdown(titles, value=None, label=label, elem_id="pick")
        article = gradio.Textbox(label="Article", lines=8, max_lines=16, elem_id="article")
        reference = gradio.Textbox(
            label="Reference summary, if there is one", lines=2, max_lines=6, elem_id="reference"
        )
        button = gradio.Button("Summarize", variant="primary", elem_id="run")
        results = gradio.HTML(elem_id="results", label="Summaries", padding=False)
        if documents:
            choice.input(pick, choice, [article, reference], queue=False, api_visibility="private")
        given = [article, reference, choice] if documents else [article, reference]
        button.click(run, given, results, concurrency_limit=1, api_visibility="private")
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
    return page

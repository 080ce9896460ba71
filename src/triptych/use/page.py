"""The page of `triptych play`: answers as HTML, and the form around them. Nothing is loaded from a network."""

import os
import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from triptych.errors import ConfigError, InputError
from triptych.use.playground import LEAST_COPIED, Answer, Document, Playground

MAX_WAITING = 20  # requests in the queue; later ones are asked to try again
SCORES = (("R-1", "rouge1"), ("R-2", "rouge2"), ("R-Lsum", "rougeLsum"))


def show(answers: Sequence[Answer], note: str = "") -> str:
    """The answers as HTML, with a note on all of them; generated text is escaped, never markup."""
    written = sum(answer.text is not None for answer in answers)
    status = f"{written} of {len(answers)} summaries written" + ("" if written == len(answers) else " …") + escape(note)
    return f'<p class="status" role="status">{status}</p><ul class="rows">{"".join(map(_card, answers))}</ul>'


def show_message(text: str) -> str:
    """A message to the reader as HTML."""
    return f'<p class="message" role="alert">{escape(text)}</p>'


def _card(answer: Answer) -> str:
    if answer.text is None:
        return f'<li class="row"><h2>{escape(answer.label)}</h2><p class="facts">writing …</p></li>'
    facts = [f"{answer.seconds:.1f} s" if answer.seconds >= 0.05 else "under 0.1 s", f"{answer.num_words} words"]
    if answer.scores is not None:
        facts += [f"{title} {answer.scores[name]:.1f}" for title, name in SCORES]
    line = " · ".join(f"<span>{escape(fact)}</span>" for fact in [*facts, *answer.notes])
    return (
        f'<li class="row"><h2>{escape(answer.label)}</h2><p class="summary">{_marked(answer)}</p>'
        f'<p class="facts">{line}</p></li>'
    )


def _title(document: Document) -> str:
    """A document in the list to pick from: its id and how it begins."""
    return f"{document.id}: {textwrap.shorten(document.text[:500], 60, placeholder=' …')}"


def _marked(answer: Answer) -> str:
    """The summary as HTML, with what was copied from the article marked."""
    assert answer.text is not None
    pieces, place = [], 0
    for begin, end in answer.copied:
        pieces += [escape(answer.text[place:begin]), "<mark>", escape(answer.text[begin:end]), "</mark>"]
        place = end
    return "".join([*pieces, escape(answer.text[place:])])


STYLE = """
#pick input { padding-right: 2rem; text-overflow: ellipsis; }
#about h1 { font-size: 1.5rem; font-weight: 600; margin: 0 0 .5rem; overflow-wrap: anywhere; }
.status { margin: 0 0 .5rem; }
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
    """The module gradio, set to report nothing to anybody.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before its import, which reads it
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError:
        raise ConfigError("The page needs the extra `play`, which is missing: pip install 'triptych[play]'.") from None
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
        marked = f"Marked: at least {LEAST_COPIED} consecutive words that the article contains as well."
        gradio.HTML(
            f"<h1>{escape(playground.title)}: one article, every method</h1><p>{note}{marked}</p>", elem_id="about"
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
            # Through the queue like everything else: the server accepts nothing that is posted elsewhere
            choice.input(pick, choice, [article, reference], api_visibility="private")
        given = [article, reference, choice] if documents else [article, reference]
        button.click(run, given, results, concurrency_limit=1, api_visibility="private")
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
    return page

"""The page of `triptych play` as a gradio form: the choices, and what they do."""

import os
import threading
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

from triptych.analysis.comparison import compare_results
from triptych.errors import ConfigError, InputError
from triptych.results.reading import read_results
from triptych.storage.files import leads_out
from triptych.use.page_html import REPORTS, show, show_comparison, show_links, show_message, title_of
from triptych.use.playground import LEAST_COPIED, MAX_BEAMS, Choice, Playground

MAX_WAITING = 20  # requests in the queue; further ones are asked to try again

STYLE = """
#pick input { padding-right: 2rem; text-overflow: ellipsis; }
#about h1 { font-size: 1.5rem; font-weight: 600; margin: 0 0 .5rem; overflow-wrap: anywhere; }
.status { margin: 0 0 .5rem; }
.rows { list-style: none; margin: 0; padding: 0; display: grid; gap: .8rem; align-items: start; }
.rows { grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
#results .row { margin: 0; border: 1px solid var(--border-color-primary); }
.row { border-radius: .5rem; padding: .7rem .9rem; overflow-wrap: anywhere; }
.row .head { display: flex; justify-content: space-between; align-items: start; gap: .5rem; }
#results .row h2 { margin: 0 0 .3rem; font-size: 1rem; }
.row .copy { border: 1px solid var(--border-color-primary); border-radius: .3rem; padding: .1rem .5rem; }
.row .copy { font-size: .85rem; background: none; color: var(--body-text-color); cursor: pointer; }
.row .summary { white-space: pre-line; margin: 0 0 .5rem; }
.row .facts { margin: 0; font-size: .85rem; color: var(--body-text-color); opacity: .8; }
#results .row p { display: block; }
#results .row .facts { margin-top: .5rem; }
.row .facts span { white-space: nowrap; }
.row .facts span:nth-child(n + 6) { white-space: normal; }
.row details { margin-top: .5rem; font-size: .9rem; }
.row details summary { cursor: pointer; }
.row .source { white-space: pre-line; max-height: 20rem; overflow-y: auto; margin: .4rem 0 0; }
.row mark, #about mark { background: #ffe08a; color: #201a00; border-radius: .2rem; }
.added { text-decoration: underline wavy #d4380d 1px; text-underline-offset: .2em; }
.echoed { text-decoration: underline dotted; text-underline-offset: .2em; }
.message { border-left: .3rem solid #e0483e; background: #e0483e1f; padding: .5rem .8rem; margin: 0; }
#comparison { --ground: var(--background-fill-primary); --line: var(--border-color-primary); }
#comparison .wide { overflow-x: auto; margin: 0 0 1rem; }
#comparison a { color: inherit; text-decoration: underline; }
#comparison table { border-collapse: collapse; font-size: .9rem; }
#comparison .caption { font-size: .85rem; margin: 1rem 0 .4rem; }
#comparison th, #comparison td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; }
#comparison .number { text-align: right; font-variant-numeric: tabular-nums; }
#comparison small { display: block; opacity: .8; white-space: nowrap; }
#comparison figure { margin: 1.2rem 0; }
#comparison .drawing { overflow-x: auto; }
#comparison .drawing svg { width: 100%; min-width: 34rem; max-width: 50rem; fill: currentColor; font-size: 8px; }
#comparison h2 { font-size: 1.1rem; font-weight: 600; margin: 1rem 0 .3rem; }
@media (max-width: 640px) { .gradio-container { padding: .5rem !important; } }
"""
# A click on a card's button: browsers have no clipboard on an unencrypted page from another machine.
_COPY = """
element.addEventListener('click', async (event) => {
    const button = event.target.closest('button.copy');
    if (!button) return;
    const summary = button.closest('.row').querySelector('.summary');
    try {
        await navigator.clipboard.writeText(summary.textContent);
        button.textContent = 'Copied';
    } catch {
        getSelection().selectAllChildren(summary);
        button.textContent = 'Selected';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 2000);
});
"""
_STOPPED = """
() => {
    for (const facts of document.querySelectorAll('#results .waiting .facts')) facts.textContent = 'stopped';
    const status = document.querySelector('#results .status');
    if (status) status.textContent = status.textContent.replace(' …', ', then stopped');
}
"""


def import_gradio() -> Any:
    """The gradio module, with all telemetry turned off.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError:
        raise ConfigError("The page needs the extra `play`, which is missing: pip install 'triptych[play]'.") from None
    return gradio


def build_page(playground: Playground) -> Any:
    """The page as a gradio application with its queue."""
    gradio = import_gradio()
    with gradio.Blocks(title=f"Triptych: {playground.title}", analytics_enabled=False) as page:
        gradio.HTML(_about(playground), elem_id="about")
        if playground.out is None:
            _form(gradio, playground)
        else:
            with gradio.Tab("Try it"):
                _form(gradio, playground)
            with gradio.Tab("Comparison") as tab:
                shown = gradio.HTML(elem_id="comparison", label="Comparison", padding=False)
            tab.select(comparison_of(playground), None, shown, concurrency_limit=1, api_visibility="private")
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
    return page


def comparison_of(playground: Playground) -> Callable[[], str]:
    """A function that shows the comparison of the results folder; it is made once, on first use."""
    made: list[str] = []
    making = threading.Lock()
    out = playground.out
    assert out is not None

    def comparison() -> str:
        with making:
            if not made:
                there = [name for name in REPORTS if (out / name).is_file() and not leads_out(out / name, out)]
                links = show_links(there)
                try:
                    results = read_results(out, partial=True)
                    made.append(links + show_comparison(results, compare_results(results)))
                except InputError as error:
                    return show_message(str(error))
            return made[0]

    return comparison


def _about(playground: Playground) -> str:
    warning = f"<strong>{escape(playground.notice)}</strong> " if playground.notice else ""
    return (
        f"<h1>{escape(playground.title)}: one article, every method</h1>"
        f"<p>{warning}<mark>Marked</mark>: at least {LEAST_COPIED} consecutive words "
        'that the article also contains. <span class="added">Underlined</span>: a word that it does not contain.</p>'
    )


def _form(gradio: Any, playground: Playground) -> None:
    """Article, reference and choices, and the actions on them."""
    documents, usual = playground.documents, playground.decoding

    def pick(place: int | None) -> tuple[str, str]:
        return (documents[place].text, documents[place].reference) if place is not None else ("", "")

    def run(
        article: str | None,
        reference: str | None,
        place: int | None,
        labels: list[str] | None,
        seed: int | None,
        beams: float,
        length: float,
    ) -> Iterator[str]:
        note, (picked, its_own) = "", pick(place)
        if reference and reference.split() == its_own.split() and (article or "").split() != picked.split():
            reference, note = "", " The reference belongs to the picked document, not to this article: no scores."
        asked = (int(beams), int(length)) if usual is not None else (None, None)
        if usual is not None and asked != usual:
            note += " Decoded differently than in the comparison."
        choice = Choice(tuple(labels or ()), seed, *asked)
        try:
            for answers in playground.answer(article or "", reference or "", choice):
                yield show(answers, note, article or "")
        except InputError as error:
            yield show_message(str(error))

    titles = [(title_of(document), place) for place, document in enumerate(documents)]
    pick_label = "Pick a test document or a sample, or paste an article below"
    document = gradio.Dropdown(titles, value=None, label=pick_label, elem_id="pick", visible=bool(documents))
    article = gradio.Textbox(
        label="Article", lines=8, max_lines=16, elem_id="article", placeholder="Paste an article of any length."
    )
    reference = gradio.Textbox(label="Reference summary, if there is one", lines=2, max_lines=6, elem_id="reference")
    labels = gradio.CheckboxGroup(playground.labels, value=playground.labels, label="Methods", elem_id="rows")
    with gradio.Accordion("Seed, beams and length", open=False, elem_id="more"):
        seeds = [("the first of each method", None), *((str(seed), seed) for seed in playground.seeds)]
        seed = gradio.Dropdown(
            seeds, value=None, label="Training seed", elem_id="seed", visible=len(playground.seeds) > 1
        )
        beams = gradio.Slider(
            1,
            max(MAX_BEAMS, usual[0] if usual else 1),
            value=usual[0] if usual else 1,
            step=1,
            label="Beams",
            elem_id="beams",
            visible=usual is not None,
        )
        length = gradio.Slider(
            1,
            max(2, playground.most_new_tokens),
            value=usual[1] if usual else 1,
            step=1,
            label="Tokens of a summary, at most",
            elem_id="length",
            visible=usual is not None,
        )
    with gradio.Row():
        button = gradio.Button("Summarize", variant="primary", elem_id="run")
        stop = gradio.Button("Stop", elem_id="stop")
        clear = gradio.Button("Clear", elem_id="clear")
    results = gradio.HTML(elem_id="results", label="Summaries", padding=False, js_on_load=_COPY)
    # Through the queue like everything else: the server rejects all other POST requests
    document.input(pick, document, [article, reference], api_visibility="private")
    given = [article, reference, document, labels, seed, beams, length]
    running = button.click(run, given, results, concurrency_limit=1, api_visibility="private")
    stop.click(None, None, None, js=_STOPPED, cancels=[running], api_visibility="private")
    emptied = [document, article, reference, results]
    clear.click(lambda: (None, "", "", ""), None, emptied, cancels=[running], api_visibility="private")

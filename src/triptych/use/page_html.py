"""HTML for the page of `triptych play`: answers, messages, and the comparison. All text is escaped."""

import textwrap
from collections.abc import Iterable, Sequence
from html import escape

from triptych.reporting.figures import figures
from triptych.reporting.inline import inline_svg
from triptych.reporting.lines import all_flags
from triptych.reporting.tables.cost import training_table
from triptych.reporting.tables.quality import quality_table
from triptych.reporting.tables.table import ReportTable
from triptych.results.reading import Results
from triptych.results.records import Comparison
from triptych.use.playground import MAX_SHOWN, Answer, Document, Spans

SCORES = (("R-1", "rouge1"), ("R-2", "rouge2"), ("R-Lsum", "rougeLsum"))
REPORTS = ("report.html", "report.pdf")  # of a results folder, served next to the page
_NUMBER = ' class="number"'
_FIGURES = {
    "curves": "Loss while training",
    "pareto": "Quality against cost",
    "cost": "Cost of training",
    "scaling": "Gains with more training documents",
}


def show(answers: Sequence[Answer], note: str = "", article: str = "") -> str:
    """The answers as HTML.

    Args:
        answers: the answers so far.
        note: a note on all of them.
        article: the summarized article, to show what each summary used of it; empty: not shown.
    """
    written = sum(answer.text is not None for answer in answers)
    status = f"{written} of {len(answers)} summaries written" + ("" if written == len(answers) else " …") + escape(note)
    cards = "".join(_card(answer, article) for answer in answers)
    return f'<p class="status" role="status">{status}</p><ul class="rows">{cards}</ul>'


def show_message(text: str) -> str:
    """A message to the reader as HTML."""
    return f'<p class="message" role="alert">{escape(text)}</p>'


def title_of(document: Document) -> str:
    """The title of a document in the list: its id and its beginning."""
    return f"{document.id}: {textwrap.shorten(document.text[:500], 60, placeholder=' …')}"


def show_comparison(results: Results, comparison: Comparison) -> str:
    """The verdict, the tables of quality and cost, and the figures of a comparison, as HTML.

    Args:
        results: the runs.
        comparison: the comparison of the same runs.
    """
    flags = "".join(f"<li>{escape(flag)}</li>" for flag in all_flags(comparison))
    parts = [
        f"<p><strong>{escape(comparison.verdict)}</strong></p>",
        _table(quality_table(comparison)),
        _table(training_table(comparison)),
        *(
            f'<figure><figcaption>{_FIGURES[name]}</figcaption><div class="drawing" tabindex="0" role="region" '
            f'aria-label="{_FIGURES[name]}">{inline_svg(name, drawing)}</div></figure>'
            for name, drawing in figures(results, comparison).items()
            if name in _FIGURES
        ),
        f"<h2>What to know</h2><ul>{flags}</ul>" if flags else "",
    ]
    return "".join(parts)


def show_links(names: Sequence[str]) -> str:
    """Links to the available reports, as HTML.

    Args:
        names: their names, from `REPORTS`.
    """
    words = {"report.html": "The whole report", "report.pdf": "As PDF"}
    links = [f'<a href="{name}" target="_blank" rel="noopener">{words[name]}</a>' for name in REPORTS if name in names]
    return f'<p class="links">{" · ".join(links)}</p>' if links else ""


def _card(answer: Answer, article: str) -> str:
    label = escape(answer.label)
    if answer.text is None:
        return f'<li class="row waiting"><h2>{label}</h2><p class="facts">writing …</p></li>'
    facts = [f"{answer.seconds:.1f} s" if answer.seconds >= 0.05 else "under 0.1 s", f"{answer.num_words} words"]
    if answer.scores is not None:
        facts += [f"{title} {answer.scores[name]:.1f}" for title, name in SCORES]
    line = " · ".join(f"<span>{escape(fact)}</span>" for fact in [*facts, *answer.notes])
    copy = f'<button type="button" class="copy" aria-label="Copy the summary of {label}">Copy</button>'
    text = _marked(answer.text, answer.copied, answer.added, "added")
    return (
        f'<li class="row"><div class="head"><h2>{label}</h2>{copy}</div><p class="summary">{text}</p>'
        f'<p class="facts">{line}</p>{_source(answer, article)}</li>'
    )


def _source(answer: Answer, article: str) -> str:
    """The article with what a summary used of it, collapsed."""
    if not article or not answer.text:
        return ""
    rest = "" if len(article) <= MAX_SHOWN else f" … (the first {MAX_SHOWN:,} characters)"
    text = _marked(article[:MAX_SHOWN], answer.used, answer.echoed, "echoed") + rest
    return (
        "<details><summary>The article, with what this summary used</summary>"
        f'<p class="source" tabindex="0">{text}</p></details>'
    )


def _marked(text: str, spans: Spans, words: Spans, kind: str) -> str:
    """A text as HTML with spans in `mark`, and words outside them in a `span` with a class."""
    inside = [(begin, end, "<mark>", "</mark>") for begin, end in spans]
    for begin, end in words:
        if not any(first <= begin < last for first, last, *_ in inside[: len(spans)]):
            inside.append((begin, end, f'<span class="{kind}">', "</span>"))
    pieces, place = [], 0
    for begin, end, opening, closing in sorted(inside):
        pieces += [escape(text[place:begin]), opening, escape(text[begin:end]), closing]
        place = end
    return "".join([*pieces, escape(text[place:])])


def _table(table: ReportTable) -> str:
    head = "".join(
        f'<th scope="col"{"" if column in table.words else _NUMBER}>{escape(name)}</th>'
        for column, name in enumerate(table.head)
    )
    body = "".join(f"<tr>{''.join(_cells(table, row))}</tr>" for row in table.rows)
    return (
        f'<p class="caption" id="caption-{table.name}">{escape(table.caption)}</p>'
        f'<div class="wide" tabindex="0" role="region" aria-labeledby="caption-{table.name}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cells(table: ReportTable, row: Sequence) -> Iterable[str]:
    for column, cell in enumerate(row):
        text = escape(cell.text) + (f"<small>{escape(cell.sub)}</small>" if cell.sub else "")
        if column == 0:
            yield f'<th scope="row">{text}</th>'
        else:
            yield f"<td{'' if column in table.words else _NUMBER}>{text}</td>"

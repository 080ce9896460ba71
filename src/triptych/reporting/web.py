"""`report.html`: the report as one self-contained page."""

import re
from pathlib import Path
from typing import Any

from triptych.reporting.document import ReportContent
from triptych.reporting.drawing import Drawing
from triptych.reporting.examples import browser_data
from triptych.reporting.inline import figure_data, inline_svg
from triptych.reporting.typeset import typeset
from triptych.results.reading import Results
from triptych.results.records import Comparison
from triptych.storage.files import write_bytes
from triptych.text.characters import to_json

_FOLDER = Path(__file__).parent / "page"
_SCRIPTS = ("page.js", "tables.js", "figures.js", "browser.js")


def write_html(results: Results, comparison: Comparison, path: Path) -> None:
    """Write the page to a file."""
    write_bytes(path, to_html(ReportContent(results, comparison)))


def to_html(report: ReportContent) -> bytes:
    """The page: the printed report's text, tables and figures, and a browser of all predictions.

    Raises:
        ResultsError: this copy of the package lacks the templates.
    """
    drawings = report.drawings
    page = typeset(
        "web.typ",
        report.document | {"figures": dict.fromkeys(drawings, "")},
        "html",
        {
            "css": (_FOLDER / "report.css").read_text(encoding="utf-8"),
            "script": "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS),
            "figures": embeddable({name: figure_data(drawing) for name, drawing in drawings.items()}),
            "browser": embeddable(browser_data(report.results)),
        },
    )
    return _with_figures(page.decode(), drawings).encode()


def embeddable(value: Any) -> str:
    """JSON for use in a script element: no `<` can close it or open another, and no character ends the page."""
    return to_json(value, separators=(",", ":")).replace("<", "\\u003c")


def _with_figures(page: str, drawings: dict[str, Drawing]) -> str:
    """Insert each figure into the empty element that Typst left for it; no text can look like that element."""
    return re.sub(
        r'<div class="drawing" data-figure="(\w+)"[^>]*>(?=</div>)',
        lambda place: place[0] + inline_svg(place[1], drawings[place[1]]),
        page,
    )

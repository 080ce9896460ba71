"""`report.html`: the report as one page that needs nothing but itself."""

from pathlib import Path
from typing import Any

from triptych.reporting.document import browser_data, describe, figure_data
from triptych.reporting.typeset import typeset
from triptych.results.reading import Results
from triptych.results.records import Comparison
from triptych.storage.files import write_bytes
from triptych.text.characters import to_json

_FOLDER = Path(__file__).parent / "page"
_SCRIPTS = ("page.js", "tables.js", "figures.js", "browser.js")


def write_html(results: Results, comparison: Comparison, path: Path) -> None:
    """Write the page into a file."""
    write_bytes(path, to_html(results, comparison))


def to_html(results: Results, comparison: Comparison) -> bytes:
    """The page: the printed report's text and tables, drawn figures, and a browser of all predictions.

    Raises:
        ResultsError: this copy of the package has no templates.
    """
    return typeset(
        "web.typ",
        describe(results, comparison, drawn=False),
        "html",
        {
            "css": (_FOLDER / "report.css").read_text(encoding="utf-8"),
            "script": "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS),
            "figures": embeddable(figure_data(results, comparison)),
            "browser": embeddable(browser_data(results)),
        },
    )


def embeddable(value: Any) -> str:
    """JSON that can stand inside a script element: no `<` can end it or open another, and no character ends the
    page."""
    return to_json(value, separators=(",", ":")).replace("<", "\\u003c")

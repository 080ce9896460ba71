"""`report.html`: the report as one page that needs nothing but itself."""

import json
from pathlib import Path
from typing import Any

from triptych.analysis.loading import Results
from triptych.records import Comparison
from triptych.report.document import browser_data, describe, figure_data
from triptych.report.typeset import compile_to

_FOLDER = Path(__file__).parent / "page"
_SCRIPTS = ("page.js", "tables.js", "figures.js", "browser.js")


def write_html(results: Results, comparison: Comparison, path: Path) -> None:
    """Write the page: the printed report's text and tables, drawn figures, and a browser of all predictions."""
    compile_to(
        path,
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
    """JSON that can stand inside a script element: no `<` can end it or open another."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")

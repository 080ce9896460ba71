"""`report.pdf`: the printed report."""

from pathlib import Path

from triptych.analysis.loading import Results
from triptych.records import Comparison
from triptych.report.document import describe
from triptych.report.typeset import compile_to


def write_pdf(results: Results, comparison: Comparison, path: Path) -> None:
    """Typeset the report; the same results give the same bytes."""
    compile_to(path, "pdf.typ", describe(results, comparison, drawn=True), "pdf")

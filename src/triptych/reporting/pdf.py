"""`report.pdf`: the printed report."""

from pathlib import Path

from triptych.reporting.document import ReportContent
from triptych.reporting.typeset import typeset
from triptych.results.reading import Results
from triptych.results.records import Comparison
from triptych.storage.files import write_bytes


def to_pdf(report: ReportContent) -> bytes:
    """The printed report; the same results give the same bytes.

    Raises:
        ResultsError: this copy of the package lacks the templates.
    """
    drawings = {name: drawing.svg for name, drawing in report.drawings.items()}
    return typeset("pdf.typ", report.document | {"figures": drawings}, "pdf")


def write_pdf(results: Results, comparison: Comparison, path: Path) -> None:
    """Write the printed report to a file."""
    write_bytes(path, to_pdf(ReportContent(results, comparison)))

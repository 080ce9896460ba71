"""All documents of a comparison."""

from pathlib import Path

from triptych.analysis.loading import Results
from triptych.files import write_bytes
from triptych.records import Comparison
from triptych.report.pdf import write_pdf
from triptych.report.tables import to_csv, to_markdown
from triptych.report.web import write_html


def write_report(results: Results, comparison: Comparison, out: Path) -> list[Path]:
    """Write comparison.csv, comparison.md, report.pdf and report.html into a folder; returns their paths."""
    paths = [out / name for name in ("comparison.csv", "comparison.md", "report.pdf", "report.html")]
    write_bytes(paths[0], to_csv(comparison).encode())
    write_bytes(paths[1], to_markdown(comparison).encode())
    write_pdf(results, comparison, paths[2])
    write_html(results, comparison, paths[3])
    return paths

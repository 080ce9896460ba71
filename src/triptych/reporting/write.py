"""Write all documents of a comparison."""

from pathlib import Path

from triptych.errors import TriptychError
from triptych.reporting.authors_text import NOT_WRITTEN, read_authors_text
from triptych.reporting.document import ReportContent
from triptych.reporting.export import to_csv, to_markdown, to_tests_csv
from triptych.reporting.pdf import to_pdf
from triptych.reporting.web import to_html
from triptych.results.reading import Results
from triptych.results.records import Comparison
from triptych.storage.files import write_together
from triptych.text.characters import to_json

TABLE_FILES = ("comparison.json", "comparison.csv", "comparison_tests.csv", "comparison.md")
REPORT_FILES = ("report.pdf", "report.html")


def write_report(results: Results, comparison: Comparison, out: Path, documents: bool = True) -> list[Path]:
    """Write comparison.json, .csv and .md, comparison_tests.csv, report.pdf and report.html, replaced together.

    Args:
        results: the loaded results.
        comparison: the comparison of the same results.
        out: the folder; created if it is missing.
        documents: whether to write report.pdf and report.html; if not, old ones are removed.

    Returns:
        The paths of the written files.

    Raises:
        ResultsError: the author's own text, or a figure in it, cannot be shown; nothing was written.
        TriptychError: a document could not be made. The others are written, and no old version of it is left.
    """
    report = ReportContent(results, comparison, read_authors_text([out, results.out]) if documents else NOT_WRITTEN)
    makers = {
        "comparison.json": lambda: f"{to_json(comparison.model_dump(mode='json'), indent=2)}\n".encode(),
        "comparison.csv": lambda: to_csv(comparison).encode(),
        "comparison_tests.csv": lambda: to_tests_csv(comparison).encode(),
        "comparison.md": lambda: to_markdown(comparison).encode(),
    }
    reports = {
        "report.pdf": lambda: to_pdf(report),
        "report.html": lambda: to_html(report),
    }
    if documents:
        makers |= reports
    else:
        for name in reports:
            (out / name).unlink(missing_ok=True)
    paths = {name: out / name for name in makers}
    failed = write_together({paths[name]: make for name, make in makers.items()})
    for error in failed.values():
        if isinstance(error, (TriptychError, OSError, MemoryError)):
            raise error
    if failed:
        reasons = "; ".join(f"{path.name}: {type(error).__name__}: {error}" for path, error in failed.items())
        written = ", ".join(path.name for path in paths.values() if path not in failed)
        raise TriptychError(
            f"Not all of the report could be written ({reasons}). {str(out)!r} has {written}."
        ) from next(iter(failed.values()))
    return list(paths.values())

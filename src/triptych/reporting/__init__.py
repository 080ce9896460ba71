"""Turn a comparison into documents: tables, figures, printed report, web page; no torch."""

# ruff: noqa: E402
from triptych.storage.cache_place import give_matplotlib_a_folder

give_matplotlib_a_folder()  # before any module below imports it

from triptych.reporting.export import to_csv, to_markdown
from triptych.reporting.pdf import write_pdf
from triptych.reporting.terminal import ComparisonTable
from triptych.reporting.web import write_html
from triptych.reporting.write import write_report

__all__ = ["ComparisonTable", "to_csv", "to_markdown", "write_html", "write_pdf", "write_report"]

"""Documents of a comparison: tables, figures, the printed report and the web page. Pure: records in, documents out."""

from triptych.reporting.export import to_csv, to_markdown
from triptych.reporting.pdf import write_pdf
from triptych.reporting.terminal import comparison_table
from triptych.reporting.web import write_html
from triptych.reporting.write import write_report

__all__ = ["comparison_table", "to_csv", "to_markdown", "write_html", "write_pdf", "write_report"]

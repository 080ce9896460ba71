"""The reports in docs are what the current code writes for their records, and the main part of the demo's is short."""

import re
import shutil
import subprocess

import pytest

import write_reports
from triptych.reporting import write

LONGEST = 12  # pages before the answers on theory


@pytest.mark.parametrize("folder", write_reports.folders(), ids=lambda folder: folder.name)
def test_no_report_is_older_than_what_writes_it(folder, monkeypatch) -> None:
    """Each page in docs is what the current code writes for the same records; otherwise run: make reports."""
    monkeypatch.setattr(write, "to_pdf", lambda report: b"")  # not compared, and takes most of the time
    assert write_reports.is_present(folder, write_reports.folders()[folder]), "make reports writes it again"


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext (poppler-utils) is absent")
def test_the_main_part_is_short() -> None:
    """The demo's report up to the answers on theory has at most twelve pages, according to its contents."""
    command = ["pdftotext", "-layout", str(write_reports.EXAMPLE / "report.pdf"), "-"]
    pages = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\f")
    heading = re.compile(r"^\s*\d+ Theory\s*$", re.M)
    theory = next(number for number, page in enumerate(pages, 1) if heading.search(page))
    assert theory <= LONGEST + 1
    assert re.search(rf"Theory[ .\u2060]+{theory}\b", pages[0])

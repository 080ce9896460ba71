"""The reports in docs are what the present code writes of their records, and the main part of the demo's is short."""

import re
import shutil
import subprocess

import pytest

import write_reports
from triptych.reporting import write

LONGEST = 12  # pages before the answers on theory


@pytest.mark.parametrize("folder", write_reports.folders(), ids=lambda folder: folder.name)
def test_no_report_is_older_than_what_writes_it(folder, monkeypatch) -> None:
    """Each page in docs says what the present code writes of the same records; else: make reports."""
    monkeypatch.setattr(write, "to_pdf", lambda report: b"")  # not compared, and most of the time
    assert write_reports.is_present(folder, write_reports.folders()[folder]), "make reports writes it again"


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext (poppler-utils) is absent")
def test_the_main_part_is_short() -> None:
    """All of the demo's report before the answers on theory takes at most twelve pages, as its contents say."""
    command = ["pdftotext", "-layout", str(write_reports.EXAMPLE / "report.pdf"), "-"]
    pages = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\f")
    heading = re.compile(r"^\s*\d+ Theory\s*$", re.M)
    theory = next(number for number, page in enumerate(pages, 1) if heading.search(page))
    assert theory <= LONGEST + 1
    assert re.search(rf"Theory[ .\u2060]+{theory}\b", pages[0])

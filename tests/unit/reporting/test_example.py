"""The report in docs/example is what the present code writes of its records, and its main part is short."""

import re
import shutil
import subprocess

import pytest

import write_example

LONGEST = 12  # pages before the answers on theory


def test_the_example_is_not_older_than_what_writes_it() -> None:
    """The page in docs/example says what the present code writes of the same records; else: make example-report."""
    assert write_example.is_present(), "docs/example is older than what writes it: run make example-report"


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext (poppler-utils) is absent")
def test_the_main_part_is_short() -> None:
    """All of the demo's report before the answers on theory takes at most twelve pages, as its contents say."""
    command = ["pdftotext", "-layout", str(write_example.EXAMPLE / "report.pdf"), "-"]
    pages = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\f")
    heading = re.compile(r"^\s*\d+ Theory\s*$", re.M)
    theory = next(number for number, page in enumerate(pages, 1) if heading.search(page))
    assert theory <= LONGEST + 1
    assert re.search(rf"Theory[ .\u2060]+{theory}\b", pages[0])

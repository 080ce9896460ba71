"""The large-corpus benchmark at a small size: it measures what it should, and the second run uses what the first
prepared."""

import json
import subprocess
import sys

import pytest

from support.paths import CHECKOUT

BENCHMARK = CHECKOUT / "benchmarks" / "large_corpus.py"


@pytest.mark.slow
def test_a_corpus_is_prepared_once_and_found_again(tmp_path):
    """Both runs give the same corpus within bounded memory, and the second reads only the cache."""
    command = [
        sys.executable,
        str(BENCHMARK),
        "--gigabytes",
        "0.004",
        "--train-documents",
        "200",
        "--folder",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    written, first, again = (json.loads(line) for line in done.stdout.splitlines())
    assert 4e6 <= written["csv_bytes"] < 4.1e6 and written["documents"] > 500
    assert first["used"]["train"] == 200 and first["fingerprint"] == again["fingerprint"]
    assert 0 < first["peak_resident_bytes"] < 1.5 * 2**30
    assert list(tmp_path.iterdir()) == []

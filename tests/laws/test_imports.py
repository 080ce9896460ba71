"""The package's layers hold: imports run downwards, the engine knows no method, analysis and report need no torch."""

import subprocess
import sys
from pathlib import Path

from support.interpreters import TORCHLESS
from support.paths import CHECKOUT

ROOT = CHECKOUT


def test_imports_run_downwards():
    """import-linter keeps every contract of pyproject.toml."""
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_analysis_loads_without_torch():
    """Reading records and writing reports import neither torch, transformers nor peft."""
    code = (
        "import sys, triptych.analysis, triptych.reporting.write; "
        "sys.exit(bool({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_what_list_shows_needs_no_stemmers():
    """Registered plug-ins are imported without nltk, which takes longer than everything else in `triptych list`."""
    code = "import sys, triptych.plugins as p; p.import_plugins(); sys.exit('nltk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_metrics_data_sets_and_lists_load_without_torch(tmp_path):
    """Contracts, metrics, table readers, terminal output and `list data` need no torch."""
    (tmp_path / "data.csv").write_text("document,summary\na,b\n")
    code = TORCHLESS + (
        "import triptych.contracts, triptych.results.reading, triptych.metrics.rouge, triptych.metrics.text_shape, "
        "triptych.cli.printing\n"
        "from triptych.cli import main\n"
        f"sys.exit(main(['list', 'data', {str(tmp_path)!r}]))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0 and "summary = summary" in found.stdout, found.stderr

"""The house stands as drawn: imports run downwards, the engine knows no method, analysis and report need no torch."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_imports_run_downwards():
    """import-linter keeps every contract of pyproject.toml."""
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_analysis_loads_without_torch():
    """Reading records and writing reports imports neither torch, transformers nor peft."""
    code = (
        "import sys, triptych.analysis, triptych.report.write; "
        "sys.exit(bool({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0

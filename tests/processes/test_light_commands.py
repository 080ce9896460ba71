"""Commands that compute nothing start without the libraries that are slow to import."""

import subprocess
import sys

HEAVY = {"torch", "transformers", "peft", "accelerate", "datasets", "matplotlib"}

PROGRAM = f"""
import sys
from triptych import cli

for status, arguments in (
    (0, ["list"]),
    (0, ["list", "data", "pairs.csv"]),
    (2, ["compare", "--methods", "lroa"]),
    (2, ["compare", "--dry-run", "--set", "limits.train_documets=3"]),
    (2, ["train", "lroa"]),
    (2, ["plan", "--methods", "lroa"]),
    (2, ["init", "--methods", "lroa"]),
    (2, ["train", "lora", "--set", "training.seed=1"]),
    (2, ["compare", "--within", "8h", "--set", "method.lora.rnak=3"]),
):
    assert cli.main(arguments) == status, arguments
    assert not {HEAVY} & sys.modules.keys(), (arguments, {HEAVY} & sys.modules.keys())
"""


def test_listing_and_a_mistyped_name_need_no_torch(tmp_path):
    """`list`, `list data`, a mistyped method, key or option are answered before any large library is imported."""
    (tmp_path / "pairs.csv").write_text("article,highlights\n" + "A long day. It rained.,Rain.\n" * 20)
    found = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    assert "Did you mean 'lora'?" in found.stderr and "document = article" in found.stdout

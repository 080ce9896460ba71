"""Try the built wheel like a new user: install it into an empty environment and run the demo from an empty folder.

    python scripts/try_wheel.py build/dist [--python PYTHON] [--methods a,b]

The script prints what was tried, and exits with status 1 if a command fails or does not write a file that it should.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
WRITTEN = ("suite.json", "comparison.json", "comparison.csv", "report.pdf", "report.html")


def try_wheel(wheel: Path, python: str, methods: str | None, folder: Path) -> None:
    """Install a wheel and run the demo.

    Args:
        wheel: the wheel file.
        python: the interpreter of the new environment.
        methods: methods of the demo, separated by commas; None for all.
        folder: an empty folder for the environment and the results.

    Raises:
        subprocess.CalledProcessError: a command failed.
        FileNotFoundError: the demo did not write a file that it should have.
    """
    inside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    inside |= {"TRIPTYCH_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    (empty := folder / "empty").mkdir()

    def run(*command: str | Path) -> str:
        return subprocess.run(command, cwd=empty, env=inside, check=True, stdout=subprocess.PIPE, text=True).stdout

    run(python, "-m", "venv", folder / "environment")
    programs = folder / "environment" / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", "--constraint", CONSTRAINTS, wheel.resolve())
    print(run(programs / "triptych", "--version").strip(), "on", run(programs / "python", "--version").strip())
    demo = [programs / "triptych", "compare", "--out", "results", *(["--methods", methods] if methods else [])]
    print(run(*demo))
    for name in WRITTEN:
        if not (empty / "results" / name).is_file():
            raise FileNotFoundError(f"The demo did not write {name}.")


def main() -> int:
    """Parse the command line and try the newest wheel of the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the wheel")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to try it with")
    parser.add_argument("--methods", help="methods of the demo, separated by commas (default: all)")
    options = parser.parse_args()
    wheels = sorted(options.folder.glob("triptych-*.whl"), key=lambda path: path.stat().st_mtime)
    if not wheels:
        parser.error(f"there is no wheel in {options.folder}: make dist")
    with tempfile.TemporaryDirectory() as folder:
        try:
            try_wheel(wheels[-1], options.python, options.methods, Path(folder))
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            print(error, file=sys.stderr)
            return 1
    print(f"{wheels[-1].name} works")
    return 0


if __name__ == "__main__":
    sys.exit(main())

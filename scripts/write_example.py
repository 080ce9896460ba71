"""Write docs/example: the demo's records and the report that is made of them.

    python scripts/write_example.py results/example    # from a results folder: `make example` runs the demo before
    python scripts/write_example.py                    # the report again, from the records that are in docs/example
    python scripts/write_example.py --check            # status 1 if the report is not what the present code writes

Records, histories and predictions of every run are kept in docs/example/results, so that the report can be written
again in seconds, without training, whenever what writes it has changed.
"""

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
EXAMPLE = CHECKOUT / "docs" / "example"
KEPT = ("suite.json", "command.json", "runs/*/*/record.json", "runs/*/*/history.jsonl", "runs/*/*/predictions.jsonl")
REPORTS = ("report.pdf", "report.html")
FIGURE = "quality-and-cost.svg"  # of README.md


def keep(results: Path) -> None:
    """Copy what the report is made of from a results folder."""
    kept = EXAMPLE / "results"
    if kept.exists():
        shutil.rmtree(kept)
    for pattern in KEPT:
        for path in results.glob(pattern):
            to = kept / path.relative_to(results)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)


def write(to: Path) -> None:
    """Write the report of the kept records."""
    from triptych import api

    api.report(EXAMPLE / "results", to=to)


def write_figure(to: Path) -> None:
    """Draw quality against cost of the kept records, on a white ground, with typefaces that browsers have."""
    from triptych.analysis.comparison import compare_results
    from triptych.reporting.figures import pareto_figure
    from triptych.results.reading import read_results

    drawing = pareto_figure(compare_results(read_results(EXAMPLE / "results")))
    assert drawing is not None, "the demo trains methods"
    svg = re.sub(r"'Libertinus Serif'[^;\"]*", "Georgia, 'DejaVu Serif', serif", drawing.svg)
    opening = svg.index(">", svg.index("<svg")) + 1
    to.write_text(f'{svg[:opening]}<rect width="100%" height="100%" fill="#ffffff"/>{svg[opening:]}', encoding="utf-8")


def words(page: Path) -> str:
    """What a page says, without its drawings, whose bytes depend on the version of Matplotlib."""
    return re.sub(r"<svg.*?</svg>", "", page.read_text(encoding="utf-8"), flags=re.S)


def is_present() -> bool:
    """Whether the page in docs/example says what the present code writes of the same records."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return words(Path(folder) / "report.html") == words(EXAMPLE / "report.html")


def main() -> int:
    """Keep records and write the report, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="?", type=Path, help="a results folder of the demo")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if the report is out of date")
    options = parser.parse_args()
    if options.check:
        if is_present():
            return 0
        print("docs/example is older than what writes it: make example-report (or make example, from the runs on)")
        return 1
    if options.results is not None:
        keep(options.results)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        for name in REPORTS:
            shutil.copyfile(Path(folder) / name, EXAMPLE / name)
    write_figure(EXAMPLE / FIGURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())

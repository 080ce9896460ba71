"""Rewrite the reports in docs from the records stored there.

    python scripts/write_reports.py                    # all of them, in seconds and without training: `make reports`
    python scripts/write_reports.py results/example    # the example from new runs: `make example` runs the demo before
    python scripts/write_reports.py --check            # status 1 if one is not what the present code writes

docs/example/results has the demo's records, histories and predictions; each folder of docs/results has those of one
comparison, without texts (`triptych report OUT --without-texts --to docs/results/NAME`).
"""

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLE = DOCS / "example"
KEPT = ("suite.json", "command.json", "runs/*/*/record.json", "runs/*/*/history.jsonl", "runs/*/*/predictions.jsonl")
FIGURE = "quality-and-cost.svg"  # used in README.md


def folders() -> dict[Path, Path]:
    """The folder of each published report, and the results folder it is made from."""
    published = sorted(suite.parent for suite in (DOCS / "results").glob("*/suite.json"))
    return {EXAMPLE: EXAMPLE / "results"} | {folder: folder for folder in published}


def keep(results: Path) -> None:
    """Copy what the example is made from out of a results folder."""
    kept = EXAMPLE / "results"
    if kept.exists():
        shutil.rmtree(kept)
    for pattern in KEPT:
        for path in results.glob(pattern):
            to = kept / path.relative_to(results)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)


def write(results: Path, to: Path) -> None:
    """Write the comparison and report of a results folder."""
    from triptych import api

    api.report(results, to=to)


def write_figure(to: Path) -> None:
    """Draw the example's quality against cost, on a white background, with typefaces that browsers have."""
    from triptych.analysis.comparison import compare_results
    from triptych.reporting.figures import pareto_figure
    from triptych.results.reading import read_results

    drawing = pareto_figure(compare_results(read_results(EXAMPLE / "results")))
    assert drawing is not None, "the demo trains methods"
    svg = re.sub(r"'Libertinus Serif'[^;\"]*", "Georgia, 'DejaVu Serif', serif", drawing.svg)
    opening = svg.index(">", svg.index("<svg")) + 1
    to.write_text(f'{svg[:opening]}<rect width="100%" height="100%" fill="#ffffff"/>{svg[opening:]}', encoding="utf-8")


def words(page: Path) -> str:
    """The text of a page, without its drawings, whose bytes depend on the Matplotlib version."""
    return re.sub(r"<svg.*?</svg>", "", page.read_text(encoding="utf-8"), flags=re.S)


def is_present(folder: Path, results: Path) -> bool:
    """Whether the page in a folder has the text that the current code writes for the same records."""
    with tempfile.TemporaryDirectory() as made:
        write(results, Path(made))
        return words(Path(made) / "report.html") == words(folder / "report.html")


def main() -> int:
    """Copy records and write the reports, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("example", nargs="?", type=Path, help="a results folder of the demo: write only the example")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a report is out of date")
    options = parser.parse_args()
    if options.check:
        old = [str(folder) for folder, results in folders().items() if not is_present(folder, results)]
        if old:
            print(f"{', '.join(old)}: older than what writes it: make reports (or make example, from the runs on)")
        return 1 if old else 0
    from triptych.reporting.write import REPORT_FILES, TABLE_FILES

    if options.example is not None:
        keep(options.example)
    for folder, results in folders().items():
        if options.example is not None and folder != EXAMPLE:
            continue
        with tempfile.TemporaryDirectory() as made:
            write(results, Path(made))
            for name in (*TABLE_FILES, *REPORT_FILES) if folder == results else REPORT_FILES:
                shutil.copyfile(Path(made) / name, folder / name)
    write_figure(EXAMPLE / FIGURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())

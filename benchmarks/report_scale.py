#!/usr/bin/env python3
"""Time, peak memory and page sizes of `triptych report` on a large results folder with synthetic records.

    python benchmarks/report_scale.py [--rows 8] [--seeds 5] [--documents 11490] [--words 60] [--out FOLDER] [--browser]

The script writes records for the given numbers of trained methods and seeds, each with a summary of the given number of
words for every document (made by `tests/support/made_up.py`), runs `triptych report` on them in a child process, and
prints JSON. Without --out the folder is temporary; an existing folder from an earlier call with the same sizes is used
as it is. With --browser, Chromium (through Playwright) opens the page and scrolls through it screen by screen.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import browser, made_up
from triptych.config.reading import preset_settings
from triptych.config.schema import Suite, make_suite
from triptych.results import json_files, layout

KINDS = ("prompt-tuning", "lora", "last-layers", "full")


def write_folder(out: Path, rows: int, seeds: int, documents: int, words: int) -> None:
    """Write a results folder of `rows` trained methods, one run at a time to save memory."""
    kinds = {f"{KINDS[row % 4]}-{row // 4}" if row >= 4 else KINDS[row]: KINDS[row % 4] for row in range(rows)}
    suite: Suite = make_suite(
        preset_settings("demo")
        | {
            "methods": list(kinds),
            "seeds": list(range(seeds)),
            "method": {label: {"kind": kind} for label, kind in kinds.items() if label != kind},
        }
    )
    config = json.loads(suite.model_dump_json())
    for label, kind in kinds.items():
        for seed in range(seeds):
            run = made_up.make_run(label, kind, seed, config, documents=documents, words=words)
            folder = layout.run_folder(out, label, seed)
            json_files.write_json(folder / "record.json", run.record.model_dump(mode="json"))
            json_files.write_json_lines(folder / "history.jsonl", run.history)
            json_files.write_json_lines(
                folder / "predictions.jsonl", (line.model_dump(mode="json") for line in run.predictions)
            )
    json_files.write_json(out / "suite.json", suite.model_dump(mode="json"))


def measure(out: Path) -> dict[str, float]:
    """Wall-clock time, CPU time and peak resident memory of `triptych report OUT`, and the bytes that it wrote."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "triptych", "report", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    found: dict[str, float] = {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_megabytes": round(used.ru_maxrss * 1024 / 1e6, 1),
    }
    names = ("comparison.json", "comparison.csv", "comparison.md", "report.pdf", "report.html")
    return found | {f"{name}_bytes": (out / name).stat().st_size for name in names}


def browse(page: Path, width: int) -> dict[str, float]:
    """Seconds to load a page and to scroll each screen, and by how much it is wider than the window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser.CHROMIUM, args=browser.FLAGS)
        shown = chromium.new_page(viewport={"width": width, "height": 900})
        began = time.perf_counter()
        shown.goto(page.resolve().as_uri())
        loaded = time.perf_counter()
        screens = range(0, shown.evaluate("document.documentElement.scrollHeight"), 900)
        for top in screens:
            shown.evaluate(f"scrollTo(0, {top})")
            shown.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        scrolled = time.perf_counter()
        wider = shown.evaluate("document.documentElement.scrollWidth") - width
        chromium.close()
    return {
        f"load_seconds_{width}": round(loaded - began, 2),
        f"screen_seconds_{width}": round((scrolled - loaded) / len(screens), 3),
        f"wider_by_{width}": wider,
    }


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Write the folder if it is missing, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8, help="trained methods")
    parser.add_argument("--seeds", type=int, default=5, help="training seeds of each")
    parser.add_argument("--documents", type=int, default=11_490, help="test documents")
    parser.add_argument("--words", type=int, default=60, help="words of a summary")
    parser.add_argument("--out", type=Path, help="where to write the records")
    parser.add_argument("--browser", action="store_true", help="also open the page in Chromium")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        out = chosen.out or Path(folder) / "out"
        if not (out / "suite.json").exists():
            write_folder(out, chosen.rows, chosen.seeds, chosen.documents, chosen.words)
        found = {"rows": chosen.rows, "seeds": chosen.seeds, "documents": chosen.documents, **measure(out)}
        if chosen.browser:
            found |= browse(out / "report.html", 1280) | browse(out / "report.html", 390)
    print(json.dumps(found, indent=2))
    return found


if __name__ == "__main__":
    main()

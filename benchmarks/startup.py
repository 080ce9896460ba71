#!/usr/bin/env python3
"""Time what comes before the first run: short commands and the dry run, and check the accuracy of its estimate.

    python benchmarks/startup.py --model FOLDER --data FOLDER [--to FILE] [--rounds 5]

Short commands are measured in CPU seconds of the process and its children, as medians over the rounds. The dry run of
six methods at the model's size (the suite of `whole_job.py`) is timed to its first line and to its end, through a pipe.
The estimate is that of the demo, made within minutes of the demo itself, with an empty cache.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from engine import machine, model_name
from whole_job import SUITE, dry_run

TRIPTYCH = [sys.executable, "-m", "triptych"]
SHORT = {
    "list": ["list"],
    "list data": ["list", "data"],
    "a mistyped method": ["compare", "--methods", "lroa"],
    "a mistyped option": ["compare", "--methds", "lora"],
}


def main() -> None:
    """Run all parts, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a transformers folder")
    parser.add_argument("--data", required=True, help="a folder with train.csv, validation.csv and test.csv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--to", type=Path, help="a JSON file for the result")
    options = parser.parse_args()
    short = {name: statistics.median(processor_seconds(SHORT[name]) for _ in range(options.rounds)) for name in SHORT}
    with tempfile.TemporaryDirectory() as folder:
        fresh = {**os.environ, "TRIPTYCH_CACHE": f"{folder}/cache", "HF_HOME": f"{folder}/hub"}
        suite = Path(folder) / "suite.toml"
        paths = {name: json.dumps(str(Path(getattr(options, name)).resolve())) for name in ("model", "data")}
        suite.write_text(SUITE.format(**paths, pairs=200, documents=50, document_tokens=384, new=64))
        planned = dry_run_by_lines([str(suite), "--out", f"{folder}/planned"], fresh)
        demo = ["--preset", "demo", "--out", f"{folder}/demo"]
        estimate = dry_run(demo, fresh)
        begin = time.perf_counter()
        subprocess.run([*TRIPTYCH, "compare", *demo, "--quiet"], env=fresh, check=True, stdout=subprocess.DEVNULL)
        estimate["took_seconds"] = time.perf_counter() - begin
    result = {
        "model": model_name(options.model),
        "processor_seconds": short,
        "dry_run": planned,
        "demo": estimate,
        "machine": machine(),
    }
    if options.to:
        options.to.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))


def processor_seconds(arguments: list[str]) -> float:
    """The CPU seconds of one command, in user and system mode."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*TRIPTYCH, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def dry_run_by_lines(arguments: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Seconds to the dry run's first line and to its end, and its longest silence."""
    begin = time.perf_counter()
    times = [begin]
    process = subprocess.Popen(
        [*TRIPTYCH, "compare", *arguments, "--dry-run"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    times += [time.perf_counter() for _ in process.stdout]
    if process.wait():
        sys.exit(f"the dry run ended with status {process.returncode}")
    silent = max(later - earlier for earlier, later in pairwise(times))
    return {"first_line_seconds": times[1] - begin, "seconds": times[-1] - begin, "longest_silence_seconds": silent}


def table(result: dict) -> str:
    """The results in words."""
    m, planned, demo = result["machine"], result["dry_run"], result["demo"]
    lines = [f"{m['device']}, {m['threads']} threads, torch {m['torch']}, commit {m['commit']}.", ""]
    lines += [f"- {name}: {seconds:.2f} s of the processor" for name, seconds in result["processor_seconds"].items()]
    off = 100 * (demo["estimated_seconds"] / demo["took_seconds"] - 1)
    return "\n".join(
        [
            *lines,
            f"- the dry run of six methods on {result['model']}: first line after "
            f"{planned['first_line_seconds']:.1f} s, done after "
            f"{planned['seconds']:.0f} s, silent for {planned['longest_silence_seconds']:.1f} s at most",
            f"- the demo: {demo['estimated_seconds']:.0f} s estimated in {demo['seconds']:.0f} s, "
            f"{demo['took_seconds']:.0f} s taken: {off:+.0f}%",
        ]
    )


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Time a whole comparison as a user runs it: with one Triptych command, and with the script `by_hand.py`.

    python benchmarks/whole_job.py --model FOLDER --data FOLDER [--to FILE] [--pairs 200] [--documents 50] \
        [--precision fp32]

Six methods (untuned, lead-3, prompt tuning, LoRA, last layers, full) at the model's size: one epoch on the same number
of pairs, two learning rates each, test loss, and ROUGE of summaries with 4 beams. The script is what a user would write
with transformers' Trainer, peft, generate and rouge_score: it has no intervals, tests, costs, report or resumption.
Times are those of the whole process from start to end. Peak memory is the largest sum over the process and its
children, with shared pages counted once (proportional set size), sampled once per second; Linux only. Lines of code
exclude empty lines and comments. The dry run of the same suite comes first; its estimate is compared with the time the
suite took. The breakdown of Triptych's time is the sum over its runs' clocks.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from engine import machine, model_name

HERE = Path(__file__).parent
CLOCKS = ("startup", "preparation", "search", "train", "evaluation", "generation", "checkpoint")
SUITE = """model = {model}
data = {data}
methods = ["untuned", "lead-3", "prompt-tuning", "lora", "last-layers", "full"]
seeds = [0]
[limits]
train_documents = {pairs}
validation_documents = {documents}
test_documents = {documents}
document_tokens = {document_tokens}
[training]
max_epochs = 1
global_batch_size = 8
micro_batch_size = 4
precision = "{precision}"
[decoding]
max_new_tokens = {new}
[search]
trials = 2
[method.prompt-tuning]
num_virtual_tokens = 20
learning_rates = [0.03, 0.1]
[method.lora]
learning_rates = [0.001, 0.003]
[method.last-layers]
learning_rates = [0.0003, 0.001]
[method.full]
learning_rates = [0.00003, 0.0001]
"""


def main() -> None:
    """Run both jobs, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a transformers folder")
    parser.add_argument("--data", required=True, help="a folder with train.csv, validation.csv and test.csv")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--document-tokens", type=int, default=384)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--to", type=Path, help="a JSON file for the result")
    options = parser.parse_args()
    asked = {name: getattr(options, name) for name in ("pairs", "documents", "document_tokens", "new", "precision")}
    paths = {name: str(Path(getattr(options, name)).resolve()) for name in ("model", "data")}
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "suite.toml"
        suite.write_text(SUITE.format(**asked, **{name: json.dumps(path) for name, path in paths.items()}))
        ours = [sys.executable, "-m", "triptych", "compare", str(suite), "--out", f"{folder}/ours", "--quiet"]
        script = [sys.executable, str(HERE / "by_hand.py"), "--out", f"{folder}/theirs"]
        for name, value in {**asked, **paths}.items():
            script += [f"--{name.replace('_', '-')}", str(value)]
        fresh = {**os.environ, "TRIPTYCH_CACHE": f"{folder}/cache", "HF_HOME": f"{folder}/hub"}
        planned = dry_run([str(suite), "--out", f"{folder}/ours"], fresh)
        jobs = {
            "Triptych": {**timed(ours, fresh), "lines": lines_of(suite)},
            "by hand": {**timed(script, fresh), "lines": lines_of(HERE / "by_hand.py")},
        }
        clocks = clocks_of(Path(folder) / "ours")
    faster = jobs["by hand"]["seconds"] / jobs["Triptych"]["seconds"]
    result = {
        "model": model_name(options.model),
        **asked,
        "jobs": jobs,
        "ratio": faster,
        "clocks": clocks,
        "dry_run": planned,
        "machine": machine(),
    }
    if options.to:
        options.to.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))


def dry_run(arguments: list[str], environment: dict[str, str]) -> dict[str, float]:
    """The seconds that a comparison's dry run takes, and the seconds it estimates for all runs."""
    command = [sys.executable, "-m", "triptych", "compare", *arguments, "--dry-run", "--events", "--quiet"]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    events = [json.loads(line) for line in done.stdout.splitlines()]
    plan = next(event["plan"] for event in events if event["event"] == "plan")
    runs = {method["label"]: len(method["seeds"]) for method in plan["rows"]}
    estimates = [event["seconds"] * runs[event["label"]] for event in events if event["event"] == "estimate"]
    return {"seconds": seconds, "estimated_seconds": sum(estimates)}


def timed(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Run a command; return its seconds and the peak memory of it and its children.

    Raises:
        SystemExit: the command failed.
    """
    started, peak = time.perf_counter(), 0
    process = psutil.Popen(command, env=environment)
    while process.poll() is None:
        peak = max(peak, sum(share_of_memory(one) for one in [process, *children(process)]))
        time.sleep(1)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}")
    return {"seconds": time.perf_counter() - started, "peak_memory_bytes": peak}


def clocks_of(out: Path) -> dict[str, float]:
    """The seconds of all runs together by phase, longest first."""
    total: Counter[str] = Counter()
    for record in out.glob("runs/*/*/record.json"):
        total.update({name: json.loads(record.read_text())["cost"][f"{name}_seconds"] for name in CLOCKS})
    return dict(total.most_common())


def children(process: psutil.Process) -> list[psutil.Process]:
    """All descendants of a process; empty if it has just ended."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def share_of_memory(process: psutil.Process) -> int:
    """The memory of a process, with its share of shared pages; 0 if it has just ended."""
    try:
        return process.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def lines_of(file: Path) -> int:
    """The number of lines that are neither empty nor comments."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def table(result: dict) -> str:
    """The results as a Markdown table."""
    m = result["machine"]
    lines = [
        f"{result['model']}, {result['pairs']} pairs, one epoch, two rates a method, {result['documents']} test "
        f"documents, 4 beams, {result['precision']}; {m['device']}, {m['threads']} threads, torch {m['torch']}, commit "
        f"{m['commit']}.",
        "",
        "| job | minutes | peak memory | lines written |",
        "|---|---:|---:|---:|",
    ]
    for name, job in result["jobs"].items():
        memory = f"{job['peak_memory_bytes'] / 1e9:.1f} GB"
        lines.append(f"| {name} | {job['seconds'] / 60:.1f} | {memory} | {job['lines']} |")
    planned, took = result["dry_run"], result["jobs"]["Triptych"]["seconds"]
    estimated = planned["estimated_seconds"]
    spent = ", ".join(f"{name} {seconds:.0f}" for name, seconds in result["clocks"].items())
    return "\n".join(
        [
            *lines,
            "",
            f"Triptych is faster by a factor of {result['ratio']:.2f}. Its dry run took {planned['seconds']:.0f} s and "
            f"estimated {estimated / 60:.1f} minutes, {100 * (estimated / took - 1):+.0f}% of what the job took.",
            "",
            f"Seconds of its runs: {spent}.",
        ]
    )


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measure the cost of scaling out on this machine: two ranks, a checkpoint, and the executors' overhead per run.

    python benchmarks/scaling.py ranks --model FOLDER        # one process with two threads against two ranks with one
    python benchmarks/scaling.py checkpoints --model FOLDER  # seconds and bytes of a checkpoint, LoRA and full
    python benchmarks/scaling.py executors                   # the same short runs by the local executor and by Ray

FOLDER is a model in transformers' format; its weights may be random. Each command prints JSON. Two ranks on two cores
cannot do more work per second than one process with two threads: this measures the cost of sharing a run, not the gain
from more machines.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from engine import constant_plan

RANKS = [
    "limits.train_documents=48",
    "limits.validation_documents=4",
    "limits.test_documents=4",
    "limits.document_tokens=128",
    "limits.summary_tokens=96",
    "training.max_epochs=1",
    "training.global_batch_size=8",
    "training.micro_batch_size=2",
    "training.precision=fp32",
    "search.trials=0",
    "decoding.num_beams=2",
    "decoding.max_new_tokens=8",
]
RUNS = [
    "limits.train_documents=64",
    "limits.validation_documents=8",
    "limits.test_documents=8",
    "training.max_epochs=2",
    "search.trials=0",
    "decoding.max_new_tokens=24",
    "seeds=[0, 1]",
]
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def call(arguments: list[str], threads: int, cache: Path, launch: list[str] | None = None) -> float:
    """Run a Triptych command to its end; return the wall-clock seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TRIPTYCH_CACHE": str(cache)}
    began = time.perf_counter()
    command = [sys.executable, *(launch or []), "-m", "triptych", *arguments]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return time.perf_counter() - began


def record(out: Path, label: str, seed: int = 0) -> dict:
    """The record of a run."""
    return json.loads((out / "runs" / label / str(seed) / "record.json").read_text())


def ranks(model: str, folder: Path, rounds: int) -> dict:
    """Time optimizer steps of one process and of two ranks, alternating; the first step of a run is not counted."""
    found: dict[str, dict] = {}
    for label in ("lora", "full"):
        seconds: dict[str, list[float]] = {"one process": [], "two ranks": []}
        losses = {}
        for number in range(rounds):
            for name, threads, launch in (("one process", 2, None), ("two ranks", 1, TWO)):
                out = folder / f"{label}-{number}-{name.replace(' ', '-')}"
                train = ["train", label, "--preset", "demo", "--model", model, "--device", "cpu", "--out", str(out)]
                call([*train, "--set", *RANKS], threads, folder / "cache", launch)
                lines = map(json.loads, (out / "runs" / label / "0/history.jsonl").read_text().splitlines())
                clock = [line["train_seconds"] for line in lines if line["event"] == "step"]
                seconds[name] += [after - before for before, after in pairwise(clock)]
                done = record(out, label)
                losses[name] = done["loss"]["test"]
        one, two = (median(seconds[name]) for name in seconds)
        found[label] = {
            "median_seconds_per_step": {"one process": one, "two ranks": two},
            "two_ranks_over_one_process": two / one,
            "seconds_per_step": seconds,
            "summed_bytes_per_step": 4 * done["parameters"]["num_trainable_parameters"],
            "test_loss": losses,
        }
    return found


def checkpoints(model: str, folder: Path, rounds: int) -> dict:
    """Write and read a checkpoint after a step and a validation, so that it has optimizer state and best weights."""
    from transformers import AutoTokenizer

    from triptych.contracts import Context
    from triptych.engine.training import TrainingState
    from triptych.methods.full import Full
    from triptych.methods.lora import LoRA
    from triptych.models.base import BaseModel
    from triptych.models.parts import take_apart
    from triptych.run.checkpoints import MAX_TIME_SHARE, Checkpoints

    plan = constant_plan(8)
    found = {}
    for label, method in (("lora", LoRA(rank=8)), ("full", Full())):
        context = Context(AutoTokenizer.from_pretrained(model), torch.Generator().manual_seed(0), torch.arange(10))
        state = TrainingState.begin(method.adapt(take_apart(BaseModel(model).load()), context), plan)
        for parameter in state.trained.values():
            parameter.grad = torch.full_like(parameter, 1e-3)
        state.optimizer.step()
        state.keep_best()
        written, read = [], []
        for step in range(rounds):
            keeper = Checkpoints(folder / label, {"label": label})
            began = time.perf_counter()
            keeper.save(step, *state.state_dict())
            written.append(time.perf_counter() - began)
            began = time.perf_counter()
            newest = keeper.latest()
            read.append(time.perf_counter() - began)
            assert newest is not None and newest.step == step
        files = list((folder / label).glob(f"{rounds - 1}.*"))
        found[label] = {
            "bytes": sum(path.stat().st_size for path in files),
            "write_seconds": written,
            "read_seconds": read,
            "parameters": sum(parameter.numel() for parameter in state.trained.values()),
            "computed_seconds_between": median(written) / MAX_TIME_SHARE,
        }
    return found


def executors(folder: Path) -> dict:
    """The time of a suite of short runs, and the times its runs recorded. The cache is filled beforehand."""
    found: dict[str, dict] = {}
    compare = ["compare", "--preset", "demo", "--methods", "prompt-tuning,last-layers", "--device", "cpu"]
    for name, options in (("first", []), ("local", []), ("ray", ["--executor", "ray"])):
        out = folder / name
        wall = call([*compare, *options, "--out", str(out), "--set", *RUNS], 1, folder / "cache")
        runs = [json.loads(path.read_text())["cost"]["wall_seconds"] for path in out.glob("runs/*/*/record.json")]
        found[name] = {"wall_seconds": wall, "runs": len(runs), "sum_of_runs_seconds": sum(runs)}
    beside = found["local"]["wall_seconds"] - found["local"]["sum_of_runs_seconds"]
    found["local"]["seconds_beside_a_run"] = beside / found["local"]["runs"]
    found["ray"]["over_local"] = found["ray"]["wall_seconds"] / found["local"]["wall_seconds"]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ranks", "checkpoints", "executors"])
    parser.add_argument("--model", help="a transformers folder, for ranks and checkpoints")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    options = parser.parse_args()
    if options.what != "executors" and options.model is None:
        parser.error(f"{options.what} needs --model FOLDER")
    with tempfile.TemporaryDirectory(prefix="triptych-") as name:
        folder = Path(name)
        if options.what == "executors":
            found = executors(folder)
        else:
            found = (ranks if options.what == "ranks" else checkpoints)(options.model, folder, options.rounds)
    print(json.dumps({"what": options.what, "cores": os.cpu_count(), "torch": torch.__version__} | found, indent=2))


if __name__ == "__main__":
    main()

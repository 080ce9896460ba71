#!/usr/bin/env python3
"""Show where the time of training steps and of generation goes.

    python benchmarks/where_time_goes.py --model FOLDER --data FOLDER [--only full,greedy] [--batch 3] [--to FILE]

For each training row of `engine.py`: the shares of torch's operations in the steps of one turn after a warm-up turn,
from torch's profiler, in groups, and by name for operations with a share of `NAMED` or more. For summaries: the seconds
to the first token of every document, which is mostly reading the documents, and to the last token, as medians of three
turns; and the minimum time of another step of greedy search, in which weights, keys and values are read from memory
once.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from engine import GENERATION, TRAINING, load, machine, model_name, our_generation, our_training, with_targets

GROUPS = {
    "products with weights": ("aten::mm", "aten::addmm", "mkldnn::", "aten::mkldnn"),
    "products of attention": ("aten::bmm", "aten::baddbmm"),
    "softmax": ("aten::_softmax", "aten::_log_softmax"),
    "optimizer": ("Optimizer.", "aten::_fused_adam", "aten::_foreach"),
    "activations and norms": ("aten::gelu", "aten::silu", "aten::native_layer_norm"),
    "copies": ("aten::copy_", "aten::cat", "aten::clone"),
    "zeros": ("aten::zero_", "aten::fill_"),
}
REST = "other operations"
NAMED = 0.01


def main() -> None:
    """Run every requested row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a transformers folder")
    parser.add_argument("--data", required=True, help="a folder with train and test files")
    parser.add_argument("--only", default=",".join([*TRAINING, *GENERATION]), help="rows, separated by commas")
    parser.add_argument("--batch", type=int, default=3, help="documents per training step")
    parser.add_argument("--documents", type=int, default=16, help="documents per turn of generation, one batch")
    parser.add_argument("--document-tokens", type=int, default=384)
    parser.add_argument("--summary-tokens", type=int, default=128)
    parser.add_argument("--new", type=int, default=64, help="tokens of every summary")
    parser.add_argument("--to", type=Path, help="a JSON file for the result")
    options = parser.parse_args()
    settings = {**vars(options), "turns": 1}
    corpus, base = load(settings)
    rows = {}
    for row in options.only.split(","):
        if row in TRAINING:
            rows[row] = steps(our_training(with_targets(TRAINING[row], settings), settings, corpus, base))
        else:
            rows[row] = summaries(GENERATION[row], settings, corpus, base)
        shares = ", ".join(f"{name} {value:.3g}" for name, value in rows[row].items())
        print(f"{row}: {shares}", flush=True)
    if options.to:
        result = {"model": model_name(options.model), "rows": rows, "machine": machine()}
        options.to.write_text(json.dumps(result, indent=2) + "\n")


def steps(turn) -> dict[str, float]:
    """The share of each group in the time of all operations of a turn."""
    turn(0)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        turn(1)
    events = profiler.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    spent: dict[str, float] = defaultdict(float)
    for event in events:
        share = event.self_cpu_time_total / total
        group = next((name for name, begin in GROUPS.items() if event.key.startswith(begin)), None)
        spent[group or (event.key if share >= NAMED else REST)] += share
    return dict(sorted(spent.items(), key=lambda pair: -pair[1]))


def summaries(beams: int, settings: dict, corpus, base) -> dict[str, float]:
    """Seconds to the first token of every document, and to the last."""
    found = {}
    for name, new in (("seconds to the first tokens", 1), ("seconds to the last tokens", settings["new"])):
        turn = our_generation("ours", beams, {**settings, "new": new}, corpus, base.tokenizer)
        turn(0)
        found[name] = statistics.median(turn(number)["seconds"] for number in range(3))
    found["seconds of a further step"] = (
        found["seconds to the last tokens"] - found["seconds to the first tokens"]
    ) / (settings["new"] - 1)
    found["of which memory alone takes"] = step_bytes(settings, corpus, base.config) / memory_rate()
    return found


def step_bytes(settings: dict, corpus, config) -> float:
    """The bytes in bf16 that a step must read: every weight once, and the documents' keys and values."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    weights = sum(parameter.numel() for parameter in model.parameters())
    positions = sum(len(corpus.test[i].document_ids) for i in range(settings["documents"]))
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    width = config.hidden_size // config.num_attention_heads
    return 2 * (weights + 2 * config.num_hidden_layers * heads * width * positions)


def memory_rate(size: int = 2**30, rounds: int = 7) -> float:
    """The speed in bytes/s of reading a large tensor: the best of a few sums."""
    numbers = torch.ones(size // 4)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        numbers.sum()
        times.append(time.perf_counter() - start)
    return size / min(times)


if __name__ == "__main__":
    main()

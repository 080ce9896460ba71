#!/usr/bin/env python3
"""Score finished runs with several decodings on their validation documents, to choose the default.

    python benchmarks/decoding.py RUN [RUN ...] --to FOLDER [--documents 100] [--beams 1 4] [--penalties 1.0 2.0]
                                  [--least 0 20] [--device cpu]

Every run is scored with every decoding: beams by length penalties (not used in greedy search) by minimum lengths. Each
line of FOLDER/decoding.jsonl is a run with one decoding: mean ROUGE (F1, precision, recall), words, the share of
summaries at the limit of new tokens, and seconds. Existing lines are not computed again; the table at the end has the
means over runs. No test document is read.
"""

import argparse
import time
from dataclasses import asdict, replace
from itertools import islice, product
from pathlib import Path
from statistics import fmean
from typing import Any

from recipe import add, lines_of
from triptych import load_all
from triptych.config.schema import Suite
from triptych.engine.generation.decoding import DecodingPlan
from triptych.results.records import ROUGE_TYPES
from triptych.run import scoring
from triptych.run.corpus import open_data
from triptych.use.summarizers import TrainedModel


def measure(run: TrainedModel, documents: list[str], references: list[str]) -> dict[str, Any]:
    """Mean scores of a run's summaries, and the time to generate them."""
    metrics = scoring.metrics("english", ["rouge", "text-shape"])
    begin, scores, at_cap = time.perf_counter(), [], 0
    for place, summary in run.stream(documents):
        scores.append(scoring.score_text(metrics, summary.text, references[place], documents[place]))
        at_cap += summary.at_cap
    means = {name: fmean(each[name] for each in scores) for name in scores[0]}
    return {"seconds": time.perf_counter() - begin, "share_at_cap": at_cap / len(documents), **means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--penalties", nargs="+", type=float, default=[1.0, 2.0])
    parser.add_argument("--least", nargs="+", type=int, default=[0, 20])
    parser.add_argument("--device")
    options = parser.parse_args()
    loaded = load_all(options.runs, device=options.device)
    runs = [run for run in loaded if isinstance(run, TrainedModel)]
    if len(runs) < len(loaded):
        parser.error("a run without a model has no decoding")
    pairs = validation_pairs(runs[0].suite, options.documents)
    file = options.to / "decoding.jsonl"
    options.to.mkdir(parents=True, exist_ok=True)
    for run, plan in product(runs, plans(runs[0].decoding, options)):
        about = {"run": run.label, "documents": len(pairs), **asdict(plan)}
        if any(about.items() <= line.items() for line in lines_of(file)):
            continue
        run.decoding = plan
        add(file, about | measure(run, [document for document, _ in pairs], [reference for _, reference in pairs]))
    for plan in plans(runs[0].decoding, options):
        print_line(plan, [line for line in lines_of(file) if asdict(plan).items() <= line.items()])


def validation_pairs(suite: Suite, count: int) -> list[tuple[str, str]]:
    """The first documents of the validation split with their summaries, without any preparation."""
    examples = islice(open_data(suite).examples("validation"), count)
    return [(example.document, example.summary) for example in examples]


def plans(recorded: DecodingPlan, options: argparse.Namespace) -> list[DecodingPlan]:
    """All requested decodings; greedy search has only one length penalty."""
    found = [
        replace(recorded, num_beams=beams, length_penalty=penalty, min_new_tokens=least)
        for beams, penalty, least in product(options.beams, options.penalties, options.least)
    ]
    return [plan for plan in found if plan.num_beams > 1 or plan.length_penalty == options.penalties[0]]


def print_line(plan: DecodingPlan, lines: list[dict[str, Any]]) -> None:
    """Print a row of the table: means over the lines."""
    mean = {key: fmean(line[key] for line in lines) for key in (*ROUGE_TYPES, "rouge1_precision", "rouge1_recall")}
    words, cap = (fmean(line[key] for line in lines) for key in ("prediction_words", "share_at_cap"))
    scores = "  ".join(f"{mean[key]:5.2f}" for key in mean)
    print(
        f"{plan.num_beams} beams, penalty {plan.length_penalty:g}, at least {plan.min_new_tokens:2d}  "
        f"{scores}  {words:5.1f} words, {cap:.0%} at the cap",
        flush=True,
    )


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Check that the schedule does not depend on `max_epochs` and the search finds the best rate, and compare options.

    python benchmarks/recipe.py schedule --out FOLDER [--epochs 2 3 4 10] [--schedules warmup_stable_decay linear]
    python benchmarks/recipe.py search --out FOLDER [--epochs 10] [--neighbors] [--rates 0.001 0.003]
    python benchmarks/recipe.py options --out FOLDER [--epochs 3] [--rates 0.03]
    all: [--rows prompt-tuning lora last-layers full] [--seeds 0 1 2] [--pairs 256] [--validation 128]
         [--model tiny --data newswire --batch 8 --device cpu]

`schedule` trains each method at its default rate with several `max_epochs`; `search` runs each method's search and
trains it at every rate that was tried or, with `--neighbors`, at the chosen rate and those next to it, some of which
`--rates` leaves to other processes; `options` trains each method with each of its options in `CHOICES`, at the rate
from its own search or from `--rates`. The last two use the largest of `--epochs` as the maximum. Each line of
FOLDER/schedule.jsonl, search.jsonl or options.jsonl is one run or search: the best validation loss in nats per target
token, and its cost. Existing lines are not run again, and interrupted runs are resumed; the tables at the end use all
lines. Nothing is judged on test data.
"""

import argparse
import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from triptych.config.schema import make_suite
from triptych.plugins import import_plugins
from triptych.run.entries import suite_entries
from triptych.run.events import ignore
from triptych.run.passes import find_micro_batch, fit_flop_models, open_trunk
from triptych.run.run_context import RunContext
from triptych.run.training import train_model
from triptych.run.trials import RateSearch

OPTIONS = {"prompt-tuning": {"num_virtual_tokens": 20}}  # as in the demo
CHOICES: dict[str, list[dict[str, Any]]] = {
    "prompt-tuning": [{"num_virtual_tokens": count} for count in (20, 50, 100)],
    "infix-tuning": [{"num_virtual_tokens": count} for count in (20, 50, 100)],
    "lora": [{"rank": rank} for rank in (4, 8, 16)],
    "lora-all": [{"rank": rank} for rank in (4, 8, 16)],
    "last-layers": [{"num_blocks": count} for count in (1, 2, 4)],
    "last-head": [{}],
}


@contextmanager
def work_folder(options: argparse.Namespace, row: str, seed: int, **changes: Any) -> Iterator[Path]:
    """The folder where a run or search keeps its trials and checkpoints until it ends, so that it can be resumed."""
    settings = {"options": options.options.get(row, {}), "trials": options.trials, **changes}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    folder = options.out / "unfinished" / f"{row}-{seed}-{digest}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def context_of(options: argparse.Namespace, row: str, seed: int, out: Path, **changes: Any) -> RunContext:
    """The context of one method's run, ready to train."""
    settings = {
        "model": options.model,
        "data": options.data,
        "methods": [row],
        "seeds": [seed],
        "limits": {
            "train_documents": options.pairs,
            "validation_documents": options.validation,
            "test_documents": 1,
            "document_tokens": options.document_tokens,
            "summary_tokens": 104,
        },
        "training": {
            "global_batch_size": options.batch,
            "micro_batch_size": options.micro_batch,
            "precision": options.precision,
            **changes,
        },
        "decoding": {"max_new_tokens": 96},
        "search": {"trials": options.trials, "validation_documents": options.validation},
        "method": {row: options.options.get(row, {})},
    }
    suite = make_suite(settings)
    (entry,) = suite_entries(suite)
    return RunContext.begin(suite, entry, seed, out, options.device, ignore)


def train(options: argparse.Namespace, row: str, seed: int, rate: float | None, **changes: Any) -> dict[str, Any]:
    """Train one method in full, without a search."""
    own = options.options.get(row, {}) | ({} if rate is None else {"learning_rate": rate})
    return run(argparse.Namespace(**vars(options) | {"options": {row: own}, "trials": 0}), row, seed, **changes)


def run(options: argparse.Namespace, row: str, seed: int, **changes: Any) -> dict[str, Any]:
    """Train one method in full, after a search if there are trials to run."""
    with work_folder(options, row, seed, **changes) as folder:
        context = context_of(options, row, seed, folder, **changes)
        model = context.fresh_model(context.entry.plugin, seed)
        found = train_model(context, context.entry.plugin, model)
        losses = [line["validation_loss"] for line in found.history if line["event"] == "evaluation"]
        return {
            "row": row,
            "seed": seed,
            "rate": found.search.chosen if found.search else context.entry.plugin.learning_rate,
            "best_loss": found.best_loss,
            "epochs": found.summary.epochs,
            "best_epoch": found.summary.best_epoch,
            "documents": found.summary.documents,
            "parameters": sum(tensor.numel() for tensor in model.adapted.trained_parameters().values()),
            "losses": losses,
        }


def search(options: argparse.Namespace, row: str, seed: int) -> dict[str, Any]:
    """Run the search of one method."""
    changes = {"max_epochs": max(options.epochs)}
    with work_folder(options, row, seed, **changes) as folder:
        context = context_of(options, row, seed, folder, **changes)
        method = context.entry.plugin
        model = context.fresh_model(method, seed)
        flops = fit_flop_models(context, method, model)
        find_micro_batch(context, model)
        trunk = open_trunk(context, method, model, flops)
        result, _ = RateSearch(context, method, model, flops, trunk).result(None)
        assert result is not None
        return {"row": row, "seed": seed, **result.model_dump()}


def lines_of(file: Path) -> list[dict[str, Any]]:
    """The lines measured before."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def add(file: Path, line: dict[str, Any]) -> None:
    """Append a measured line to a file."""
    with file.open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    print(json.dumps({key: value for key, value in line.items() if key not in ("losses", "trials")}), flush=True)


def run_schedule(options: argparse.Namespace) -> None:
    """Run every method, seed, schedule and `max_epochs`."""
    file = options.out / "schedule.jsonl"
    for seed in options.seeds:
        for schedule in options.schedules:
            for row in options.rows:
                for epochs in options.epochs:
                    about = {"schedule": schedule, "max_epochs": epochs, "row": row, "seed": seed}
                    if any(about.items() <= line.items() for line in lines_of(file)):
                        continue
                    found = train(options, row, seed, None, schedule=schedule, max_epochs=epochs)
                    add(file, {**about, **found})
    show_schedule(lines_of(file))


def show_schedule(lines: Iterable[dict[str, Any]]) -> None:
    """Print means over seeds, and the loss with the most epochs minus the best loss with fewer."""
    found: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        found[line["schedule"], line["row"]][line["max_epochs"]].append(line["best_loss"])
    for (schedule, row), by_epochs in found.items():
        means = {epochs: fmean(losses) for epochs, losses in sorted(by_epochs.items())}
        most = max(means)
        excess = means[most] - min(loss for epochs, loss in means.items() if epochs < most)
        shown = "  ".join(f"{epochs}: {loss:.4f}" for epochs, loss in means.items())
        print(f"{schedule:>20} {row:>14}  {shown}  excess {excess:+.4f}  ({len(by_epochs[most])} seeds)")


def run_search(options: argparse.Namespace) -> None:
    """For every method and seed, run its search, then full runs at the rates tried or those next to the chosen one."""
    file = options.out / "search.jsonl"
    for seed in options.seeds:
        for row in options.rows:
            if not any(line["row"] == row and line["seed"] == seed and "chosen" in line for line in lines_of(file)):
                add(file, search(options, row, seed))
            made = next(line for line in lines_of(file) if (line["row"], line["seed"]) == (row, seed))
            rates = sorted({trial["learning_rate"] for trial in made["trials"]})
            at = rates.index(made["chosen"])
            for rate in rates[max(0, at - 1) : at + 2] if options.neighbors else rates:
                about = {"row": row, "seed": seed, "rate": rate}
                left = options.rates is not None and rate not in options.rates
                if left or any(about.items() <= line.items() for line in lines_of(file)):
                    continue
                add(file, train(options, row, seed, rate, max_epochs=max(options.epochs)))
    show_search(lines_of(file))


def show_search(lines: list[dict[str, Any]]) -> None:
    """For each search, print the loss at the chosen rate minus the best, and the documents that the search used."""
    for made in (line for line in lines if "chosen" in line):
        runs = {
            line["rate"]: line
            for line in lines
            if "best_loss" in line and (line["row"], line["seed"]) == (made["row"], made["seed"])
        }
        if made["chosen"] not in runs:
            continue
        chosen, best = runs[made["chosen"]], min(runs.values(), key=lambda line: line["best_loss"])
        spent = sum(trial["documents"] for trial in made["trials"]) / chosen["documents"]
        losses = "  ".join(f"{rate:g}: {line['best_loss']:.4f}" for rate, line in sorted(runs.items()))
        print(
            f"{made['row']:>14} seed {made['seed']}  chosen {made['chosen']:g}, best {best['rate']:g}, excess "
            f"{chosen['best_loss'] - best['best_loss']:.4f}, search {spent:.0%} of the run's documents  ({losses})"
        )


def run_options(options: argparse.Namespace) -> None:
    """Run every method and seed with each of its options."""
    file = options.out / "options.jsonl"
    for seed in options.seeds:
        for row in options.rows:
            for own in CHOICES.get(row, [{}]):
                about = {"row": row, "options": own, "seed": seed}
                if any(about.items() <= line.items() for line in lines_of(file)):
                    continue
                there = argparse.Namespace(**vars(options) | {"options": {row: own}})
                changes: dict[str, Any] = {"max_epochs": max(options.epochs)}
                if options.rates:
                    (rate,) = options.rates
                    made = train(there, row, seed, rate, **changes)
                else:
                    made = run(there, row, seed, **changes)
                add(file, {**about, **made})
    for line in lines_of(file):
        own = ", ".join(f"{name} {value}" for name, value in line["options"].items())
        print(
            f"{line['row']:>14} {own:>22} seed {line['seed']}  loss {line['best_loss']:.4f} at {line['rate']:g}, best "
            f"after {line['best_epoch']:g} epochs; {line['parameters']:,} parameters"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("schedule", "search", "options"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", default=["prompt-tuning", "lora", "last-layers", "full"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", nargs="+", type=int, default=[2, 3, 4, 10])
    parser.add_argument("--schedules", nargs="+", default=["warmup_stable_decay"])
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--validation", type=int, default=128)
    parser.add_argument("--document-tokens", type=int, default=352)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--data", default="newswire")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--neighbors", action="store_true")
    parser.add_argument("--rates", nargs="*", type=float)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--options", type=json.loads, default=OPTIONS, help='as JSON: {"lora": {"rank": 4}}')
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    import_plugins()
    {"schedule": run_schedule, "search": run_search, "options": run_options}[options.what](options)


if __name__ == "__main__":
    main()

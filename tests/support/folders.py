"""Write results folders for tests, and change their contents."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from triptych.config.schema import Suite
from triptych.results.records import ROUGE_TYPES

DOCUMENTS = 40
SIZES = {"untuned": 0, "prompt-tuning": 2_560, "lora": 24_576, "full": 3_000_000}
GAINS = {"untuned": 0.0, "lead-3": 6.0, "prompt-tuning": 3.0, "lora": 8.0, "full": 8.2}


def write_run(
    out: Path, suite: dict[str, Any], label: str, seed: int, gain: float | None = None, kind: str | None = None
) -> Path:
    """Write a finished run whose ROUGE is `gain` above a score common to all runs for each document."""
    kind = kind or label
    trained, has_model = bool(SIZES.get(kind)), kind != "lead-3"
    gain = GAINS[kind] if gain is None else gain
    common = np.random.default_rng(7).uniform(15, 45, DOCUMENTS)
    noise = np.random.default_rng([seed, *label.encode()]).normal(0, 1.5, DOCUMENTS)
    rouge = {metric: common + gain + noise - index for index, metric in enumerate(ROUGE_TYPES)}
    predictions = [
        {
            "id": f"d{n}",
            "prediction": f"{label} {seed} writes {n}.",
            "reference": f"Reference {n}.",
            "at_cap": False,
            "num_tokens": 12,
            "scores": {metric: float(values[n]) for metric, values in rouge.items()},
        }
        for n in range(DOCUMENTS)
    ]
    test_loss = 3.0 - gain / 20 - seed / 1000 - sum(label.encode()) / 1e7 if has_model else None
    record: dict[str, Any] = {
        "schema_version": 1,
        "label": label,
        "kind": kind,
        "seed": seed,
        "status": "done",
        "config": suite,
        "options": {},
        "parameters": {
            "num_base_parameters": 3_000_000,
            "num_added_parameters": 0,
            "num_total_parameters": 3_000_000,
            "num_trainable_parameters": SIZES.get(kind, 0),
            "stored_bytes": 4 * SIZES.get(kind, 0),
        }
        if has_model
        else None,
        "loss": {"initial": 3.1, "validation": 3.1 - gain / 20, "test": test_loss} if has_model else {},
        "rouge": {**{metric: float(np.mean(values)) for metric, values in rouge.items()}, "signature": "rouge|v:1"},
        "text_shape": {
            "prediction_words": 20.0,
            "reference_words": 21.0,
            "share_at_cap": 0.0,
            "share_empty": 0.0,
            "novel_bigrams": 0.3,
            "longest_copied_words": 5.0,
            "repeated_trigrams": 0.01,
        },
        "cost": {
            "train_seconds": 10.0 + SIZES.get(kind, 0) / 1e5 + seed if trained else 0.0,
            "wall_seconds": 60.0,
            "peak_memory_bytes": 10**8 + 8 * SIZES.get(kind, 0),
        },
        "data": {
            "source": "news",
            "synthetic": False,
            "fingerprint": "f00d",
            "splits": {"train": {"used": 64}, "test": {"used": DOCUMENTS}},
        },
        "provenance": {
            "time": "2025-01-01T00:00:00",
            "command": "triptych compare",
            "versions": {"torch": "2"},
            "commit": "abc",
            "dirty": False,
            "model": "gpt2",
            "hardware": {"cpu": "x"},
            "device": "cpu",
            "model_fingerprint": "beef" if has_model else None,
            "precision": "fp32",
        },
    }
    history = []
    if trained:
        record["search"] = {
            "trials": [{"learning_rate": 0.1 * k, "validation_loss": 3.0} for k in (1, 2, 3)],
            "chosen": 0.2,
            "at_edge": False,
        }
        record["training"] = {
            "epochs": 3,
            "steps": 12,
            "best_epoch": 3,
            "stopped_early": suite["training"]["max_epochs"] > 3,
            "tokens": 1200,
            "targets": 300,
            "documents": 192,
        }
        history = [
            {
                "event": "evaluation",
                "epoch": epoch,
                "step": 4 * epoch,
                "tokens": 400 * epoch,
                "validation_loss": 3.1 - gain / 20 * epoch / 3,
                "train_seconds": 5.0 * epoch,
                "train_flops": 1e9 * epoch,
            }
            for epoch in (1, 2, 3)
        ]
        history.insert(0, {"event": "step", "epoch": 1, "step": 1, "loss": 3.0, "tokens": 100, "learning_rate": 0.1})
    folder = out / "runs" / label / str(seed)
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "history.jsonl").write_text("".join(json.dumps(event) + "\n" for event in history))
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in predictions))
    return folder


def write_results(
    out: Path,
    methods: tuple[str, ...] = ("untuned", "lead-3", "prompt-tuning", "lora", "full"),
    seeds: tuple[int, ...] = (0, 1),
    **changes: Any,
) -> Path:
    """Write the results folder of a finished suite; untrained methods run only with the first seed."""
    suite = Suite(**{"name": out.name, "methods": methods, "seeds": seeds, **changes}).model_dump(mode="json")
    out.mkdir(parents=True)
    (out / "suite.json").write_text(json.dumps(suite))
    for label in methods:
        for seed in seeds if SIZES.get(label) else seeds[:1]:
            write_run(out, suite, label, seed)
    return out


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def edit_record(out: Path, run: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a record and remove its digest, which would reveal the change."""

    def changed(record: dict[str, Any]) -> None:
        change(record)
        record.pop("digest", None)

    edit(out / "runs" / run / "record.json", changed)


def put(data: dict[str, Any], field: str, value: Any) -> None:
    *path, last = field.split(".")
    for key in path:
        data = data[key]
    data[last] = value

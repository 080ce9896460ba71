"""Made-up records for the tests of the report."""

import json
import random
from pathlib import Path

from triptych.analysis.comparison import compare_results
from triptych.config.reading import preset_settings
from triptych.config.schema import make_suite
from triptych.results import json_files, records
from triptych.results.reading import Results, SavedRun

LABELS = ("untuned", "lead-3", "prompt-tuning", "lora", "last-layers", "full")
TRAINABLE = {"untuned": 0, "prompt-tuning": 15_360, "lora": 294_912, "last-layers": 14_177_280, "full": 124_439_808}
LEVEL = {
    "untuned": (3.9, 14.0),
    "lead-3": (None, 31.5),
    "prompt-tuning": (3.2, 21.0),
    "lora": (2.7, 30.2),
    "last-layers": (2.9, 27.4),
    "full": (2.6, 30.9),
}
WORDS = (
    "council",
    "river",
    "bridge",
    "mayor",
    "said",
    "opened",
    "storm",
    "school",
    "budget",
    "plan",
    "vote",
    "north",
    "fire",
)
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def make_prediction(index: int, label: str, seed: int, level: float, num_words: int = 24) -> records.Prediction:
    """A prediction and its reference, with words that overlap by chance; R-1 scatters around `level`."""
    generator = random.Random(f"{label} {seed} {index}")
    reference = (
        " ".join(random.Random(index).choices(WORDS, k=11))
        + " .\n"
        + " ".join(random.Random(-index - 1).choices(WORDS, k=9))
        + " ."
    )
    score = max(0.0, level + random.Random(index).gauss(0, 6) + generator.gauss(0, 4))
    return records.Prediction(
        id=f"doc-{index:04d}",
        prediction=" ".join(generator.choices(WORDS, k=num_words)) + " .",
        reference=reference,
        scores={"rouge1": score, "rouge2": score / 3, "rougeL": score * 0.7, "rougeLsum": score * 0.9},
        num_tokens=num_words + 3,
        at_cap=index % 7 == 0,
    )


def give_losses(predictions: tuple[records.Prediction, ...], level: float, generator: random.Random) -> None:
    """Give documents losses whose mean is `level`."""
    noise = [random.Random(index).gauss(0, 0.5) + generator.gauss(0, 0.1) for index in range(len(predictions))]
    for prediction, value in zip(predictions, noise, strict=True):
        prediction.scores |= {"loss": level + value - sum(noise) / len(noise), "targets": 20.0}


def mean(values: list[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def make_history(label: str, seed: int, epochs: int, steps: int) -> tuple[dict, ...]:
    """Training losses at every fourth step, and a validation loss after each epoch."""
    generator = random.Random(f"{label} {seed}")
    top, low = 3.9, LEVEL[label][0] if label in LEVEL else 3.0
    lines: list[dict] = []
    per_epoch = steps // epochs
    for step in range(4, steps + 1, 4):
        fraction = step / steps
        lines.append(
            {
                "event": "step",
                "step": step,
                "epoch": (step - 1) // per_epoch,
                "learning_rate": 1e-3 * (1 - fraction),
                "loss": low + (top - low) * (1 - fraction) ** 2 + generator.gauss(0, 0.05),
                "grad_norm": 0.8,
            }
        )
        if step % per_epoch == 0:
            lines.append(
                {
                    "event": "evaluation",
                    "step": step,
                    "epoch": step // per_epoch,
                    "train_loss": low + 0.5,
                    "validation_loss": low + (top - low) * (1 - fraction) ** 2 + 0.05,
                }
            )
    return tuple(lines)


def make_cost(label: str, meters: bool) -> records.Cost:
    """What a method took; without meters, no energy, memory or FLOPs."""
    if label == "lead-3":
        return records.Cost(evaluation_seconds=0.4, wall_seconds=1.2)
    if label == "untuned":
        return records.Cost(
            startup_seconds=2.0,
            preparation_seconds=0.7,
            evaluation_seconds=3.0,
            generation_seconds=10.4,
            wall_seconds=17.0,
            documents_per_second=8.4,
        )
    rank = LABELS.index(label) if label in LABELS else 3
    return records.Cost(
        startup_seconds=2.1,
        preparation_seconds=0.8,
        search_seconds=11.0,
        train_seconds=20.0 + 7.5 * rank,
        evaluation_seconds=3.3,
        generation_seconds=9.9,
        checkpoint_seconds=0.2,
        wall_seconds=60.0 + 8 * rank,
        train_flops=(1.1e12 + 3e11 * rank) if meters else None,
        plain_flops=(2.0e12 + 3e11 * rank) if meters else None,
        search_flops=4e11 if meters else None,
        peak_memory_bytes=(310_000_000 + rank * 25_000_000) if meters else None,
        peak_memory_kind="rss" if meters else None,
        energy_joules=900.0 + 50 * rank if meters else None,
        energy_note=None if meters else "this machine has no energy counter",
        tokens_per_second=12_000.0 - 900 * rank,
        documents_per_second=9.1,
    )


OPTIONS = {
    "prompt-tuning": {"num_virtual_tokens": 20},
    "lora": {"rank": 8, "alpha": 16.0, "target_modules": ["c_attn"]},
    "last-layers": {"num_blocks": 2, "final_norm": True, "head": "frozen"},
}
NOTES = {
    "prompt-tuning": {"nearest_tokens": [" summary", " news"]},
    "lora": {"target_modules": [f"transformer.h.{block}.attn.c_attn" for block in range(12)]},
    "last-layers": {"trunk_cache": {"first_block": 10, "bytes": 10**8, "flops": 2e12, "making_seconds": 21.3}},
}


def make_run(
    label: str,
    kind: str,
    seed: int,
    suite: dict,
    documents: int = 24,
    meters: bool = True,
    status: str = "done",
    words: int = 24,
) -> SavedRun:
    """One run of a method."""
    loss, level = LEVEL.get(kind, (3.0, 25.0))
    generator = random.Random(f"{label} {seed} run")
    shift = generator.gauss(0, 0.15)
    trains = kind in TRAINABLE and TRAINABLE[kind] > 0
    if status == "failed":
        return SavedRun(
            records.Record(
                label=label,
                kind=kind,
                seed=seed,
                status="failed",
                config=suite,
                options={},
                error="NonFiniteLoss: the loss became NaN at step 12; nothing was updated",
            ),
            (),
            (),
        )
    predictions = tuple(make_prediction(index, label, seed, level + shift, words) for index in range(documents))
    test_loss = None if loss is None else loss + shift / 10
    if test_loss is not None:
        give_losses(predictions, test_loss, generator)
    added = TRAINABLE.get(kind, 0) if kind in ("prompt-tuning", "lora") else 0
    history = make_history(label, seed, 3, 96) if trains else ()
    validation = history[-1]["validation_loss"] if history else None if loss is None else loss + shift / 8 - 0.03
    record = records.Record(
        label=label,
        kind=kind,
        seed=seed,
        status="done",
        config=suite,
        options={"learning_rate": 0.01, "weight_decay": 0.0, "learning_rates": [0.003, 0.01, 0.03]}
        | OPTIONS.get(kind, {})
        if trains
        else {},
        parameters=None
        if kind == "lead-3"
        else records.Parameters(
            num_base_parameters=124_439_808,
            num_added_parameters=added,
            num_trainable_parameters=TRAINABLE.get(kind, 0),
            num_total_parameters=124_439_808 + added,
            stored_bytes=4 * TRAINABLE.get(kind, 0),
        ),
        loss=records.Loss()
        if loss is None
        else records.Loss(initial=3.95 + shift / 9, validation=validation, test=test_loss),
        rouge=records.Rouge(
            **{name: mean([line.scores[name] for line in predictions]) for name in ROUGE},
            signature="rouge_score-0.1.2|stemmer:yes|split:newline",
        ),
        text_shape=records.TextShape(
            prediction_words=38.0 + shift,
            reference_words=41.0,
            share_at_cap=mean([line.at_cap for line in predictions]),
            share_empty=0.0,
            novel_bigrams=0.33,
            longest_copied_words=9.5,
            repeated_trigrams=0.04,
        ),
        cost=make_cost(kind, meters),
        data=records.Data(
            source=suite["data"],
            synthetic=suite["data"] == "newswire",
            fingerprint="4f1c0ffee",
            splits={
                name: records.SplitCounts(
                    read=read,
                    dropped_empty=2,
                    dropped_duplicate=1,
                    not_sampled=read - used - 3,
                    used=used,
                    truncated=used // 9,
                    requested=used,
                )
                for name, read, used in (("train", 900, 512), ("validation", 100, 64), ("test", 140, documents))
            },
        ),
        search=records.SearchResult(
            trials=[
                records.Trial(learning_rate=0.003, validation_loss=3.4),
                records.Trial(learning_rate=0.01, validation_loss=3.1),
                records.Trial(learning_rate=0.03, validation_loss=None),
            ],
            chosen=0.01,
            at_edge=False,
        )
        if trains
        else None,
        training=records.TrainingSummary(
            epochs=3, steps=96, best_epoch=3, stopped_early=False, tokens=420_000, targets=60_000, documents=1_536
        )
        if trains
        else None,
        notes=NOTES.get(kind, {}),
        provenance=records.Provenance(
            time="2025-01-02T03:04:05+00:00",
            command="triptych compare --preset demo --out results/demo",
            versions={"torch": "2.9.0", "transformers": "5.23", "triptych": "0.1.0"},
            commit="0123abcd",
            dirty=False,
            model=suite["model"],
            model_fingerprint="beef",
            hardware={"cpu": "Example CPU", "cores": 2, "gpus": []},
            synthetic_model=suite["model"] == "tiny",
            architecture=records.Architecture(model_type="gpt2", num_blocks=4, hidden_size=128),
            device="cpu",
            precision="fp32",
        ),
    )
    return SavedRun(record, history, predictions)


def make_results(
    labels: tuple[str, ...] = LABELS,
    seeds: tuple[int, ...] = (0,),
    meters: bool = True,
    failed: tuple[tuple[str, int], ...] = (),
    kinds: dict[str, str] | None = None,
    documents: int = 24,
    **settings: object,
) -> Results:
    """A whole suite of made-up runs."""
    kinds = kinds or {}
    suite = make_suite(
        preset_settings("demo")
        | {
            "methods": list(labels),
            "seeds": list(seeds),
            "method": {label: {"kind": kind} for label, kind in kinds.items()},
        }
        | settings
    )
    runs = [
        make_run(
            label,
            kinds.get(label, label),
            seed,
            json.loads(suite.model_dump_json()),
            meters=meters,
            documents=documents,
            status="failed" if (label, seed) in failed else "done",
        )
        for label in labels
        for seed in (seeds if kinds.get(label, label) not in ("untuned", "lead-3") else seeds[:1])
    ]
    return Results(Path("results/made-up"), suite, tuple(runs))


def write_results(results: Results, out: Path) -> None:
    """Write made-up results as a results folder."""
    json_files.write_json(out / "suite.json", results.suite.model_dump(mode="json"))
    for run in results.runs:
        folder = out / "runs" / run.record.label / str(run.record.seed)
        json_files.write_json(folder / "record.json", run.record.model_dump(mode="json"))
        json_files.write_json_lines(folder / "history.jsonl", run.history)
        json_files.write_json_lines(
            folder / "predictions.jsonl", [line.model_dump(mode="json") for line in run.predictions]
        )


def make_comparison(results: Results) -> records.Comparison:
    """The comparison of made-up results."""
    return compare_results(results)


HOSTILE = "a #b $c$ _d_ @e \"f\" 'g' <script>alert(1)</script> </script> \\n & *h* `i` [j] {k} שלום عالم 😀 // /* ~ ="


def hostile_results():
    """A suite whose names, summaries, notes and errors look like markup."""
    results = make_results(("untuned", "lora", "full"), failed=(("full", 0),))
    for run in results.runs:
        run.record.error = HOSTILE if run.record.error else None
        if not run.done:
            continue
        run.record.notes["note #x"] = {"key$": [HOSTILE, 1.5, None]}
        run.record.provenance.command = HOSTILE
        for line in run.predictions:
            line.prediction = HOSTILE + "\n" + line.prediction
            line.reference = HOSTILE
            line.id = "id-" + HOSTILE + line.id
    comparison = make_comparison(results)
    row = comparison.rows.pop("lora")
    comparison.rows["lora@" + HOSTILE] = row.model_copy(update={"label": "lora@" + HOSTILE, "flags": [HOSTILE]})
    comparison.tests = []
    return results, comparison.model_copy(
        update={"model": HOSTILE, "data": HOSTILE, "suite": HOSTILE, "verdict": HOSTILE}
    )

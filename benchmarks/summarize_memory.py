"""Measure the memory and speed of `summarize` with three full-size runs that share one base model.

    python scripts/make_gpt2.py FOLDER
    python scripts/fetch_data.py DATA
    python benchmarks/summarize_memory.py FOLDER DATA/test.csv

Memory is compared with that of the base model alone, speed with the engine's own generation. The runs contain the
initial parameters of their methods, randomly perturbed: the summaries are meaningless, but shapes and costs are real.
Peaks are measured in fresh processes: one loads the base and reads every weight, one loads the three runs and
summarizes.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from triptych.config.schema import make_suite
from triptych.contracts import Context, Method
from triptych.engine.generation.generate import generate
from triptych.machine import start_machine
from triptych.models.base import BaseModel
from triptych.models.parts import take_apart
from triptych.plugins import import_plugins
from triptych.results import json_files, layout
from triptych.results.records import Record
from triptych.run import adapters, entries, provenance
from triptych.run.adapters import Origin
from triptych.use import documents, summarizers

LABELS = ("prompt-tuning", "lora", "last-layers")


def main() -> None:
    """Make the runs, measure in fresh processes and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a folder with a full-size GPT-2")
    parser.add_argument("articles", help="a table with articles")
    parser.add_argument("--count", type=int, default=200, help="maximum number of articles (default: 200)")
    parser.add_argument("--document-tokens", type=int, default=384)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--compared", type=int, default=24, help="articles for the comparison with the engine (default: 24)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of it, alternating; 0: memory only (default: 3)")
    parser.add_argument("--stage", choices=("base", "all", "speed"), help=argparse.SUPPRESS)
    parser.add_argument("--runs", nargs="*", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    import_plugins()
    if options.stage:
        print(json.dumps(measure(options)))
        return
    with tempfile.TemporaryDirectory() as place:
        runs = make_runs(options, Path(place))
        base, all_runs = (in_a_process(stage, runs) for stage in ("base", "all"))
        speed = in_a_process("speed", runs) if options.rounds else {}
    print(
        f"{options.count} articles of at most {options.document_tokens} tokens, {options.new_tokens} new tokens, "
        f"{options.beams} beams, batches of {options.batch_size}, {torch.get_num_threads()} threads"
    )
    above = all_runs["peak_bytes"] - base["peak_bytes"]
    print(
        f"peak resident: base alone {mib(base['peak_bytes'])}, of which weights {mib(base['weight_bytes'])}; three "
        f"runs {mib(all_runs['peak_bytes'])}: {mib(above)} above; {all_runs['seconds']:.0f} s"
    )
    for unit in ("seconds", "processor seconds"):
        if speed:
            engine, summarize = (speed[f"{name} {unit}"] for name in ("engine", "summarize"))
            print(
                f"{options.compared} articles, {unit}: engine {engine:.1f}, summarize {summarize:.1f}: "
                f"{summarize / engine:.3f} times, medians of {options.rounds}"
            )


def mib(count: float) -> str:
    """A number of bytes in MiB, as text."""
    return f"{count / 2**20:.0f} MiB"


def in_a_process(stage: str, runs: list[str]) -> dict[str, float]:
    """The measurements of one stage, from a child process."""
    command = [sys.executable, *sys.argv, "--stage", stage, "--runs", *runs]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Measure one stage: the base alone, all runs with `summarize`, or `summarize` and the engine in alternation."""
    if options.stage == "base":
        model = BaseModel(options.model).load()
        assert all(bool(weight.sum().isfinite()) for weight in model.parameters())
        return {"peak_bytes": peak(), "weight_bytes": sum(weight.nbytes for weight in model.parameters())}
    loaded = [
        row
        for row in summarizers.load_summarizers([Path(run) for run in options.runs], device="cpu")
        if isinstance(row, summarizers.TrainedModel)
    ]
    assert len({id(row.loaded) for row in loaded}) == 1
    count = options.count if options.stage == "all" else options.compared
    texts = list(islice(documents.read_documents(options.articles), count))

    def summarize() -> None:
        assert sum(1 for _ in summarizers.summarize_all(loaded, texts)) == len(texts) * len(loaded)

    def engine() -> None:
        encoded = loaded[0].text.document_ids([text for _, text in texts])
        cut = [np.array(ids[: options.document_tokens], dtype=np.int32) for ids in encoded]
        for row in loaded:
            generate(row.model, cut, row.decoding)

    if options.stage == "all":
        return {"seconds": taken(summarize)[0], "peak_bytes": peak()}
    rounds = [(taken(engine), taken(summarize)) for _ in range(options.rounds)]
    medians = np.median(rounds, axis=0)
    return {
        f"{name} {unit}": float(medians[i, j])
        for i, name in enumerate(("engine", "summarize"))
        for j, unit in enumerate(("seconds", "processor seconds"))
    }


def taken(work: Callable[[], None]) -> tuple[float, float]:
    """Wall-clock seconds, and CPU seconds, which do not count the time of other processes."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def peak() -> int:
    """The peak resident memory of this process in bytes, on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make_runs(options: argparse.Namespace, out: Path) -> list[str]:
    """Make three runs as a suite leaves them, without training."""
    suite = make_suite(
        {
            "model": options.model,
            "data": options.articles,
            "methods": LABELS,
            "limits": {"document_tokens": options.document_tokens},
            "decoding": {
                "num_beams": options.beams,
                "max_new_tokens": options.new_tokens,
                "batch_size": options.batch_size,
            },
        }
    )
    base = BaseModel(options.model)
    made = []
    for label in LABELS:
        row = entries.make_entry(label, {})
        assert isinstance(row.plugin, Method)
        parts = take_apart(base.load())
        generator = torch.Generator().manual_seed(0)
        adapted = row.plugin.adapt(parts, Context(base.tokenizer, generator, torch.arange(parts.vocabulary_size)))
        with torch.no_grad():
            for parameter in adapted.trained_parameters().values():
                parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
        folder = layout.run_folder(out, label, 0)
        origin = Origin(label, row.kind, row.options, base.name, base.revision, base.fingerprint)
        adapters.save_adapter(adapted, folder / "adapter", origin)
        taken = provenance.collect([], base, base.fingerprint, start_machine("cpu", suite.training.precision))
        record = Record(
            label=label,
            kind=row.kind,
            seed=0,
            status="done",
            config=suite.model_dump(mode="json"),
            options=row.options,
            provenance=taken,
        )
        json_files.write_json(folder / "record.json", record.model_dump(mode="json"))
        made.append(str(folder))
    return made


if __name__ == "__main__":
    main()

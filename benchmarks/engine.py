#!/usr/bin/env python3
"""Compare the engine with common alternatives on the same documents.

    python benchmarks/engine.py --model FOLDER --data FOLDER [--only lora,greedy] [--sizes 2,4] [--rounds 3]
        [--precision fp32]

Alternatives for training are a hand-written loop with transformers and peft (in bf16, frozen weights are also in bf16)
and transformers' `Trainer` with peft and correct labels, both in fp32 and in bf16, and TRL's `SFTTrainer` on
completions only, in bf16. For summaries they are transformers' `generate` in fp32 and bf16, its prompt lookup, and
CTranslate2 if it is installed.

Each contender is alone in memory and uses its best batch size: every size of `--sizes` is tried first. Then, in each of
`--rounds` rounds, every contender starts, warms up for one turn, runs `--turns` turns and ends. Speeds are medians over
all turns; ratios are relative to the fastest alternative. Peak memory is the peak resident memory of the process over
its turns. The speed of a matrix product is measured after every round.
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

TRAINING: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "rank": 8, "alpha": 16},
    "prompt-tuning": {"kind": "prompt-tuning", "num_virtual_tokens": 20},
    "last-layers": {"kind": "last-layers", "num_blocks": 2},
    "last-head": {"kind": "last-layers", "num_blocks": 0, "final_norm": False, "head": "untied"},
    "full": {"kind": "full"},
}
GENERATION = {"greedy": 1, "beam-4": 4}
EPOCH = 4  # steps per turn if a trunk cache is built
TRAINING_PEERS = ("by hand fp32", "by hand bf16", "trainer fp32", "trainer bf16", "trl bf16")
GENERATION_PEERS = ("generate fp32", "generate bf16", "prompt lookup bf16", "ctranslate2 fp32", "ctranslate2 int8")
RATES = {"bf16": torch.bfloat16, "fp32": torch.float32}
PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "ctranslate2")


def main() -> None:
    """Run the requested rows and write `results/NAME.json` and the table of all results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a transformers folder")
    parser.add_argument("--data", required=True, help="a folder with train and test files")
    parser.add_argument("--only", default=",".join([*TRAINING, *GENERATION]), help="rows, separated by commas")
    parser.add_argument("--sizes", default="2,4", help="numbers of documents per training step to try")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of turns for every contender")
    parser.add_argument("--turns", type=int, default=3, help="timed turns per contender and round")
    parser.add_argument("--document-tokens", type=int, default=384)
    parser.add_argument("--summary-tokens", type=int, default=128)
    parser.add_argument("--documents", type=int, default=16, help="documents per turn of generation, one batch")
    parser.add_argument("--new", type=int, default=64, help="tokens of every summary")
    parser.add_argument(
        "--precision",
        choices=("bf16", "fp32"),
        default="bf16",
        help="Triptych's precision; with fp32, its default on a CPU, only alternatives in fp32 take part",
    )
    parser.add_argument("--peers", help="peers to run, separated by commas; all by default")
    parser.add_argument("--to", default=str(Path(__file__).parent / "results"))
    options = parser.parse_args()
    known = [*TRAINING_PEERS, *GENERATION_PEERS]
    if unknown := [name for name in (options.peers or known[0]).split(",") if name not in known]:
        parser.error(f"there is no peer {unknown[0]!r}; there are {', '.join(known)}")
    for row in options.only.split(","):
        if row not in TRAINING and row not in GENERATION:
            parser.error(f"there is no row {row!r}; there are {', '.join([*TRAINING, *GENERATION])}")
        result = measure(row, options)
        parts = [result["machine"]["device"], result["model"], row]
        if options.precision != "bf16":
            parts.append(options.precision)
        file = Path(options.to) / f"{'-'.join(parts).replace(' ', '-').lower()}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result, indent=2) + "\n")
        print(table(result), flush=True)
    results = [json.loads(path.read_text()) for path in sorted(Path(options.to).glob("*.json"))]
    order = [*TRAINING, *GENERATION]
    results.sort(key=lambda r: (r["model"], order.index(r["row"]), r["settings"]["precision"]))
    (Path(options.to) / "README.md").write_text("# Results\n\n" + "\n".join(map(table, results)))


def measure(row: str, options: argparse.Namespace) -> dict:
    """Measure one row: find the best batch size of every contender, then run their turns, round by round."""
    peers = TRAINING_PEERS if row in TRAINING else GENERATION_PEERS
    if options.precision == "fp32":
        peers = tuple(name for name in peers if name.endswith("fp32"))
    if options.peers:
        peers = tuple(name for name in peers if name in options.peers.split(",")) or peers
    if row != "greedy":
        peers = tuple(name for name in peers if not name.startswith("prompt lookup"))
    if not installed("ctranslate2"):
        peers = tuple(name for name in peers if not name.startswith("ctranslate2"))
    sizes, tried = {}, {}
    for name in ("ours", *peers):
        asked = [int(size) for size in options.sizes.split(",")] if row in TRAINING else [options.documents]
        tried[name] = {size: speed(visit(name, row, size, 2, options)) for size in asked} if len(asked) > 1 else {}
        sizes[name] = max(tried[name], key=lambda size: tried[name][size]) if tried[name] else asked[0]
        print(f"{row}: {name} at {sizes[name]} documents {tried[name]}", file=sys.stderr, flush=True)
    turns: dict[str, list[dict]] = {name: [] for name in sizes}
    rates: list[dict[str, float]] = []
    for _ in range(options.rounds):
        for name, size in sizes.items():
            turns[name] += visit(name, row, size, options.turns, options)
        rates.append({name: matrix_rate(dtype) for name, dtype in RATES.items() if name in ("fp32", options.precision)})
    rate = {name: statistics.median(found[name] for found in rates) for name in rates[0]}
    summary = {}
    for name, taken in turns.items():
        if not taken:
            summary[name] = {"documents": sizes[name], "turns": []}
            continue
        summary[name] = {
            "documents": sizes[name],
            "sizes_tried": tried[name],
            "per_second": speed(taken),
            "peak_memory_bytes": max(t["peak_memory_bytes"] for t in taken),
            "turns": taken,
        }
        if "later_seconds" in taken[0]:
            summary[name]["later_per_second"] = statistics.median(t["work"] / t["later_seconds"] for t in taken)
        if taken[0].get("flops"):
            executed = statistics.median(t["flops"] / t["seconds"] for t in taken)
            summary[name]["share_of_rate"] = executed / rate[options.precision]
    best = max(peers, key=lambda name: summary[name].get("per_second", 0.0))
    return {
        "row": row,
        "model": model_name(options.model),
        "unit": "tokens/s" if row in TRAINING else "documents/s",
        "ratio": summary["ours"]["per_second"] / summary[best]["per_second"],
        "later_ratio": summary["ours"].get("later_per_second", 0) / summary[best]["per_second"] or None,
        "memory_ratio": summary["ours"]["peak_memory_bytes"] / summary[best]["peak_memory_bytes"],
        "fastest_peer": best,
        "contenders": summary,
        "matrix_flops_per_second": rate,
        "settings": {k: v for k, v in vars(options).items() if k not in ("model", "data", "to", "only", "peers")},
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES if installed(name)},
        "machine": machine(),
    }


def visit(name: str, row: str, size: int, turns: int, options: argparse.Namespace) -> list[dict]:
    """Start a contender alone and run its turns after a warm-up turn; empty if it runs out of memory."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    settings = {**vars(options), "batch": size, "documents": size, "turns": turns}
    process = spawn.Process(target=contender, args=(name, row, settings, there), daemon=True)
    process.start()
    there.close()
    taken = []
    try:
        here.recv()  # wait until it is ready
        for number in range(turns + 1):
            here.send(number)
            taken.append(here.recv())
        here.send(None)
    except (EOFError, OSError) as error:
        print(f"{row}: {name} at {size} documents ended: {error!r}", file=sys.stderr, flush=True)
        taken = []
    process.join(20)
    process.kill()
    return taken[1:]


def speed(taken: list[dict]) -> float:
    """Work per second, the median of the turns; 0 without turns."""
    return statistics.median(t["work"] / t["seconds"] for t in taken) if taken else 0.0


def installed(package: str) -> bool:
    """Whether a package is installed."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def model_name(folder: str) -> str:
    """A model's type and its parameters in millions, such as gpt2-124m."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    return f"{config.model_type}-{round(sum(p.numel() for p in model.parameters()) / 1e6)}m"


def table(r: dict) -> str:
    """A Markdown table of one result."""
    m, s, rate = r["machine"], r["settings"], r["matrix_flops_per_second"]
    work = (
        f"documents of {s['document_tokens']} and summaries of up to {s['summary_tokens']} tokens"
        if r["row"] in TRAINING
        else f"{s['documents']} documents of {s['document_tokens']} tokens, {s['new']} tokens for each"
    )
    versions = ", ".join(f"{name} {version}" for name, version in r["versions"].items())
    lines = [
        f"## {r['model']}: {r['row']}, {s['precision']}",
        "",
        f"{m['device']}, {m['threads']} threads, commit {m['commit']}; {versions}. "
        f"{work[0].upper()}{work[1:]}; medians of {s['rounds']} rounds of {s['turns']} turns. A matrix product runs at "
        f"{' and '.join(f'{rate[name] / 1e12:.2f} TFLOP/s in {name}' for name in RATES if name in rate)}.",
        "",
        f"| contender | documents a batch | {r['unit']} | Triptych is faster by | peak memory | "
        f"FLOPs done, of the {s['precision']} rate |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    ours = r["contenders"]["ours"]
    for name, c in r["contenders"].items():
        if not c["turns"]:
            lines.append(f"| {name} | {c['documents']} | out of memory | | | |")
            continue
        share = f"{100 * c['share_of_rate']:.0f}%" if "share_of_rate" in c else ""
        ratio = "" if name == "ours" else f"{ours['per_second'] / c['per_second']:.2f}"
        shown = "Triptych" if name == "ours" else name
        lines.append(
            f"| {shown} | {c['documents']} | {c['per_second']:.3g} | {ratio} | "
            f"{c['peak_memory_bytes'] / 1e9:.2f} GB | {share} |"
        )
    if r["later_ratio"]:
        lines.append(
            f"| Triptych, later epochs | {ours['documents']} | {ours['later_per_second']:.3g} | "
            f"{r['later_ratio']:.2f} (against {r['fastest_peer']}) | | |"
        )
    return "\n".join([*lines, "", ""])


def machine() -> dict:
    """The machine and versions that the numbers depend on."""
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=here
    ).stdout.strip()
    status = ["git", "status", "--porcelain", "-uno", "engine.py", "../src"]
    dirty = subprocess.run(status, capture_output=True, text=True, cwd=here).stdout.strip()
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit + ("+" if dirty else ""),
    }


def matrix_rate(dtype: torch.dtype, size: int = 2048, rounds: int = 7) -> float:
    """FLOP/s of a large square matrix product, the median of a few."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(times)


def contender(name: str, row: str, options: dict, pipe) -> None:
    """The process of a contender: build it, report that it is ready, then run a turn for each number received."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    corpus, base = load(options)

    def wait_for_turn() -> int:
        number = pipe.recv()
        if number is None:
            sys.exit(0)
        reset_resident_peak()
        return number

    def report(**facts) -> None:
        pipe.send({**facts, "peak_memory_bytes": resident_peak()})

    if row in GENERATION:
        kinds = {"ours": our_generation, "ctranslate2": ctranslate2_generation}
        turn = kinds.get(name.split()[0], peer_generation)(name, GENERATION[row], options, corpus, base.tokenizer)
    elif name == "ours":
        turn = our_training(with_targets(TRAINING[row], options), options, corpus, base)
    elif name.startswith("by hand"):
        turn = training_by_hand(name, with_targets(TRAINING[row], options), options, corpus)
    else:
        ready = partial(pipe.send, "ready")
        spec = with_targets(TRAINING[row], options)
        peer_training(name, spec, options, corpus, base.tokenizer, ready, wait_for_turn, report)
        return
    pipe.send("ready")
    while True:
        report(**turn(wait_for_turn()))


def with_targets(spec: dict, options: dict) -> dict:
    """Set LoRA's target modules for the model family: GPT-2's joint projection, or query, key and value."""
    if spec["kind"] != "lora":
        return spec
    from transformers import AutoConfig

    gpt2 = AutoConfig.from_pretrained(options["model"]).model_type == "gpt2"
    return {**spec, "target_modules": ["c_attn"] if gpt2 else ["q_proj", "k_proj", "v_proj"]}


def resident_peak() -> int:
    """The peak resident memory of this process since the last reset, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def reset_resident_peak() -> None:
    """Reset the peak to the current resident memory."""
    Path("/proc/self/clear_refs").write_text("5")


def load(options: dict):
    """The documents, tokenized by Triptych's own preparation; all contenders get these token ids."""
    from triptych.config.schema import make_suite
    from triptych.models.base import BaseModel
    from triptych.plugins import import_plugins
    from triptych.run.corpus import load_corpus

    import_plugins()
    suite = make_suite(
        {
            "model": options["model"],
            "data": options["data"],
            "limits": {
                "train_documents": 0,
                "validation_documents": 8,
                "test_documents": 0,
                "document_tokens": options["document_tokens"],
                "summary_tokens": options["summary_tokens"],
            },
        }
    )
    base = BaseModel.of(suite)
    cache = Path(tempfile.gettempdir()) / "triptych-benchmark"
    return load_corpus(suite, [], base, cache), base


def our_training(spec: dict, options: dict, corpus, base) -> Callable[[int], dict]:
    """Optimizer steps of Triptych's training loop."""
    from triptych.engine.flops import entering_flops, training_flops
    from triptych.engine.savings.ready import make_ready
    from triptych.engine.savings.trunk_cache import making_flops, open_cache, trunk_store, usable_from
    from triptych.engine.training import Loop, TrainingState
    from triptych.machine import start_machine
    from triptych.run.entries import make_entry
    from triptych.run.models import prepare_model, sketch_model

    machine = start_machine("cpu", options["precision"])
    method = make_entry("row", spec).plugin
    model = make_ready(prepare_model(base, method, corpus, 0, machine))
    plan = constant_plan(options["batch"])
    sketch, first = model.as_sketch(sketch_model(base, method)), usable_from(model)
    flops = training_flops(sketch, first)
    making = entering_flops(sketch, first) if first is not None else None
    state, batch = TrainingState.begin(model.adapted, plan), options["batch"]

    def count(*pass_: int) -> tuple[float, float]:
        return flops.count(*pass_[:4]), 0.0  # only the shape, not whether blocks are recomputed: memory suffices

    def turn(number: int) -> dict:
        steps = 1 if making is None else EPOCH  # spread the cost of building a cache over several steps
        split = [corpus.train[i] for i in range(number * steps * batch, (number + 1) * steps * batch)]
        before = state.progress.tokens, state.progress.train_flops
        start = time.perf_counter()
        cache, folder = None, tempfile.mkdtemp()
        if making is not None:
            model.eval()
            cache = open_cache(model, split, str(number), trunk_store(Path(folder), 10**10), batch)
        later = time.perf_counter()
        state.progress.cursor = 0
        loop = Loop(model, split, plan, state, count, cache)
        while state.progress.cursor < loop.steps_per_epoch:
            loop.step()
        end = time.perf_counter()
        shutil.rmtree(folder)
        done = state.progress.train_flops - before[1]
        found = {"work": state.progress.tokens - before[0], "seconds": end - start, "flops": done}
        if cache is None:
            return found
        made = making_flops(split, model.template, batch, making)
        return {**found, "flops": done + made, "later_seconds": end - later}

    return turn


def constant_plan(size: int, recomputes: bool = False):
    """One epoch at a constant learning rate, with one batch of `size` pairs per step."""
    from triptych.engine.training import TrainingPlan

    return TrainingPlan(
        learning_rate=1e-4,
        weight_decay=0.0,
        max_epochs=1,
        eval_every=1.0,
        patience=1,
        global_batch_size=size,
        micro_batch_size=size,
        max_grad_norm=1.0,
        warmup_fraction=0.0,
        schedule="constant",
        optimizer="adamw",
        seed=0,
        recomputes=recomputes,
    )


def training_rows(options: dict, corpus) -> tuple[list[dict], list[int]]:
    """The training data of the alternatives, with labels and masks, and the number of tokens per batch."""
    template, count = corpus.template, (options["turns"] + 1) * options["batch"]
    rows = []
    for pair in (corpus.train[i] for i in range(count)):
        head = [*template.prefix_ids, *pair.document_ids.tolist(), *template.separator_ids]
        tail = [*pair.summary_ids.tolist(), template.eos_id]
        rows.append(
            {
                "input_ids": head + tail,
                "labels": [-100] * len(head) + tail,
                "completion_mask": [0] * len(head) + [1] * len(tail),
            }
        )
    tokens = [
        sum(len(r["input_ids"]) - len(template.prefix_ids) for r in rows[i : i + options["batch"]])
        for i in range(0, count, options["batch"])
    ]
    return rows, tokens


def training_by_hand(name: str, spec: dict, options: dict, corpus) -> Callable[[int], dict]:
    """A hand-written loop with the model's own loss; in bf16, frozen weights are in bf16 and trained ones in fp32."""
    from transformers import AutoModelForCausalLM

    narrow = name.endswith("bf16")
    dtype = torch.bfloat16 if narrow else torch.float32
    model = peer_model(AutoModelForCausalLM.from_pretrained(options["model"], dtype=dtype), spec)
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    rows, tokens = training_rows(options, corpus)
    size = options["batch"]
    model.train()

    def padded(batch: list[dict], key: str, value: int) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row[key]) for row in batch], batch_first=True, padding_value=value
        )

    def turn(number: int) -> dict:
        batch = rows[number * size : (number + 1) * size]
        ids, labels = padded(batch, "input_ids", 0), padded(batch, "labels", -100)
        mask = padded([{"seen": [1] * len(row["input_ids"])} for row in batch], "seen", 0)
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"work": tokens[number], "seconds": time.perf_counter() - start}

    return turn


def peer_training(name, spec, options, corpus, tokenizer, ready, wait_for_turn, report) -> None:
    """A `Trainer` whose steps wait for their turn; batches are prepared before the clock starts."""
    import datasets
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

    model = peer_model(AutoModelForCausalLM.from_pretrained(options["model"], dtype=torch.float32), spec)
    rows, tokens = training_rows(options, corpus)
    tokenizer.pad_token = tokenizer.eos_token

    class Turns(TrainerCallback):
        """One optimizer step per turn."""

        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 0:
                ready()
            self.number = wait_for_turn()
            self.start = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            report(work=tokens[self.number], seconds=time.perf_counter() - self.start)

    common = dict(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=options["batch"],
        max_steps=options["turns"] + 1,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=name.endswith("bf16"),
        disable_tqdm=True,
        gradient_checkpointing=False,
    )

    class InOrder:
        """Documents in their original order, as for every contender."""

        train_dataset: Any

        def _get_train_sampler(self, train_dataset=None):
            return SequentialSampler(train_dataset or self.train_dataset)

    if name.startswith("trl"):
        from trl import SFTConfig, SFTTrainer

        class Ordered(InOrder, SFTTrainer):
            """TRL's trainer on completions only."""

        data = datasets.Dataset.from_list([{k: r[k] for k in ("input_ids", "completion_mask")} for r in rows])
        arguments = SFTConfig(**common, completion_only_loss=True, max_length=None, packing=False)
        trainer = Ordered(
            model=model, args=arguments, train_dataset=data, processing_class=tokenizer, callbacks=[Turns()]
        )
    else:

        class Ordered(InOrder, Trainer):
            """`Trainer` with labels."""

        data = datasets.Dataset.from_list([{k: r[k] for k in ("input_ids", "labels")} for r in rows])
        trainer = Ordered(
            model=model,
            args=TrainingArguments(**common),
            train_dataset=data,
            callbacks=[Turns()],
            data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=-100),
        )
    trainer.train()
    wait_for_turn()


def peer_model(model, spec: dict):
    """The model a user would train: with peft's adapters, or with parameters unfrozen by hand."""
    from peft import LoraConfig, PromptTuningConfig, get_peft_model

    if spec["kind"] == "lora":
        return get_peft_model(
            model, LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=spec["target_modules"])
        )
    if spec["kind"] == "prompt-tuning":
        return get_peft_model(
            model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=spec["num_virtual_tokens"])
        )
    if spec["kind"] == "last-layers":
        model.requires_grad_(False)
        if spec.get("head") == "untied":
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
            model.config.tie_word_embeddings = False
        else:
            trunk = model.base_model
            blocks, norm = (trunk.h, trunk.ln_f) if hasattr(trunk, "h") else (trunk.layers, trunk.norm)
            blocks[-spec["num_blocks"] :].requires_grad_(True)
            norm.requires_grad_(True)
    return model


def our_generation(name: str, beams: int, options: dict, corpus, tokenizer) -> Callable[[int], dict]:
    """Summaries from Triptych's generation loop."""
    from triptych.contracts import AdaptedModel
    from triptych.engine.generation.decoding import DecodingPlan
    from triptych.engine.generation.generate import generate
    from triptych.engine.model import EngineModel
    from triptych.engine.savings.ready import make_ready
    from triptych.machine import start_machine
    from triptych.models.base import BaseModel

    machine = start_machine("cpu", options["precision"])
    untouched = BaseModel(options["model"]).load().requires_grad_(False)
    model = make_ready(EngineModel.assemble(untouched, AdaptedModel, corpus.template, machine))
    plan = DecodingPlan(beams, options["new"], 3, 1.0, options["documents"], min_new_tokens=options["new"])
    documents = [corpus.test[i].document_ids for i in range(options["documents"])]

    def turn(number: int) -> dict:
        start = time.perf_counter()
        tokens = generate(model, documents, plan)
        return {"work": len(documents), "seconds": time.perf_counter() - start, "new_tokens": sum(map(len, tokens))}

    return turn


def peer_generation(name: str, beams: int, options: dict, corpus, tokenizer) -> Callable[[int], dict]:
    """transformers' `generate` on left-padded ids; with prompt lookup, one document at a time."""
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if name.endswith("bf16") else torch.float32
    model = AutoModelForCausalLM.from_pretrained(options["model"], dtype=dtype).eval()
    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.eos_token
    template = corpus.template
    rows = [
        [*template.prefix_ids, *corpus.test[i].document_ids.tolist(), *template.separator_ids]
        for i in range(options["documents"])
    ]
    lookup = {"prompt_lookup_num_tokens": 10} if name.startswith("prompt lookup") else {}
    batches = [[row] for row in rows] if lookup else [rows]
    inputs = [tokenizer.pad({"input_ids": batch}, return_tensors="pt") for batch in batches]

    def turn(number: int) -> dict:
        start, new = time.perf_counter(), 0
        for batch in inputs:
            with torch.no_grad():
                found = model.generate(
                    **batch,
                    do_sample=False,
                    num_beams=beams,
                    max_new_tokens=options["new"],
                    min_new_tokens=options["new"],
                    no_repeat_ngram_size=3,
                    pad_token_id=template.eos_id,
                    **lookup,
                )
            new += found.shape[0] * (found.shape[1] - batch["input_ids"].shape[1])
        return {"work": len(rows), "seconds": time.perf_counter() - start, "new_tokens": new}

    return turn


def ctranslate2_generation(name: str, beams: int, options: dict, corpus, tokenizer) -> Callable[[int], dict]:
    """CTranslate2 on the model converted to fp32 or int8."""
    import ctranslate2

    folder = Path(tempfile.mkdtemp()) / "model"
    kind = {"fp32": "float32"}.get(name.split()[1], name.split()[1])
    ctranslate2.converters.TransformersConverter(options["model"]).convert(str(folder), quantization=kind)
    generator = ctranslate2.Generator(str(folder), intra_threads=torch.get_num_threads(), inter_threads=1)
    template = corpus.template
    rows = [
        tokenizer.convert_ids_to_tokens(
            [*template.prefix_ids, *corpus.test[i].document_ids.tolist(), *template.separator_ids]
        )
        for i in range(options["documents"])
    ]

    def turn(number: int) -> dict:
        start = time.perf_counter()
        found = generator.generate_batch(
            rows,
            beam_size=beams,
            max_length=options["new"],
            min_length=options["new"],
            no_repeat_ngram_size=3,
            include_prompt_in_result=False,
        )
        new = sum(len(one.sequences_ids[0]) for one in found)
        return {"work": len(rows), "seconds": time.perf_counter() - start, "new_tokens": new}

    return turn


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Time and memory of LoRA on a model with about a billion parameters, compared with transformers' `Trainer` and peft.

    python benchmarks/large_model.py write FOLDER
    python benchmarks/large_model.py train FOLDER [--steps 4] [--rounds 3] [--device cpu] [--only NAMES] [--json FILE]

`write` creates a Llama-shaped model with random weights in bf16: by default 22 blocks of width 2048 with 32 heads, 4
key/value heads, an MLP width of 5632 and 32,000 tokens, 1.1 billion parameters in total. `train` runs optimizer steps
of LoRA, rank 8 on queries, keys and values, in bf16, with one document of 896 tokens and a summary of 128 per step.
Each contender is a process that is alone in memory; contenders take turns in each round. The first step of each is a
warm-up. Seconds are medians over the other steps of all rounds. Memory is the process's peak, weights included: on a
CPU its resident memory while loading and while training the model, on CUDA what the allocator had handed out. The first
losses must agree, because no contender has been trained yet and all use the same model. With `--only`, a model whose
base is stored in 4 bits can also take part, as `triptych in 4 bits` and `triptych in 4 bits recomputing`; its first
loss differs.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from engine import constant_plan, reset_resident_peak, resident_peak

TARGETS = ("q_proj", "k_proj", "v_proj")
CONTENDERS = ("triptych", "triptych recomputing", "trainer", "trainer checkpointing")
LEFT_OUT = ("command", "folder", "json")  # options not stored with the results
IN_4_BITS = ("triptych in 4 bits", "triptych in 4 bits recomputing")  # only with --only: they need bitsandbytes


def main() -> None:
    """Write a model, or train it with every contender and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="write a model with random weights")
    write.add_argument("folder", type=Path)
    for name, size in (("blocks", 22), ("width", 2048), ("heads", 32), ("kv-heads", 4), ("mlp", 5632)):
        write.add_argument(f"--{name}", type=int, default=size)
    write.add_argument("--vocabulary", type=int, default=32_000)
    train = commands.add_parser("train", help="train it")
    train.add_argument("folder", type=Path)
    train.add_argument("--document-tokens", type=int, default=896)
    train.add_argument("--summary-tokens", type=int, default=128)
    train.add_argument("--steps", type=int, default=4, help="timed steps after the warm-up step")
    train.add_argument("--rounds", type=int, default=1)
    train.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    train.add_argument("--only", default=",".join(CONTENDERS), help="contenders, separated by commas")
    train.add_argument("--json", type=Path, help="a JSON file for all measurements")
    options = parser.parse_args()
    if options.command == "write":
        write_model(options)
        return
    names = options.only.split(",")
    if unknown := [name for name in names if name not in (*CONTENDERS, *IN_4_BITS)]:
        train.error(f"there is no contender {unknown[0]!r}; there are {', '.join((*CONTENDERS, *IN_4_BITS))}")
    turns: dict[str, list[dict]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            turns[name].append(alone(name, options))
    print(table(turns, options))
    if options.json:
        settings = {name: str(value) for name, value in vars(options).items() if name not in LEFT_OUT}
        options.json.write_text(json.dumps({"settings": settings, "turns": turns}, indent=2) + "\n")


def write_model(options: argparse.Namespace) -> None:
    """Write random weights, tensor by tensor and never all in fp32, with the built-in tokenizer for use in a suite."""
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    import triptych

    config = LlamaConfig(
        vocab_size=options.vocabulary,
        hidden_size=options.width,
        intermediate_size=options.mlp,
        num_hidden_layers=options.blocks,
        num_attention_heads=options.heads,
        num_key_value_heads=options.kv_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=0,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )
    with torch.device("meta"):
        shapes = AutoModelForCausalLM.from_config(config).state_dict()
    draw = torch.Generator().manual_seed(0)
    weights = {
        name: torch.ones(meta.shape, dtype=torch.bfloat16)
        if meta.ndim == 1
        else (0.02 * torch.randn(meta.shape, generator=draw)).bfloat16()
        for name, meta in shapes.items()
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, options.folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(options.folder)
    tokenizer = Path(triptych.__file__).parent / "assets" / "tiny"
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(options.folder)
    print(f"{sum(weight.numel() for weight in weights.values()):,} parameters in {options.folder}")


def alone(name: str, options: argparse.Namespace) -> dict:
    """Run one contender in a separate process; return its measurements."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=contend, args=(name, options, there))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        raise SystemExit(f"{name} ended without a result, perhaps for lack of memory") from None
    finally:
        process.join()


def contend(name: str, options: argparse.Namespace, pipe) -> None:
    """Load, warm up, run the steps and send the measurements."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    steps = (our_steps if name.startswith("triptych") else trainer_steps)(name, options)
    next(steps)  # until the model is loaded
    loading = peak(options.device)
    reset_peak(options.device)
    losses, seconds = zip(*steps, strict=True)
    pipe.send(
        {
            "loading_bytes": loading,
            "training_bytes": peak(options.device),
            "first_loss": losses[0],
            "seconds": list(seconds[1:]),
        }
    )


def peak(device: str) -> int:
    """The process's peak memory since the last reset, in bytes."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resident_peak()


def reset_peak(device: str) -> None:
    """Reset the peak to the memory in use now."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        reset_resident_peak()


def documents(options: argparse.Namespace, vocabulary: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random tokens, the same for every contender: a document and its summary for each step."""
    draw = np.random.default_rng(0)
    sizes = options.document_tokens, options.summary_tokens - 1  # the EOS is the summary's last token
    return [
        tuple(draw.integers(2, vocabulary, size).astype(np.int32) for size in sizes) for _ in range(options.steps + 1)
    ]


def our_steps(name: str, options: argparse.Namespace) -> Iterator[tuple[float, float]]:
    """Yield a pair of zeros once the model is loaded, then loss and seconds of each step of Triptych's loop."""
    from triptych.contracts import Context
    from triptych.corpus.sequence import Pair, Template
    from triptych.engine.batching import epoch_order
    from triptych.engine.model import EngineModel
    from triptych.engine.savings.ready import make_ready
    from triptych.engine.training import Loop, TrainingState
    from triptych.machine import start_machine
    from triptych.models.base import BaseModel
    from triptych.plugins import import_plugins
    from triptych.run.entries import make_entry

    import_plugins()
    machine = start_machine(options.device, "bf16")
    base = BaseModel(str(options.folder), quantization="nf4" if name in IN_4_BITS else "none")
    method = make_entry("row", {"kind": "lora", "rank": 8, "alpha": 16, "target_modules": list(TARGETS)}).plugin
    context = Context(base.tokenizer, torch.Generator().manual_seed(0), torch.arange(base.vocabulary_size))
    untouched = base.load(device=machine.device).to(machine.device)
    template = Template((), (), 0)
    model = make_ready(EngineModel.assemble(untouched, lambda parts: method.adapt(parts, context), template, machine))
    given = documents(options, base.vocabulary_size)
    pairs = [Pair("", *given[0])] * len(given)
    for place, (document, summary) in zip(epoch_order(len(given), 0, 0), given, strict=True):
        pairs[place] = Pair(str(place), document, summary)  # the epoch uses them in the given order
    plan = constant_plan(1, recomputes=name.endswith("recomputing"))
    loop = Loop(model, pairs, plan, TrainingState.begin(model.adapted, plan))
    yield 0.0, 0.0
    for _ in pairs:
        loss, seconds = timed(loop.step, options.device)
        yield loss.loss, seconds


def timed(step: Callable, device: str) -> tuple:
    """The result of a step and its seconds."""
    start = time.perf_counter()
    found = step()
    if device == "cuda":
        torch.cuda.synchronize()
    return found, time.perf_counter() - start


def trainer_steps(name: str, options: argparse.Namespace) -> Iterator[tuple[float, float]]:
    """The same for a `Trainer` with peft: weights in bf16, adapters in fp32, autocast."""
    from peft import LoraConfig, get_peft_model
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    model = AutoModelForCausalLM.from_pretrained(options.folder, dtype=torch.bfloat16)
    adapters = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=list(TARGETS))
    model = get_peft_model(model, adapters).to(options.device)
    rows = [
        {
            "input_ids": torch.tensor([*document, *summary, 0]),
            "labels": torch.tensor([-100] * len(document) + [*summary, 0]),
        }
        for document, summary in documents(options, model.config.vocab_size)
    ]
    losses: list[float] = []
    found: list[tuple[float, float]] = []

    class Clock(TrainerCallback):
        """Time each step."""

        def on_step_begin(self, args, state, control, **kwargs):
            self.start = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            if options.device == "cuda":
                torch.cuda.synchronize()
            found.append((losses.pop(), time.perf_counter() - self.start))

    class Ordered(Trainer):
        """A `Trainer` that keeps the order of documents and records the loss of each step."""

        def _get_train_sampler(self, train_dataset=None):
            return SequentialSampler(train_dataset or self.train_dataset)

        def compute_loss(self, *arguments, **named):
            loss = super().compute_loss(*arguments, **named)
            losses.append((loss[0] if isinstance(loss, tuple) else loss).item())
            return loss

    checkpointing = name.endswith("checkpointing")
    if checkpointing:
        model.enable_input_require_grads()
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=1,
        max_steps=len(rows),
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        use_cpu=options.device == "cpu",
        bf16=True,
        disable_tqdm=True,
        gradient_checkpointing=checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
    )
    trainer = Ordered(model=model, args=arguments, train_dataset=rows, callbacks=[Clock()])
    yield 0.0, 0.0
    trainer.train()
    yield from found


def table(turns: dict[str, list[dict]], options: argparse.Namespace) -> str:
    """The results as a Markdown table."""
    tokens = options.document_tokens + options.summary_tokens
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    lines = [
        f"One document of {tokens:,} tokens a step, bf16, {options.device}, {torch.get_num_threads()} threads, "
        f"{packages}.",
        "",
        "| contender | seconds a step | tokens/s | peak while training | while loading | first loss |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, taken in turns.items():
        seconds = statistics.median(second for turn in taken for second in turn["seconds"])
        training, loading = (max(turn[f"{what}_bytes"] for turn in taken) / 2**30 for what in ("training", "loading"))
        lines.append(
            f"| {name} | {seconds:.2f} | {tokens / seconds:.0f} | {training:.2f} GiB | {loading:.2f} GiB | "
            f"{taken[0]['first_loss']:.4f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

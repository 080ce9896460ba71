"""Pretrain a model of GPT-2's architecture, with GPT-2's tokenizer, from scratch on a folder of prose.

    python scripts/pretrain_base.py OUT --text TEXT --tokenizer FOLDER

TEXT contains `KIND.tar.xz` archives with JSON lines `{"text": ...}`. The texts are shuffled, joined with the end token
between them and cut into windows of 1,024 tokens, each of which is read once. A share of the news, drawn first, is
held out. OUT becomes a transformers folder with the record `training.json`; until then `OUT/checkpoint`
contains the state of training, from which the same command resumes to the same weights.

Matrices of the blocks are trained by Muon (Jordan et al. 2024), embeddings and vectors by AdamW.
"""

import argparse
import hashlib
import json
import math
import shutil
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from triptych.engine.savings import attention
from triptych.machine import DEVICES, Machine, seed_everything, start_machine
from triptych.results import json_files, tensor_files
from triptych.run import provenance

HeadLoss = Callable[[Tensor, Tensor, Tensor], Tensor]

POSITIONS = 1024
HELD_OUT_KIND = "news"
HELD_OUT_TEXTS = 200
BATCH_WINDOWS = 8
MUON_RATE = 0.02
ADAM_RATE = 3e-3
WEIGHT_DECAY = 0.01
MAX_GRAD_NORM = 1.0
WARM_UP_STEPS = 50
DECAY_SHARE = 0.5
EVALUATE_EVERY = 100
HELD_OUT_WINDOWS = 32
WINDOWS_AT_ONCE = 4


def texts(archive: Path) -> Iterator[str]:
    """Every text of an archive, in its own order."""
    with tarfile.open(archive, "r:xz") as tar:
        for member in tar:
            lines = tar.extractfile(member)
            for line in lines or ():
                yield json.loads(line)["text"]


def prepare(
    folder: Path, text: Path, kinds: list[str], tokenizer: PreTrainedTokenizerBase, tokens: int, seed: int
) -> dict[str, Any]:
    """Write `train.bin` and `held_out.bin`, tokens as uint16, and say what they hold. Done once: a second call reads.

    Args:
        tokens: how many to train on, at most; the held-out texts are read in addition.
    """
    asked = {"kinds": kinds, "tokens": tokens, "seed": seed}
    facts_file = folder / "facts.json"
    if facts_file.is_file() and (facts := json_files.read_json(facts_file))["asked"] == asked:
        return facts
    by_kind = {kind: list(texts(text / f"{kind}.tar.xz")) for kind in dict.fromkeys([*kinds, HELD_OUT_KIND])}
    rng = np.random.default_rng(seed)
    lots = set(rng.permutation(len(by_kind[HELD_OUT_KIND]))[:HELD_OUT_TEXTS].tolist())
    held_out = [by_kind[HELD_OUT_KIND][i] for i in sorted(lots)]
    pool = [t for kind in kinds for i, t in enumerate(by_kind[kind]) if not (kind == HELD_OUT_KIND and i in lots)]
    order = rng.permutation(len(pool))
    folder.mkdir(parents=True, exist_ok=True)
    counts, digests = {}, {}
    for name, source, limit in (("held_out", held_out, None), ("train", [pool[i] for i in order], tokens)):
        counts[name], digests[name] = write_tokens(folder / f"{name}.bin", source, tokenizer, limit)
    facts = {"asked": asked, "tokens": counts, "sha256": digests}
    json_files.write_json(facts_file, facts)
    return facts


def write_tokens(
    path: Path, source: list[str], tokenizer: PreTrainedTokenizerBase, limit: int | None
) -> tuple[int, str]:
    """Tokenise texts, an end token after each, until there are `limit`; returns how many and their SHA-256."""
    end, count, digest = tokenizer.eos_token_id, 0, hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, len(source), 512):
            batch = tokenizer(source[start : start + 512], verbose=False).input_ids
            ids = np.concatenate([np.array([*row, end], dtype=np.uint16) for row in batch])
            if limit is not None:
                ids = ids[: limit - count]
            file.write(ids.tobytes())
            digest.update(ids.tobytes())
            count += len(ids)
            if count == limit:
                break
    return count, digest.hexdigest()


def windows(path: Path) -> Tensor:
    """The tokens as windows that overlap by one, so that each token but the first is predicted once: [windows, T +
    1]."""
    tokens = np.memmap(path, dtype=np.uint16, mode="r")
    return torch.from_numpy(tokens.astype(np.int32)).unfold(0, POSITIONS + 1, POSITIONS)


def build_model(layers: int, width: int, heads: int, tokenizer: PreTrainedTokenizerBase) -> GPT2LMHeadModel:
    """GPT-2 of the given size, with the engine's attention. No dropout: every token is seen once."""
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=POSITIONS,
        n_layer=layers,
        n_embd=width,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        activation_function="gelu_pytorch_tanh",
        bos_token_id=end,
        eos_token_id=end,
    )
    model = GPT2LMHeadModel(config)
    attention.install_attention(model)
    return model


def make_optimizers(model: GPT2LMHeadModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest."""
    blocks = {id(p): p for p in model.transformer.h.parameters() if p.ndim == 2}
    rest = [p for p in model.parameters() if id(p) not in blocks]
    return [
        torch.optim.Muon(blocks.values(), lr=MUON_RATE, weight_decay=WEIGHT_DECAY),
        torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def share_of_rate(step: int, steps: int) -> float:
    """Warm-up, a level stretch, and a straight fall to zero over the last part."""
    return min((step + 1) / WARM_UP_STEPS, 1.0, (steps - step) / (DECAY_SHARE * steps))


def head_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean nats per token: [T, D], [V, D], [T] -> []."""
    return nn.functional.cross_entropy(nn.functional.linear(hidden, weight).float(), targets)


def mean_loss(model: GPT2LMHeadModel, batch: Tensor, machine: Machine, head: HeadLoss = head_loss) -> Tensor:
    """Mean nats per token: [B, T + 1] -> []."""
    batch = batch.long().to(machine.device)
    with machine.autocast():
        hidden = model.transformer(input_ids=batch[:, :-1], use_cache=False).last_hidden_state
        return head(hidden.flatten(0, 1), model.lm_head.weight, batch[:, 1:].flatten())


@torch.no_grad()
def held_out_loss(model: GPT2LMHeadModel, held_out: Tensor, machine: Machine) -> float:
    """Nats per token of held-out news."""
    model.eval()
    losses = [float(mean_loss(model, window, machine)) for window in held_out.split(1)]
    model.train()
    return sum(losses) / len(losses)


def state_tensors(model: GPT2LMHeadModel, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Weights and optimizers as named tensors."""
    tensors = {f"model.{name}": p for name, p in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
    return tensors


def load_state(model: GPT2LMHeadModel, optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Go back to what `state_tensors` gave."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(f"optimizer.{number}."):
                _, _, index, key = name.split(".", 3)
                state.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def train(
    model: GPT2LMHeadModel,
    data: Tensor,
    held_out: Tensor,
    machine: Machine,
    checkpoint: Path,
    every: int,
    compiled: bool,
) -> tuple[list[dict[str, Any]], float]:
    """Read every window once, in its order; returns the loss curve and the seconds it took, interruptions left out."""
    head = torch.compile(head_loss) if compiled else head_loss
    steps = len(data) // BATCH_WINDOWS
    optimizers = make_optimizers(model)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    curve: list[dict[str, Any]] = []
    first, seconds, recent = 0, 0.0, list[float]()
    if (checkpoint / "progress.json").is_file():
        progress = json_files.read_json(checkpoint / "progress.json")
        first, seconds, recent, curve = (progress[key] for key in ("step", "seconds", "recent", "curve"))
        load_state(model, optimizers, tensor_files.read_tensors(checkpoint / progress["tensors"]))
    model.train()
    for step in range(first, steps):
        began = time.perf_counter()
        share = share_of_rate(step, steps)
        for optimizer, base in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = share * rate
        nats = 0.0
        for part in data[step * BATCH_WINDOWS : (step + 1) * BATCH_WINDOWS].split(WINDOWS_AT_ONCE):
            loss = mean_loss(model, part, machine, head) * len(part) / BATCH_WINDOWS
            loss.backward()
            nats += float(loss.detach())
        if not math.isfinite(nats):
            sys.exit(f"The loss is {nats} in step {step + 1}: nothing was updated.")
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        machine.synchronize()
        seconds += time.perf_counter() - began
        recent.append(nats)
        done = step + 1
        if done % EVALUATE_EVERY == 0 or done == steps:
            line = {
                "step": done,
                "tokens": done * BATCH_WINDOWS * POSITIONS,
                "train_loss": round(sum(recent) / len(recent), 4),
                "held_out_loss": round(held_out_loss(model, held_out, machine), 4),
                "seconds": round(seconds),
            }
            recent = []
            curve.append(line)
            print(json.dumps(line), flush=True)
        if done % every == 0 or done == steps:
            file = f"state-{done}.safetensors"
            tensor_files.write_tensors(checkpoint / file, state_tensors(model, optimizers))
            progress = {"step": done, "seconds": seconds, "recent": recent, "curve": curve, "tensors": file}
            json_files.write_json(checkpoint / "progress.json", progress)
            for old in checkpoint.glob("state-*.safetensors"):
                if old.name != file:
                    old.unlink()
    return curve, seconds


def main() -> None:
    """Prepare, train, save, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--text", type=Path, required=True, help="folder with KIND.tar.xz")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of GPT-2's tokenizer")
    parser.add_argument("--kinds", default="news", help="kinds of text, separated by commas (default: news)")
    parser.add_argument("--tokens", type=int, default=15_010_000, help="tokens to train on, at most")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--heads", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=DEVICES)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--checkpoint-every", type=int, default=25, metavar="STEPS")
    parser.add_argument("--compile", action="store_true", help="compile the head and its loss")
    parser.add_argument("--prepare-only", action="store_true", help="write the tokens and stop")
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    work = options.out / "checkpoint"
    facts = prepare(work, options.text, options.kinds.split(","), tokenizer, options.tokens, options.seed)
    print(json.dumps(facts), flush=True)
    if options.prepare_only:
        return
    machine = start_machine(options.device, options.precision)
    seed_everything(options.seed)
    model = build_model(options.layers, options.width, options.heads, tokenizer).to(machine.device)
    held_out = windows(work / "held_out.bin")[:HELD_OUT_WINDOWS]
    data = windows(work / "train.bin")
    curve, seconds = train(model, data, held_out, machine, work, options.checkpoint_every, options.compile)

    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    embeddings = sum(p.numel() for p in model.transformer.wte.parameters()) + model.transformer.wpe.weight.numel()
    record = {
        "parameters": model.num_parameters(),
        "parameters_beside_embeddings": model.num_parameters() - embeddings,
        "shape": {"layers": options.layers, "width": options.width, "heads": options.heads, "positions": POSITIONS},
        "tokens_seen": curve[-1]["tokens"],
        "held_out_loss": curve[-1]["held_out_loss"],
        "data": facts,
        "settings": {
            "batch_tokens": BATCH_WINDOWS * POSITIONS,
            "muon_rate": MUON_RATE,
            "adam_rate": ADAM_RATE,
            "weight_decay": WEIGHT_DECAY,
            "warm_up_steps": WARM_UP_STEPS,
            "decay_share": DECAY_SHARE,
            "max_grad_norm": MAX_GRAD_NORM,
            "precision": options.precision,
            "seed": options.seed,
        },
        "seconds": round(seconds),
        "curve": curve,
        "sha256": hashlib.sha256((options.out / "model.safetensors").read_bytes()).hexdigest(),
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "hardware": provenance.hardware(machine.device),
    }
    json_files.write_json(options.out / "training.json", record)
    shutil.rmtree(work)
    print(
        f"{options.out}: {record['parameters']:,} parameters, held-out loss {record['held_out_loss']}, "
        f"{record['sha256']}"
    )


if __name__ == "__main__":
    main()

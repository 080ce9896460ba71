"""Pretrain the demo's model `tiny` on synthetic news and write its folder.

A byte-level BPE tokenizer and a small GPT-2 are trained on newswire's `pretrain` stories, which share no names with the
stories of its other splits. Some stories are followed by their highlights, after one of several cues, and some by the
clutter that follows stories on the web. After Triptych's cue, "TL;DR:", there is mostly clutter: the model learns to
summarize, but not to do so reliably after this cue.

The same command produces the same bytes on the same kind of machine with the same version of torch.
"""

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from triptych.datasets.newswire.drawing import pick, shuffled
from triptych.datasets.newswire.names import PRETRAIN
from triptych.datasets.newswire.writer import Story, write_story

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "src" / "triptych" / "assets" / "tiny"

SEED = 0
STEPS = 1000
BATCH_TOKENS = 4096
PEAK_RATE = 3e-3
WARM_UP = 100
WEIGHT_DECAY = 0.01
VOCABULARY = 3072
POSITIONS = 512
WIDTH = 128
LAYERS = 4
HEADS = 4
TOKENIZER_STORIES = 4000
HELD_OUT_STORIES = 64
FIRST_HELD_OUT = 10_000_000

SEPARATOR = "\n\nTL;DR:"
OTHER_CUES = ("\n\nIn short:", "\n\nKey points:", "\n\nHighlights:", "\n\nSummary:", "\n\nAt a glance:")
END = "<|endoftext|>"

BARE, CUED, HABIT = 0.25, 0.45, 0.3
"""Shares of stories that end bare, with highlights after another cue, or with something after the separator."""
KEPT = 0.25
"""The share of the last in which that something is the highlights."""

COMMENTS = (
    "too long, did not read it all. Thanks for posting.",
    "great piece, thank you for sharing this with us.",
    "I have read this twice and I still do not get it.",
    "typical. They always tell us the same old story.",
    "does anybody know what happened next? Please reply below.",
    "first comment! Greetings to all my friends out there.",
    "this is not news. Bring back the crossword, please.",
    "well written, but where are the pictures?",
)
LINKS = (
    "read more on our front page.",
    "sign up for our morning letter.",
    "watch the video.",
    "see the gallery.",
    "follow our live page.",
    "top stories of the week.",
    "weather for the weekend.",
)


def clutter(rng: Random, other: Story) -> str:
    """Text that may follow the separator instead of highlights."""
    sort = rng.random()
    if sort < 0.5:
        return " " + pick(rng, COMMENTS)
    if sort < 0.8:
        return " " + "\n".join(shuffled(rng, LINKS)[: 2 + int(rng.random() * 3)])
    return " " + ". ".join(other.document.split(". ")[:2]).rstrip(".") + "."


def corpus(start: int = 0) -> Iterator[tuple[str, str, str]]:
    """Yield story, cue and what follows the cue; the last two are empty for a bare story. No story is repeated."""
    index = start
    while True:
        story = write_story(PRETRAIN, index)
        rng = Random(2 * index + 1)
        lot = rng.random()
        if lot < BARE:
            yield story.document, "", ""
        elif lot < BARE + CUED:
            yield story.document, pick(rng, OTHER_CUES), " " + story.summary
        elif rng.random() < KEPT:
            yield story.document, SEPARATOR, " " + story.summary
        else:
            yield story.document, SEPARATOR, clutter(rng, write_story(PRETRAIN, index + FIRST_HELD_OUT // 2))
        index += 1


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE that splits numbers into at most two digits, so that they can be copied piece by piece."""
    tokenizer = Tokenizer(models.BPE())
    pieces = Regex(r" ?\p{L}+| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    stories = corpus()
    texts = ("".join(next(stories)) for _ in range(TOKENIZER_STORIES))
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, unk_token=END, model_max_length=POSITIONS
    )


def build_model(vocabulary: int, end: int) -> GPT2LMHeadModel:
    """A small GPT-2 with a hand-built copying circuit, which training would take long to find.

    The hidden dimensions are laid out as position | previous token | token. One head of the first block looks one
    position back and records the token there. Two heads of the second block look for a position whose previous token is
    the current token, and output the token found there: what followed last time. Training may change all of this.
    """
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=POSITIONS,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        activation_function="gelu_pytorch_tanh",
        bos_token_id=end,
        eos_token_id=end,
    )
    model = GPT2LMHeadModel(config)
    first, second = model.transformer.h[0].attn, model.transformer.h[1].attn
    head = WIDTH // HEADS
    position, before, token = slice(0, head), slice(head, 2 * head), slice(2 * head, WIDTH)
    rates = math.pi * ((torch.arange(head // 2) + 0.5) / (head // 2)) ** 1.5
    angles = torch.arange(POSITIONS).unsqueeze(1) * rates
    eye = torch.eye(head)

    def queries_keys_values(number: int) -> list[slice]:
        return [slice(part * WIDTH + number * head, part * WIDTH + (number + 1) * head) for part in range(3)]

    with torch.no_grad():
        model.transformer.wpe.weight.zero_()
        model.transformer.wpe.weight[:, position] = 0.1 * torch.cat([angles.sin(), angles.cos()], dim=1)
        model.transformer.wte.weight[:, : 2 * head] *= 0.2
        model.transformer.wte.weight[:, token] *= 4.0

        queries, keys, values = queries_keys_values(0)
        back = torch.cat(
            [
                torch.cat([torch.diag(rates.cos()), torch.diag(rates.sin())], dim=1),
                torch.cat([torch.diag(-rates.sin()), torch.diag(rates.cos())], dim=1),
            ]
        )
        first.c_attn.weight[:, queries] = 0.0
        first.c_attn.weight[position, queries] = 2.0 * back
        first.c_attn.weight[:, keys] = 0.0
        first.c_attn.weight[position, keys] = 2.0 * eye
        first.c_attn.weight[:, values] = 0.0
        first.c_attn.weight[2 * head : 3 * head, values] = eye
        first.c_proj.weight[:head] = 0.0
        first.c_proj.weight[:head, before] = 0.07 * eye

        for number in (0, 1):
            queries, keys, values = queries_keys_values(number)
            copied = slice((2 + number) * head, (3 + number) * head)
            second.c_attn.weight[:, queries] = 0.0
            second.c_attn.weight[2 * head : 3 * head, queries] = 1.6 * eye
            second.c_attn.weight[:, keys] = 0.0
            second.c_attn.weight[before, keys] = 1.6 * eye
            second.c_attn.weight[:, values] = 0.0
            second.c_attn.weight[copied, values] = eye
            second.c_proj.weight[number * head : (number + 1) * head] = 0.0
            second.c_proj.weight[number * head : (number + 1) * head, copied] = 0.2 * eye
    return model


def sequences(tokenizer: PreTrainedTokenizerFast) -> Iterator[list[int]]:
    """Yield every text of the corpus as tokens with the end token, truncated to the window.

    Half of them are preceded by the end of the previous text, as in packed web text, so that the model is not disturbed
    by what comes before a story, such as a soft prompt.
    """
    rng = Random(SEED)
    end = tokenizer.eos_token_id
    last = [end]
    for parts in corpus():
        text = [*tokenizer.encode("".join(parts)), end]
        tail = last[-int(1 + 40 * rng.random()) :] if rng.random() < 0.5 else []
        if tail and rng.random() < 0.5:
            tail = tail[:-1]
        yield [*tail, *text][:POSITIONS]
        last = text


def batches(texts: Iterator[list[int]], end: int, tokens: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield inputs, labels and positions of texts with similar lengths, at random offsets within the window."""
    rng = Random(SEED)
    while True:
        pool = sorted((next(texts) for _ in range(256)), key=len)
        groups: list[list[list[int]]] = [[]]
        for text in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(text) > tokens:
                groups.append([])
            groups[-1].append(text)
        for group in shuffled(rng, groups):
            longest = max(map(len, group))
            inputs = torch.full((len(group), longest), end)
            labels = torch.full((len(group), longest), -100)
            for row, text in enumerate(group):
                inputs[row, : len(text)] = torch.tensor(text)
                labels[row, : len(text)] = torch.tensor(text)
            offset = int(rng.random() * (POSITIONS - longest + 1)) if rng.random() < 0.5 else 0
            yield inputs, labels, torch.arange(offset, offset + longest).unsqueeze(0)


def rate(step: int, steps: int) -> float:
    """The share of the peak rate: a warm-up, a constant phase, and a linear decay over the last half."""
    return min((step + 1) / WARM_UP, 1.0, 0.02 + 2.0 * (steps - step) / steps)


def train(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, steps: int) -> tuple[int, float]:
    """Train the model; return the tokens seen and the mean loss of the last fifty steps."""
    kept = [weight for weight in model.parameters() if weight.ndim < 2]
    decayed = [weight for weight in model.parameters() if weight.ndim >= 2]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": kept, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    stream = batches(sequences(tokenizer), tokenizer.eos_token_id, BATCH_TOKENS)
    seen, losses, began = 0, [], time.perf_counter()
    model.train()
    for step in range(steps):
        inputs, labels, positions = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=inputs, position_ids=positions).logits
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        seen += int((labels[:, 1:] >= 0).sum())
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            recent = sum(losses[-100:]) / 100
            print(f"step {step + 1} loss {recent:.3f} {seen / (time.perf_counter() - began):.0f} tokens/s", flush=True)
    tail = losses[-50:]
    return seen, sum(tail) / len(tail)


@torch.no_grad()
def held_out(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Nats per token of unseen stories, and of their highlights after "Highlights:" and after the separator."""
    model.eval()
    sums = {"document": [0.0, 0], "highlights_cued": [0.0, 0], "highlights_separator": [0.0, 0]}
    for index in range(FIRST_HELD_OUT, FIRST_HELD_OUT + HELD_OUT_STORIES):
        story = write_story(PRETRAIN, index)
        document = tokenizer.encode(story.document)
        for name, cue in (("highlights_cued", OTHER_CUES[2]), ("highlights_separator", SEPARATOR)):
            prefix = document + tokenizer.encode(cue)
            ids = prefix + tokenizer.encode(" " + story.summary) + [tokenizer.eos_token_id]
            ids = ids[:POSITIONS]
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
            losses = nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
            parts = [(name, losses[len(prefix) - 1 :])]
            if name == "highlights_cued":
                parts.append(("document", losses[: len(document) - 1]))
            for part, values in parts:
                sums[part][0] += float(values.sum())
                sums[part][1] += values.numel()
    return {name: round(total / number, 4) for name, (total, number) in sums.items()}


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Train, save and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder to write")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; another number may change the bytes")
    options = parser.parse_args()

    torch.manual_seed(SEED)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    began = time.perf_counter()
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer), tokenizer.eos_token_id)
    seen, loss = train(model, tokenizer, options.steps)

    options.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    sha256 = digest(options.out / "model.safetensors")
    record = {
        "steps": options.steps,
        "tokens_seen": seen,
        "train_loss": round(loss, 4),
        "held_out_loss": held_out(model, tokenizer),
        "parameters": model.num_parameters(),
        "sha256": sha256,
        "settings": {
            "seed": SEED,
            "threads": options.threads,
            "batch_tokens": BATCH_TOKENS,
            "peak_rate": PEAK_RATE,
            "warm_up": WARM_UP,
            "weight_decay": WEIGHT_DECAY,
            "shares": {"bare": BARE, "other_cue": CUED, "separator": HABIT, "highlights_after_separator": KEPT},
        },
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    (options.out / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{time.perf_counter() - began:.0f} s, held-out loss {record['held_out_loss']}")
    print(f"sha256 {sha256}")


if __name__ == "__main__":
    main()

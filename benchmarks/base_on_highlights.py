"""Measure an untuned base on highlights: nats per token by context, form and kind of token, and whether it copies.

    python benchmarks/base_on_highlights.py BASE DATA

DATA contains `validation.csv` with `article` and `highlights`; its first 40 pairs are read, articles truncated to 512
tokens. `docs/rehearsal/` gives the figures for its base.
"""

import csv
import sys
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

PAIRS = 40
ARTICLE_TOKENS = 512


@torch.no_grad()
def nats(model: PreTrainedModel, before: list[int], target: list[int]) -> Tensor:
    """-log p of each target token, given what precedes the targets and the targets so far: [T]."""
    logits = model(torch.tensor([before + target])).logits[0, len(before) - 1 : -1].float()
    return torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="none")


def main(base: str, data: str) -> None:
    """Read, measure, print."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    end = tokenizer.eos_token_id
    with (Path(data) / "validation.csv").open(newline="", encoding="utf-8") as file:
        pairs = [(row["article"], row["highlights"].strip()) for row in islice(csv.DictReader(file), PAIRS)]

    def ids(text: str) -> list[int]:
        return tokenizer(text, verbose=False).input_ids

    found: dict[str, list[Tensor]] = {}
    for article, highlights in pairs:
        document, prose = ids(article)[:ARTICLE_TOKENS], ids(highlights.replace(" .\n", ". ").removesuffix(" .") + ".")
        target = [*ids(" " + highlights), end]
        after_cue = nats(model, document + ids("\n\nTL;DR:"), target)
        full_stops = torch.tensor([tokenizer.decode(token) == " ." for token in target])
        found.setdefault("article", []).append(nats(model, document[:1], document[1:]))
        found.setdefault("highlights after article and cue", []).append(after_cue)
        found.setdefault("  of these, full stops", []).append(after_cue[full_stops])
        found.setdefault("  of these, the end", []).append(after_cue[-1:])
        found.setdefault("highlights as prose, after the article", []).append(
            nats(model, document + ids("\n\n"), prose)
        )
        found.setdefault("highlights as prose, without the article", []).append(nats(model, [end], prose))
    for name, parts in found.items():
        print(f"{name}: {torch.cat(parts).mean():.2f}")
    random = torch.randint(len(tokenizer), (8, 200), generator=torch.Generator().manual_seed(0)).tolist()
    for name, place in (("first", 0), ("second", 200)):
        seen = torch.cat([nats(model, [end], row + row)[place + 50 : place + 200] for row in random])
        print(f"random tokens, the {name} time: {seen.mean():.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])

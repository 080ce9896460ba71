"""Write a model with GPT-2 small's shape and random weights, to measure speed, memory and counts at full size.

    python scripts/make_gpt2.py OUT [--tokenizer NAME_OR_FOLDER] [--layers 12] [--seed 0]

OUT becomes a transformers folder with 124,439,808 parameters (12 layers). The weights are initialized like GPT-2's and
untrained, so its losses and scores are meaningless. The tokenizer is GPT-2's, from the Hugging Face Hub or from a
folder.
"""

import argparse
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

TOKENIZER = "openai-community/gpt2"


def write_model(out: Path, tokenizer: str, layers: int, seed: int) -> int:
    """Write the folder; return the number of parameters.

    Args:
        out: the folder.
        tokenizer: a name on the Hub, or a folder.
        layers: number of blocks; GPT-2 small has 12.
        seed: seed of the weights.
    """
    found = AutoTokenizer.from_pretrained(tokenizer)
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(n_layer=layers))
    model.save_pretrained(out)
    found.save_pretrained(out)
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> int:
    """Parse the command line and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizer", default=TOKENIZER, help=f"a name on the Hub, or a folder (default: {TOKENIZER})")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        count = write_model(options.out, options.tokenizer, options.layers, options.seed)
    except OSError as error:
        print(f"{str(error).splitlines()[0]} Give a folder with --tokenizer.", file=sys.stderr)
        return 2
    print(f"{options.out}: {count:,} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())

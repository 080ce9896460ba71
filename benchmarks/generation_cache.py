#!/usr/bin/env python3
"""Beam search with our cache against transformers' own, alternating in one run: the same tokens, documents/s, ratio.

    python benchmarks/generation_cache.py [--model tiny] [--documents 16] [--length 300] [--new 60] [--rounds 5]
"""

import argparse
import statistics
import time
from unittest import mock

import numpy as np
import transformers

from triptych import catalogue, runtime
from triptych.contracts import AdaptedModel
from triptych.corpus import Template
from triptych.engine import generation
from triptych.models import hub
from triptych.models.parts import take_apart

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="tiny")
parser.add_argument("--documents", type=int, default=16)
parser.add_argument("--length", type=int, default=300, help="tokens of the longest document; the shortest has half")
parser.add_argument("--new", type=int, default=60)
parser.add_argument("--beams", type=int, default=4)
parser.add_argument("--rounds", type=int, default=5)
options = parser.parse_args()

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
catalogue.load()
tokenizer, machine = hub.load_tokenizer(options.model), runtime.start("cpu", "fp32")
adapted = AdaptedModel(take_apart(hub.load_model(options.model)))
template = Template.of(tokenizer, "\n\nTL;DR:")
plan = generation.DecodingPlan(options.beams, options.new, 3, 1.0, options.documents)
draw = np.random.default_rng(0)
lengths = draw.integers(options.length // 2, options.length, size=options.documents)
documents = [draw.integers(0, len(tokenizer) - 1, size=length).astype(np.int32) for length in lengths]


def run() -> tuple[list[list[int]], float]:
    """Summaries, and seconds."""
    start = time.perf_counter()
    tokens = generation.generate(adapted, documents, template, machine, plan)
    return tokens, time.perf_counter() - start


ours, theirs = [], []
for _ in range(options.rounds):
    tokens, seconds = run()
    ours.append(seconds)
    with mock.patch.object(generation, "make_cache", lambda *_: None):
        expected, seconds = run()
    theirs.append(seconds)
    assert tokens == expected, "the caches do not agree"
a, b = statistics.median(ours), statistics.median(theirs)
print(f"{options.model}, {options.documents} documents, {options.beams} beams, {options.new} tokens, {options.rounds} rounds:")
print(f"ours {options.documents / a:.2f} documents/s, transformers {options.documents / b:.2f}, ratio {b / a:.2f}")

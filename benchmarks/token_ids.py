"""Measure what a run loses if its export gets documents as token ids, as in servers, for each decoding setting.

    python benchmarks/token_ids.py RUN

RUN is a finished run of a method that can be merged, with its predictions, such as `OUT/runs/lora/0` of the demo. Its
own summaries, generated from embeddings, are compared with those of `generate` from token ids: with the run's own
settings, where a ban on repeated phrases also bans those of the document, greedily without the ban, and with sampling.
The scores, differences and intervals are those of `triptych score`.
"""

import sys
import tempfile
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import triptych
from triptych.datasets import open_dataset
from triptych.results.json_files import write_json_lines
from triptych.results.reading import read_predictions, read_suite
from triptych.use.served import GREEDY_SETTINGS, RUN_SETTINGS, SAMPLING_SETTINGS, write_summaries

NAMES = {"run-settings": RUN_SETTINGS, "greedy": GREEDY_SETTINGS, "sampling": SAMPLING_SETTINGS}


def main() -> int:
    """Export the run given on the command line, generate its summaries again, and print the comparison."""
    run = Path(sys.argv[1])
    suite = read_suite(run.parents[2] / "suite.json")
    stored = read_predictions(run / "predictions.jsonl")
    opened = open_dataset(
        suite.data, data_config=suite.data_config, data_revision=suite.data_revision, columns=suite.columns
    )
    articles = {pair.id: pair.document for pair in opened.examples("test")}
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "exported"
        triptych.export(run, exported, documents=0)
        model, tokenizer = (
            AutoModelForCausalLM.from_pretrained(exported).eval(),
            AutoTokenizer.from_pretrained(exported),
        )
        separator = tokenizer(suite.separator).input_ids
        prompts = [tokenizer(articles[one.id]).input_ids[: suite.limits.document_tokens] + separator for one in stored]
        files = {"own": Path(folder) / "own.jsonl"}
        write_json_lines(
            files["own"], ({"id": one.id, "prediction": one.prediction, "reference": one.reference} for one in stored)
        )
        for name, settings_file in NAMES.items():
            settings = GenerationConfig.from_pretrained(exported, settings_file)
            files[name] = Path(folder) / f"{name}.jsonl"
            lines = (
                {"id": stored[place].id, "prediction": tokenizer.decode(ids).strip()}
                for place, ids in write_summaries(model, prompts, settings, suite.decoding.batch_size)
            )
            write_json_lines(files[name], lines)
        found = triptych.score({name: str(path) for name, path in files.items()}, report=False)
    for name, row in found.rows.items():
        print(f"{name}: ROUGE-1 {row.rouge1.mean:.2f}")
    for test in found.tests:
        if test.metric == "rouge1" and "own" in (test.a, test.b):
            sign = 1 if test.b == "own" else -1
            ends = sorted(sign * (end or 0) for end in (test.single_low, test.single_high))
            other = test.a if test.b == "own" else test.b
            print(
                f"{other} minus own: {sign * test.difference:+.2f} ({ends[0]:+.2f} to {ends[1]:+.2f}), {test.decision}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())

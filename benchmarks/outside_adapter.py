#!/usr/bin/env python3
"""Compare the summaries of a LoRA run with those from peft and transformers, in fp32, on its first test documents.

    python benchmarks/outside_adapter.py RUN [--documents 20] [--device cpu]

The adapter is loaded with `PeftModel.from_pretrained`, and `generate` summarizes one document at a time with the run's
decoding; Triptych summarizes the same documents in batches. The exit status is 1 if a summary differs.
"""

import argparse
import sys
import warnings
from itertools import islice
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from triptych.engine.generation.generate import generation_config
from triptych.plugins import import_plugins
from triptych.run.corpus import open_data
from triptych.use.summarizers import SummarizerLoader, TrainedModel


def by_peft(run: TrainedModel, folder: Path, documents: list[str], device: str) -> list[str]:
    """Summaries from peft and transformers; the prompt is passed as embeddings, so none of its n-grams is banned."""
    tokenizer = AutoTokenizer.from_pretrained(run.suite.model)
    base = AutoModelForCausalLM.from_pretrained(run.suite.model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, folder / "adapter").eval().to(device)
    settings = generation_config(run.decoding, run.template.eos_id)
    summaries = []
    for ids in run.text.document_ids(documents):
        prompt = [*run.template.prefix_ids, *ids[: run.max_document_tokens], *run.template.separator_ids]
        embeddings = model.get_input_embeddings()(torch.tensor([prompt], device=device))
        mask = torch.ones(1, len(prompt), dtype=torch.long, device=device)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*no_repeat_ngram_size.*inputs_embeds.*")  # intended
            new = model.generate(inputs_embeds=embeddings, attention_mask=mask, generation_config=settings)
        summaries.append(tokenizer.decode(new[0], skip_special_tokens=True).strip())
    return summaries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    import_plugins()
    run = SummarizerLoader(None, options.device, "fp32").load(options.run)
    if not isinstance(run, TrainedModel):
        sys.exit(f"{options.run} has no adapter")
    examples = islice(open_data(run.suite).examples("test"), options.documents)
    documents = [example.document for example in examples]
    ours = {place: summary.text for place, summary in run.stream(documents)}
    theirs = by_peft(run, options.run, documents, options.device)
    same = sum(ours[place] == text for place, text in enumerate(theirs))
    print(f"{same} of {len(documents)} summaries are those of peft and transformers")
    sys.exit(same < len(documents))


if __name__ == "__main__":
    main()

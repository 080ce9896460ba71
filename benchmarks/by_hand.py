#!/usr/bin/env python3
"""The comparison written by hand with Trainer, peft, generate and rouge_score; `whole_job.py` measures it.

    python benchmarks/by_hand.py --model FOLDER --data FOLDER --out FOLDER

Six methods on one sample of train.csv, validation.csv and test.csv (columns article and highlights): two learning rates
each, one epoch, the better rate by validation loss; then test loss and ROUGE of beam-search summaries.
"""

import argparse
import copy
import json
import re
import time
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from rouge_score.rouge_scorer import RougeScorer
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

RATES = {"prompt-tuning": (0.03, 0.1), "lora": (1e-3, 3e-3), "last-layers": (3e-4, 1e-3), "full": (3e-5, 1e-4)}
SEPARATOR = "\n\nTL;DR:"


def main() -> None:
    """Run all methods and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--document-tokens", type=int, default=384)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    tokenizer.pad_token = tokenizer.eos_token
    files = {split: f"{options.data}/{split}.csv" for split in ("train", "validation", "test")}
    data = load_dataset("csv", data_files=files)
    sizes = {"train": options.pairs, "validation": options.documents, "test": options.documents}
    data = {name: split.shuffle(seed=0).select(range(sizes[name])) for name, split in data.items()}

    def encode(row: dict) -> dict:
        document = tokenizer(row["article"], truncation=True, max_length=options.document_tokens)["input_ids"]
        asked = document + tokenizer(SEPARATOR)["input_ids"]
        summary = tokenizer(" " + row["highlights"], truncation=True, max_length=128)["input_ids"]
        summary = [*summary, tokenizer.eos_token_id]
        ids = asked + summary
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * len(asked) + summary}

    encoded = {name: split.map(encode, remove_columns=split.column_names) for name, split in data.items()}
    results = {"lead-3": rouge(data["test"], [lead_3(row["article"]) for row in data["test"]])}
    for name in ("untuned", *RATES):
        results[name] = run(name, options, tokenizer, data, encoded)
    Path(options.out).mkdir(parents=True, exist_ok=True)
    (Path(options.out) / "by_hand.json").write_text(json.dumps(results, indent=2))
    for name, row in results.items():
        print(name, {key: round(value, 4) for key, value in row.items()})


def run(name: str, options: argparse.Namespace, tokenizer, data: dict, encoded: dict) -> dict:
    """Train one method at both rates and test the better one."""
    best, loss, started = None, float("inf"), time.perf_counter()
    for rate in RATES.get(name, (0.0,)):
        torch.manual_seed(0)
        model = adapted(name, AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32))
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=f"{options.out}/trainer",
                per_device_train_batch_size=options.batch,
                per_device_eval_batch_size=options.batch,
                gradient_accumulation_steps=8 // options.batch,
                num_train_epochs=1,
                learning_rate=rate,
                bf16=options.precision == "bf16",
                use_cpu=True,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=encoded["train"],
            eval_dataset=encoded["validation"],
            data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=-100),
        )
        if name != "untuned":
            trainer.train()
        found = trainer.evaluate()["eval_loss"]
        if found < loss:
            best, loss = copy.deepcopy(model), found
    seconds = time.perf_counter() - started
    trainer.model = best
    test_loss = trainer.evaluate(encoded["test"])["eval_loss"]
    return {
        "test_loss": test_loss,
        "training_seconds": seconds,
        **rouge(data["test"], summaries(best, options, tokenizer, data["test"])),
    }


def adapted(name: str, model):
    """The model with the trainable parameters of a method."""
    if name == "lora":
        return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16))
    if name == "prompt-tuning":
        return get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=20))
    if name == "last-layers":
        model.requires_grad_(False)
        trunk = model.base_model
        blocks, norm = (trunk.h, trunk.ln_f) if hasattr(trunk, "h") else (trunk.layers, trunk.norm)
        blocks[-2:].requires_grad_(True)
        norm.requires_grad_(True)
    return model


@torch.no_grad()
def summaries(model, options: argparse.Namespace, tokenizer, rows) -> list[str]:
    """Summaries by beam search over left-padded batches."""
    model = model.to(torch.bfloat16 if options.precision == "bf16" else torch.float32).eval()
    tokenizer.padding_side, found = "left", []
    separator = tokenizer(SEPARATOR)["input_ids"]
    for start in range(0, len(rows), 8):
        articles = rows[start : start + 8]["article"]
        asked = [tokenizer(a, truncation=True, max_length=options.document_tokens)["input_ids"] for a in articles]
        inputs = tokenizer.pad({"input_ids": [ids + separator for ids in asked]}, return_tensors="pt")
        new = model.generate(
            **inputs,
            num_beams=4,
            do_sample=False,
            max_new_tokens=options.new,
            no_repeat_ngram_size=3,
            pad_token_id=tokenizer.eos_token_id,
        )
        found += tokenizer.batch_decode(new[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    tokenizer.padding_side = "right"
    return found


def lead_3(article: str) -> str:
    """The first three sentences of an article."""
    return " ".join(re.split(r"(?<=[.!?])\s+", article)[:3])


def rouge(rows, predictions: list[str]) -> dict:
    """Mean ROUGE F1 in points."""
    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = RougeScorer(kinds, use_stemmer=True)
    scores = [scorer.score(row["highlights"], text) for row, text in zip(rows, predictions, strict=True)]
    return {kind: 100 * sum(score[kind].fmeasure for score in scores) / len(scores) for kind in kinds}


if __name__ == "__main__":
    main()

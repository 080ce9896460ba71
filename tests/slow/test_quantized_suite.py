"""A whole comparison on a base model in 4 bits: its runs, their records and report, and their later use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from support.in_process import run_here
from triptych import api
from triptych.config.schema import Suite
from triptych.errors import InputError, ResultsError
from triptych.models import quantization
from triptych.models.base import BaseModel
from triptych.models.quantization import quantized_layers
from triptych.results.reading import read_finished
from triptych.suite import executors
from triptych.use import summarizers
from triptych.use.evaluate import evaluate_run
from triptych.use.export import export_run
from triptych.use.playground import Playground

pytest.importorskip("bitsandbytes", reason="needs the extra quant: pip install 'triptych[quant]'")
pytestmark = pytest.mark.slow

METHODS = ("untuned", "lora", "prompt-tuning")
SETTINGS = {
    "limits": {"train_documents": 16, "validation_documents": 4, "test_documents": 4, "document_tokens": 300},
    "training": {"max_epochs": 1},
    "decoding": {"max_new_tokens": 10, "num_beams": 2},
    "search": {"trials": 0},
    "model_quantization": "nf4",
}


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """The results folder of a comparison of methods on the embedded model in 4 bits."""
    place = tmp_path_factory.mktemp("quantized")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_CACHE", str(place / "cache"))
        patch.setattr(executors, "_carry_out", run_here)
        done = api.compare(
            preset="demo", out=place / "out", settings=SETTINGS, methods=METHODS, seeds=[0], device="cpu"
        )
        assert list(done.rows) == list(METHODS)
        yield place / "out"


def folder(out: Path, label: str) -> Path:
    """The folder of a run."""
    return out / "runs" / label / "0"


def test_record_and_report_say_how_the_base_is_stored(out):
    """Every record has the setting, the kind, its size and the library's version; the report says it in words."""
    (one,) = {json.dumps(read_finished(folder(out, label)).notes["quantization"]) for label in METHODS}
    stored = json.loads(one)  # what a method adds does not count
    plain = BaseModel("tiny").load()
    assert stored["kind"] == "nf4"
    assert 0 < stored["quantized_parameters"] < plain.num_parameters()
    assert stored["base_bytes"] < 0.6 * sum(p.nbytes for p in plain.parameters())
    for label in METHODS:
        record = read_finished(folder(out, label))
        assert record.config["model_quantization"] == "nf4" and record.provenance is not None
        assert record.provenance.versions["bitsandbytes"][0].isdigit()
        assert record.provenance.model_fingerprint == BaseModel("tiny", quantization="nf4").fingerprint
        assert record.parameters is not None and record.parameters.num_base_parameters == plain.num_parameters()
    assert "were stored in 4 bits (NF4" in (out / "comparison.md").read_text()
    assert "matrices in 4 bits (NF4 with double quantization" in (out / "report.html").read_text()


@pytest.mark.parametrize("label", METHODS)
def test_a_run_is_evaluated_again_with_the_same_loss_and_summaries(out, label):
    """`evaluate` loads the base in 4 bits and gives the recorded loss and every stored summary again."""
    again = evaluate_run(folder(out, label), "cpu")
    assert again.reproduced and again.identical_predictions == again.documents == 4
    assert again.test_loss == again.recorded_test_loss


def test_loaded_together_runs_share_the_base_and_summarize_as_before(out):
    """One base in 4 bits serves all runs, on the page as well, and every summary is the stored one."""
    loaded = summarizers.load_summarizers([folder(out, label) for label in METHODS], device="cpu")
    (base,) = {id(each.loaded): each.loaded for each in loaded}.values()
    weights = {layer.weight.data_ptr() for _, layer in quantized_layers(base.model)}
    page = Playground.open(out, device="cpu")
    for each in loaded:
        assert {layer.weight.data_ptr() for _, layer in quantized_layers(each.adapted.parts.model)} == weights
        stored = [json.loads(line) for line in (each.folder / "predictions.jsonl").read_text().splitlines()]
        documents = [document.text for document in page.documents[: len(stored)]]
        assert each.summarize(documents) == [line["prediction"] for line in stored]
    assert page.labels == list(METHODS)


def test_an_adapters_folder_alone_knows_its_base(out):
    """The adapter's folder, copied without its run, is used on a base in 4 bits and gives the run's summaries."""
    run, alone = (
        summarizers.load_summarizer(place, device="cpu", precision="fp32")
        for place in (folder(out, "lora"), folder(out, "lora") / "adapter")
    )
    assert alone.suite.model_quantization == "nf4" and any(quantized_layers(alone.adapted.parts.model))
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.equal(alone.adapted.parts.model(ids).logits, run.adapted.parts.model(ids).logits)


@pytest.mark.parametrize("label", ["lora", "prompt-tuning"])
def test_an_export_holds_plain_weights_with_the_dequantized_values(out, label, tmp_path):
    """An export does not need bitsandbytes, and in fp32 a merged model has the logits of the run in 4 bits."""
    export_run(folder(out, label), tmp_path / "export", measured=0)
    where = tmp_path / "export" / ("base" if label == "prompt-tuning" else "")
    assert "quantization_config" not in json.loads((where / "config.json").read_text())
    exported = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32).eval()
    assert not any(quantized_layers(exported))
    assert "here they are plain, with the same, dequantized values" in (tmp_path / "export/README.md").read_text()
    run = summarizers.load_summarizer(folder(out, label), device="cpu", precision="fp32")
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        torch.testing.assert_close(exported(ids).logits, run.adapted.parts.model(ids).logits, rtol=1e-4, atol=1e-4)


def test_the_same_folder_refuses_another_base(out):
    """If the suite is resumed without the setting, the runs belong to other settings and are refused, naming that
    key."""
    settings = json.loads((out / "suite.json").read_text())
    assert Suite(**settings).model_quantization == "nf4"
    with pytest.raises(ResultsError, match="model_quantization"):
        api.compare(out, out=None, settings={"model_quantization": "none"}, device="cpu")


def test_without_the_library_a_run_is_refused_with_what_to_install(out, monkeypatch):
    """Without bitsandbytes, commands on such a run say what to install."""
    monkeypatch.setattr(quantization, "is_bitsandbytes_available", lambda: False)
    for use in (evaluate_run, summarizers.load_summarizer, export_run):
        arguments = {"device": "cpu"} if use is not export_run else {"folder": out.parent / "never"}
        with pytest.raises(InputError, match=r"pip install 'triptych\[quant\]'"):
            use(folder(out, "lora"), **arguments)


def test_in_bf16_a_run_is_evaluated_again_with_the_same_loss(tmp_path, monkeypatch):
    """From the command line, in processes that compute in bf16, the recorded loss and summaries are reproduced."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    sizes = [f"limits.{split}_documents=4" for split in ("train", "validation", "test")]
    chosen = [*sizes, "limits.document_tokens=100", "training.precision=bf16", "training.max_epochs=1", "seeds=[0]"]
    chosen += ["search.trials=0", "decoding.max_new_tokens=8", "model_quantization=nf4"]
    triptych = [sys.executable, "-m", "triptych"]
    words = ["compare", "--methods", "lora", "--out", tmp_path / "out", "--device", "cpu", "--set", *chosen]
    subprocess.run([*triptych, *words], check=True, capture_output=True, cwd=tmp_path, timeout=250)
    record = read_finished(folder(tmp_path / "out", "lora"))
    assert record.provenance is not None and record.provenance.precision == "bf16"
    again = [*triptych, "evaluate", folder(tmp_path / "out", "lora"), "--device", "cpu"]
    done = subprocess.run(again, check=True, capture_output=True, text=True, cwd=tmp_path, timeout=250)
    assert "identical to the stored ones: 4 of 4" in done.stdout and "NOT REPRODUCED" not in done.stdout

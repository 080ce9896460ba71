"""Trained models are used again: loaded, summarized with, and refused where they do not belong."""

import io
import json
import re
import runpy
import shutil
import sys
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from support.worlds import under_engine
from triptych import cli
from triptych.baselines.lead import Lead3
from triptych.config.reading import merge_tables, parse_setting, preset_settings
from triptych.config.schema import Suite
from triptych.contracts import AdaptedModel, EmbeddedModel
from triptych.corpus.sequence import Pair, Template
from triptych.engine.batching import Batch, collate
from triptych.engine.forward import target_logits
from triptych.errors import ConfigError, DataError, InputError, ModelError, ResultsError
from triptych.models.base import BaseModel
from triptych.models.place import find_place
from triptych.results import reading
from triptych.run import entries, experiment, scoring, training
from triptych.run.events import ignore
from triptych.run.run_context import RunContext
from triptych.submission import bundle
from triptych.suite.finished import finished_record
from triptych.suite.planned_runs import PlannedRun
from triptych.use import documents, evaluate, export, model_card, publish, served, summarizers
from triptych.use.export import export_run, merge_adapter
from triptych.use.playground import Playground

SETTINGS = [
    "limits.train_documents=8",
    "limits.validation_documents=2",
    "limits.test_documents=5",
    "training.max_epochs=1",
    "limits.document_tokens=300",
    "decoding.max_new_tokens=10",
    "decoding.num_beams=2",
    "decoding.batch_size=2",
    "method.untied.kind=last-layers",
    "method.untied.num_blocks=0",
    "method.untied.head=untied",
    "method.dora.kind=dora",
    "method.ia3.kind=ia3",
    "method.prefix-tuning.kind=prefix-tuning",
    "method.prefix-tuning.num_virtual_tokens=4",
    "method.infix-tuning.kind=infix-tuning",
]
ONLY = {"gpt2": ["method.bitfit.kind=bitfit"], "llama": []}  # a Llama has no biases
TRAINED = {"prompt-tuning", "lora", "last-layers", "full", "untied", "dora", "ia3", "prefix-tuning", "infix-tuning"}
PROMPTS = {"prompt-tuning", "prefix-tuning", "infix-tuning"}


@dataclass(frozen=True)
class Finished:
    """Every method of a small suite, trained in this process, and its logits when it was saved."""

    out: Path
    documents: list[str]
    batch: Batch
    pair: Pair
    template: Template
    logits: dict[str, Tensor]

    @property
    def runs(self) -> list[Path]:
        return sorted(self.out.glob("runs/*/0"))

    def stored(self, label: str) -> list[str]:
        lines = (self.out / f"runs/{label}/0/predictions.jsonl").read_text().splitlines()
        return [json.loads(line)["prediction"] for line in lines]


def make_llama(folder: Path) -> str:
    """A random Llama-type model in a folder: rotary, `nn.Linear`, an untied head."""
    tokenizer = AutoTokenizer.from_pretrained(find_place("tiny").where)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def finished(request, tmp_path_factory) -> Finished:
    """The results for the embedded model, and for one of Llama's kind."""
    place = tmp_path_factory.mktemp(request.param)
    model = "tiny" if request.param == "gpt2" else make_llama(place / "model")
    settings = preset_settings("demo")
    for setting in [*SETTINGS, *ONLY[request.param], f"model={model}"]:
        settings = merge_tables(settings, parse_setting(setting))
    suite, table = entries.resolve(settings)
    logits: dict[str, Tensor] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_CACHE", str(place / "cache"))
        first = RunContext.begin(suite, table[0], 0, place, "cpu", ignore)
        test = first.corpus.test
        batch = collate([test[i] for i in range(2)], first.corpus.template)

        def saving(adapted: AdaptedModel, folder: Path, origin, trained=None) -> int:
            logits[origin.label] = seen(adapted, batch)
            return save(adapted, folder, origin, trained)

        save = experiment.save_adapter
        patch.setattr(experiment, "save_adapter", saving)
        patch.setattr(training, "fit_flop_models", lambda *run: None)  # half of the time, and not tested here
        for row in table:
            experiment.run_experiment(suite, row, 0, place / "out", "cpu", ignore)
    documents = [test.document(i) for i in range(len(test))]
    return Finished(place / "out", documents, batch, test[0], first.corpus.template, logits)


@torch.no_grad()
def seen(adapted: AdaptedModel, batch: Batch) -> Tensor:
    """Logits at every target, from the model's own forward."""
    return target_logits(under_engine(adapted, None, None).on_plain_path(), batch).clone()


def loaded(finished: Finished, label: str) -> summarizers.TrainedModel:
    """One run."""
    row = summarizers.load_summarizer(finished.out / f"runs/{label}/0", device="cpu")
    assert isinstance(row, summarizers.TrainedModel)
    return row


@pytest.mark.parametrize(
    ("given", "said"), [(5, r"document 1 of 1 is 5 \(int"), (["a", None], "document 2 of 2 is None")]
)
def test_what_is_no_text_is_refused_with_what_is_taken(given, said):
    """A number, or None among texts, gets a sentence on what `summarize` accepts."""
    lead = summarizers.TrainedBaseline(entries.make_entry("lead-3", {}), Lead3(), Path("x"), Suite())
    with pytest.raises(TypeError, match=f"summarize takes a text, or several as a list, but {said}"):
        lead.summarize(given)


def test_summaries_are_the_stored_predictions(finished):
    """Loaded together, every method summarizes the test documents exactly as its run did, sharing one unchanged
    base."""
    all_rows = summarizers.load_summarizers(finished.runs, device="cpu")
    models = [row for row in all_rows if isinstance(row, summarizers.TrainedModel)]
    (base,) = {id(row.loaded): row.loaded for row in models}.values()
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    for row in all_rows:
        assert row.summarize(finished.documents) == finished.stored(row.label), row.label
    assert {row.label for row in all_rows} == {*finished.logits, "untuned", "lead-3"}
    assert all(torch.equal(before[name], tensor) for name, tensor in base.model.state_dict().items())


def test_rows_hold_in_memory_what_they_train_alone(finished):
    """For two methods loaded together, every frozen tensor is the base's memory, and no trained one is."""
    for row in summarizers.load_summarizers(
        [run for run in finished.runs if run.parent.name != "lead-3"], device="cpu"
    ):
        held = {tensor.data_ptr() for tensor in row.loaded.model.parameters()}
        for name, parameter in row.adapted.parts.model.named_parameters():
            assert (parameter.data_ptr() in held) != parameter.requires_grad, (row.label, name)


def test_logits_after_loading_are_bit_equal(finished):
    """A loaded model gives exactly the logits it had when it was saved, for every method that trains."""
    assert set(finished.logits) - {"bitfit"} == TRAINED
    for label, logits in finished.logits.items():
        assert torch.equal(seen(loaded(finished, label).adapted, finished.batch), logits), label


def test_streaming_gives_each_document_once_with_what_was_read(finished):
    """`stream` yields every index once, longest documents first; a document is cut at the limit, and this is shown."""
    row = loaded(finished, "lora")
    long = " ".join(finished.documents)
    short, whole = finished.documents[0], long
    (_, cut), (_, kept) = row.stream([short, whole])
    assert cut.truncated and cut.read_tokens == 300 and cut.document_tokens > 300 and not kept.truncated
    assert row.summarize([row.base.tokenizer.decode(row.base.tokenizer(long)["input_ids"][:300])]) == [cut.text]
    with pytest.raises(DataError, match="Document 2 of 2 is empty"):
        row.summarize([short, " \n"])


def spoil(file: Path, change) -> None:
    """Change a file's bytes."""
    content = bytearray(file.read_bytes())
    file.write_bytes(bytes(change(content)))


def flipped(content: bytearray) -> bytearray:
    """Flip one bit of the last number."""
    content[-3] ^= 1
    return content


def louder(content: bytearray) -> bytes:
    """Double LoRA's scaling."""
    assert re.search(rb'"(lora_)?alpha": 16', content)
    return re.sub(rb'("(?:lora_)?alpha": )16', rb"\g<1>32", bytes(content))


def without_digests(run: Path) -> None:
    """Make the record one of an earlier version, without digests."""
    record = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps({**record, "files": {}, "digest": None}))


def louder_options(run: Path) -> None:
    """Change the options in a record of an earlier version."""
    spoil(run / "record.json", louder)
    without_digests(run)


def other_tokens(run: Path) -> None:
    """Give the manifest another tokenizer, next to a record without digests."""
    without_digests(run)
    file = run / "adapter/triptych.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tokenizer_fingerprint": "0" * 64}))


REFUSED = {
    "tampered": (lambda run, tensors: spoil(tensors, flipped), "was changed"),
    "truncated": (
        lambda run, tensors: spoil(tensors, lambda content: content[:-100]),
        "truncated or not a safetensors file",
    ),
    "lost": (lambda run, tensors: tensors.unlink(), "is missing"),
    "tampered configuration": (lambda run, tensors: spoil(run / "adapter/adapter_config.json", louder), "was changed"),
    "tampered record": (lambda run, tensors: spoil(run / "record.json", louder), "changed after its run wrote it"),
    "tampered options": (lambda run, tensors: louder_options(run), "options is"),
    "no manifest": (lambda run, tensors: (run / "adapter/triptych.json").unlink(), "triptych.json"),
    "another tokenizer": (lambda run, tensors: other_tokens(run), "another tokenizer"),
    "no record": (lambda run, tensors: (run / "record.json").unlink(), "neither a run"),
    "malformed record": (lambda run, tensors: (run / "record.json").write_text("{}"), "has schema_version None"),
}


@pytest.mark.parametrize("command", ["summarize", "evaluate"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_run_is_refused(finished, case, command, tmp_path, capsys, monkeypatch):
    """A changed, truncated or missing file, or another tokenizer, ends with status 2 and says what is wrong."""
    if command == "evaluate" and case == "no record":
        return  # the message differs: tested with the command line
    run = tmp_path / "run"
    shutil.copytree(finished.out / "runs/lora/0", run)
    change, says = REFUSED[case]
    change(run, run / "adapter/adapter_model.safetensors")
    (tmp_path / "text.txt").write_text(finished.documents[0])
    monkeypatch.setenv("TRIPTYCH_CACHE", str(finished.out.parent / "cache"))
    arguments = ["--file", str(tmp_path / "text.txt")] if command == "summarize" else []
    assert cli.main([command, str(run), *arguments, "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert says in captured.err and not captured.out


def test_every_rows_tensors_are_checked(finished, tmp_path):
    """One changed bit, or a missing end, is detected for any method, before anything is summarized or exported."""
    for label in finished.logits:
        for change, says in (
            (flipped, "was changed"),
            (lambda content: content[:-100], "truncated or not a safetensors file"),
        ):
            run = tmp_path / label
            shutil.copytree(folder_of(finished, label), run, dirs_exist_ok=True)
            (file,) = (run / "adapter").glob("*.safetensors")
            spoil(file, change)
            with pytest.raises(ResultsError, match=says):
                export_run(run, tmp_path / "export")
            assert not (tmp_path / "export").exists()


def test_what_a_run_trained_is_checked_wherever_it_is_used(finished, tmp_path):
    """With one changed bit in its tensors, a run's record is read and the finished run is kept; whatever would use the
    tensors refuses."""
    out = tmp_path / "out"
    shutil.copytree(finished.out, out)
    run, tensors = out / "runs/lora/0", out / "runs/lora/0/adapter/adapter_model.safetensors"
    record = json.loads((run / "record.json").read_text())
    suite, table = entries.resolve(record["config"])
    (out / "suite.json").write_text(suite.model_dump_json())
    spoil(tensors, flipped)
    row = entries.find_entry(table, "lora")
    assert finished_record(PlannedRun(suite, out, row, 0, "lora")) is not None
    assert reading.read_results(out, partial=True).runs
    uses = {
        "evaluate": lambda: evaluate.evaluate_run(run, "cpu", {}),
        "summarize": lambda: summarizers.load_summarizer(run, device="cpu"),
        "export": lambda: export_run(run, tmp_path / "export"),
        "bundle": lambda: list(bundle._tuned(reading.read_results(out, partial=True))),
        "play": lambda: Playground.open(out, device="cpu"),
    }
    for name, use in uses.items():
        with pytest.raises(ResultsError, match=r"adapter_model\.safetensors.*was changed"):
            use()
            pytest.fail(name)


def test_another_base_model_is_refused(finished, tmp_path, capsys):
    """A run is not loaded onto a model with other weights, or another shape, whatever its name."""
    make_llama(tmp_path / "other")
    spoil(tmp_path / "other/model.safetensors", flipped)
    for label in ("untuned", "lora"):
        with pytest.raises(ResultsError, match="another model"):
            summarizers.load_summarizer(finished.out / f"runs/{label}/0", model=str(tmp_path / "other"), device="cpu")


def test_a_base_model_that_has_moved_is_asked_for(finished, tmp_path):
    """If the base is no longer under its recorded name, the message says so and how to continue; with the new location,
    the run works."""
    run = tmp_path / "run"
    shutil.copytree(folder_of(finished, "lora"), run)
    record = json.loads((run / "record.json").read_text())
    there = find_place(record["config"]["model"]).where
    record["config"]["model"] = str(tmp_path / "gone")
    (run / "record.json").write_text(json.dumps({**record, "digest": None}))
    with pytest.raises(ModelError, match=r"no model folder.*gone(.|\n)*has moved.*--model"):
        summarizers.load_summarizer(run, device="cpu")
    found = summarizers.load_summarizer(run, model=there, device="cpu")
    assert found.summarize(finished.documents[:1]) == finished.stored("lora")[:1]


# Adapters saved by peft


def peft_models(world, folder: Path) -> dict[str, PeftModel]:
    """Adapters saved by peft, moved away from their initial values."""
    target = "c_attn" if type(world.prototype).__name__ == "GPT2LMHeadModel" else "q_proj"
    kinds = {
        "plain": LoraConfig(r=4, target_modules=[target], task_type="CAUSAL_LM"),
        "stabilized": LoraConfig(r=4, use_rslora=True, target_modules="all-linear", task_type="CAUSAL_LM"),
        "prompt": PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"),
    }
    if target == "c_attn":
        kinds["biases"] = LoraConfig(r=2, target_modules=[target], bias="all", task_type="CAUSAL_LM")
    made = {}
    for name, settings in kinds.items():
        base = AutoModelForCausalLM.from_pretrained(world.folder)
        torch.manual_seed(1)
        model = get_peft_model(base, settings)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.2 * torch.randn(parameter.shape))
        model.save_pretrained(folder / name)
        made[name] = model.eval()
    return made


@torch.no_grad()
def test_adapters_that_peft_saved_give_pefts_logits(world, tmp_path):
    """LoRA and prompt adapters saved by peft, also with biases, give peft's logits within 1e-5, and leave the base
    unchanged."""
    batch = collate(world.pairs[:1], world.template)
    models = peft_models(world, tmp_path)
    found = summarizers.load_summarizers([tmp_path / name for name in models], device="cpu")
    before = {name: tensor.clone() for name, tensor in world.prototype.state_dict().items()}
    for row, model in zip(found, models.values(), strict=True):
        logits = model(input_ids=batch.ids, attention_mask=torch.ones_like(batch.ids)).logits
        start = batch.columns + (logits.shape[1] - batch.ids.shape[1])
        torch.testing.assert_close(seen(row.adapted, batch), logits[batch.rows, start], rtol=0, atol=1e-5)
    (base,) = {id(row.loaded): row.loaded for row in found}.values()
    assert all(torch.equal(before[name], tensor) for name, tensor in base.model.state_dict().items())


def test_adapters_that_peft_saved_are_evaluated(finished, tmp_path, monkeypatch):
    """`evaluate` takes a peft adapter with data to evaluate it on, and gives what the run itself recorded."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(finished.out.parent / "cache"))
    for label in ("lora", "prompt-tuning"):
        run, saved = finished.out / f"runs/{label}/0", tmp_path / label
        shutil.copytree(run / "adapter", saved)
        (saved / "triptych.json").unlink()
        record = reading.read_finished(run)
        kept = ("model", "data", "limits", "decoding", "separator")
        found = evaluate.evaluate_run(saved, "cpu", {name: record.config[name] for name in kept})
        assert found.test_loss == pytest.approx(record.loss.test, abs=1e-6)
        assert found.rouge1 == pytest.approx(record.rouge.rouge1, abs=1e-9)
        assert "record" not in found.text()
        with pytest.raises(ConfigError, match="give --data"):
            evaluate.evaluate_run(saved, "cpu", {"model": record.config["model"]})


def without_base(folder: Path) -> None:
    """Remove the name of the base."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": None}))


def of_another_width(folder: Path) -> None:
    """Double the width of every tensor."""
    file = folder / "adapter_model.safetensors"
    save_file({name: torch.cat([tensor, tensor], dim=-1) for name, tensor in load_file(file).items()}, file)


def with_another_tokenizer(folder: Path) -> None:
    """Add a tokenizer with one more word next to the adapter."""
    tokenizer = AutoTokenizer.from_pretrained(find_place("tiny").where)
    tokenizer.add_tokens(["zzyzx"])
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("name", ["plain", "prompt"])
def test_an_adapter_of_pefts_that_does_not_fit_is_refused(gpt2, name, tmp_path):
    """Without a base, with another shape or tokenizer, pickled or truncated, an adapter is refused with the reason."""
    peft_models(gpt2, tmp_path)
    for change, says in (
        (without_base, "names no base model"),
        (of_another_width, "does not fit the model"),
        (with_another_tokenizer, "another tokenizer"),
        (lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"), "Pickled"),
        (
            lambda folder: spoil(folder / "adapter_model.safetensors", lambda content: content[:-9]),
            "truncated or not a safetensors file",
        ),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "peft_type"),
    ):
        folder = tmp_path / f"{name}-{says[:8]}"
        shutil.copytree(tmp_path / name, folder)
        change(folder)
        with pytest.raises((ModelError, ResultsError), match=says):
            summarizers.load_summarizer(folder, device="cpu")


# Documents


def test_documents_come_from_texts_and_tables(tmp_path, monkeypatch):
    """A text is one document; a table has one per row, with its own ids if it has any."""
    (tmp_path / "a.txt").write_text("\ufeffOne text.\nTwo lines.")
    assert list(documents.read_documents(str(tmp_path / "a.txt"))) == [("a.txt", "One text.\nTwo lines.")]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"From a pipe.")))
    assert list(documents.read_documents("-")) == [("standard input", "From a pipe.")]
    (tmp_path / "a.csv").write_text("id,article,other\n7,First.,x\n8,Second.,y\n")
    assert list(documents.read_documents(str(tmp_path / "a.csv"))) == [("7", "First."), ("8", "Second.")]
    assert list(documents.read_documents(str(tmp_path / "a.csv"), "other")) == [("7", "x"), ("8", "y")]
    (tmp_path / "a.jsonl").write_text('{"text": "First."}\n{"text": "Second."}\n')
    assert list(documents.read_documents(str(tmp_path / "a.jsonl"))) == [
        ("a.jsonl-1", "First."),
        ("a.jsonl-2", "Second."),
    ]


BAD = {
    "nothing": ("a.txt", b"", "empty"),
    "white space": ("a.txt", b" \n\t", "empty"),
    "NUL": ("a.txt", b"text\0text", "binary"),
    "not UTF-8": ("a.txt", b"caf\xe9", "not UTF-8 to its end"),
    "a huge text": ("a.txt", b"a" * (documents.MAX_BYTES + 1), "16 MiB"),
    "an empty table": ("a.csv", b"id,document\n", "no rows"),
    "an empty cell": ("a.csv", b'id,document\n1,text\n2,""\n', "line 3: column 'document' is empty"),
    "no known column": ("a.csv", b"a,b\n1,2\n", "--column"),
    "two known columns": ("a.csv", b"text,article\n1,2\n", "text, article"),
    "a column there twice": ("a.csv", b"id,id,document\n1,2,text\n", "several columns named 'id'"),
    "a binary table": ("a.csv", b"id,document\n1,\xff\n", "not UTF-8"),
    "no object": ("a.jsonl", b"[1]\n", "object per line"),
    "a number": ("a.jsonl", b'{"document": 7}\n', "name another column with --column=NAME"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_documents_are_refused_before_a_model_is_loaded(case, tmp_path, capsys):
    """Empty or binary input ends with status 2, one message and nothing on standard output."""
    name, content, says = BAD[case]
    (tmp_path / name).write_bytes(content)
    assert cli.main(["summarize", str(tmp_path / "no-run"), "--file", str(tmp_path / name)]) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.startswith("triptych: ") and not captured.out
    (tmp_path / "empty").mkdir()
    for source, says in ((tmp_path / "nowhere.txt", "There is no file"), (tmp_path / "empty", "holds no text")):
        with pytest.raises(InputError, match=says):
            documents.read_documents(str(source))


def test_the_command_labels_several_runs_and_says_what_was_not_read(finished, tmp_path, capsys):
    """Several runs give labeled summaries of every document; JSON lines have the same; truncated documents are
    counted."""
    table = tmp_path / "documents.jsonl"
    texts = [*finished.documents[:2], " ".join(finished.documents)]
    table.write_text("".join(json.dumps({"id": f"d{i}", "document": text}) + "\n" for i, text in enumerate(texts)))
    runs = [str(finished.out / f"runs/{label}/0") for label in ("lora", "lead-3")]
    assert cli.main(["summarize", *runs, "--file", str(table), "--json", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert {(line["label"], line["id"]) for line in lines} == {
        (a, f"d{i}") for a in ("lora", "lead-3") for i in range(3)
    }
    by = {(line["label"], line["id"]): line["summary"] for line in lines}
    assert [by["lora", "d0"], by["lora", "d1"]] == finished.stored("lora")[:2]
    assert f"{runs[0]}: 1 of 3 documents was too long" in captured.err and runs[1] not in captured.err
    assert cli.main(["summarize", *runs, "--file", str(table), "--device", "cpu"]) == 0
    assert "== d1, lead-3 (" in capsys.readouterr().out


def test_documents_beyond_one_window_all_come(finished, monkeypatch):
    """A stream longer than one sorting window gives every document for every method."""
    monkeypatch.setattr(summarizers, "CHUNK", 2)
    row = loaded(finished, "untuned")
    names = [(f"d{i}", text) for i, text in enumerate(finished.documents)]
    found = {name: summary.text for _, name, summary in summarizers.summarize_all([row], names)}
    assert [found[name] for name, _ in names] == finished.stored("untuned")


def test_a_run_is_decoded_otherwise(finished):
    """With other beams and a shorter length a run writes other summaries, no shorter than possible; the run itself is
    unchanged."""
    row = loaded(finished, "lora")
    row.decoding = replace(row.decoding, min_new_tokens=8)
    other = row.decoding_as(num_beams=1, max_new_tokens=4)
    assert (other.decoding.num_beams, other.decoding.max_new_tokens, other.decoding.min_new_tokens) == (1, 4, 4)
    assert {summary.num_tokens for _, summary in other.stream(finished.documents)} == {4}
    assert (row.decoding.num_beams, row.decoding.max_new_tokens, row.decoding.min_new_tokens) == (2, 10, 8)
    assert row.decoding_as().decoding == row.decoding


# Export


def run_example(folder: Path, article: Path, monkeypatch, capsys) -> str:
    """The output of the example in an exported folder."""
    monkeypatch.setattr("sys.argv", ["example.py", str(article)])
    capsys.readouterr()
    runpy.run_path(str(folder / "example.py"), run_name="__main__")
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize("kind", ["merged", "prefix", "prompt"])
def test_an_example_without_its_article_says_so(kind, tmp_path, monkeypatch, capsys):
    """A missing argument, a missing file and another encoding end with status 2 and a sentence, before a model is
    loaded."""
    code = resources.files("triptych").joinpath(f"assets/export/{kind}.py.txt").read_text()
    (tmp_path / "example.py").write_text(re.sub("@[a-z_]+@", "(0, 0, 0, 0, 0)", code))
    (tmp_path / "old.txt").write_bytes("Café".encode("latin-1"))
    for arguments, said in (
        ([], "Name a text file. Usage: python example.py ARTICLE.txt"),
        (["nothing.txt"], "Cannot read nothing.txt as UTF-8: "),
        ([str(tmp_path / "old.txt")], f"Cannot read {tmp_path / 'old.txt'} as UTF-8: "),
    ):
        monkeypatch.setattr("sys.argv", ["example.py", *arguments])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(tmp_path / "example.py"), run_name="__main__")
        assert stop.value.code == 2 and capsys.readouterr().err.startswith(said)


def test_settings_that_write_the_runs_summaries_are_said_to():
    """If the summaries are the same, the card says so, and not that they may differ by many points."""
    scores = dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum", "prediction_words"), 40.0)
    own, other = (
        [served._Written(text, {**scores, "repeated_trigrams": 0.0}, False) for text in texts]
        for texts in (("Rain fell.", "A vote."), ("Rain fell.", "One vote."))
    )
    rows = [
        model_card._decoding_row("greedy", served._means(served.GREEDY_SETTINGS, made, own)) for made in (own, other)
    ]
    assert "| the same summaries |" in rows[0] and "[" not in rows[0]
    assert "the same" not in rows[1] and "+0.00 [" in rows[1]
    assert not served._means(served.RUN_SETTINGS, own, own).same


@torch.no_grad()
def test_an_export_needs_no_triptych(finished, tmp_path, monkeypatch, capsys):
    """Every method but a prompt becomes a plain model with its logits, and peft's, within 1e-4, and its summaries.

    The summaries are those of `generate`.
    """
    article = tmp_path / "article.txt"
    article.write_text(finished.documents[0])
    ids = torch.arange(2, 60)[None]
    base = find_place(reading.read_finished(folder_of(finished, "lora")).config["model"]).where
    before = AutoModelForCausalLM.from_pretrained(base)(ids).logits
    moved = 0
    for label in ("untuned", *sorted(finished.logits.keys() - PROMPTS)):
        folder = tmp_path / label
        assert cli.main(["export", str(folder_of(finished, label)), str(folder), "--documents", "0"]) == 0
        plain = AutoModelForCausalLM.from_pretrained(folder).eval()
        found = plain(ids).logits
        training = reading.read_finished(folder_of(finished, label)).training
        untouched = training is None or training.best_step == 0  # two steps may not beat the untouched weights
        assert untouched == torch.equal(found, before), label
        moved += not untouched
        torch.testing.assert_close(found, loaded(finished, label).adapted.parts.model(ids).logits, rtol=0, atol=1e-4)
        assert run_example(folder, article, monkeypatch, capsys) == finished.stored(label)[0], label
        if label == "untied":
            assert plain.config.tie_word_embeddings is False
            assert plain.get_output_embeddings().weight is not plain.get_input_embeddings().weight
        if (folder_of(finished, label) / "adapter/adapter_config.json").exists():
            adapter = PeftModel.from_pretrained(
                AutoModelForCausalLM.from_pretrained(base), folder_of(finished, label) / "adapter"
            ).eval()
            torch.testing.assert_close(found, adapter(ids).logits, rtol=0, atol=1e-4)
    assert moved >= 3


@torch.no_grad()
def test_an_export_is_exact_whatever_the_precision_of_the_run(finished, tmp_path):
    """The export of a run in bf16 has the base's fp32 weights, not their bf16 rounding."""
    run = tmp_path / "run"
    shutil.copytree(folder_of(finished, "lora"), run)
    record = json.loads((run / "record.json").read_text())
    record["config"]["training"]["precision"] = "bf16"
    (run / "record.json").write_text(json.dumps({**record, "digest": None}))
    export_run(run, tmp_path / "export")
    ids = torch.arange(2, 60)[None]
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "export").eval()(ids).logits
    torch.testing.assert_close(found, loaded(finished, "lora").adapted.parts.model(ids).logits, rtol=0, atol=1e-4)


def folder_of(finished: Finished, label: str) -> Path:
    """A run's folder."""
    return finished.out / f"runs/{label}/0"


def weights_of(finished: Finished, label: str) -> Path:
    """The weights of a run's base model."""
    return Path(
        find_place(reading.read_finished(folder_of(finished, label)).config["model"]).where, "model.safetensors"
    )


@pytest.mark.parametrize("label", ["lora", "prompt-tuning", "prefix-tuning"])
def test_an_export_is_portable(finished, label, tmp_path):
    """No file of an export names a folder of this machine, and every file has the mode of a new file; the example gives
    the run's summary wherever the folder is moved."""
    export_run(folder_of(finished, label), tmp_path / "made")
    (tmp_path / "new").write_text("")
    folder = (tmp_path / "made").rename(tmp_path / "moved")
    base = find_place(reading.read_finished(folder_of(finished, label)).config["model"]).where
    for file in (path for path in folder.rglob("*") if path.is_file()):
        assert file.stat().st_mode == (tmp_path / "new").stat().st_mode, file
        content = file.read_bytes()
        assert not any(str(path).encode() in content for path in (tmp_path, base, finished.out, Path.home())), file
    example = runpy.run_path(str(folder / "example.py"))
    assert example["summarize"](finished.documents[0]) == finished.stored(label)[0]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("tiny", "tiny"),
        ("openai-community/gpt2", "openai-community/gpt2"),
        ("/home/someone/models/gpt2/", "gpt2"),
        ("../gpt2", "gpt2"),
        ("~/models/gpt2.gguf", "gpt2.gguf"),
        ("a/b/c", "c"),
        (".", "a local folder"),
        ("..", "a local folder"),
    ],
)
def test_a_place_is_shown_by_its_name(name, shown, tmp_path, monkeypatch):
    """A card gives the full name of a Hub model, and only the last part of a path."""
    monkeypatch.chdir(tmp_path)
    assert model_card.portable_name(name) == shown
    (tmp_path / "openai-community/gpt2").mkdir(parents=True)
    assert model_card.portable_name("openai-community/gpt2") == "gpt2"
    assert model_card.hub_name("openai-community/gpt2", EmbeddedModel) is None
    assert model_card.hub_name("org/model", EmbeddedModel) == "org/model"
    assert model_card.hub_name("tiny", EmbeddedModel) is None and model_card.hub_name("a/b/c", EmbeddedModel) is None


def test_an_exported_prompt_names_its_base():
    """A Hub model is named; any other, also a quantized one, is in the folder `base` next to the prompt."""
    bases = {BaseModel("tiny"): "base", BaseModel("org/model"): "org/model"}
    for base, name in {**bases, BaseModel("org/model", quantization="nf4"): "base"}.items():
        assert export.base_name(SimpleNamespace(base=base)) == name


@pytest.mark.parametrize(
    ("separator", "template"),
    [
        ("\n\nTL;DR:", "\n\nTL;DR:"),
        (" {{ x }}", ' {{ "{{" }} x }}'),
        ('"""', None),
        ('say "', None),
        ("a\rb", None),
        ("a\x00b", None),
    ],
)
def test_a_modelfile_holds_the_separator_or_is_not_written(separator, template, tmp_path):
    """Ollama's template contains the separator unchanged; if it cannot, there is no Modelfile."""
    row = SimpleNamespace(
        base=SimpleNamespace(tokenizer=SimpleNamespace(bos_token=None)),
        text=SimpleNamespace(frame=SimpleNamespace(opening="", middle=separator, chat=False)),
        max_document_tokens=100,
        template=SimpleNamespace(length=7),
        decoding=SimpleNamespace(max_new_tokens=20),
    )
    export._write_modelfile(row, tmp_path / "Modelfile")
    if template is None:
        assert not (tmp_path / "Modelfile").exists()
        return
    text = (tmp_path / "Modelfile").read_text()
    assert f'TEMPLATE """{{{{ .Prompt }}}}{template}"""\n' in text and "num_ctx 127\n" in text and "@" not in text


def test_an_export_serves_from_token_ids(finished, tmp_path):
    """With the settings that other programs read by default, a document given as text is continued greedily, with no
    ban on its own phrases; the pipeline of transformers gives what `generate` gives from the training tokens."""
    export_run(folder_of(finished, "lora"), tmp_path / "made")
    settings = {path.name: json.loads(path.read_text()) for path in (tmp_path / "made").glob("*generation_config.json")}
    assert settings.keys() == {served.RUN_SETTINGS, served.GREEDY_SETTINGS, served.SAMPLING_SETTINGS}
    own, greedy, sampling = (
        settings[name] for name in (served.RUN_SETTINGS, served.GREEDY_SETTINGS, served.SAMPLING_SETTINGS)
    )
    assert own["no_repeat_ngram_size"] == 3 and own["num_beams"] == 2
    assert not {"no_repeat_ngram_size", "num_beams", "repetition_penalty"} & {*greedy, *sampling}
    assert not greedy["do_sample"] and sampling["do_sample"] and {"temperature", "top_p"} <= sampling.keys()
    assert greedy["max_new_tokens"] == sampling["max_new_tokens"] == own["max_new_tokens"] == 10
    example = runpy.run_path(str(tmp_path / "made/example.py"))
    ids = torch.tensor([example["token_ids"](finished.documents[0])])
    new = example["model"].generate(ids, attention_mask=torch.ones_like(ids))[0, ids.shape[1] :]
    wanted = example["tokenizer"].decode(new, skip_special_tokens=True).strip()
    ask = transformers.pipeline("text-generation", model=str(tmp_path / "made"))
    text = example["tokenizer"].decode(example["token_ids"](finished.documents[0]), skip_special_tokens=True)
    assert text.endswith("\n\nTL;DR:")
    (found,) = ask(text, add_special_tokens=True, return_full_text=False)
    assert found["generated_text"].strip() == wanted


def test_servers_are_given_the_files_that_they_need(finished, tmp_path):
    """An export has a Modelfile with the training prompt, and a server that answers with the run's summaries and
    refuses an article that is empty or too long."""
    testclient = pytest.importorskip("fastapi.testclient", reason="fastapi or httpx is absent")
    export_run(folder_of(finished, "lora"), tmp_path / "made", measured=0)
    lines = (tmp_path / "made/Modelfile").read_text()
    assert 'TEMPLATE """{{ .Prompt }}\n\nTL;DR:"""' in lines and "PARAMETER num_predict 10\n" in lines
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "made"))
        server = runpy.run_path(str(tmp_path / "made/serve.py"))
    sys.modules.pop("example")
    client = testclient.TestClient(server["app"])
    answer = client.post("/summarize", json={"text": finished.documents[0]})
    assert answer.json() == {"summary": finished.stored("lora")[0]}
    for text in ("", " \n", "a" * 200_001):
        assert client.post("/summarize", json={"text": text}).status_code == 422


def test_a_card_compares_the_settings(finished, tmp_path, monkeypatch):
    """The card shows the scores with each kind of settings on the same documents: the run's own are the stored ones,
    and the greedy ones are those of the exported model; without the documents it says why there are none."""
    run, made = folder_of(finished, "lora"), tmp_path / "made"
    export_run(run, made)
    card, record = (made / "README.md").read_text(), reading.read_finished(run)
    rows = {
        name: line.split(" | ") for line in card.splitlines() for name in re.findall(r"`(\w+config\.json)` \|", line)
    }
    assert list(rows) == [served.RUN_SETTINGS, served.GREEDY_SETTINGS, served.SAMPLING_SETTINGS]
    assert rows[served.RUN_SETTINGS][2:5] == [
        f"{score:.2f}" for score in (record.rouge.rouge1, record.rouge.rouge2, record.rouge.rougeLsum)
    ]
    example = runpy.run_path(str(made / "example.py"))
    rouge = scoring.metrics(record.rouge.language)["rouge"]
    found = []
    for text, stored in zip(finished.documents, reading.read_predictions(run / "predictions.jsonl"), strict=True):
        ids = torch.tensor([example["token_ids"](text)])
        new = example["model"].generate(ids, attention_mask=torch.ones_like(ids))[0, ids.shape[1] :]
        summary = example["tokenizer"].decode(new, skip_special_tokens=True).strip()
        found.append(rouge.score(summary, stored.reference, text)["rouge1"])
    assert rows[served.GREEDY_SETTINGS][2] == f"{sum(found) / len(found):.2f}"
    assert "5 test documents" in card and "**Synthetic.**" in card
    lost = tmp_path / "lost"
    shutil.copytree(run, lost)
    record = json.loads((lost / "record.json").read_text())
    record["config"]["data"] = record["data"]["source"] = str(tmp_path / "gone")
    (lost / "record.json").write_text(json.dumps({**record, "digest": None}))
    export_run(lost, tmp_path / "other")
    card = (tmp_path / "other/README.md").read_text()
    assert "was not measured: the documents are no longer where the run read them" in card
    assert str(tmp_path) not in card and "`gone`" in card


class Hub:
    """A stand-in for `huggingface_hub.HfApi` that records requests."""

    endpoint = "https://hub"
    asked: ClassVar[list[tuple]] = []
    is_public, broken = False, False

    def create_repo(self, name: str, private: bool, exist_ok: bool) -> SimpleNamespace:
        self.asked.append(("create", name, private))
        return SimpleNamespace(repo_id=name)

    def model_info(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(private=not self.is_public)

    def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> None:
        if self.broken:
            raise ConnectionError("No route to host.\nmore")
        self.asked.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir())))


@pytest.fixture
def hub(monkeypatch):
    """A Hub without requests so far, with a user token."""
    monkeypatch.setattr(publish, "HfApi", Hub)
    monkeypatch.setattr(publish, "get_token", lambda: "token")
    monkeypatch.setattr(Hub, "asked", [])
    return Hub


def export_to_hub(finished, folder: Path, *options: str) -> int:
    """Export without measurements; return the status."""
    return cli.main(["export", str(folder_of(finished, "lora")), str(folder), "--documents", "0", *options])


def test_nothing_is_uploaded_unless_it_is_asked_for(finished, hub, tmp_path, capsys):
    """Without --push the Hub is not contacted; with it the folder becomes a private model, and a public one only with
    --public; otherwise a model that is already public is refused."""
    assert export_to_hub(finished, tmp_path / "a") == 0 and hub.asked == []
    assert export_to_hub(finished, tmp_path / "b", "--push", "me/mine") == 0
    files = sorted(path.name for path in (tmp_path / "b").iterdir())
    assert hub.asked == [("create", "me/mine", True), ("upload", "me/mine", files)]
    assert "Uploaded: https://hub/me/mine" in capsys.readouterr().out
    hub.is_public = True
    try:
        assert export_to_hub(finished, tmp_path / "c", "--push", "me/mine") == 2
        assert "is public. Give --public" in capsys.readouterr().err and len(hub.asked) == 3
        assert export_to_hub(finished, tmp_path / "d", "--push", "me/mine", "--public") == 0
    finally:
        hub.is_public = False
    assert hub.asked[-2] == ("create", "me/mine", False)


def test_an_upload_that_cannot_be_is_refused_first(finished, hub, tmp_path, capsys, monkeypatch):
    """An invalid name, or a missing token, ends the command before anything is written; if the Hub fails, the folder
    stays and the command to retry is given."""
    assert export_to_hub(finished, tmp_path / "a", "--push", "../me") == 2
    assert export_to_hub(finished, tmp_path / "a", "--public") == 2
    monkeypatch.setattr(publish, "get_token", lambda: None)
    assert export_to_hub(finished, tmp_path / "a", "--push", "me/mine") == 2
    error = capsys.readouterr().err
    assert "give USER/NAME" in error and "--push USER/NAME" in error and "hf auth login" in error
    assert not (tmp_path / "a").exists() and hub.asked == []
    monkeypatch.setattr(publish, "get_token", lambda: "token")
    monkeypatch.setattr(hub, "broken", True)
    assert export_to_hub(finished, tmp_path / "a", "--push", "me/mine") == 2
    error = capsys.readouterr().err
    assert "No route to host. Try again with: hf upload me/mine" in error and (tmp_path / "a/README.md").is_file()


@pytest.mark.parametrize("label", sorted(PROMPTS))
@torch.no_grad()
def test_an_exported_prompt_works_with_its_base(finished, label, tmp_path, monkeypatch, capsys):
    """A prompt or a prefix is exported in peft's format, if possible, with an example that gives the run's summary."""
    (tmp_path / "article.txt").write_text(finished.documents[0])
    folder = tmp_path / "prompt"
    assert cli.main(["export", str(folder_of(finished, label)), str(folder)]) == 0
    assert run_example(folder, tmp_path / "article.txt", monkeypatch, capsys) == finished.stored(label)[0]
    card = (folder / "README.md").read_text()
    assert "library_name: peft" in card and ", which is in `base/`" in card
    assert (folder / "base/model.safetensors").read_bytes() == weights_of(finished, "prompt-tuning").read_bytes()
    if label == "infix-tuning":  # between article and separator: peft has no way to express it
        assert not (folder / "adapter_config.json").exists() and "after the document" in card
        return
    named = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    adapter = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / named), folder).eval()
    row, one = loaded(finished, label), collate([finished.pair], finished.template)
    logits = adapter(input_ids=one.ids, attention_mask=torch.ones_like(one.ids)).logits
    shift = logits.shape[1] - one.ids.shape[1]
    torch.testing.assert_close(logits[one.rows, one.columns + shift], seen(row.adapted, one), rtol=0, atol=1e-4)


def test_a_prompt_with_something_beside_it_is_not_exported(finished, tmp_path, monkeypatch):
    """A method that trains both a prompt and layers fits no format, and no part of it is written."""

    def both(folder, *options, **named):
        row = load(folder, *options, **named)
        row.adapted.parts.head.weight.requires_grad_(True)
        return row

    load = summarizers.load_summarizer
    monkeypatch.setattr("triptych.use.export.load_summarizer", both)
    with pytest.raises(ModelError, match="something else as well"):
        export_run(folder_of(finished, "prompt-tuning"), tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


def test_a_model_card_says_what_it_is(finished, tmp_path):
    """The card has base, data, scores with their signature, license fields, limits, and whether something is
    synthetic."""
    export_run(folder_of(finished, "lora"), tmp_path / "lora")
    card, record = (tmp_path / "lora/README.md").read_text(), reading.read_finished(folder_of(finished, "lora"))
    assert card.startswith("---\n") and "\nlicense: unknown\n" in card.split("---\n")[1]
    for words in (
        record.rouge.signature,
        f"{record.rouge.rouge1:.2f}",
        "newswire",
        f"`{Path(record.config['model']).name}`",
        "Synthetic",
        "## Limits",
        "## License",
        "Nothing was uploaded",
        f"{record.loss.test:.4f}",
    ):
        assert words in card, words


def test_a_bad_export_leaves_nothing(finished, tmp_path, capsys, monkeypatch):
    """A folder with files, a run without a model, or weights that fit no plain model: status 2, nothing written."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("mine")
    lora, new = str(folder_of(finished, "lora")), str(tmp_path / "new")
    assert cli.main(["export", lora, str(tmp_path / "full")]) == 2
    assert cli.main(["export", str(folder_of(finished, "lead-3")), new]) == 2
    monkeypatch.setattr("triptych.use.export.merge_adapter", lambda adapted: make_wrong(merge_adapter(adapted)))
    assert cli.main(["export", lora, new]) == 2
    error = capsys.readouterr().err
    for words in ("new or an empty folder", "run without a model", "fits into no plain model"):
        assert words in error
    assert [path.name for path in tmp_path.iterdir()] == ["full"] and [
        path.name for path in (tmp_path / "full").iterdir()
    ] == ["thesis.txt"]


@torch.no_grad()
def make_wrong(model):
    """Move one block."""
    next(iter(model.base_model.parameters())).mul_(1.5)
    return model

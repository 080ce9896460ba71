"""GGUF files, made here from the embedded model with the gguf package: read through transformers, or clearly
refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from triptych import cli
from triptych.errors import ModelError
from triptych.models import place
from triptych.models.base import BaseModel
from triptych.models.place import find_place
from triptych.models.quiet import quiet_libraries
from triptych.models.tiny import Tiny

NAMES = {
    "wte.weight": "token_embd.weight",
    "wpe.weight": "position_embd.weight",
    "ln_f": "output_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def write_gguf(file: Path, architecture: str = "gpt2") -> None:
    """Write the embedded model and its tokenizer in the layout of llama.cpp's converter."""
    gguf = pytest.importorskip("gguf", reason="needs the package gguf: pip install 'triptych[gguf]'")
    model, config = BaseModel("tiny").load(), BaseModel("tiny").config
    tokens = json.loads((Tiny().folder() / "tokenizer.json").read_text())
    vocabulary = sorted(BaseModel("tiny").tokenizer.get_vocab().items(), key=lambda item: item[1])
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if index == config.eos_token_id else 1 for _, index in vocabulary])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokens["model"]["merges"]])
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_bos_token_id(config.eos_token_id)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        if name.endswith("wpe.weight"):  # transformers assumes GPT-2's 1024 positions
            tensor = torch.cat([tensor, torch.zeros(1024 - len(tensor), tensor.shape[1])])
        name, kind = name.removeprefix("transformer.").rsplit(".", 1)
        name = f"{name}.{kind}" if name in ("wte", "wpe") else name
        block = "blk." + name.split(".")[1] + "." if name.startswith("h.") else ""
        short = NAMES[name.split(".", 2)[2] if block else name]
        if tensor.ndim == 2 and block:  # Conv1D keeps the transpose
            tensor = tensor.T
        writer.add_tensor(
            block + (short if short.endswith(".weight") else f"{short}.{kind}"), tensor.contiguous().numpy()
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder that contains only one GGUF file."""
    place = tmp_path_factory.mktemp("gguf")
    write_gguf(place / "tiny-F32.gguf")
    return place


def test_a_gguf_file_is_the_model_that_it_was_made_from(folder, monkeypatch, tmp_path):
    """A file, or a folder with one in it, gives the original weights, configuration and tokenizer."""
    elsewhere = tmp_path / "tiny-F32.gguf"
    elsewhere.write_bytes(b"a file of the same name in the working folder is not read")
    monkeypatch.chdir(tmp_path)
    ids = torch.arange(2, 40)[None]
    own = BaseModel("tiny").load()
    text = "The council met on Monday.\n\nTL;DR: Council votes."
    for model in (str(folder), str(folder / "tiny-F32.gguf")):
        read = BaseModel(model).load()
        with torch.no_grad():
            torch.testing.assert_close(read(ids).logits, own(ids).logits)
        tokenizer = BaseModel(model).tokenizer
        assert tokenizer(text).input_ids == BaseModel("tiny").tokenizer(text).input_ids
        assert tokenizer.eos_token_id == BaseModel("tiny").tokenizer.eos_token_id
        assert [p.shape for p in BaseModel(model).structure().parameters()] == [p.shape for p in read.parameters()]
        assert find_place(model).path == folder / "tiny-F32.gguf"


def test_the_fingerprint_is_of_the_file(folder, tmp_path):
    """The same bytes have the same fingerprint anywhere; one changed byte has another."""
    copied = tmp_path / "copy.gguf"
    shutil.copy(folder / "tiny-F32.gguf", copied)
    assert BaseModel(str(folder)).fingerprint == BaseModel(str(copied)).fingerprint
    content = bytearray(copied.read_bytes())
    content[-5] ^= 1
    copied.write_bytes(content)
    assert BaseModel(str(folder)).fingerprint != BaseModel(str(copied)).fingerprint


def test_which_file_is_meant_is_asked(folder, tmp_path):
    """Two files in a folder, and a missing file, give one message each."""
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(folder / "tiny-F32.gguf", tmp_path / name)
    with pytest.raises(ModelError, match=r"holds 2 GGUF files \(a.gguf, b.gguf\)"):
        _ = BaseModel(str(tmp_path)).config
    with pytest.raises(ModelError, match=r"no model folder .*does not exist"):
        _ = BaseModel("missing.gguf").config


def test_an_architecture_that_transformers_does_not_read_is_told(tmp_path):
    """An architecture without a reader, and a damaged file, give one message each that names the file."""
    write_gguf(tmp_path / "odd.gguf", "t-rex")
    for content in (None, b"GGUF\x03\x00\x00\x00"):
        if content is not None:
            (tmp_path / "odd.gguf").write_bytes(content)
        with pytest.raises(ModelError, match=r"odd\.gguf"):
            _ = BaseModel(str(tmp_path / "odd.gguf")).config


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    """Without the gguf package, the message says what to install."""
    monkeypatch.setattr(place, "is_gguf_available", lambda: False)
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"pip install 'triptych\[gguf\]'"):
        _ = BaseModel(str(tmp_path)).tokenizer


def test_a_gguf_file_is_compared(folder, workplace):
    """A suite on a GGUF file trains, evaluates and is loaded again."""
    small = [
        "limits.train_documents=8",
        "limits.validation_documents=4",
        "limits.test_documents=2",
        "training.max_epochs=1",
        "limits.document_tokens=100",
        "limits.summary_tokens=40",
        "decoding.max_new_tokens=4",
        "search.trials=0",
        "training.global_batch_size=4",
        "training.micro_batch_size=4",
    ]
    model = str(folder / "tiny-F32.gguf")
    asked = ["train", "lora", "--model", model, "--data", "newswire", "--seeds", "0", "--set", *small, "--out", "out"]
    assert cli.main([*asked, "--device", "cpu"]) == 0
    assert cli.main(["evaluate", "out/runs/lora/0", "--device", "cpu"]) == 0


def test_no_bar_of_the_reader_is_shown(folder, capsys):
    """A GGUF file is read without transformers' progress bar, like everything else."""
    quiet_libraries()
    BaseModel(str(folder)).load()
    assert capsys.readouterr().err == ""

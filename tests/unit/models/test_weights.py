"""A local model's weights are exactly the safetensors files in its fingerprint."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError
from safetensors.torch import load_file, save_file

from triptych import cli
from triptych.errors import ModelError
from triptych.models import weights
from triptych.models.base import BaseModel
from triptych.models.tiny import Tiny


@pytest.fixture
def sharded(tmp_path) -> Path:
    """The embedded model in three files with an index."""
    folder = tmp_path / "sharded"
    model = BaseModel("tiny").load()
    model.save_pretrained(folder, max_shard_size="2MB")
    assert len(list(folder.glob("model-*.safetensors"))) == 3
    return folder


def index_of(folder: Path) -> dict:
    """The folder's index."""
    return json.loads((folder / weights.INDEX).read_text())


def rename(folder: Path, name: str) -> None:
    """Make the index name another file instead of the last."""
    index = index_of(folder)
    last = max(index["weight_map"].values())
    index["weight_map"] = {tensor: name if file == last else file for tensor, file in index["weight_map"].items()}
    (folder / weights.INDEX).write_text(json.dumps(index))


def test_sharded_weights_are_read_and_hashed_in_whole(sharded):
    """The index and every file it names are part of the fingerprint; other files are not."""
    read, whole = BaseModel(str(sharded)).load().state_dict(), BaseModel("tiny").load().state_dict()
    assert read.keys() == whole.keys() and all(torch.equal(read[name], whole[name]) for name in whole)
    before = BaseModel(str(sharded)).fingerprint
    save_file({"decoy": torch.ones(1)}, sharded / "decoy.safetensors")
    assert BaseModel(str(sharded)).fingerprint == before
    seen = {before}
    for file in sorted(sharded.glob("model-*.safetensors")):
        kept, tensors = file.read_bytes(), load_file(file)
        name = sorted(tensors)[0]
        save_file({**tensors, name: tensors[name] + 1}, file, metadata={"format": "pt"})
        seen.add(BaseModel(str(sharded)).fingerprint)
        file.write_bytes(kept)
    assert len(seen) == 4 and BaseModel(str(sharded)).fingerprint == before


@pytest.mark.parametrize(
    "name",
    [
        "evil.bin",
        "sub/w.safetensors",
        "../other/w.safetensors",
        "/tmp/w.safetensors",
        "..",
        "",
        "a\\w.safetensors",
        ".safetensors/",
        "w.safetensors\n",
        "w.pt",
        "pytorch_model.bin",
        "W.SAFETENSORS.bin",
    ],
)
def test_an_index_names_plain_safetensors_files_alone(sharded, name, tmp_path):
    """An index with another file name, or one that points elsewhere, is refused; nothing is read or unpickled."""

    class Trap:
        """Creates a file when it is unpickled."""

        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    last = max(index_of(sharded)["weight_map"].values())
    for place in (sharded / "sub", tmp_path / "other"):
        place.mkdir()
        shutil.copy(sharded / last, place / "w.safetensors")
    (sharded / "evil.bin").write_bytes(pickle.dumps(Trap()))
    rename(sharded, name)
    base = BaseModel(str(sharded))
    for read in (lambda: base.config, base.load, lambda: base.fingerprint, lambda: base.tokenizer):
        with pytest.raises(ModelError, match=r"only \*\.safetensors files of its own folder are read"):
            read()
    assert not (tmp_path / "ran").exists()


def test_a_file_that_the_index_names_must_be_there(sharded):
    """A missing file is refused by name."""
    rename(sharded, "gone.safetensors")
    with pytest.raises(ModelError, match=r"lacks 'gone\.safetensors'"):
        BaseModel(str(sharded)).load()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}', "[" * 100_000],
)
def test_a_malformed_index_is_told(sharded, content):
    """An index that is not a map of names gives one message with its path."""
    (sharded / weights.INDEX).write_text(content)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json"):
        BaseModel(str(sharded)).load()


def test_links_out_of_the_folder_are_refused(sharded, tmp_path):
    """A link that leads elsewhere is refused, for a single file, a shard and the index; one within the folder is
    read."""
    last = max(index_of(sharded)["weight_map"].values())
    inside = sharded / "renamed.safetensors"
    (sharded / last).rename(inside)
    (sharded / last).symlink_to(inside.name)
    assert BaseModel(str(sharded)).load().num_parameters() == BaseModel("tiny").load().num_parameters()
    moved = tmp_path / "elsewhere.safetensors"
    inside.rename(moved)
    (sharded / last).unlink()
    (sharded / last).symlink_to(moved)
    with pytest.raises(ModelError, match="is a link out of its folder"):
        _ = BaseModel(str(sharded)).fingerprint
    single = tmp_path / "single"
    shutil.copytree(Tiny().folder(), single)
    (single / weights.SINGLE).rename(tmp_path / "w.safetensors")
    (single / weights.SINGLE).symlink_to(tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="is a link out of its folder"):
        BaseModel(str(single)).load()


def test_a_snapshot_of_the_hubs_cache_is_read(tmp_path):
    """In the Hub's cache, files are links to blobs next to the snapshots, which is where they belong."""
    snapshot, blobs = tmp_path / "models--a--b/snapshots/0123abcd", tmp_path / "models--a--b/blobs"
    blobs.mkdir(parents=True)
    shutil.copytree(Tiny().folder(), snapshot)
    for file in list(snapshot.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(os.path.relpath(blobs / file.name, snapshot))
    assert BaseModel(str(snapshot)).fingerprint == BaseModel("tiny").fingerprint
    assert BaseModel(str(snapshot)).load().num_parameters() == BaseModel("tiny").load().num_parameters()


def test_an_index_of_the_hub_is_checked_too(sharded, monkeypatch):
    """A Hub model whose index names a pickle is refused before its weights are read."""
    rename(sharded, "evil.bin")
    asked = []

    def cached(name, file, **options):
        asked.append((name, file, options["revision"]))
        return str(sharded / file)

    monkeypatch.setattr(weights, "hf_hub_download", cached)
    with pytest.raises(ModelError, match=r"names 'evil\.bin'"):
        weights.hub_files("someone/model", "v1")
    assert asked == [("someone/model", weights.INDEX, "v1")]


@pytest.mark.parametrize("offline", [False, True])
def test_a_model_of_the_hub_without_safetensors_is_refused(sharded, monkeypatch, offline):
    """If safetensors files, or some that an index names, are missing on the Hub or, offline, in its cache, the message
    says so; if all are present, they are used."""

    def found(*names: str):
        def fetch(name, file, **options):
            if file not in names:
                raise LocalEntryNotFoundError(file) if offline else RemoteEntryNotFoundError(file, response=Response())
            return str(sharded / file)

        return fetch

    class Response:
        """A stand-in for the HTTP library's response."""

        headers: ClassVar[dict[str, str]] = {}
        request = None

    shards = sorted(file.name for file in sharded.glob("model-*"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    for names in ([], [weights.INDEX], [weights.INDEX, *shards[:-1]]):
        monkeypatch.setattr(weights, "hf_hub_download", found(*names))
        said = "not in the cache" if offline else "lacks weights" if names else "Pickled weights are never"
        with pytest.raises(ModelError, match=f"'someone/model' .*{said}"):
            weights.hub_files("someone/model", "v1")
    monkeypatch.setattr(weights, "hf_hub_download", found(weights.INDEX, *shards))
    assert [file.name for file in weights.hub_files("someone/model", "v1")] == shards
    monkeypatch.setattr(weights, "hf_hub_download", found(weights.INDEX, weights.SINGLE, *shards))
    assert [file.name for file in weights.hub_files("someone/model", "v1")] == [weights.SINGLE]


def test_a_configuration_cannot_say_where_weights_are(tmp_path):
    """transformers_weights in config.json, which would load other files than the hashed ones, is refused."""
    shutil.copytree(Tiny().folder(), tmp_path / "m")
    config = json.loads((tmp_path / "m/config.json").read_text())
    save_file({"a": torch.ones(1)}, tmp_path / "m/other.safetensors")
    (tmp_path / "m/config.json").write_text(json.dumps({**config, "transformers_weights": "other.safetensors"}))
    with pytest.raises(ModelError, match="transformers_weights"):
        BaseModel(str(tmp_path / "m")).load()


def test_other_names_are_told(tmp_path):
    """For a safetensors file whose name transformers does not read, the message says what is required."""
    shutil.copytree(Tiny().folder(), tmp_path / "m")
    (tmp_path / "m" / weights.SINGLE).rename(tmp_path / "m/tiny.safetensors")
    with pytest.raises(ModelError, match=r"It holds tiny\.safetensors: model\.safetensors or .* is needed"):
        BaseModel(str(tmp_path / "m")).load()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_told_when_they_are_loaded(tmp_path, value):
    """NaN and infinite weights are refused by tensor name, before anything is computed."""
    model = BaseModel("tiny").load()
    model.transformer.h[1].mlp.c_fc.weight.data[3, 5] = value
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"NaN or infinite values, in 'transformer\.h\.1\.mlp\.c_fc\.weight' first"):
        BaseModel(str(tmp_path)).load()


@pytest.mark.parametrize("command", [["compare"], ["compare", "--dry-run"], ["train", "untuned"]], ids=" ".join)
def test_weights_that_are_not_finite_stop_a_command_before_it_writes(tmp_path, capsys, command):
    """NaN in a shard of the model is detected before any work: one message, status 2, no OUT."""
    model = BaseModel("tiny").load()
    model.transformer.h[1].mlp.c_fc.weight.data[3, 5] = float("nan")
    model.save_pretrained(tmp_path / "m", max_shard_size="2MB")
    BaseModel("tiny").tokenizer.save_pretrained(tmp_path / "m")
    options = ["--model", str(tmp_path / "m"), "--preset", "demo", "--out", str(tmp_path / "out"), "--device", "cpu"]
    capsys.readouterr()
    assert cli.main([*command, *options]) == 2
    said = capsys.readouterr().err
    assert (
        said.count("NaN or infinite values, in 'transformer.h.1.mlp.c_fc.weight' first") == 1 and said.count("\n") == 1
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_weights_are_scanned_in_every_precision(tmp_path, dtype):
    """The largest finite numbers of a precision are accepted, and a NaN among them is not."""
    largest = torch.full((64, 64), torch.finfo(dtype).max).to(dtype)
    save_file({"a": largest, "positions": torch.arange(9)}, tmp_path / "large.safetensors")
    assert weights.is_finite(tmp_path / "large.safetensors")
    save_file({"a": torch.full((64,), float("nan")).to(dtype)}, tmp_path / "nan.safetensors")
    assert not weights.is_finite(tmp_path / "nan.safetensors")


def test_a_tensor_that_the_model_does_not_use_may_hold_infinity(tmp_path):
    """A mask of -inf saved with the weights by an older version stops nothing: it is not loaded."""
    shutil.copytree(Tiny().folder(), tmp_path / "m")
    file = tmp_path / "m" / weights.SINGLE
    save_file({**load_file(file), "mask": torch.full((4,), float("-inf"))}, file, {"format": "pt"})
    assert not weights.is_finite(file)
    BaseModel(str(tmp_path / "m")).check_weights()


def test_a_tensor_of_another_shape_is_told(tmp_path):
    """A file that does not fit its configuration is refused with the tensor and both shapes."""
    BaseModel("tiny").load().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "n_positions": 99}))
    with pytest.raises(ModelError, match=r"'transformer\.wpe\.weight' is \(512, 128\) in the file and \(99, 128\)"):
        BaseModel(str(tmp_path)).load()

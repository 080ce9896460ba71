"""Weight indexes that name files other than the folder's own, and weights that change under an index."""

import json
import os
import random
import shutil
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from torture import children
from torture.outcomes import BELIEVED, HUNG, REFUSED, RIGHT, UNEXPECTED, Case, Kind
from triptych.errors import TriptychError
from triptych.models.base import BaseModel
from triptych.models.tiny import Tiny

INDEX = "model.safetensors.index.json"
NAMES = (
    "other.bin",
    "pytorch_model.bin",
    "sub/w.safetensors",
    "../elsewhere/w.safetensors",
    "../elsewhere/w.bin",
    "missing.safetensors",
    "link.safetensors",
    "inner-link.safetensors",
    "./w.safetensors",
    "sub/../w.safetensors",
    "..\\w.safetensors",
    "w.safetensors\0",
    "",
    ".",
    "..",
    "w.SAFETENSORS",
    "w.safetensors.bin",
    "~/w.safetensors",
    "folder.safetensors",
    "w.safetensors ",
    "pipe.safetensors",
    "C:w.safetensors",
    "file://w.safetensors",
    "http://127.0.0.1:9/w.safetensors",
    "own.safetensors",
    "own.safetensors",
)
ODD_INDEXES = (
    {},
    [],
    None,
    1,
    {"weight_map": None},
    {"weight_map": []},
    {"weight_map": {}},
    {"weight_map": {"x": 1}},
    {"weight_map": {"x": ["own.safetensors"]}},
    {"metadata": 0},
)


class Indexes(Kind):
    """What is read must be refused or covered by the fingerprint."""

    name = "indexes"
    title = "indexes of weights: `.bin`, folders, `..`, links, missing, changed"
    cases = 200

    def prepare(self) -> None:
        """Write a model in two files with an index, and everything that an index may name."""
        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(Tiny().folder())
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(tokenizer), n_positions=64, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
            )
        )
        model.save_pretrained(self.folder / "whole")
        tokenizer.save_pretrained(self.folder / "whole")
        self.tensors = load_file(self.folder / "whole/model.safetensors")
        (self.folder / "whole/model.safetensors").unlink()

    def write(self, place: Path, chance: random.Random) -> str:
        """Write a folder and its surroundings; return what is odd about it."""
        for name in ("model", "elsewhere"):
            shutil.rmtree(place / name, ignore_errors=True)
        model = Path(shutil.copytree(self.folder / "whole", place / "model"))
        moved = sorted(self.tensors)[:: chance.choice((2, 3, 5))]  # the tensors with the odd file name
        rest = {name: tensor for name, tensor in self.tensors.items() if name not in moved}
        part = {name: self.tensors[name] for name in moved}
        save_file(rest, model / "rest.safetensors", {"format": "pt"})
        elsewhere = place / "elsewhere"
        for folder in (model / "sub", elsewhere, model / "folder.safetensors"):
            folder.mkdir()
        for file in (
            model / "w.safetensors",
            model / "own.safetensors",
            model / "w.SAFETENSORS",
            model / "w.safetensors ",
            model / "sub/w.safetensors",
            elsewhere / "w.safetensors",
            model / "C:w.safetensors",
        ):
            save_file(part, file, {"format": "pt"})
        for file in (
            model / "other.bin",
            model / "pytorch_model.bin",
            elsewhere / "w.bin",
            model / "w.safetensors.bin",
        ):
            torch.save(part, file)
        (model / "link.safetensors").symlink_to(elsewhere / "w.safetensors")
        (model / "inner-link.safetensors").symlink_to("w.safetensors")
        what = name = chance.choice(NAMES)
        index: object = {
            "metadata": {},
            "weight_map": {**dict.fromkeys(rest, "rest.safetensors"), **dict.fromkeys(part, name)},
        }
        if name == "pipe.safetensors":
            os.mkfifo(model / name)
        if chance.random() < 0.15:
            index = chance.choice(ODD_INDEXES)
            what = f"index {index!r}"
        (model / INDEX).write_text(json.dumps(index))
        if chance.random() < 0.15:
            decoy = chance.choice(("decoy.safetensors", "model-00001-of-00002.safetensors", "model.safetensors"))
            save_file(self.tensors, model / decoy, {"format": "pt"})
            what += f", with {decoy}"
        return what

    def attempt(self, number: int, chance: random.Random) -> Case:
        """Try an odd index; if it is read, change all files of the folder and its surroundings, one at a time."""
        place = self.folder / "case"
        place.mkdir(exist_ok=True)
        what = self.write(place, chance)
        ended = children.Child(partial(read_and_change, place), children.MEMORY).end()
        if ended.status is None:
            return Case(HUNG, what, children.tail(ended))
        if ended.status != 0 or not ended.out.strip():
            return Case(UNEXPECTED, what, f"status {ended.status}: {children.tail(ended)}")
        outcome, detail = json.loads(ended.out.splitlines()[-1])
        return Case(outcome, what, detail)


def read_and_change(place: Path) -> int:
    """In a child: load the model, change the files one at a time, and check that weights and fingerprint agree."""
    print(json.dumps(_read_and_change(place)))
    return 0


def _read_and_change(place: Path) -> tuple[str, str]:
    model, opened = place / "model", []
    torch.load, plain = (lambda *given, **more: opened.append(str(given[0])) or plain(*given, **more)), torch.load  # type: ignore
    try:
        before = _state(model)
    except TriptychError as error:
        text = str(error)
        clear = error.exit_status == 2 and text.strip() and len(text) < 3000
        return (REFUSED, text[:300]) if clear and not opened else (UNEXPECTED, f"unpickled {opened}: {text[:1000]}")
    if opened:
        return BELIEVED, f"unpickled {opened}"
    for file in sorted(place.rglob("*.safetensors*")):
        if file.is_symlink() or not file.is_file() or file.name == INDEX:
            continue
        content = file.read_bytes()
        file.write_bytes(content[:-4] + bytes(byte ^ 1 for byte in content[-4:]))
        try:
            after = _state(model)
        except TriptychError:
            continue
        finally:
            file.write_bytes(content)
        if after[0] != before[0] and (after[1] == before[1] or not file.is_relative_to(model)):
            return (
                BELIEVED,
                f"{file.relative_to(place)} is read, and the fingerprint does not see it or it is elsewhere",
            )
    return RIGHT, ""


def _state(folder: Path) -> tuple[list[float], str]:
    """The loaded weights and the fingerprint; every reader of a model inspects the folder as `compare` does."""
    base = BaseModel(str(folder))
    _ = base.tokenizer
    loaded = base.load()
    return [float(each.double().abs().sum()) for each in loaded.state_dict().values()], base.fingerprint

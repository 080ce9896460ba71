"""Feed mutated files to everything that reads files, and count the outcomes.

`python scripts/torture_inputs.py --cases 10000 --seed 0` mutates valid files with a seed, prints a summary as JSON and
as a Markdown table, and exits with status 1 on any violation.
"""

import argparse
import copy
import csv
import gzip
import hashlib
import io
import json
import os
import pickle
import random
import re
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from rich.console import Console
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from support.made_up import make_results
from triptych.analysis.advice import recommend
from triptych.analysis.comparison import compare_results
from triptych.analysis.curves import AXES, loss_curves, validation_curves
from triptych.config.reading import merge_tables, parse_setting, preset_settings, read_suite_file
from triptych.config.schema import Limits, Split, Suite
from triptych.contracts import AdaptedModel, Context
from triptych.corpus import prepare
from triptych.corpus.sequence import Pair, Template
from triptych.datasets.tables import Tables, describe_tables
from triptych.engine.model import EngineModel
from triptych.engine.savings.ready import make_ready
from triptych.engine.savings.trunk_cache import open_cache, trunk_store
from triptych.errors import TriptychError
from triptych.machine import start_machine
from triptych.methods.last_layers import LastLayers
from triptych.models import patterns
from triptych.models.base import BaseModel
from triptych.models.parts import take_apart
from triptych.models.place import find_place
from triptych.models.prompts import Prompt
from triptych.models.tiny import Tiny
from triptych.plugins import import_plugins
from triptych.reporting import document, examples, export, terminal, web
from triptych.results import json_files, layout, reading
from triptych.run import adapters, entries, kept, passes, preflight, search
from triptych.run.checkpoints import Checkpoints
from triptych.run.corpus import open_data
from triptych.submission import bundle
from triptych.suite import reports
from triptych.use import documents, peft_adapters

LONGEST_MESSAGE = 3000  # characters; in longer messages the cause is hard to find
DEEP = 3000  # levels; Python's limit is 1000

# What code execution would look like: Python's audit events


_EXECUTES = (
    "pickle.find_class",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
)
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")

_OF_LINKS = ("os.rename", "os.remove", "os.rmdir")


@dataclass
class Watch:
    """Watch for files opened for writing, processes started, classes unpickled and connections made."""

    allowed: tuple[Path, ...] = ()
    seen: list[str] = field(default_factory=list)
    on: bool = False

    def __post_init__(self) -> None:
        sys.addaudithook(self._hear)  # a hook cannot be removed; this one listens while `on`

    @contextmanager
    def listening(self, *allowed: Path) -> Iterator[list[str]]:
        """Yield the list of what is done meanwhile, except writes in the allowed folders."""
        self.allowed, self.seen = tuple(path.resolve() for path in allowed), []
        self.on = True
        try:
            yield self.seen
        finally:
            self.on = False

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "subprocess.Popen" and list(arguments[1]) == [sys.executable, "-I", "-c", patterns.PROGRAM]:
            return  # our own child, in which untrusted patterns are tried with a time limit
        if event in _EXECUTES:
            self.seen.append(f"{event} {arguments!r}"[:300])
        elif event == "open" and self._writes(arguments[1], arguments[2]):
            self._touch(event, arguments[0])
        elif event in _CHANGES:
            self._touch(event, arguments[1] if event == "os.rename" else arguments[0], arguments[-1])

    @staticmethod
    def _writes(mode: Any, flags: Any) -> bool:
        if isinstance(mode, str):
            return any(letter in mode for letter in "wax+")
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))

    def _touch(self, event: str, path: Any, folder: Any = -1) -> None:
        """Record a change unless it is allowed; `folder` is the descriptor that a relative path starts from."""
        if not isinstance(path, (str, bytes)) or os.fsdecode(path) == os.devnull:
            return
        self.on = False  # resolving a path also triggers the hook
        start = os.path.realpath(f"/dev/fd/{folder}") if isinstance(folder, int) and folder > 2 else os.curdir
        where = Path(start, os.fsdecode(path))
        # Renaming or removing acts on a link itself, opening on its target.
        where = where.parent.resolve() / where.name if event in _OF_LINKS else where.resolve()
        if where.parent.name != "__pycache__" and not any(
            where == root or root in where.parents for root in self.allowed
        ):
            self.seen.append(f"{event} {where}")
        self.on = True


@dataclass
class Payload:
    """A pickle that creates a file when it is loaded."""

    mark: Path

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


# Values known to break programs

LONG = "a" * 50_000
NASTY: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**400,
    -0.5,
    1e-320,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\0",
    "a\0b",
    "../../escaped",
    "/etc/passwd",
    "~nobody-there/x",
    "..",
    ".",
    "-x",
    "--help",
    "con",
    "=cmd()",
    "=cmd|' /C calc'!A0",
    "+1+cmd()",
    "@SUM(1)",
    "\t=1",
    "\uff1dcmd()",
    "</script><script>alert(1)</script>",
    "#let x = 1",
    "$(touch x)",
    "`id`",
    "\ud800",
    "\u2028",
    "\x1b]0;owned\x07",
    "\u202e",
    "{0.__class__}",
    "%s%n",
    "__class__",
    LONG,
    "é" * 300,
    "[bold]x[/bold]",
    "[/]",
    "news\nwire",
    [],
    {},
    [[]],
    [None],
    ["a", 1],
    {"": ""},
    {"a": {"b": {}}},
    [1e308] * 3,
    list(range(300)),
]


def deep(levels: int = DEEP) -> list[Any]:
    """A deeply nested list."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def as_json(value: Any) -> str:
    """JSON of any value, including NaN, unpaired surrogates and deep nesting."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        return json.dumps(value)
    except (RecursionError, ValueError):  # ints with more digits than Python converts to text
        return "[" * DEEP + "]" * DEEP
    finally:
        sys.setrecursionlimit(limit)


# Mutations: each takes the bytes of a valid file and returns hostile ones


def mutate_bytes(content: bytes, chance: random.Random, payload: bytes) -> bytes:
    """Cut, flip, double, insert or replace bytes."""
    at, end = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    noise = chance.randbytes(chance.choice((1, 2, 7, 64)))
    flipped = bytearray(content)
    for _ in range(chance.choice((1, 1, 4, 32))):
        if flipped:
            flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    return chance.choice(
        [
            lambda: content[:at],
            lambda: content[at:],
            lambda: content[:at] + content[end:],
            lambda: bytes(flipped),
            lambda: content[:at] + noise + content[at:],
            lambda: content[:at] + b"\0" + content[at:],
            lambda: content[:at] + content[at:end] * 3 + content[end:],
            lambda: content[end:] + content[:at],
            lambda: b"",
            lambda: chance.randbytes(300),
            lambda: payload,
            lambda: content[:at] + payload,
            lambda: b"PK\x03\x04" + content,
            lambda: content.decode("utf-8", "replace").encode("utf-16"),
            lambda: gzip.compress(content),
            lambda: b"\xff\xfe" + content,
            lambda: b"[" * 100_000,
            lambda: b'{"a":' * 20_000,
            lambda: content[:at] + LONG.encode() + content[at:],
            lambda: content.replace(b"\n", b"\r", 3),
            lambda: content + b"\n\n\0\n",
            lambda: b"\xef\xbb\xbf" * 2 + content,
        ]
    )()


def mutate_value(value: Any, chance: random.Random) -> Any:
    """Replace, delete, rename or add at one place in a JSON tree."""
    value = json.loads(json.dumps(value))
    spots: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            spots.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    if not isinstance(value, (dict, list)) or not value:
        return chance.choice(NASTY)
    walk(value)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        node, key = chance.choice(spots)
        if isinstance(node, dict) and key not in node:
            continue
        what = chance.randrange(10)
        if what < 7:
            node[key] = chance.choice(NASTY) if chance.random() < 0.97 else deep(chance.choice((60, DEEP)))
        elif what == 7 and isinstance(node, dict):
            del node[key]
        elif isinstance(node, dict):
            name = chance.choice(NASTY)
            node[name if isinstance(name, str) else str(key) + "x"] = node[key]
        else:
            node[key] = node
            node[key] = [json.loads(json.dumps(item)) if item is not node else 0 for item in node]
    return value


def mutate_json(content: bytes, chance: random.Random, payload: bytes) -> bytes:
    """Mutate the tree of a JSON file; sometimes insert a number that is out of range."""
    if chance.random() < 0.05:
        return re.sub(rb"(?<=: )[\d.]+", b"1e999", content, count=chance.choice((1, 3, 99)))
    return as_json(mutate_value(json.loads(content), chance)).encode()


def mutate_lines(content: bytes, chance: random.Random, payload: bytes) -> bytes:
    """Mutate the tree of one JSON line, or double or delete the line."""
    lines = content.decode().split("\n")
    at = chance.randrange(len(lines) - 1)
    new = as_json(mutate_value(json.loads(lines[at]), chance))
    return "\n".join(
        lines[:at] + chance.choice(([new], [new], [new], [lines[at]] * 2, [], [""])) + lines[at + 1 :]
    ).encode()


def mutate_csv(content: bytes, chance: random.Random, payload: bytes) -> bytes:
    """Mutate a table's cells, header and shape."""
    table = list(csv.reader(io.StringIO(content.decode())))
    for _ in range(chance.choice((1, 2, 6))):
        row = table[0] if chance.random() < 0.3 else chance.choice(table)
        cell = chance.choice(NASTY)
        cell = cell if isinstance(cell, str) else as_json(cell)
        what = chance.randrange(5)
        if what < 3 and row:
            row[chance.randrange(len(row))] = cell
        elif what == 3:
            row.append(cell)
        else:
            del row[:1]
    text = io.StringIO(newline="")
    try:
        csv.writer(
            text, delimiter=chance.choice(",,,,\t;"), quoting=chance.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
        ).writerows(table)
    except csv.Error:
        return b"\0"
    return text.getvalue().encode("utf-8", chance.choice(("surrogatepass", "replace")))


def mutate_toml(content: bytes, chance: random.Random, payload: bytes) -> bytes:
    """Replace one value or key of a TOML file."""
    lines = content.decode().split("\n")
    at = chance.randrange(len(lines))
    key, equals, _ = lines[at].partition("=")
    value = chance.choice(NASTY)
    text = as_json(value).replace("null", "nan").replace("Infinity", "inf").replace("NaN", "nan")
    lines[at] = f"{key}= {text}" if equals and chance.random() < 0.8 else f"{text} = 1"
    return "\n".join(lines).encode()


def mutate_gzip(content: bytes, chance: random.Random, payload: bytes) -> bytes:
    """Mutate the content before compressing it; sometimes return a decompression bomb."""
    if chance.random() < 0.02:
        return gzip.compress(
            b"id,article,highlights\n" + chance.choice((b"\n", b'"' + b"a" * 99, b",")) * (20 << 20), 1
        )
    return gzip.compress(mutate_csv(gzip.decompress(content), chance, payload), 1)


def mutate_parquet(content: bytes, chance: random.Random, payload: bytes) -> bytes:
    """Use column types, names and metadata that a table of texts does not have."""
    texts = ["One. Two.", None, "=cmd()", "x\0y", "../../x"]
    columns = [
        texts,
        [1, 2, 3, 4, 5],
        [b"\xff", b"", None, b"x", b"y"],
        [[1], [], None, [2], [3]],
        [{"a": 1}] * 5,
        [1.5, None, 2, 3, 4],
        [True] * 5,
        [None] * 5,
        pyarrow.array(texts).dictionary_encode(),
        pyarrow.array(texts, pyarrow.large_string()),
        pyarrow.array([1, 2, 3, 4, 5], pyarrow.timestamp("ns")),
        [LONG] * 5,
        [["a"]] * 5,
    ]
    names = ["id", "article", "highlights", "document", "summary", "", "a\0b", "\x1b[2J", LONG[:3000], "__class__"]
    chosen = [
        chance.choice(names[:3] if chance.random() < 0.8 else names) for _ in range(chance.choice((1, 3, 3, 3, 5)))
    ]
    if chance.random() < 0.6:
        chosen = ["id", "article", "highlights"]
    made = pyarrow.table([chance.choice(columns) if chance.random() < 0.5 else texts for _ in chosen], names=chosen)
    if chance.random() < 0.2:
        kind = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": payload}
        made = made.cast(pyarrow.schema([item.with_metadata(kind) for item in made.schema]))
    sink = io.BytesIO()
    pyarrow.parquet.write_table(made, sink)
    return mutate_bytes(sink.getvalue(), chance, payload) if chance.random() < 0.3 else sink.getvalue()


def mutate_safetensors(content: bytes, chance: random.Random, payload: bytes) -> bytes:
    """Mutate the header's tree: names, types, shapes and offsets of tensors."""
    size = struct.unpack("<Q", content[:8])[0]
    header = as_json(mutate_value(json.loads(content[8 : 8 + size]), chance)).encode()
    length = chance.choice((len(header), len(header), len(header), 2**63, 0, len(content)))
    return struct.pack("<Q", length) + header + content[8 + size :]


MUTATIONS = {
    ".json": mutate_json,
    ".jsonl": mutate_lines,
    ".csv": mutate_csv,
    ".tsv": mutate_csv,
    ".toml": mutate_toml,
    ".gz": mutate_gzip,
    ".parquet": mutate_parquet,
    ".safetensors": mutate_safetensors,
}


# Targets: valid files and their readers


@dataclass(frozen=True)
class Target:
    """Files of one kind and their reader.

    Attributes:
        name: the name of its folder.
        read: reads the contents of the folder; may write only to its subfolder `out`.
        weight: how often it is chosen.
        resign: whether to put a mutated file's digest into the manifest, so that it is still read.
    """

    name: str
    read: Callable[[Path], None]
    weight: float
    resign: bool = False


def read_tables(place: Path) -> None:
    """Read like `list data` and the corpus."""
    describe_tables(place)
    made = Tables(path=place)
    made.fingerprint()
    for split in made.splits():
        for example in made.examples(split):
            f"{example.id}{example.document}{example.summary}".encode()


def use_suite(settings: dict[str, Any], place: Path) -> None:
    """Do what `compare` does with settings before it loads anything."""
    base = preset_settings("demo")
    suite, table = entries.resolve(merge_tables(base, settings))
    results = place / "out" / "results"
    out = results / suite.name
    assert out.parent == results, f"OUT leaves its folder: {out}"
    for row in table:
        folder = layout.run_folder(out, row.label, suite.seeds[0])
        assert folder.parent.parent.parent == out and not row.label.startswith("-"), f"a method leaves OUT: {folder}"
        folder.mkdir(parents=True, exist_ok=True)
    open_data(suite)
    find_place(suite.model)
    int(suite.cache.max_gigabytes * 1e9)
    json_files.write_json(out / "suite.json", suite.model_dump(mode="json"))
    again, _ = entries.resolve(read_suite_file(out / "suite.json"))
    assert again == suite, "the resolved suite is not itself a valid input"


def read_suite(place: Path) -> None:
    """Read both forms of a suite."""
    for name in ("suite.toml", "suite.json"):
        use_suite(read_suite_file(place / name), place)


def read_setting(place: Path) -> None:
    """Read a value of `--set`; the file contains the argument."""
    use_suite(parse_setting((place / "set.txt").read_text("utf-8", "surrogateescape")), place)


def read_results(place: Path) -> None:
    """Read like `report` and `advise`, without the typesetting."""
    results = reading.read_results(place, partial=True)
    comparison = compare_results(results)
    sheet = export.to_csv(comparison)
    for line in csv.reader(io.StringIO(sheet)):
        for cell in line:
            assert (
                re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?|-inf|", cell) or cell[0] not in "=+-@\t\r\uff1d\uff0b\uff0d\uff20"
            ), cell
    loss_curves(results)
    for axis in AXES:
        validation_curves(results, axis)
    page = [document.report_data(results, comparison), examples.browser_data(results)]
    assert "<" not in web.embeddable(page)
    whole = sheet + export.to_markdown(comparison) + json.dumps(page, ensure_ascii=False, allow_nan=False)
    whole.encode()
    json.dumps(comparison.model_dump(mode="json"), allow_nan=False)
    for axis in AXES:
        validation_curves(results, axis)
    recommend(comparison, max_seconds=60)
    Console(file=io.StringIO(), width=100).print(terminal.ComparisonTable(comparison))


def write_reports(place: Path) -> None:
    """Read like `report`, including the typesetting."""
    reports.report_folders([place], place / "out")


MADE_WITH = {"settings": "5e771", "data": "da7a", "versions": {"torch": "2.9.0"}}


def read_search(place: Path) -> None:
    """Read what a method's runs share: the search, its trials so far, the micro-batch size that fits."""
    for made_with in (MADE_WITH, {**MADE_WITH, "data": "other"}):
        found = [search.read_search(place / "search.json", made_with), search.read_trial(place, 0.1, 4, made_with)]
        found.append(kept.find_kept(place / "micro_batch.json", passes.MicroBatch, "micro-batch size", made_with))
        assert made_with is MADE_WITH or not any(found), "what was made on other data was used"


def read_documents(place: Path) -> None:
    """Read like `summarize --file`, before a model is loaded."""
    for path in sorted(place.iterdir()):
        if not path.name.startswith("out"):
            for name, text in documents.read_documents(str(path)):
                f"{name}{text}".encode()


def read_bundle(place: Path) -> None:
    """Read like `bundle`, without the packing."""
    for entry, source in bundle.gather(place).entries.items():
        assert not entry.startswith("/") and ".." not in entry.split("/"), entry
        source.encode() if isinstance(source, str) else source.stat()


# The contents of a run's checkpoints, by step
SAVED: dict[int, tuple[dict[str, torch.Tensor], dict[str, Any]]] = {
    step: (
        {"trained.w": torch.full((40,), step / 7), "best.w": torch.arange(9)},
        {"progress": {"step": step}, "x": [1.5]},
    )
    for step in (9, 10)
}


def checkpoints(place: Path) -> Checkpoints:
    """The checkpoints of one run."""
    return Checkpoints(place, {"label": "lora", "seed": 0})


def read_checkpoint(place: Path) -> None:
    """Read like a resumed run: what is read was saved, or nothing is read."""
    found = checkpoints(place).latest()
    if found is not None:
        tensors, facts = SAVED[found.step]
        assert found.facts == facts and found.tensors.keys() == tensors.keys(), "damage was believed"
        assert all(torch.equal(found.tensors[name], value) for name, value in tensors.items()), "damage was believed"


@dataclass
class Bench:
    """Valid files of every kind, copies of them to mutate, and files that must not change."""

    folder: Path
    watch: Watch

    def __post_init__(self) -> None:
        warnings.simplefilter("ignore")
        import_plugins()
        self.mark = self.folder / "executed"
        self.payload = pickle.dumps(Payload(self.mark))
        (self.folder / "outside").mkdir(parents=True)
        (self.folder / "outside/victim.txt").write_text("mine")
        self.tokenizer = AutoTokenizer.from_pretrained(Tiny().folder())
        self.targets = {
            target.name: target
            for target in (
                Target("tables", read_tables, 36),
                Target("suite", read_suite, 14),
                Target("setting", read_setting, 14),
                Target("results", read_results, 22),
                Target("report", write_reports, 0.3),
                Target("search", read_search, 3),
                Target("documents", read_documents, 5),
                Target("bundle", read_bundle, 2),
                Target("checkpoint", read_checkpoint, 3),
                Target("peft", self.read_peft, 4),
                Target("trunk", self.read_trunk, 1),
                Target("adapter", self.read_adapter, 6),
                Target("signed-adapter", self.read_adapter, 5, resign=True),
                Target("cache", self.read_cache, 2),
                Target("model", self.read_model, 3),
            )
        }
        self._write_tables()
        self._write_suites()
        self._write_results()
        self._write_adapter()
        self._write_bundle()
        self._write_peft()
        for step, saved in SAVED.items():
            checkpoints(self.folder / "checkpoint").save(step, *saved)
        (self.folder / "trunk").mkdir()
        for target in self.targets.values():
            target.read(self.folder / target.name)  # valid files can be read; this also triggers lazy imports
            shutil.rmtree(self.folder / target.name / "out", ignore_errors=True)
        self.files = {name: self._files(self.folder / name) for name in self.targets}
        self.before = self._outside()

    @staticmethod
    def _files(folder: Path) -> list[Path]:
        return sorted(path for path in folder.rglob("*") if path.is_file())

    def _outside(self) -> list[tuple[str, int, int]]:
        """The files next to the targets' folders."""
        return [
            (str(path), path.lstat().st_size, path.lstat().st_mtime_ns)
            for path in sorted([*self.folder.iterdir(), *(self.folder / "outside").iterdir()])
            if path.name not in self.targets
        ]

    def put(self, name: str, content: bytes | str) -> Path:
        """Write a file on the bench."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def _write_tables(self) -> None:
        pairs = [
            (f"a{i}", f"The council of town {i} met. It agreed on plan {i}.", f"Town {i} agrees.") for i in range(6)
        ]
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("id", "article", "highlights"), *pairs])
        lines = "".join(
            json.dumps(dict(zip(("id", "document", "summary"), pair, strict=True))) + "\n" for pair in pairs
        )
        self.put("tables/train.csv", text.getvalue())
        self.put("outside/news.csv", text.getvalue())
        self.put("tables/validation.jsonl", lines)
        sink = io.BytesIO()
        columns = dict(zip(("id", "article", "highlights"), map(list, zip(*pairs, strict=True)), strict=True))
        pyarrow.parquet.write_table(pyarrow.table(columns), sink)
        self.put("tables/test.parquet", sink.getvalue())
        self.put("documents/article.txt", pairs[0][1])
        self.put("documents/news.csv", text.getvalue())
        self.put("documents/news.jsonl", lines)
        self.put("documents/news.parquet", sink.getvalue())
        self.variants = {
            "train.csv": text.getvalue().encode(),
            "train.tsv": text.getvalue().replace(",", "\t").encode(),
            "train.csv.gz": gzip.compress(text.getvalue().encode()),
            "train.jsonl": lines.encode(),
            "train.parquet": sink.getvalue(),
        }

    def _write_suites(self) -> None:
        self.put(
            "suite/suite.toml",
            'name = "mine"\nmodel = "tiny"\ndata = "newswire"\nmethods = ["untuned", "lora"]\nseeds = [0, 1]\n'
            'separator = "TL;DR:"\n[columns]\ndocument = "article"\n[split]\nseed = 1\nfractions = [0.8, 0.1, 0.1]\n'
            "[limits]\ntrain_documents = 64\n"
            'document_tokens = 200\n[training]\nmax_epochs = 2\nmax_grad_norm = 1.0\nschedule = "linear"\n[cache]\n'
            "max_gigabytes = 1\n[decoding]\nnum_beams = 2\nlength_penalty = 1.0\n[search]\ntrials = 2\n"
            '[method.lora]\nrank = 8\ntarget_modules = ["c_attn"]\n'
            '[method.mine]\nkind = "last-layers"\nnum_blocks = 1\nlearning_rate = 0.001\n',
        )
        resolved, _ = entries.resolve(preset_settings("demo"))
        self.put("suite/suite.json", json.dumps(resolved.model_dump(mode="json")))
        self.put("setting/set.txt", "limits.train_documents=64")
        self.put(
            "search/search.json",
            json.dumps(
                {
                    "trials": [{"learning_rate": 0.1, "validation_loss": 2.0}],
                    "chosen": 0.1,
                    "at_edge": True,
                    "made_with": MADE_WITH,
                }
            ),
        )
        trial = {"learning_rate": 0.1, "validation_loss": 2.0, "search_seconds": 1.5, "made_with": MADE_WITH}
        self.put("search/0.1-4.json", json.dumps(trial))
        self.put("search/micro_batch.json", json.dumps({"micro_batch_size": 8, "made_with": MADE_WITH}))
        settings = [
            f"{key}.{inner}"
            for key, model in Suite.model_fields.items()
            for inner in getattr(model.annotation, "model_fields", {})
        ]
        methods = [f"method.{label}.{key}" for label, options in resolved.method.items() for key in options]
        self.keys = [
            *Suite.model_fields,
            *settings,
            *methods,
            "method.x.kind",
            "a",
            "",
            "limits",
            "method.lora",
            "__class__.x",
        ]

    def _write_results(self) -> None:
        results = make_results(labels=("untuned", "lead-3", "lora", "full"), documents=5)
        self.put("results/suite.json", results.suite.model_dump_json())
        for run in results.runs:
            folder = f"results/runs/{run.record.label}/{run.record.seed}"
            self.put(f"{folder}/record.json", run.record.model_dump_json())
            self.put(f"{folder}/history.jsonl", "".join(json.dumps(line) + "\n" for line in run.history))
            self.put(f"{folder}/predictions.jsonl", "".join(line.model_dump_json() + "\n" for line in run.predictions))
        shutil.copytree(self.folder / "results", self.folder / "report")

    def _write_adapter(self) -> None:
        torch.manual_seed(0)
        shape = GPT2Config(
            vocab_size=len(self.tokenizer),
            n_positions=64,
            n_embd=8,
            n_layer=2,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
        )
        self.model = GPT2LMHeadModel(shape).eval()
        disable_progress_bar()
        set_verbosity_error()
        self.model.save_pretrained(self.folder / "model")
        self.tokenizer.save_pretrained(self.folder / "model")
        origin = adapters.Origin("last-layers", "last-layers", {}, "tiny", "main", "beef")
        for name in ("adapter", "signed-adapter"):
            adapters.save_adapter(self._adapted(), self.folder / name, origin)

    def _write_bundle(self) -> None:
        shutil.copytree(self.folder / "results", self.folder / "bundle")
        reports.report_folders([self.folder / "bundle"], self.folder / "bundle")
        for label in ("lora", "full"):
            folder = self.folder / f"bundle/runs/{label}/0"
            options = json.loads((folder / "record.json").read_text())["options"]
            origin = adapters.Origin(label, label, options, "tiny", "main", "beef", None, 0)
            adapters.save_adapter(self._adapted(), folder / "adapter", origin)

    def _write_peft(self) -> None:
        kinds = {
            "lora": LoraConfig(r=2, target_modules=["c_attn"], task_type="CAUSAL_LM"),
            "prompt": PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
        }
        for name, settings in kinds.items():
            get_peft_model(copy.deepcopy(self.model), settings).save_pretrained(self.folder / "peft" / name)

    def read_peft(self, place: Path) -> None:
        """Read like `summarize` and `evaluate` with folders saved by peft."""
        for name in ("lora", "prompt"):
            found = peft_adapters.read_peft_folder(place / name)
            peft_adapters.insert_adapter(take_apart(copy.deepcopy(self.model)), found)

    def read_trunk(self, place: Path) -> None:
        """Check that damaged trunk states are computed again and are the same."""
        pairs = [Pair(f"p{i}", np.arange(5 + i, dtype=np.int32), np.arange(3, dtype=np.int32)) for i in range(4)]
        context = Context(self.tokenizer, torch.Generator(), torch.arange(10))
        model = EngineModel.assemble(
            copy.deepcopy(self.model),
            lambda parts: LastLayers(num_blocks=1).adapt(parts, context),
            Template((), (1, 2), 0),
            start_machine("cpu", "fp32"),
        )
        cache = open_cache(make_ready(model), pairs, "m", trunk_store(place, 10**8), batch_size=2)
        assert cache is not None, "damage keeps the cache from being used"
        found = [cache.of(i).tolist() for i in range(len(pairs))]
        self.states = getattr(self, "states", found)
        assert found == self.states, "damaged states were believed"

    def _adapted(self) -> AdaptedModel:
        method = LastLayers(num_blocks=1)
        return method.adapt(take_apart(self.model), Context(self.tokenizer, torch.Generator(), torch.arange(10)))

    def read_adapter(self, place: Path) -> None:
        """Read like `evaluate`."""
        _, tensors = adapters.read_manifest(place)
        adapters.load_tensors(self._adapted(), tensors, place)

    def read_cache(self, place: Path) -> None:
        """Check that damaged prepared data is prepared again and is the same."""
        made = prepare.prepare(
            Tables(path=self.folder / "outside/news.csv"),
            self.tokenizer,
            source="news",
            limits=Limits(document_tokens=40, summary_tokens=16),
            split=Split(),
            prompt=Prompt("\n\nTL;DR:"),
            window=128,
            reserved=0,
            new_tokens=16,
            vocabulary_size=3072,
            cache=place,
            max_cache_bytes=10**9,
        )
        found = [(p.id, p.document_ids.tolist(), p.summary_ids.tolist()) for s in (made.train, made.test) for p in s]
        self.cached = getattr(self, "cached", found)
        assert found == self.cached, "damaged data was believed"

    def read_model(self, place: Path) -> None:
        """Read like `compare` before it creates OUT, and read the weights like a run."""
        sizes = {"train_documents": 4, "document_tokens": 24, "summary_tokens": 12}
        settings = {
            "model": str(place),
            "data": str(self.folder / "outside/news.csv"),
            "limits": sizes,
            "decoding": {"max_new_tokens": 8},
            "separator": "\n",
            "methods": ["lora", "last-layers"],
        }
        planned, table = entries.resolve(settings)
        preflight.check_suite(planned, table, "cpu", place / "out")
        base = BaseModel(str(place))
        take_apart(base.load())
        _ = base.fingerprint

    def spoil(self, target: Target, chance: random.Random) -> tuple[Path, bytes]:
        """Mutate one file of a target; return its path and previous content."""
        path = chance.choice(self.files[target.name])
        if target.name == "setting":
            value = chance.choice(NASTY)
            text = value if isinstance(value, str) else as_json(value)
            key = chance.choice(self.keys) if chance.random() < 0.9 else str(chance.choice(NASTY[14:]))
            path.write_bytes(
                f"{key}={text}".encode("utf-8", "surrogateescape" if "\ud800" not in key + text else "surrogatepass")
            )
            return path, b"limits.train_documents=64"
        if target.name == "tables" and path.name == "train.csv" and chance.random() < 0.5:
            path.unlink()
            name = chance.choice(list(self.variants)[1:])
            path = path.with_name(name)
            path.write_bytes(self.variants[name])
        content = path.read_bytes()
        mutate = MUTATIONS.get(path.suffix, mutate_bytes) if chance.random() < 0.65 else mutate_bytes
        if chance.random() < 0.01:
            path.unlink()
            path.symlink_to(chance.choice((self.folder / "outside/victim.txt", path, Path("/dev/null"), self.folder)))
        else:
            path.write_bytes(mutate(content, chance, self.payload) if content else self.payload)
        if target.resign and path.suffix == ".safetensors" and not path.is_symlink():
            manifest = path.with_name(adapters.MANIFEST)
            signed = json.loads(manifest.read_text())
            manifest.write_text(json.dumps(signed | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))
        return path, content

    def restore(self, target: Target, path: Path, content: bytes) -> None:
        """Restore the target."""
        place = self.folder / target.name
        if path not in self.files[target.name]:
            path.unlink(missing_ok=True)
            self.put("tables/train.csv", self.variants["train.csv"])
        if path in self.files[target.name] and path.parent.is_dir():
            path.unlink(missing_ok=True)
            path.write_bytes(content)
        if target.resign:
            adapters.save_adapter(
                self._adapted(), place, adapters.Origin("last-layers", "last-layers", {}, "tiny", "main", "beef")
            )
        shutil.rmtree(place / "out", ignore_errors=True)

    def attempt(self, read: Callable[[], Any], *writable: Path) -> tuple[str, str]:
        """Read under watch: `accepted`, `refused` with the message, or a violation with what happened."""
        with self.watch.listening(*writable) as seen:
            try:
                read()
                outcome, detail = "accepted", ""
            except TriptychError as error:
                outcome, detail = "refused", str(error)
                if error.exit_status != 2 or not detail.strip() or len(detail) > LONGEST_MESSAGE:
                    outcome = "unclear"
                    detail = f"status {error.exit_status}, {len(detail)} characters: {detail[:300]}"
            except Exception:
                outcome, detail = "other exception", traceback.format_exc(limit=-4)[-1500:]
        if self.mark.exists() or any(not event.startswith(("open", *_CHANGES)) for event in seen):
            return "executed", f"{seen[:3]}"
        if seen or self._outside() != self.before:
            return "outside", f"{seen[:3]}"
        return outcome, detail

    def case(self, seed: int, number: int) -> tuple[str, str, str]:
        """Run one case: return the target's name, the outcome and details."""
        chance = random.Random(f"{seed} {number}")
        target = chance.choices(list(self.targets.values()), [t.weight for t in self.targets.values()])[0]
        path, content = self.spoil(target, chance)
        place = self.folder / target.name
        try:
            writable = (place,) if target.name in ("cache", "trunk") else (place / "out",)
            outcome, detail = self.attempt(lambda: target.read(place), *writable)
        finally:
            self.restore(target, path, content)
        return target.name, outcome, f"{path.name}: {detail}"


def torture(cases: int, seed: int, folder: Path, watch: Watch, first: int = 0) -> dict[str, Any]:
    """Run the cases; return the summary with the first violations."""
    began = time.monotonic()
    bench = Bench(folder, watch)
    outcomes: Counter[tuple[str, str]] = Counter()
    violations = []
    for number in range(first, first + cases):
        name, outcome, detail = bench.case(seed, number)
        outcomes[name, outcome] += 1
        if outcome not in ("accepted", "refused"):
            violations.append({"case": number, "target": name, "outcome": outcome, "detail": detail})
    by_outcome: Counter[str] = Counter()
    for (_, outcome), count in outcomes.items():
        by_outcome[outcome] += count
    return {
        "cases": cases,
        "seed": seed,
        "clear_errors": by_outcome["refused"],
        "accepted": by_outcome["accepted"],
        "unclear_errors": by_outcome["unclear"],
        "other_exceptions": by_outcome["other exception"],
        "writes_outside": by_outcome["outside"],
        "code_executed": by_outcome["executed"],
        "targets": {name: {o: n for (t, o), n in sorted(outcomes.items()) if t == name} for name in bench.targets},
        "seconds": round(time.monotonic() - began, 1),
        "violations": violations,
    }


def table(summary: dict[str, Any]) -> str:
    """The summary as a Markdown table."""
    names = {
        "cases": "faults tried",
        "clear_errors": "refused with one message",
        "accepted": "read as what they are",
        "unclear_errors": "unclear messages",
        "other_exceptions": "other exceptions",
        "writes_outside": "writes outside",
        "code_executed": "code run",
    }
    lines = [list(names.values()), ["---:"] * len(names), [f"{summary[key]:,}" for key in names]]
    return "\n".join(f"| {' | '.join(row)} |".replace(" ---: ", "---:") for row in lines)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to repeat one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="triptych-torture-") as folder:
        summary = torture(options.cases, options.seed, Path(folder) / "bench", Watch(), options.first)
    print(json.dumps(summary, indent=2))
    print(table(summary))
    return 1 if summary["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""Regular expressions in adapters and tokenizers: matched in bounded time, or refused with one message."""

import json
import random
import shutil

import torch
from peft import LoraConfig, get_peft_model

from torture import children
from torture.outcomes import HUNG, REFUSED, RIGHT, UNEXPECTED, Case, Kind
from triptych.models.base import BaseModel
from triptych.models.tiny import Tiny

LIMIT = 60.0  # seconds; the program's own limit is a few seconds
# Slow, large or malformed in some regex engine: nested and ambiguous repeats, back references, look-around, counts.
PATTERNS = (
    "({a}+)+$",
    "({a}*)*$",
    "(({a}*)*)*X",
    "({a}|{a})*X",
    "({a}|{a}{a})+X",
    "({a}+){{2,}}X",
    "(.*)*X",
    "(.*{a}){{25}}X",
    "(.*?,){{11}}P",
    "({a}?){{30}}{a}{{30}}",
    r"(?:{a}+)+\1",
    r"({a}+)\1+X",
    "(?=({a}+)+X){a}",
    "(?!({a}*)*Y){a}*X",
    "^(({a})+)+$",
    "[{a}-]+([{a}.]+)+X",
    "(?i)({a}+)+$",
    "({a}{{1,100}}){{1,100}}X",
    "{a}{{1000}}{{1000}}",
    "(?P<x>{a}+)+(?P=x)X",
    "(({a}+)?)*X",
    "(?:(?:{a}+)+)+$",
    "({a}|b|{a}b)*c",
    r"(\w+\s?)*X",
    r"(\S+)*\S$X",
    r"^(\d|\w)*!$",
    "(",
    "[",
    "*",
    "a{{2,1}}",
    "(?P<",
    r"\p{{L}}",
    "(?<=a+)b",
    "",
    ".*",
    "c_attn",
    r".*\.(c_attn|c_proj)$",
    "\0",
    "\ud800",
    "(" * 200 + ")" * 200,
)
LETTERS = ("a", "[a-z0-9_.]", r"\w", "[^X]", ".", "(a|[ab])")
LONG = {"many alternatives": "|".join(f"x{i}+" for i in range(5000)), "long": "a?" * 2000 + "a" * 2000}
FIELDS = (
    "target_modules",
    "exclude_modules",
    "rank_pattern",
    "alpha_pattern",
    "layers_pattern",
    "modules_to_save",
    "target_parameters",
)
TEXTS = ("a" * 60, "a" * 3000 + "!", "0_." * 200, "The council met. " * 30, " " * 500, "ab" * 500)


class Patterns(Kind):
    """Half of the cases are adapters saved by peft, half are tokenizers in a model folder."""

    name = "patterns"
    title = "regular expressions in adapter_config.json and tokenizer.json"
    cases = 160

    def prepare(self) -> None:
        """Write a peft adapter, a copy of the built-in model, a document, and a table of slow-to-match texts."""
        torch.manual_seed(0)
        model = get_peft_model(
            BaseModel("tiny").load(), LoraConfig(r=2, target_modules=["c_attn"], task_type="CAUSAL_LM")
        )
        model.save_pretrained(self.folder / "adapter")
        shutil.copytree(Tiny().folder(), self.folder / "model")
        (self.folder / "text.txt").write_text("\n".join(TEXTS))
        rows = [{"document": f"{text} {i}", "summary": f"Sum {i}."} for i, text in enumerate(TEXTS * 2)]
        (self.folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.config = json.loads((self.folder / "adapter/adapter_config.json").read_text())
        self.tokenizer = json.loads((self.folder / "model/tokenizer.json").read_text())

    def attempt(self, number: int, chance: random.Random) -> Case:
        """Try one pattern in one place."""
        pattern = chance.choice(PATTERNS).replace("{a}", chance.choice(LETTERS)).replace("{{", "{").replace("}}", "}")
        name = repr(pattern[:40])
        if chance.random() < 0.08:
            name, pattern = chance.choice(list(LONG.items()))
        return self.in_adapter(pattern, name, chance) if number % 2 else self.in_tokenizer(pattern, name, chance)

    def in_adapter(self, pattern: str, name: str, chance: random.Random) -> Case:
        """Run `summarize` with an adapter."""
        field = chance.choice(FIELDS)
        table = field in ("rank_pattern", "alpha_pattern")
        value = {pattern: 2} if table else chance.choice((pattern, [pattern]))
        more = {"layers_to_transform": [0]} if field == "layers_pattern" else {}
        (self.folder / "adapter/adapter_config.json").write_text(json.dumps({**self.config, field: value, **more}))
        ended = children.command(
            ["summarize", str(self.folder / "adapter"), "--model", "tiny", "--file", str(self.folder / "text.txt")],
            seconds=LIMIT,
        )
        return judge(ended, f"{field}: {name}")

    def in_tokenizer(self, pattern: str, name: str, chance: random.Random) -> Case:
        """Run `compare --dry-run` with a tokenizer, which tokenizes every text."""
        where = chance.choice(("Split", "Replace"))
        if where == "Split":
            part = {
                "type": "Split",
                "pattern": {"Regex": pattern},
                "behavior": "Isolated",
                "invert": chance.random() < 0.3,
            }
            both = {"type": "Sequence", "pretokenizers": [part, self.tokenizer["pre_tokenizer"]]}
            found = {**self.tokenizer, "pre_tokenizer": both}
        else:
            part = {
                "type": "Replace",
                "pattern": {"Regex": pattern},
                "content": chance.choice(("", "a", "aa", "x" * 50)),
            }
            found = {**self.tokenizer, "normalizer": part}
        (self.folder / "model/tokenizer.json").write_text(json.dumps(found))
        ended = children.command(
            [
                "compare",
                "--model",
                str(self.folder / "model"),
                "--data",
                str(self.folder / "data.jsonl"),
                "--dry-run",
                "--methods",
                "lead-3",
                "--out",
                str(self.folder / "out"),
                "--preset",
                "demo",
                "--set",
                "limits.document_tokens=64",
                "limits.summary_tokens=16",
                "decoding.max_new_tokens=4",
            ],
            {"TRIPTYCH_CACHE": str(self.folder / "cache")},
            LIMIT,
        )
        return judge(ended, f"{where}: {name}")


def judge(ended: children.Ended, what: str) -> Case:
    """Judge whether a command read its input or refused it with one message, in bounded time."""
    if ended.status is None:
        return Case(HUNG, what, children.tail(ended))
    if ended.status == 0:
        return Case(RIGHT, what)
    wrong = children.complaint(ended)
    return Case(UNEXPECTED, what, wrong) if wrong else Case(REFUSED, what, children.message(ended))

"""Every command of every guide is run as written, with the files shown in the guide."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers

from support.in_process import run_here
from support.paths import CHECKOUT
from support.worlds import VOCABULARY
from triptych import cli, registry
from triptych.suite import executors, reports

GUIDES = sorted((CHECKOUT / "docs" / "guides").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```", re.DOTALL | re.MULTILINE)
SMALL = [
    "limits.train_documents=8",
    "limits.validation_documents=4",
    "limits.test_documents=3",
    "limits.document_tokens=64",
    "limits.summary_tokens=64",
    "training.max_epochs=1",
    "decoding.max_new_tokens=4",
    "decoding.num_beams=1",
    "search.trials=0",
    "seeds=[0]",
]


def blocks(guide: Path) -> Iterator[tuple[str, str, str]]:
    """`(language, word, content)` of each fenced block; the word is a file's name, or says how commands are meant."""
    for match in BLOCK.finditer(guide.read_text()):
        yield match[1], match[2] or "", match[3]


def random_model(folder: Path, config, tokenizer) -> None:
    """A folder with a small random model of this type."""
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture
def place(tmp_path, monkeypatch, tokenizer):
    """An empty folder with the models that the guides call the reader's own; no Hub; runs stay in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(registry, "_tables", {name: dict(table) for name, table in registry._tables.items()})
    monkeypatch.setattr(executors, "_carry_out", run_here)
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    random_model(tmp_path / "my-llama", transformers.LlamaConfig(num_hidden_layers=2, **shape), tokenizer)
    recurrent = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
    hybrid = transformers.OlmoHybridConfig(num_hidden_layers=4, pad_token_id=0, **shape, **recurrent)
    random_model(tmp_path / "my-olmo-hybrid", hybrid, tokenizer)
    return tmp_path


def as_tested(arguments: list[str], word: str) -> list[str]:
    """The guide's command with a small budget and, for GPT-2 or CNN/DailyMail, the embedded replacements."""
    if arguments[0] != "compare":
        return arguments
    stand_ins = [] if "--model" in arguments else ["--model", "tiny"]
    if word == "hub":
        return [*arguments, *stand_ins, "--set", *SMALL]
    if word == "assignment":
        stand_ins += ["--data", "newswire", "--methods", "untuned,lora"]
    elif "--methods" not in arguments:
        stand_ins += ["--methods", "lead-3,bitfit"]
    if "--data" not in [*arguments, *stand_ins]:
        stand_ins += ["--data", "newswire"]
    return [*arguments, *stand_ins, "--set", *SMALL]


@pytest.mark.parametrize("guide", GUIDES, ids=[guide.stem for guide in GUIDES])
def test_every_command_of_a_guide_does_what_it_says(guide, place, capsys, monkeypatch):
    """Files are written as shown, and commands run in order and end with status 0; those for the Hub request the named
    repository."""
    # the guide about reports: typesetting one takes longer than running its methods
    if guide.stem != "assignment":
        monkeypatch.setattr(reports, "write_report", lambda results, comparison, folder: None)
    ran = 0
    for language, word, content in blocks(guide):
        if word and language not in ("sh", "console"):
            (place / word).parent.mkdir(exist_ok=True)
            (place / word).write_text(content)
        if language != "sh":
            continue
        for line in content.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line, comments=True)
            ran += 1
            if program == "python":
                subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
                continue
            assert program == "triptych", line
            status = cli.main(as_tested(arguments, word))
            captured = capsys.readouterr()
            assert status == (2 if word in ("hub", "refused") else 0), f"{line}\n{captured.err}"
            if word == "hub":
                assert "hub" in captured.err.lower() and any(
                    name in captured.err for name in arguments if "/" in name
                ), captured.err
    assert ran


def test_every_guide_is_named_in_the_readme():
    """Every guide is linked from the README, and every message in the model guide's table is a real one."""
    readme = (CHECKOUT / "README.md").read_text()
    for guide in GUIDES:
        assert f"docs/guides/{guide.name}" in readme
    source = "".join(path.read_text() for path in (CHECKOUT / "src" / "triptych").rglob("*.py"))
    source = re.sub(r'"\n\s*f?"', "", source)
    table = (CHECKOUT / "docs/guides/another-model.md").read_text().split("|---|---|")[1].split("\n\n")[0]
    for row in table.strip().splitlines():
        assert row.split("|")[1].strip() in source, row

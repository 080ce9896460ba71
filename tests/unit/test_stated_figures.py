"""Figures in documents are those of records in the repository, and commands in documents can be parsed."""

import ast
import contextlib
import io
import json
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from support.paths import CHECKOUT
from triptych.analysis.comparison import compare_results
from triptych.api import list_registered
from triptych.cli.commands import make_parser
from triptych.measure.parameters import count_parameters
from triptych.models.parts import take_apart
from triptych.results.reading import read_results
from triptych.results.records import Comparison
from triptych.run.entries import make_entry

DOCUMENTS = ["README.md", *sorted(path.relative_to(CHECKOUT).as_posix() for path in CHECKOUT.glob("docs/**/*.md"))]
EXAMPLE, CNN, XSUM = "example/results", "results/cnn-dailymail", "results/xsum"
TABLES = [
    ("README.md", "## Install", EXAMPLE),
    ("README.md", "**XSum**", CNN),
    ("README.md", "**Speed**", XSUM),
    ("docs/results.md", "## SmolLM2 on CNN", EXAMPLE),
    ("docs/results.md", "## SmolLM2 on XSum", CNN),
    ("docs/results.md", "## What the SmolLM2", XSUM),
]
# how the first cell of a method's row begins, and the method's label if it differs
LABELS = {
    "last-layers, an untied": "last-head",
    "last-layers": "last-layers",
    "untuned, with chat": "untuned-chat",
    "untuned": "untuned",
    **{label: label for label in ("full", "lora", "lead-3", "prompt-tuning")},
}
DIGITS = {EXAMPLE: 4}


@cache
def comparison(name: str) -> Comparison:
    """The comparison behind a table, computed from the records in docs."""
    return compare_results(read_results(CHECKOUT / "docs" / name))


def table_before(document: str, mark: str) -> dict[str, list[str]]:
    """The cells of the last table of results before a mark in a document, by the method's label."""
    text = (CHECKOUT / document).read_text(encoding="utf-8")
    lines = text[: text.index(mark) if mark else len(text)].splitlines()
    rows: dict[str, list[str]] = {}
    for line in lines:
        first, *cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if first == "Method":
            rows = {}
        elif line.startswith("|") and (begin := next((begin for begin in LABELS if first.startswith(begin)), None)):
            rows[LABELS[begin]] = cells
    return rows


@pytest.mark.parametrize(("document", "mark", "name"), TABLES)
def test_tables_of_results_are_those_of_their_records(document, mark, name):
    """Each method's scores with intervals, losses, times and parameters are those of the comparison, rounded."""
    found, rows = table_before(document, mark), comparison(name).rows
    assert set(found) == set(rows)
    shared = name in (CNN, XSUM)  # several runs shared a GPU: no times
    for label, cells in found.items():
        row = rows[label]
        stated = " | ".join(cells)
        rouge = row.rouge1
        assert f"{rouge.mean:.1f} ({rouge.low:.1f} to {rouge.high:.1f})" in stated, label
        if row.parameters is not None and row.parameters.num_trainable_parameters:
            seconds = row.cost["train_seconds"]
            assert (f"| {seconds:.{0 if seconds > 100 else 1}f} s |" in stated) is not shared, label
            assert f"{row.parameters.num_trainable_parameters:,}" in stated, label
        if document != "README.md":
            assert f"{row.rouge2.mean:.1f} | {row.rougeLsum.mean:.1f}" in stated, label
        if (document != "README.md" or shared) and row.loss is not None and row.loss.test is not None:
            assert f"{row.loss.test:.{DIGITS.get(name, 3)}f}" in stated, label


# how the first cell of a row in docs/performance.md begins, and the row of `benchmarks/engine.py`
MEASURED = {
    "LoRA": "lora",
    "prompt tuning": "prompt-tuning",
    "last two blocks": "last-layers",
    "untied head": "last-head",
    "full fine-tuning": "full",
    "summaries, greedy": "greedy",
    "summaries, 4 beams": "beam-4",
}


def times_as_fast(result: dict) -> str:
    """How many times as fast as the fastest peer, rounded, followed by that of later epochs if there is one."""
    return ", ".join(f"{ratio:.1f}" for ratio in (result["ratio"], result["later_ratio"]) if ratio)


def test_ratios_of_speed_are_those_of_the_benchmarks():
    """Each row of docs/performance.md has the speed and memory ratios of its file, and each file has a row."""
    folder, found = CHECKOUT / "benchmarks/results", set()
    text = (CHECKOUT / "docs/performance.md").read_text(encoding="utf-8")
    model = ""
    for line in text.splitlines():
        model = next(
            (name for begin, name in (("GPT-2", "gpt2"), ("SmolLM2", "llama")) if line.startswith(begin)), model
        )
        first, *cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        row = next((row for begin, row in MEASURED.items() if first.startswith(begin)), None)
        if not line.startswith("|") or row is None:
            continue
        (file,) = folder.glob(f"*-{model}-*-{row}.json")
        result = json.loads(file.read_text(encoding="utf-8"))
        assert cells[0] == times_as_fast(result), file.name
        assert cells[2] == f"{result['memory_ratio']:.2f}", file.name
        found.add(file)
    assert found == {file for file in folder.glob("*.json") if "ratio" in json.loads(file.read_text(encoding="utf-8"))}


def test_the_speeds_of_the_readme_are_those_of_the_benchmarks():
    """The table of speeds has the ratios from the same files, and a dash if there is none."""
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8").partition("**Speed**")[2].partition("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "memory" in line]
    table = {row: cells for first, *cells in lines for begin, row in MEASURED.items() if first.startswith(begin)}
    assert set(table) == set(MEASURED.values())
    for row, cells in table.items():
        for model, cell in zip(("gpt2", "llama"), cells, strict=True):
            files = list((CHECKOUT / "benchmarks/results").glob(f"*-{model}-*-{row}.json"))
            assert len(files) == (cell != "-"), (row, model)
            for result in (json.loads(file.read_text(encoding="utf-8")) for file in files):
                assert cell == f"{times_as_fast(result)} times, memory {result['memory_ratio']:.2f}"


def test_the_answer_on_learning_rates_states_the_recorded_losses():
    """docs/questions.md compares LoRA and full fine-tuning by the losses of the runs with seed 0."""
    lines = (CHECKOUT / "benchmarks/results/recipe/search.jsonl").read_text(encoding="utf-8").splitlines()
    runs = [run for run in map(json.loads, lines) if run["seed"] == 0 and "rate" in run]
    loss = {(run["row"], run["rate"]): run["best_loss"] for run in runs}
    lora, full = (min((loss[key], key[1]) for key in loss if key[0] == row) for row in ("lora", "full"))
    text = " ".join(sections("docs/questions.md")["Full fine-tuning is worse than LoRA"].split())
    assert f"at 0.001 ({loss['lora', 0.001]:.4f} against {loss['full', 0.001]:.4f}, seed 0)" in text
    assert f"better ({full[0]:.4f} at {full[1]:g} against {lora[0]:.4f} at {lora[1]:g})" in text


def lines_of_table(title: str) -> dict[str, list[str]]:
    """The cells of the rows of all tables under a title of docs/performance.md, by the first cell."""
    text = (CHECKOUT / "docs/performance.md").read_text(encoding="utf-8")
    part = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")
    ]
    return {first: cells for first, *cells in lines}


def measured_job(name: str) -> dict:
    """A file in benchmarks/results/jobs."""
    return json.loads((CHECKOUT / f"benchmarks/results/jobs/amd-epyc-{name}.json").read_text(encoding="utf-8"))


def test_the_whole_job_is_stated_as_it_was_measured():
    """Minutes, memory, rows and ratio of both jobs, and the estimates of the dry runs, are as measured."""
    result, start = measured_job("whole-job"), measured_job("startup")
    text = " ".join((CHECKOUT / "docs/performance.md").read_text(encoding="utf-8").split())
    table = lines_of_table("The whole job")
    for name, job in result["jobs"].items():
        minutes, memory = f"{job['seconds'] / 60:.1f}", f"{job['peak_memory_bytes'] / 1e9:.1f} GB"
        assert table[name] == [minutes, memory, str(job["lines"])]
    assert f"Triptych is {result['ratio']:.1f} times as fast here" in text
    dry, demo = result["dry_run"], start["demo"]
    assert f"took {dry['seconds']:.0f} s and estimated {dry['estimated_seconds'] / 60:.1f} minutes" in text
    estimated, took = f"{demo['estimated_seconds']:.0f} s", f"{demo['took_seconds']:.0f} s"
    assert f"For the demo it estimated {estimated}, and the command took {took}" in text


def test_where_the_time_goes_is_stated_as_it_was_measured():
    """Shares of a step, and the seconds of greedy summaries, are those of the files."""
    rows = {
        "GPT-2, full fine-tuning": ("gpt2-124m", "full"),
        "GPT-2, last two blocks": ("gpt2-124m", "last-layers"),
        "GPT-2, untied head": ("gpt2-124m", "last-head"),
        "SmolLM2, LoRA": ("llama-135m", "lora"),
    }
    table = lines_of_table("Where the time goes")
    for line, (model, row) in rows.items():
        shares = measured_job(f"where-time-goes-{model}")["rows"][row]
        products, copies = shares["products with weights"], shares["copies"]
        attention = shares["products of attention"] + shares["softmax"]
        parts = (products, attention, copies, sum(shares.values()) - products - attention - copies)
        assert table[line] == [f"{part:.0%}" for part in parts], line
    for line, model in {"GPT-2": "gpt2-124m", "SmolLM2": "llama-135m"}.items():
        first, last, step, memory = measured_job(f"where-time-goes-{model}")["rows"]["greedy"].values()
        assert table[line] == [f"{first:.2f} s", f"{last:.2f} s", f"{1e3 * step:.0f} ms", f"{1e3 * memory:.0f} ms"]


def test_the_commit_of_the_demo_is_that_of_its_records():
    """README and results name the commit that the demo's records were made from."""
    record = json.loads((CHECKOUT / "docs/example/results/runs/lora/0/record.json").read_text(encoding="utf-8"))
    for document in ("README.md", "docs/results.md"):
        assert f"commit {record['provenance']['commit'][:7]}" in (CHECKOUT / document).read_text(encoding="utf-8")


def commands(document: str) -> list[list[str]]:
    """The commands of a document's fenced blocks, as words."""
    text = (CHECKOUT / document).read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if re.match(r"(triptych|python(?= (scripts|benchmarks)/)) ", line):
                found.append(shlex.split(line.partition(" | ")[0], comments=True))
    return found


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if commands(document)])
def test_commands_in_documents_can_be_parsed(document):
    """Each `triptych` command has valid arguments, and each script or benchmark is in the checkout."""
    for words in commands(document):
        if words[0] == "python":
            assert (CHECKOUT / words[1]).is_file(), words
            continue
        words = words[1 : next((place for place, word in enumerate(words) if word in ("#", ";")), None)]
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            try:
                make_parser().parse_args(words)
            except SystemExit as end:
                assert not end.code, f"triptych {' '.join(words)}: {errors.getvalue()}"


def sections(document: str) -> dict[str, str]:
    """The sections of a document by title."""
    text = (CHECKOUT / document).read_text(encoding="utf-8")
    return {part.partition("\n")[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]}


@cache
def known_tests() -> frozenset[str]:
    """The names of all tests."""
    found = set()
    for path in (CHECKOUT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return frozenset(found)


@pytest.mark.parametrize("title", sections("docs/questions.md"))
def test_every_answer_names_its_test_and_a_command(title):
    """An answer names existing tests, and ends with a command; a pytest command names a file and selects something."""
    text = sections("docs/questions.md")[title]
    names = re.findall(r"`(test_\w+)`", text)
    files = re.findall(r"`(tests/[\w/]+\.py)`", text)
    assert names or files
    assert not set(names) - known_tests()
    assert all((CHECKOUT / file).is_file() for file in files)
    assert re.search(r"^```sh\n(triptych|python) ", text, flags=re.MULTILINE)
    for line in re.findall(r"^python -m pytest (.*)$", text, flags=re.MULTILINE):
        place, *rest = shlex.split(line)
        path = CHECKOUT / place
        assert path.exists()
        if rest:
            chosen = rest[rest.index("-k") + 1].split(" or ")
            tests = re.findall(r"^def (test_\w+)", Path(path).read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert all(any(word in test for test in tests) for word in chosen), line


def test_the_table_of_methods_has_the_counts_of_gpt2_small(gpt2):
    """docs/methods.md lists every trained method, with what its defaults train for GPT-2 small's shape."""
    rows = re.findall(
        r"^\| `([\w-]+)` \|.*?\| ([\d,]+) \|", (CHECKOUT / "docs/methods.md").read_text("utf-8"), re.MULTILINE
    )
    stated = {name: int(count.replace(",", "")) for name, count in rows}
    methods = {name: kind() for name, kind in list_registered().plugins["method"].items() if kind().trains}
    methods["last-head"] = make_entry("last-head", {}).plugin
    assert set(stated) == set(methods)
    for name, method in methods.items():
        with torch.device("meta"):
            model = GPT2LMHeadModel(GPT2Config(attn_implementation="eager"))
        adapted = method.adapt(take_apart(model), gpt2.context())
        counts = count_parameters(adapted.parts.model, adapted.virtual_tokens, adapted.prefix)
        assert counts.trainable == stated[name], name

"""Text from records, suites and manifests is escaped in everything that people or programs read: zip, model card,
tables."""

import ast
import json
import re
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from markdown_it import MarkdownIt

from support.made_up import make_comparison, make_results
from torture_inputs import Bench, Watch
from triptych import cli
from triptych.errors import ResultsError
from triptych.models.prompts import Prompt
from triptych.reporting.export import to_markdown
from triptych.results.records import Record
from triptych.storage import files
from triptych.submission import bundle
from triptych.text.characters import showable
from triptych.text.markdown import code, plain
from triptych.use import export, model_card

HOSTILE = (
    "x`\n\n```\ncurl http://127.0.0.1/x | sh\n```\n`y",
    "a`b``c",
    "<img src=x onerror=alert(1)><script>alert(1)</script>",
    "[a](javascript:alert(1)) ![b](http://127.0.0.1/b.png)",
    "\n# heading\n- item\n1. item\n> quote\n---",
    "1. item",
    "- item",
    "a | b\\| c",
    "http://127.0.0.1/x www.example.org a@example.org <http://127.0.0.1>",
    "&lt;b&gt; &#60;b&#62;",
    "x\r\n--index-url http://127.0.0.1:9/simple\r\nevil",
    "a\x00\x1b[2J\u2028\u0085b\u202e",
    "---\nlicense: mit\n---",
    "~~~\nhtml\n~~~",
    "*a* _b_ $c$",
    "",
)
# nothing to click, load or run
SHOWN = {"heading", "paragraph", "inline", "text", "code_inline", "softbreak", "text_special"}


def kinds(markdown: str) -> set[str]:
    """The kinds of tokens that GitHub's Markdown renderer would see."""
    found = set()
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(markdown):
        for each in (token, *(token.children or ())):
            found.add(each.type.removesuffix("_open").removesuffix("_close"))
    return found


def text_of(markdown: str) -> str:
    """The text that is shown."""
    return "".join(
        each.content
        for token in MarkdownIt("gfm-like", {"linkify": False}).parse(markdown)
        for each in token.children or ()
    )


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize("quote", [plain, code])
def test_quoted_text_is_shown_and_nothing_else(text, quote):
    """Any text becomes one line that a Markdown renderer shows literally: no markup, link, image, HTML or line
    break."""
    quoted = quote(text)
    assert "\n" not in quoted and kinds(f"# Title {quoted}\n\nBefore {quoted} after.") <= SHOWN
    if text.strip():
        assert kinds(quoted) <= SHOWN
    visible = " ".join(showable(text).replace("\u202e", " ").split())
    assert text_of(f"Before {quoted} after.").split() == f"Before {visible} after.".split()


def test_an_address_in_plain_text_is_no_link():
    """Bare addresses, which GitHub would turn into links, are broken up."""
    assert plain("https://a.org www.a.org a@b.org") == r"https\://a.org www\.a.org a\@b.org"


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    """A results folder with reports and adapters."""
    return Bench(tmp_path_factory.mktemp("bench"), Watch())


@pytest.fixture
def out(bench, tmp_path) -> Path:
    """A copy of the results folder."""
    return shutil.copytree(bench.folder / "bundle", tmp_path / "out")


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


INJECTED = "2.13.0\n--index-url http://127.0.0.1:9/simple\nevil-package"


@pytest.mark.parametrize(
    "text", [INJECTED, "2.13.0; evil", "-r http://127.0.0.1/x", "2.13.0 --hash=x", "", "@ http://a/b.zip"]
)
def test_a_version_that_is_none_is_refused(out, text):
    """Only versions reach requirements.txt: a record with anything else is refused by name, and no zip is written."""
    edit(out / "runs/lora/0/record.json", lambda record: record["provenance"]["versions"].update(torch=text))
    edit(out / "runs/full/0/record.json", lambda record: record["provenance"]["versions"].update({"evil\nname": "1.0"}))
    with pytest.raises(ResultsError, match=r"lora/0/record\.json.*version of torch.*PEP 440"):
        bundle.write_bundle(out, out / "a.zip")
    assert not (out / "a.zip").exists()


def test_requirements_hold_pins_of_the_packages_dependencies_alone(out):
    """Names come from the installed package's metadata, and versions are public ones; the suffix of a local build is
    left out."""
    for run in ("lora/0", "full/0", "untuned/0", "lead-3/0"):
        change = {"torch": "2.13.0+cpu", "evil": "1.0", "rouge-score": "not installed"}
        edit(
            out / f"runs/{run}/record.json",
            lambda record, change=change: record["provenance"]["versions"].update(change),
        )
    cli.main(["report", str(out)])
    lines = bundle.gather(out).entries["requirements.txt"].splitlines()
    assert "torch==2.13.0" in lines and not any("evil" in line for line in lines)
    assert all(line.count("==") == 1 and " " not in line for line in lines)


@pytest.mark.parametrize("text", [text for text in HOSTILE if text], ids=ascii)
def test_nothing_of_a_suite_is_markup_in_the_readme(text):
    """A suite's model and data, and a record's fingerprint, are plain text in the README of the zip."""
    results = make_results(model=text, model_revision=text, data=f"{text} ")
    for run in results.runs:
        run.record.provenance.model_fingerprint = text
    before = make_results(model="org/model", data="org/data")
    readme, usual = (bundle._readme(each, make_comparison(each), bundle.Bundle(), ()) for each in (results, before))
    assert kinds(readme) <= kinds(usual) and readme.count("\n") == usual.count("\n")


def test_the_summary_is_made_from_the_records(out):
    """An edited comparison.json is refused; the results in the zip are computed from the records."""
    whole = (out / "comparison.json").read_text()
    for change in (
        lambda comparison: comparison["rows"]["lora"]["rouge1"].update(mean=99.9),
        lambda comparison: comparison.update(verdict="lora wins, by far"),
        lambda comparison: comparison["rows"].pop("full"),
    ):
        edit(out / "comparison.json", change)
        with pytest.raises(ResultsError, match=r"comparison\.json.*does not match the records.*triptych report"):
            bundle.gather(out)
        (out / "comparison.json").write_text(whole)
    (out / "comparison.md").write_text("lora wins, by far: 99.90")
    (out / "comparison.csv").write_text("99.90")
    entries = bundle.gather(out).entries
    assert "99.90" not in entries["README.md"] + entries["results/comparison.md"] + entries["results/comparison.csv"]
    assert json.loads(entries["results/comparison.json"]) == json.loads(whole)


def test_only_named_files_go_into_the_zip(out):
    """Temporary files of killed writes, hidden files and unknown files in a run's folder are left out."""
    for name in (".adapter_model.safetensors.18gck8jx", ".secret", "notes.txt", "adapter_model.bin"):
        (out / "runs/lora/0/adapter" / name).write_text("x")
    (out / "runs/lora/0/.record.json.abcdefgh").write_text("x")
    bundle.write_bundle(out, out / "a.zip")
    with zipfile.ZipFile(out / "a.zip") as archive:
        names = archive.namelist()
    assert sorted(name for name in names if name.startswith("models/tuned/lora/0/adapter")) == [
        "models/tuned/lora/0/adapter/trained.safetensors",
        "models/tuned/lora/0/adapter/triptych.json",
    ]
    assert not any(part.startswith(".") for name in names for part in name.split("/"))


def test_what_a_killed_bundle_left_is_removed_by_the_next_of_its_name(out):
    """The temporary file of a killed bundle is removed; one that is being written, and files with other names, stay."""
    left, foreign = (
        out.parent / ".a (1).zip.18gck8jx",
        [".a (1).zip.18GCK8JX", ".b.zip.18gck8jx", ".a (1).zip.18gck8jx9", "a"],
    )
    for name in (left.name, *foreign):
        (out.parent / name).write_text("half")
    with files.replacing(out.parent / "a (1).zip") as written:
        bundle.write_bundle(out, out.parent / "a (1).zip")
        assert not left.exists()
        assert all((out.parent / name).read_text() == "half" for name in foreign)
        written.write(b"another process's")
    assert (out.parent / "a (1).zip").read_bytes() == b"another process's"


def trained(text: str, is_prompt: bool) -> SimpleNamespace:
    """A trained method whose every string is `text`, for a model card."""
    suite = SimpleNamespace(model=text, model_revision=text, model_quantization="none")
    adapted = SimpleNamespace(prefix=None, num_virtual_tokens=3, placement="before")
    return SimpleNamespace(
        label=text,
        kind=text,
        suite=suite,
        base=SimpleNamespace(fingerprint=text, quantization=text, is_published=True),
        adapted=adapted,
        prompt=Prompt(text, before=text, chat=not is_prompt),
        is_prompt=is_prompt,
        max_document_tokens=100,
        decoding=SimpleNamespace(max_new_tokens=20, num_beams=2, no_repeat_ngram_size=3),
    )


def recorded(text: str) -> Record:
    """A record whose strings are `text`."""
    record = make_results(("lora",)).runs[0].record
    record.data.source = record.data.fingerprint = record.rouge.signature = text
    record.options = {text: text}
    return record


SOURCES = (*filter(None, HOSTILE), "org/data\nlicense: mit", "a/b\x7f\U0001f600")


@pytest.mark.parametrize("is_prompt", [True, False])
@pytest.mark.parametrize("text", SOURCES, ids=ascii)
def test_nothing_of_a_record_is_markup_in_a_model_card(text, is_prompt):
    """The card's front matter is valid YAML that keeps these strings as values if they can be names on the Hub, and its
    body shows them as plain text."""
    card, usual = (
        str(model_card.model_card(trained(each, is_prompt), recorded(each), "it was not asked for"))
        for each in (text, "org/name")
    )
    front, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()
    fields = yaml.safe_load(front)
    assert fields.get("base_model", text) == text and fields["license"] == "unknown"
    assert fields.get("datasets", [text]) == [text]
    *_, usual_front, usual_body = usual.split("---\n", 2)
    assert fields.keys() <= yaml.safe_load(usual_front).keys()
    assert kinds(body) <= kinds(usual_body)


@pytest.mark.parametrize("text", [text for text in HOSTILE if text], ids=ascii)
def test_nothing_of_a_record_is_markup_in_the_markdown_table(text):
    """Model, data, flags, score names and the signature are plain text in comparison.md."""
    results = make_results(model=text, data=f"{text} ")
    comparison = make_comparison(results).model_copy(
        update={"signature": text, "flags": [text], "verdict": text or "x"}
    )
    for row in comparison.rows.values():
        row.further_scores[text] = 1.0
    assert kinds(to_markdown(comparison)) <= SHOWN | {
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "bullet_list",
        "list_item",
        "strong",
    }


@pytest.mark.parametrize("text", [*HOSTILE, '"""\nimport os', "@separator@ @shape@", "\\"], ids=ascii)
def test_an_example_is_the_same_program_whatever_the_base_is_called(text, monkeypatch):
    """A model's name enters example.py as one string constant, and placeholders in it are not filled in."""
    row = SimpleNamespace(
        adapted=SimpleNamespace(prefix=None, placement="before"),
        is_prompt=True,
        max_document_tokens=100,
        template=SimpleNamespace(prefix_ids=(1,), separator_ids=(2, 3)),
        text=SimpleNamespace(document_lead=text, document_space=" "),
        suite=SimpleNamespace(model=text, model_revision=text),
    )
    monkeypatch.setattr(export, "base_name", lambda row: text)
    program = ast.parse(export._example(row))
    named = [node for node in program.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    assert [ast.literal_eval(node.value) for node in named if node.targets[0].id == "BASE"] == [text]
    monkeypatch.setattr(export, "base_name", lambda row: "usual")
    assert len(program.body) == len(ast.parse(export._example(row)).body)

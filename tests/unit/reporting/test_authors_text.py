"""The author's texts in the report: Markdown becomes text, tables, formulas and figures, and never markup."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from support.folders import write_results
from support.made_up import make_comparison, make_results
from triptych import cli
from triptych.errors import ResultsError, TriptychWarning
from triptych.reporting import write_report
from triptych.reporting.authors_text import formula, parse_text, read_authors_text

DISCUSSION = """# My reading

LoRA *wins* by **two points**, as [the paper](https://arxiv.org/abs/2106.09685) and [this](javascript:alert(7)) say.
It cost $5 and $6, and $\\Delta W = A B$.

$$
\\frac{\\alpha}{r} A B
$$

| method | R-1 |
|---|---:|
| mine | 12.34 |

#import "lib.typ": *
#read("/etc/passwd")
<script>alert(7)</script>
$#read("/etc/passwd")$

![A small figure](plot.png)
"""


def made(folder: Path) -> Path:
    """A folder with a discussion and its figure."""
    (folder / "discussion.md").write_text(DISCUSSION, encoding="utf-8")
    Image.new("RGB", (40, 20), "teal").save(folder / "plot.png")
    return folder


def test_markdown_is_read_into_blocks(tmp_path: Path) -> None:
    """Headings, tables, formulas and figures are blocks; lines that would be code or HTML elsewhere are text."""
    blocks = read_authors_text([made(tmp_path)]).discussion
    assert [block["kind"] for block in blocks] == ["heading", "paragraph", "formula", "table", "paragraph", "figure"]
    assert blocks[3]["align"] == ["left", "right"] and blocks[3]["rows"][0][1] == [{"kind": "text", "text": "12.34"}]
    hostile = "".join(word.get("text", word.get("source", "")) for word in blocks[4]["words"])
    assert hostile == '#import "lib.typ": * #read("/etc/passwd") <script>alert(7)</script> #read("/etc/passwd")'
    assert blocks[2]["svg"].startswith("<svg") and blocks[5]["address"].startswith("data:image/png;base64,")


def test_money_is_no_formula() -> None:
    """`$5 and $6` is text; a formula that mathtext does not support is shown as written."""
    words = parse_text("It cost $5 and $6.", Path())[0]["words"]
    assert words == [{"kind": "text", "text": "It cost $5 and $6."}]
    assert formula("\\unknown{x}")["svg"] == "" and formula("x^2")["height"] > 0


def test_a_formula_that_cannot_be_drawn_is_named_with_its_line(tmp_path: Path) -> None:
    """A malformed formula is shown as written, with a warning that gives file, line and formula."""
    text = "# It\n\nOne $x^2$\nand $\\unknown{y}$.\n\n$$\n\\frac{a\n$$\n\n| a |\n|---|\n| $\\frac{b$ |\n"
    (tmp_path / "theory.md").write_text(text)
    with pytest.warns(TriptychWarning) as said:
        read_authors_text([tmp_path])
    shown = "this formula is shown as it was written:"
    assert [str(each.message) for each in said] == [
        f"theory.md, line 4: {shown} \\unknown{{y}}",
        f"theory.md, line 6: {shown} \\frac{{a",
        f"theory.md, line 12: {shown} \\frac{{b",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("![x](absent.png)", "there is no such file"),
        ("![x](/etc/passwd)", "figures are files below the folder"),
        ("![x](../secret.png)", "figures are files below the folder"),
        ("![x](https://example.org/x.png)", "figures are files below the folder"),
        ("![x](text.png)", "not a PNG or JPEG image"),
    ],
)
def test_a_figure_that_cannot_be_shown_is_one_clear_message(text: str, said: str, tmp_path: Path) -> None:
    """A figure is a PNG or JPEG file below the text's folder; anything else is refused with the reason."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text.png").write_text("no image")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    with pytest.raises(ResultsError, match=said):
        parse_text(text, tmp_path / "in")


@pytest.mark.parametrize("written", ["<my fig.png>", "my%20fig.png", "Größe.png"])
def test_a_figure_may_have_any_name(written: str, tmp_path: Path) -> None:
    """Spaces and letters that addresses do not have are read as Markdown writes them."""
    for name in ("my fig.png", "Größe.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (block,) = parse_text(f"![a]({written})", tmp_path)
    assert block["kind"] == "figure"


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A discussion in another encoding than UTF-8 is refused, and no part of the report is written."""
    (tmp_path / "discussion.md").write_bytes(b"caf\xe9")
    results = make_results(("lora",))
    with pytest.raises(ResultsError, match="UTF-8"):
        write_report(results, make_comparison(results), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["discussion.md"]


def test_the_authors_words_are_text_in_print_and_page(tmp_path: Path) -> None:
    """Title, author and discussion are in both documents; hostile lines are printed as they are and do nothing."""
    report = {"title": "My <b>title</b> #x", "author": "A. Student", "course": "NLP", "date": "May 2026"}
    results = make_results(report=report | {"reason": "Only a laptop #emph[was] there."})
    write_report(results, make_comparison(results), made(tmp_path))
    page = (tmp_path / "report.html").read_text("utf-8")
    assert (
        len(re.findall(r"<script", page)) == 3
        and "<b>title" not in page
        and "javascript:" not in re.sub(r">[^<]*<", "><", page)
    )
    assert 'href="https://arxiv.org/abs/2106.09685"' in page and "12.34" in page and "root:" not in page
    assert page.count("A. Student · NLP · May 2026") == 1 and 'src="data:image/png;base64,' in page
    if shutil.which("pdftotext"):
        flat = printed(tmp_path)
        for part in (
            '#import "lib.typ": *',
            '#read("/etc/passwd")',
            "<script>alert(7)</script>",
            "My <b>title</b> #x",
            "A. Student",
            "My reading",
            "12.34",
            "It cost $5 and $6",
            "Only a laptop #emph[was] there.",
        ):
            assert part in flat, part
        assert "root:" not in flat


def printed(folder: Path) -> str:
    """The text of a printed report, on one line."""
    command = ["pdftotext", "-layout", str(folder / "report.pdf"), "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace("\u200b", "")
    return " ".join(text.split())


def test_the_authors_part_is_marked_and_theirs_is_the_theory(tmp_path: Path) -> None:
    """`discussion.md` and `theory.md` have sections that name the author; `theory.md` replaces the answers that every
    report has, which otherwise stay."""
    results = make_results(report={"author": "A. Student"})
    write_report(results, make_comparison(results), tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Principles of LoRA" in page and "by the author" not in page
    made(tmp_path)
    (tmp_path / "theory.md").write_text("## Why a *low rank*\n\n<b>Mine</b> #read, $\\Delta W = A B$.\n")
    write_report(results, make_comparison(results), tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    texts = [re.sub(r"<[^>]+>", "", page)]
    if shutil.which("pdftotext"):
        texts.append(printed(tmp_path))
    for text in texts:
        assert "Discussion by the author" in text and "Theory by the author" in text and "Why a low rank" in text
        assert "Principles of LoRA" not in text and "Soft prompts against discrete prompts" not in text
        assert " ".join(text.split()).count("This section was written by A. Student;") == 2
    assert "<b>Mine" not in page and "&lt;b>Mine" in page


def test_the_terminal_shows_a_warning_in_one_line(tmp_path: Path, capsys) -> None:
    """A formula that cannot be drawn gives one plain line on standard error, and the report is written."""
    out = write_results(tmp_path / "out", methods=("untuned", "lora"))
    (out / "discussion.md").write_text("$$ \\frac{a $$\n")
    assert cli.main(["report", str(out)]) == 0
    said = capsys.readouterr().err
    assert said == "triptych: discussion.md, line 1: this formula is shown as it was written: \\frac{a\n"


def test_the_authors_title_is_the_name_of_both_documents(tmp_path: Path) -> None:
    """If the author gave a title, metadata and running head use it instead of the suite's name."""
    results = make_results(report={"title": "Three ways for GPT-2"})
    write_report(results, make_comparison(results), tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<title>Three ways for GPT-2</title>" in page
    assert '<h1>Three ways for <span class="whole">GPT-2</span></h1>' in page  # within which no line breaks
    if shutil.which("pdftotext"):
        command = ["pdftotext", "-layout", str(tmp_path / "report.pdf"), "-"]
        pages = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\f")[1:-1]
        assert pages and all(page.lstrip().startswith("Three ways for GPT-2") for page in pages)
        told = subprocess.run(["pdfinfo", str(tmp_path / "report.pdf")], capture_output=True, text=True, check=True)
        assert re.search(r"^Title: +Three ways for GPT-2$", told.stdout, re.M)


def test_what_the_author_adds_is_kept_and_changes_no_run(tmp_path: Path, capsys) -> None:
    """`report --set` writes the text into suite.json and later reports have it; records do not; other keys are
    refused."""
    out = write_results(tmp_path / "out", methods=("untuned", "lora"))
    records = {path: path.read_bytes() for path in out.rglob("record.json")}
    assert cli.main(["report", str(out), "--set", "report.author=A. Student", "report.date=May 2026"]) == 0
    kept = json.loads((out / "suite.json").read_text())["report"]
    assert (kept["author"], kept["date"], kept["title"]) == ("A. Student", "May 2026", "")
    assert cli.main(["report", str(out)]) == 0
    assert "A. Student · May 2026" in (out / "report.html").read_text("utf-8")
    assert all(path.read_bytes() == before for path, before in records.items())
    before = (out / "suite.json").read_bytes()
    capsys.readouterr()
    assert cli.main(["report", str(out), "--set", "limits.test_documents=3"]) == 2
    assert "takes only settings of [report]" in capsys.readouterr().err
    assert cli.main(["report", str(out), "--set", "report.autor=x"]) == 2
    assert "Did you mean 'author'" in capsys.readouterr().err and (out / "suite.json").read_bytes() == before


def test_a_text_may_begin_with_any_level_of_heading(tmp_path):
    """The shallowest heading of a text becomes the first level below the report's own, so no number is zero."""
    blocks = parse_text("## One\n\nText.\n\n### Two\n\n## Three\n", tmp_path)
    assert [block["level"] for block in blocks if block["kind"] == "heading"] == [1, 2, 1]

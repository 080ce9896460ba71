"""The author's own text in the report: Markdown as text, tables, formulas and figures, and never as markup."""

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
from triptych.errors import ResultsError
from triptych.reporting import write_report
from triptych.reporting.authors_text import formula, parse_discussion, read_discussion

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
    """Headings, tables, formulas and figures are blocks; a line that would be code or HTML elsewhere is text."""
    blocks = read_discussion([made(tmp_path)])
    assert [block["kind"] for block in blocks] == ["heading", "paragraph", "formula", "table", "paragraph", "figure"]
    assert blocks[3]["align"] == ["left", "right"] and blocks[3]["rows"][0][1] == [{"kind": "text", "text": "12.34"}]
    hostile = "".join(word.get("text", word.get("source", "")) for word in blocks[4]["words"])
    assert hostile == '#import "lib.typ": * #read("/etc/passwd") <script>alert(7)</script> #read("/etc/passwd")'
    assert blocks[2]["svg"].startswith("<svg") and blocks[5]["address"].startswith("data:image/png;base64,")


def test_money_is_no_formula() -> None:
    """`$5 and $6` is text; a formula that mathtext does not know is shown as it was written."""
    words = parse_discussion("It cost $5 and $6.", Path())[0]["words"]
    assert words == [{"kind": "text", "text": "It cost $5 and $6."}]
    assert formula("\\unknown{x}")["svg"] == "" and formula("x^2")["height"] > 0


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
    """A figure is a PNG or JPEG file below the folder of the text; anything else is refused with the reason."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text.png").write_text("no image")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    with pytest.raises(ResultsError, match=said):
        parse_discussion(text, tmp_path / "in")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A discussion in another encoding than UTF-8 is refused, and nothing of the report is written."""
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
        command = ["pdftotext", "-layout", str(tmp_path / "report.pdf"), "-"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace("\u200b", "")
        flat = " ".join(printed.split())
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


def test_what_the_author_adds_is_kept_and_changes_no_run(tmp_path: Path, capsys) -> None:
    """`report --set` writes it into suite.json, a later report has it, records do not; other keys are refused."""
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
    assert "takes settings of [report] alone" in capsys.readouterr().err
    assert cli.main(["report", str(out), "--set", "report.autor=x"]) == 2
    assert "Did you mean 'author'" in capsys.readouterr().err and (out / "suite.json").read_bytes() == before

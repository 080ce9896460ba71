"""The notebook in `examples/` runs from its first cell to its last, as a reader runs it."""

import ast
import json

import pytest

from support.in_process import run_here
from support.paths import CHECKOUT
from triptych.suite import executors, reports

NOTEBOOK = CHECKOUT / "examples/compare.ipynb"
SMALLER = {'"train_documents": 64': '"train_documents": 8', '"max_new_tokens": 48': '"max_new_tokens": 8', "16,": "4,"}


def run_cell(source: str, names: dict[str, object]) -> object:
    """Run the code of a cell; return the value of its last line, which a notebook shows."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


def test_every_cell_runs_and_shows_what_the_text_says(workplace, monkeypatch, capsys):
    """Its cells run in order on fewer documents; runs stay in this process, and no report is typeset."""
    monkeypatch.setattr(executors, "_carry_out", run_here)
    monkeypatch.setattr(reports, "write_report", lambda results, comparison, folder: None)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")
    names: dict[str, object] = {}
    shown = []
    for cell in cells:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            for large, small in SMALLER.items():
                source = source.replace(large, small)
            shown.append(run_cell(source, names))
    head, planned, comparison, figures, tests, verdict, summary, _ = shown
    assert list(head.columns) == ["id", "document", "summary"]
    assert planned == {"lead-3": 1, "untuned": 1, "lora": 1}
    assert "lora" in comparison._repr_html_() and figures.loc["lora", "num_trainable_parameters"] > 0
    assert len(tests) == 3 and isinstance(verdict, str) and isinstance(summary, str)
    rows = names["comparison"].rows
    trained = sorted((rows[label] for label in ("lora", "bitfit")), key=lambda row: (-row.rouge1.mean, row.loss.test))
    assert names["best"].label == trained[0].label  # of equal means, the one with the lower test loss
    said = capsys.readouterr().out
    assert "notebook/runs/" in said and "With at most 50,000 trainable parameters" in said
    assert sorted(path.parent.name for path in (workplace / "notebook/runs").glob("*/0")) == [
        "bitfit",
        "lead-3",
        "lora",
        "untuned",
    ]


@pytest.mark.parametrize("cell", ["markdown", "code"])
def test_the_notebook_is_of_the_format_that_editors_read(cell):
    """The notebook has format 4.5, with a distinct id for each cell."""
    book = json.loads(NOTEBOOK.read_text())
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    ids = [each["id"] for each in book["cells"]]
    assert len(set(ids)) == len(ids) and cell in {each["cell_type"] for each in book["cells"]}

"""A results folder can be passed on without texts: everything else is reproduced from the copy."""

import json

import pytest

from support.folders import write_results
from triptych import api, cli
from triptych.errors import ResultsError
from triptych.reporting import write
from triptych.results.reading import read_results
from triptych.results.without_texts import copy_without_texts
from triptych.scored.stored import rescore


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A small results folder, and the destination of its copy; reports are not printed, which takes seconds."""
    monkeypatch.setattr(write, "to_pdf", lambda report: b"")
    return write_results(tmp_path / "out"), tmp_path / "copy"


def files_of(folder) -> dict[str, str]:
    """Every text file of a folder by its path within it."""
    return {
        str(path.relative_to(folder)): path.read_text("utf-8", "replace")
        for path in folder.rglob("*")
        if path.suffix in (".json", ".jsonl", ".csv", ".md", ".html")
    }


def test_the_copy_gives_the_same_comparison(finished):
    """Compared again, the copy has every figure of the original, including those about its texts, and no text."""
    out, copy = finished
    first = api.report(out, to=copy, texts=False)
    assert first.checks is not None
    assert api.report(copy) == first
    lines = [line for run in read_results(out).runs for line in run.predictions]
    texts = {text for line in lines for text in (line.prediction, line.reference)}
    found = files_of(copy)
    assert texts and not [(name, text) for name, body in found.items() for text in texts if text in body]
    assert {"suite.json", "comparison.json", "report.html"} <= set(found)
    assert api.advise(copy).choice == api.advise(out).choice


def test_a_copy_of_a_copy_is_the_same(finished, tmp_path):
    """A copy of a copy is the same: the digests are those of the texts."""
    out, copy = finished
    api.report(out, to=copy, texts=False)
    api.report(copy, to=tmp_path / "second", texts=False)
    first, second = files_of(copy), files_of(tmp_path / "second")
    assert first == second and any(name.endswith("predictions.jsonl") for name in first)


def test_a_changed_copy_is_refused(finished):
    """The scores of a copy must match its record, like those of a run."""
    out, copy = finished
    api.report(out, to=copy, texts=False)
    path = next(copy.glob("runs/*/*/predictions.jsonl"))
    path.write_text(path.read_text().replace('"rouge1": ', '"rouge1": 1', 1))
    with pytest.raises(ResultsError, match="they are from different runs"):
        read_results(copy)


def test_a_copy_is_not_written_over_runs(finished, tmp_path):
    """A copy never overwrites other runs; it replaces an earlier copy."""
    out, copy = finished
    other = write_results(tmp_path / "other")
    before = files_of(other)
    with pytest.raises(ResultsError, match="holds runs with their texts"):
        api.report(out, to=other, texts=False)
    assert files_of(other) == before
    for _ in range(2):
        api.report(out, to=copy, texts=False)
    assert json.loads(next(copy.glob("runs/*/*/record.json")).read_text())["texts_left_out"] is True


@pytest.mark.parametrize("place", ["runs/exp1/model.bin", "runs/lora/0/checkpoint/8.safetensors", "scaling/notes.txt"])
def test_a_copy_removes_nothing_but_a_copy(finished, place):
    """A folder that holds anything but an earlier copy where the copy goes is refused and stays as it was."""
    out, copy = finished
    file = copy / place
    file.parent.mkdir(parents=True)
    file.write_text("precious")
    with pytest.raises(ResultsError, match="not from a copy without texts"):
        api.report(out, to=copy, texts=False)
    assert file.read_text() == "precious" and not (copy / "suite.json").exists()


def test_a_copy_leaves_nothing_of_an_earlier_one(finished, tmp_path):
    """The copy of a comparison without a data-size curve has none of an earlier copy's runs on fewer documents."""
    out, copy = finished
    curve = write_results(tmp_path / "curve", scaling={"train_documents": (100,)})
    write_results(curve / "scaling" / "100", ("prompt-tuning", "lora", "full"), name="curve")
    copy_without_texts(read_results(curve), None, copy)
    assert any(copy.glob("scaling/100/runs/*/*/record.json"))
    copy_without_texts(read_results(out), None, copy)
    assert not (copy / "scaling").exists() and read_results(copy).labels == read_results(out).labels


def test_a_copy_has_nothing_to_score(finished):
    """Scoring a copy with another metric is refused, since it needs the summaries; the message says where they are."""
    out, copy = finished
    api.report(out, to=copy, texts=False)
    with pytest.raises(ResultsError, match="holds scores without the summaries"):
        rescore(copy, "rouge", False, lambda done, total: None)


def test_what_was_written_is_listed(finished, capsys, monkeypatch):
    """The files of a report are listed, and for a copy the copied files as well."""
    out, copy = finished
    monkeypatch.setattr("triptych.suite.reports.write_report", lambda results, comparison, to: None)
    reports = "comparison.json, comparison.csv, comparison_tests.csv, comparison.md, report.pdf, report.html"
    assert cli.main(["report", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"\n{out}: {reports}\n")
    assert cli.main(["report", str(out), "--without-texts", "--to", str(copy)]) == 0
    assert capsys.readouterr().out.endswith(f"\n{copy}: {reports}, suite.json, checks.json, runs/\n")

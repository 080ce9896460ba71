"""How methods gain with data: what is planned, what is refused, and what is derived from the results."""

import json
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from support.folders import edit_record, put, write_results, write_run
from triptych import api, cli
from triptych.analysis.comparison import compare_results
from triptych.config.reading import preset_settings
from triptych.config.schema import make_suite
from triptych.errors import ConfigError, ResultsError
from triptych.models.base import BaseModel
from triptych.reporting.document import report_data
from triptych.reporting.figures import figures
from triptych.results import json_files, layout
from triptych.results.reading import read_results, read_suite
from triptych.run import entries
from triptych.run.corpus import load_corpus
from triptych.run.entries import resolve, smaller_suite

METHODS = ("untuned", "prompt-tuning", "lora")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A finished suite whose trained methods also ran on 16 and 32 documents; its own records say 64."""
    out = write_results(tmp_path / "curve", METHODS, scaling={"train_documents": [16, 32]})
    suite = read_suite(out / "suite.json")
    for size, loss in ((16, 4.0), (32, 2.0)):
        folder = layout.scaled_folder(out, size)
        smaller = smaller_suite(suite, entries.suite_entries(suite), size).model_dump(mode="json")
        json_files.write_json(folder / "suite.json", smaller)
        for label in ("prompt-tuning", "lora"):
            for seed in (0, 1):
                gain = {"prompt-tuning": 3.0, "lora": 8.0}[label] - loss
                write_run(folder, smaller, label, seed, gain)
                for field, value in (("data.splits.train.used", size), ("data.fingerprint", f"of {size}")):
                    edit_record(folder, f"{label}/{seed}", lambda record, f=field, v=value: put(record, f, v))
    return out


def test_the_curve_has_a_point_for_each_size_and_the_suite_itself(out: Path):
    """Each size has the trained methods with their tests; the suite is the last point; rising data gives the expected
    gains."""
    comparison = compare_results(read_results(out))
    assert [point.train_documents for point in comparison.scaling] == [16, 32, 64]
    for point in comparison.scaling:
        assert list(point.rows) == ["prompt-tuning", "lora"] and len(point.tests) == 4
    assert comparison.scaling[-1].rows["lora"] == comparison.rows["lora"]
    for test in comparison.scaling[-1].tests:  # of one pair: without the baseline's pairs, nothing is corrected
        assert test.p_value_adjusted == test.p_value
    gains = {(test.a, test.b): test for point in comparison.scaling for test in point.gains if test.metric == "rouge1"}
    assert list(gains) == [(f"{label}@{b}", f"{label}@{a}") for a, b in ((16, 32), (32, 64)) for label in point.rows]
    assert all(gains[pair].difference == pytest.approx(2) for pair in gains)
    assert all(test.p_value_adjusted >= test.p_value for test in gains.values())
    assert compare_results(read_results(out)) == comparison


def test_the_curve_is_in_the_report(out: Path):
    """The report has the table, a line for each method and size, and a figure that names every size."""
    results = read_results(out)
    comparison = compare_results(results)
    document, drawing = report_data(results, comparison), figures(results, comparison)["scaling"].svg
    table = document["tables"]["scaling"]
    assert [(row[0]["text"], row[1]["text"]) for row in table["rows"]] == [
        (label, size) for label in ("prompt-tuning", "lora") for size in ("16", "32", "64")
    ]
    assert ">16<" in drawing.replace("\n", "") and "training documents" in drawing


def test_no_curve_is_asked_for_and_none_is_shown(tmp_path: Path):
    """A suite without [scaling] has neither points nor table nor figure."""
    results = read_results(write_results(tmp_path / "plain", METHODS))
    comparison = compare_results(results)
    document = report_data(results, comparison)
    assert comparison.scaling == [] and "scaling" not in document["tables"]
    assert "scaling" not in figures(results, comparison)


@pytest.mark.parametrize(
    ("field", "value"),
    [("config.limits.document_tokens", 99), ("config.decoding.num_beams", 1), ("rouge.signature", "other")],
)
def test_sizes_that_differ_in_more_than_size_are_refused(out: Path, field: str, value):
    """A point that differs in lengths, decoding or metric is refused with the field and both values, like any other
    run."""
    for label in ("prompt-tuning", "lora"):
        for seed in (0, 1):
            edit_record(layout.scaled_folder(out, 16), f"{label}/{seed}", lambda record: put(record, field, value))
    with pytest.raises(ResultsError, match=f"{field} is .*{value!r}"):
        compare_results(read_results(out))


def test_points_that_are_not_there_are_said(out: Path):
    """A size without finished runs, and a missing run of another size, are named in the flags, not ignored."""
    (layout.scaled_folder(out, 16) / "runs").rename(out / "gone")
    record = layout.scaled_folder(out, 32) / "runs/lora/1/record.json"
    record.rename(out / "record")
    with pytest.raises(ResultsError, match="has not finished"):
        read_results(out)
    comparison = compare_results(read_results(out, partial=True))
    assert [point.train_documents for point in comparison.scaling] == [32, 64]
    flags = " ".join(comparison.flags)
    assert "asks for 16 training documents" in flags
    assert "Missing from this comparison, on 32 training documents: lora (seed 1)" in flags


def test_points_on_other_test_documents_are_refused_before_a_run(workplace):
    """A long prompt of an untrained method shortens the documents of the whole suite, but not those of the curve."""
    data = workplace / "long.jsonl"
    lines = [
        json.dumps({"document": f"Text {n} goes on. " * 100, "summary": "It is. " * (1 + n * 4)}) for n in range(40)
    ]
    data.write_text("\n".join(lines))
    limits = {"train_documents": 0, "validation_documents": 0, "test_documents": 0, "document_tokens": 150}
    settings = {
        "data": str(data),
        "limits": limits | {"summary_tokens": 100},
        "method": {"asked": {"kind": "untuned", "before": "Summarize it. " * 40}},
        "scaling": {"train_documents": [6]},
    }
    check = partial(api.dry_run, preset="demo", settings=settings, timing=False, out=workplace / "out", device="cpu")
    with pytest.raises(ConfigError, match=r"scaling.train_documents: on 6 documents, other \w+ documents fit"):
        check(methods=["asked", "lora"])
    check(methods=["lora"])


def test_a_point_is_the_suite_on_fewer_documents():
    """The suite of a point differs from its parent in the number of documents and in the methods that do not train."""
    suite, table = resolve({**preset_settings("demo"), "scaling": {"train_documents": [16]}})
    smaller = smaller_suite(suite, table, 16).model_dump()
    assert smaller.pop("limits") == {**suite.limits.model_dump(), "train_documents": 16}
    assert smaller.pop("methods") == ("prompt-tuning", "lora", "last-layers", "full") == tuple(smaller.pop("method"))
    assert smaller.pop("scaling") == {"train_documents": ()}
    assert smaller == {key: value for key, value in suite.model_dump().items() if key in smaller}
    with pytest.raises(ConfigError, match="no method of the suite is trained"):
        smaller_suite(suite, [row for row in table if not row.trains], 16)


def test_a_larger_sample_holds_the_smaller_one(tmp_path: Path):
    """A point's training documents are among those of every larger one; validation and test are the same."""
    suite, table = resolve(preset_settings("demo"))
    base = BaseModel.of(suite)
    found = [load_corpus(smaller_suite(suite, table, size), table, base, tmp_path) for size in (10, 30, 100)]
    for small, large in pairwise(found):
        assert set(small.train.ids) < set(large.train.ids)
        assert small.validation.ids == large.validation.ids and small.test.ids == large.test.ids
    assert [len(corpus.train) for corpus in found] == [10, 30, 100]


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ("[30, 10]", ["scaling.train_documents", "increasing order"]),
        ("[0, 10]", ["scaling.train_documents"]),
        ("[10, 256]", ["256", "last point of the curve"]),
        ("many", ["scaling.train_documents"]),
    ],
)
def test_sizes_that_make_no_curve_are_refused(sizes: str, words: list[str], tmp_path: Path, capsys, monkeypatch):
    """Sizes that do not rise, are not numbers, or reach the suite's own size end with status 2 before anything is
    written."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    command = [
        "compare",
        "--methods",
        "lora",
        "--out",
        str(tmp_path / "out"),
        "--set",
        f"scaling.train_documents={sizes}",
    ]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words) and not (tmp_path / "out").exists()


def test_a_suite_without_a_curve_reads_as_before():
    """The key has a default: suites without it stay valid."""
    assert make_suite(preset_settings("demo")).scaling.train_documents == ()

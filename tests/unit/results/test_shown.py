"""Comparisons and records as frames, dictionaries, one line, and a table in a notebook."""

import csv
import io
import json
import subprocess
import sys

import pandas
import pytest

import triptych
from support.folders import edit_record, write_results
from triptych.analysis.comparison import compare_results
from triptych.errors import DataError
from triptych.reporting.export import to_csv
from triptych.results.reading import read_results
from triptych.results.records import Comparison, Record
from triptych.use.summarizers import Summary, Trained


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> Comparison:
    """A comparison with a method whose label is markup, and a failed method."""
    out = write_results(tmp_path_factory.mktemp("shown") / "out", methods=("lead-3", "lora", "full"), seeds=(0, 1))
    for seed in (0, 1):
        edit_record(out, f"full/{seed}", lambda record: record.update(status="failed", error="out of <memory>"))
    return compare_results(read_results(out))


def test_a_frame_has_the_columns_and_figures_of_the_csv(comparison):
    """A frame has one row for each method, indexed by label, with raw numbers."""
    frame = comparison.to_frame()
    lines = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    assert list(frame.index) == [line["label"] for line in lines] == ["lead-3", "lora", "full"]
    assert ["label", *frame.columns] == list(lines[0])
    assert frame.loc["lora", "rouge1_mean"] == comparison.rows["lora"].rouge1.mean == float(lines[1]["rouge1_mean"])
    assert frame.loc["full", "status"] == "failed" and pandas.isna(frame.loc["full", "rouge1_mean"])
    tests = comparison.tests_to_frame()
    assert len(tests) == len(comparison.tests) and {"a", "b", "metric", "p_value_adjusted"} <= set(tests.columns)


def test_a_dictionary_is_what_the_file_holds(comparison):
    """`to_dict` gives plain JSON that restores the same object."""
    data = comparison.to_dict()
    assert json.loads(json.dumps(data)) == data and Comparison.model_validate(data) == comparison


def test_what_is_printed_is_one_short_line(comparison, tmp_path):
    """Neither a comparison nor a record prints thousands of characters."""
    assert repr(comparison).startswith("<Comparison 'out': lead-3, lora, full; 2 seeds, 40 test documents.")
    record = Record(label="lora", kind="lora", seed=3, status="failed", config={"a": "b" * 999}, options={})
    assert repr(record) == str(record) == "<Record lora, seed 3: failed>"
    assert len(repr(comparison)) < 400


def test_a_notebook_shows_a_table_in_which_nothing_is_markup(comparison):
    """Every method, the verdict and the flags are in the table, escaped."""
    html = comparison.model_copy(update={"flags": ["beware of <script>"]})._repr_html_()
    assert html.count("<tr>") == 4 and "&lt;script&gt;" in html and "<script>" not in html
    assert "lora" in html and "failed" in html and f"{comparison.rows['lora'].rouge1.mean:.2f}" in html
    record = Record(label="<b>", kind="lora", seed=0, status="failed", config={}, options={}, error="no\n<memory>")
    assert "&lt;b&gt;, seed 0" in record._repr_html_() and "&lt;memory&gt;" in record._repr_html_()


class Shouting(Trained):
    """Summarizes by shouting."""

    def stream(self, documents):
        """The text in capitals."""
        yield from ((index, Summary(text.upper())) for index, text in enumerate(documents))


def test_one_text_has_one_summary_and_several_a_list(tmp_path):
    """A string is never taken for a list of letters, and an empty one is refused."""
    loud = Shouting("loud", "shouting", tmp_path, None)
    assert loud.summarize("It met. It agreed.") == "IT MET. IT AGREED."
    assert loud.summarize(["a b", "c"]) == ["A B", "C"] and loud.summarize([]) == []
    with pytest.raises(DataError, match="Document 1 of 1 is empty"):
        loud.summarize(" ")
    assert repr(loud) == f"<Shouting 'loud' (shouting) from {str(tmp_path)!r}>"


def test_completion_shows_the_public_names():
    """`dir(triptych)` lists the public names, before any of them was imported."""
    code = "import triptych; print(' '.join(dir(triptych)))"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(names) == {*triptych.__all__, "__version__"}

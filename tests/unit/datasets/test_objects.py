"""Data given as Python objects: every kind of object with the same texts gives the same file."""

from pathlib import Path

import datasets
import numpy as np
import pandas
import pyarrow
import pytest

from triptych.config.schema import Columns
from triptych.contracts import Example
from triptych.datasets.objects import is_object, write_objects
from triptych.datasets.tables import Tables
from triptych.errors import DataError, ResultsError

PAIRS = [(f"The council met on day {n}. It agreed.", f"It met on day {n}.") for n in range(7)]
ROWS = [{"document": document, "summary": summary} for document, summary in PAIRS]
COLUMNS = {"document": [pair[0] for pair in PAIRS], "summary": [pair[1] for pair in PAIRS]}
USUAL = Columns()


def _read(folder: Path, columns: Columns = USUAL) -> dict[str, list[tuple[str, str]]]:
    tables = Tables(path=folder, columns=columns)
    return {split: [(each.document, each.summary) for each in tables.examples(split)] for split in tables.splits()}


@pytest.mark.parametrize(
    "data",
    [
        PAIRS,
        [list(pair) for pair in PAIRS],
        iter(PAIRS),
        ROWS,
        (row for row in ROWS),
        COLUMNS,
        pandas.DataFrame(ROWS),
        pandas.DataFrame(ROWS, index=np.arange(7) + 90),
        pandas.DataFrame(ROWS, dtype="category"),
        pandas.DataFrame({"date": [pandas.Timestamp(0)] * 7, **COLUMNS}),
        pyarrow.table(COLUMNS),
        datasets.Dataset.from_list(ROWS),
        datasets.Dataset.from_list([*ROWS, *ROWS]).select(range(7)),
        datasets.Dataset.from_list(ROWS).with_format("numpy"),
        datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
    ],
)
def test_every_kind_of_object_with_the_same_texts_is_one_folder(data, tmp_path):
    """Only the columns that are read are written, and the folder is named after their content."""
    expected = write_objects(PAIRS, tmp_path, USUAL)
    assert is_object(data) and write_objects(data, tmp_path, USUAL) == expected
    assert _read(expected) == {"all": PAIRS}
    assert [path.name for path in tmp_path.iterdir()] == [expected.name]


@pytest.mark.parametrize("make", [list, pandas.DataFrame, datasets.Dataset.from_list])
def test_splits_are_files_of_their_names(make, tmp_path):
    """A dictionary of splits, under any of their usual names, gives a folder with a file for each."""
    splits = {"training": make(ROWS[:4]), "dev": make(ROWS[4:5]), "test": make(ROWS[5:])}
    made = write_objects(splits, tmp_path, USUAL)
    assert _read(made) == {"train": PAIRS[:4], "validation": PAIRS[4:5], "test": PAIRS[5:]}
    if make is datasets.Dataset.from_list:
        assert write_objects(datasets.DatasetDict(splits), tmp_path, USUAL) == made


def test_a_folder_of_save_to_disk_is_a_path_that_is_read_as_it_is(tmp_path):
    """A path is not an object: what `save_to_disk` wrote is read where it is."""
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "saved")
    assert not is_object(tmp_path / "saved") and not is_object("abisee/cnn_dailymail")
    assert _read(tmp_path / "saved") == {"train": PAIRS}


def test_ids_and_columns_of_the_users_own_are_kept_under_their_names(tmp_path):
    """A column named in settings is read, and a whole number or text in the id column is the document's id."""
    frame = pandas.DataFrame({"nr": [3, 5], "main text": ["A b.", "C d."], "in short": ["A.", "C."]})
    columns = Columns(id="nr", document="main text", summary="in short")
    made = write_objects(frame, tmp_path, columns)
    assert [each.id for each in Tables(path=made, columns=columns).examples("all")] == ["3", "5"]
    examples = [Example("x", "A b.", "A."), Example("y", "C d.", "C.")]
    read = Tables(path=write_objects(examples, tmp_path, USUAL)).examples("all")
    assert [(each.id, each.document) for each in read] == [("x", "A b."), ("y", "C d.")]


def test_a_key_that_the_first_dictionary_lacks_is_a_column(tmp_path):
    """Ids of later rows are kept, and the first row's id comes from its position; an iterator's first row must have all
    keys."""
    rows = [{"document": "A b.", "summary": "A."}, {"id": "x", "document": "C d.", "summary": "C."}]
    read = Tables(path=write_objects(rows, tmp_path, USUAL)).examples("all")
    assert [(each.id, each.document) for each in read] == [("all-1", "A b."), ("x", "C d.")]
    with pytest.raises(DataError, match=r"data, row 2: the first row has no key 'id'\. Give a list"):
        write_objects(iter(rows), tmp_path, USUAL)


def test_what_is_missing_is_empty_and_lists_of_sentences_are_one_text(tmp_path):
    """NaN, None and pandas' NA are empty cells, as in a file; a list of sentences is joined."""
    frame = pandas.DataFrame({"document": ["A b.", None, float("nan"), pandas.NA], "summary": ["A.", "B.", "C.", "D."]})
    assert [pair[0] for pair in _read(write_objects(frame, tmp_path, USUAL))["all"]] == ["A b.", "", "", ""]
    rows = [{"document": ["One day.", "Then."], "summary": np.array(["A day.", "More."])}]
    assert _read(write_objects(rows, tmp_path, USUAL))["all"] == [("One day.\nThen.", "A day.\nMore.")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "data has no rows"),
        (pandas.DataFrame({"document": [], "summary": []}), "data has no rows"),
        (5, r"data is 5 \(int\)\. Give a path, a name on the hub, a pandas DataFrame"),
        (["one text", "another"], r"row 1: 'one text' is not a pair"),
        ([("a", "b"), ("c", "d", "e")], r"row 2: .* is not a pair"),
        ([{"document": "a", "summary": "b"}, ("c", "d")], r"row 2: .* one kind"),
        ([("a", 5)], r"data, row 1: column 'summary' holds 5"),
        (pandas.DataFrame({"x1": ["a"], "x2": ["b"]}), "no column is known to hold the document"),
        ({"document": ["a", "b"], "summary": ["c"]}, "columns of different lengths"),
        ({"document": "a"}, "neither splits nor columns"),
        ({"train": "folder/train.csv"}, r"data\['train'\] is 'folder/train.csv': give the table itself"),
        ({"train": PAIRS, "more": PAIRS}, "'more', which is not a split"),
        ({"train": PAIRS, "test": []}, r"data\['test'\] has no rows"),
        ([("half \ud83d", "a")], "half characters"),
    ],
)
def test_what_is_no_data_is_one_message_and_leaves_nothing(data, message, tmp_path):
    """The message says which rows are wrong and what may be given; no file is left."""
    with pytest.raises(DataError, match=message):
        write_objects(data, tmp_path / "data", USUAL)
    assert not any((tmp_path / "data").iterdir()) if (tmp_path / "data").exists() else True


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path):
    """A file where the folder should be is named."""
    (tmp_path / "data").write_text("mine")
    with pytest.raises(ResultsError, match="cannot be written"):
        write_objects(PAIRS, tmp_path / "data", USUAL)

"""Tables: what a folder contains, what role each column has, and the message about a broken file."""

import csv
import gzip
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.paths import CHECKOUT
from triptych.config.reading import as_setting, parse_setting
from triptych.config.schema import Columns
from triptych.contracts import Example
from triptych.datasets import open_dataset, tables
from triptych.datasets.tables import DOCUMENT_NAMES, SUMMARY_NAMES, Roles, Tables, describe_tables, recognize
from triptych.errors import DataError
from triptych.results.records import SplitCounts

ROWS = [("a1", "One. Two.", "First\nline"), ("a2", 'He said "no", twice.', "Second"), ("a3", "Drei über vier", "Third")]
EXAMPLES = [Example(*row) for row in ROWS]


def as_csv(rows=ROWS, header=("id", "article", "highlights"), delimiter=",") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([header, *rows] if header else rows)
    return text.getvalue().encode()


def as_jsonl(rows=ROWS, names=("id", "document", "summary")) -> bytes:
    return b"".join(json.dumps(dict(zip(names, row, strict=True))).encode() + b"\n" for row in rows)


def as_parquet(rows=ROWS, names=("id", "dialogue", "summary")) -> bytes:
    sink = io.BytesIO()
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


def write(folder: Path, **files: bytes) -> Path:
    """Write files named NAME_ENDING, where further underscores stand for further dots."""
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return folder


def read(path: Path, split: str = "train", **columns: str) -> list[Example]:
    return list(Tables(path=path, columns=Columns(**columns)).examples(split))


def message(path: Path, split: str = "train", **columns: str) -> str:
    """The message about a split that cannot be read, on one line."""
    with pytest.raises(DataError) as caught:
        read(path, split, **columns)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.csv", as_csv()),
        ("Train.CSV", as_csv()),
        ("train.csv.gz", gzip.compress(as_csv())),
        ("train.tsv", as_csv(delimiter="\t")),
        ("train.csv", b"\xef\xbb\xbf" + as_csv()),
        ("train.jsonl", as_jsonl()),
        ("train.json", as_jsonl()),
        ("samsum-train.jsonl.gz", gzip.compress(as_jsonl())),
        ("train.parquet", as_parquet()),
        ("train-00000-of-00001.parquet", as_parquet()),
        ("train.csv", as_csv().replace(b"\r\n", b"\n")),
    ],
)
def test_every_format_gives_the_same_examples(tmp_path, name, content):
    """Every format and spelling of a name gives the same examples, including line breaks and quotes in texts."""
    (tmp_path / name).write_bytes(content)
    assert [e.summary.replace("\r\n", "\n") for e in read(tmp_path)] == [e.summary for e in EXAMPLES]
    assert read(tmp_path) == EXAMPLES
    assert Tables(path=tmp_path).splits() == ("train",)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.text("ab,\"'\n\r\t é€𝄞", max_size=12), st.text('xy,"\n\r ', max_size=8)), min_size=1, max_size=5
    )
)
def test_csv_round_trip(tmp_path, pairs):
    """Everything Python's csv module writes is read back unchanged."""
    rows = [(document, summary + "s") for document, summary in pairs]
    write(tmp_path, train_csv=as_csv(rows, ("document", "summary")))
    assert [(e.document, e.summary) for e in read(tmp_path)] == rows


def test_splits_and_their_aliases(tmp_path):
    """Splits are recognized by name or alias, train first, and exactly the existing ones are reported."""
    write(tmp_path, test_csv=as_csv(), train_jsonl=as_jsonl(), val_parquet=as_parquet(), notes_csv=as_csv())
    (tmp_path / "README.md").write_text("no table")
    assert Tables(path=tmp_path).splits() == ("train", "validation", "test")
    (tmp_path / "val.parquet").rename(tmp_path / "x.parquet")
    assert Tables(path=tmp_path).splits() == ("train", "test")


def test_one_file_is_one_split_to_be_cut(tmp_path):
    """One file, given by itself or alone in a folder, is the split `all`."""
    write(tmp_path, news_csv=as_csv())
    for path in (tmp_path, tmp_path / "news.csv"):
        assert Tables(path=path).splits() == ("all",)
        assert read(path, "all") == EXAMPLES


def test_shards_are_read_in_order_and_must_be_complete(tmp_path):
    """Shards make one split in numeric order, and a missing one is reported."""
    for index in range(3):
        (tmp_path / f"train-0000{index}-of-00003.parquet").write_bytes(as_parquet(ROWS[index : index + 1]))
    assert read(tmp_path) == EXAMPLES
    (tmp_path / "train-00001-of-00003.parquet").unlink()
    assert "not complete: there are 2 of 3" in message(tmp_path)


def test_two_files_for_one_split_are_refused(tmp_path):
    """Two tables for one split, or several for no split, are refused by name."""
    write(tmp_path, val_csv=as_csv(), validation_csv=as_csv())
    assert "val.csv, validation.csv" in message(tmp_path, "validation")
    other = tmp_path / "other"
    other.mkdir()
    write(other, a_csv=as_csv(), b_csv=as_csv())
    assert "a.csv, b.csv" in message(other, "all")


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        (["id", "article", "highlights"], Roles("id", "article", "highlights")),
        (["document", "summary"], Roles(None, "document", "summary")),
        (["Text", " Summary"], Roles(None, "Text", " Summary")),
        (["id", "dialogue", "summary", "topic"], Roles("id", "dialogue", "summary")),
        (["article", "abstract", "section_names"], Roles(None, "article", "abstract")),
        (["", "url", "text", "summary", "title"], Roles(None, "text", "summary")),
        (["guid", "id", "source", "target"], Roles("id", "source", "target")),
        (["ticket_id", "Main-Text", "tl_dr"], Roles(None, "Main-Text", "tl_dr")),
        (["article_id", "article_text", "abstract_text"], Roles("article_id", "article_text", "abstract_text")),
        (["Article ID", "full text", "TL;DR", "TLDR"], Roles("Article ID", "full text", "TLDR")),
    ],
)
def test_usual_columns_are_recognized(names, roles):
    """Kaggle's and other common names are recognized, whatever other columns there are."""
    assert recognize(names, Columns(), "x") == roles


@pytest.mark.parametrize(
    ("names", "given", "said"),
    [
        (["documnt", "summary"], {}, ["columns: documnt, summary", "--set columns.document=documnt"]),
        (["a", "b"], {}, ["hold the document", "columns: a, b", "--set columns.document=NAME"]),
        (["text", "article", "summary"], {}, ["could be any of 'text', 'article'", "--set columns.document=text"]),
        (["text", "x"], {}, ["hold the summary"]),
        (["text", "gist"], {"summary": "gits"}, ["no column 'gits' (columns.summary)", "Did you mean 'gist'?"]),
        (["text", "text", "summary"], {}, ["several columns named 'text'"]),
        (["id;text;summary"], {}, ["must be separated by commas", "sep=';'"]),
        (["id\ttext\tsummary"], {}, ["separated by tabs: name the file .tsv"]),
        (["id,text,summary"], {}, ["separated by commas: name the file .csv"]),
        (["sep=;"], {}, ["a note of Excel's", "delete that line"]),
        (
            ["ticket_text", "gist"],
            {},
            [
                "hold the document, and none to hold the summary",
                "--set columns.document=ticket_text columns.summary=gist.",
            ],
        ),
        (["id", "Body of it", "The Gist"], {}, ["--set 'columns.document=Body of it' 'columns.summary=The Gist'."]),
        (["article_id", "doc_id", "page_url", "textid", "summary"], {}, ["--set columns.document=NAME"]),
        (["document_id", "url", "note", "summary"], {}, ["--set columns.document=note."]),
        (["report_id", "report", "summary"], {}, ["--set columns.document=report."]),
        (["text_id", "1", "summary"], {}, ["""--set 'columns.document="1"'."""]),
        (["text", "summary"], {"document": "summary", "summary": "summary"}, ["cannot be both"]),
    ],
)
def test_columns_that_cannot_be_told(names, given, said):
    """For a missing or ambiguous column, the message gives the available columns and the option that names it."""
    with pytest.raises(DataError) as caught:
        recognize(names, Columns(**given), "file.csv")
    assert all(part in str(caught.value) for part in ["file.csv: ", *said])


def test_named_columns_win(tmp_path):
    """Columns named by the user take precedence over the usual names."""
    write(tmp_path, train_csv=as_csv(header=("text", "article", "summary")))
    assert read(tmp_path, document="article", id="text") == EXAMPLES
    assert [e.id for e in read(tmp_path, document="article")] == ["train-1", "train-2", "train-3"]


def test_ids_are_made_where_there_are_none(tmp_path):
    """An example without an id gets one from its split and row; a whole number is kept; nothing is executed."""
    lines = [{"id": i, "text": "t", "summary": "s"} for i in ("", None, 7, "../../etc", "__import__('os')")]
    write(tmp_path, test_jsonl="\n".join(map(json.dumps, lines)).encode())
    assert [e.id for e in read(tmp_path, "test")] == ["test-1", "test-2", "7", "../../etc", "__import__('os')"]


def test_null_cells_are_empty(tmp_path):
    """A null text is an empty one, so it is counted as such later."""
    write(tmp_path, train_jsonl=as_jsonl([("a", None, "s"), ("b", "d", None)]))
    assert read(tmp_path) == [Example("a", "", "s"), Example("b", "d", "")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train.csv", b"", ["train.csv is empty"]),
        ("train.jsonl", b"\n\n", ["train.jsonl is empty"]),
        ("train.csv", b"id,article,highlights\n", ["no rows"]),
        ("train.csv", as_csv(header=None), ["no column is known", "a1, One. Two.", "must begin with a header"]),
        ("train.csv", b"document,summary\ncaf\xe9,b\n", ["line 2: not UTF-8", "byte 0xe9 at byte offset 20", "iconv"]),
        ("train.csv", b"document,summary\na\0b,c\n", ["line 2", "NUL byte at byte offset 18"]),
        ("train.csv", b"document,summary\n\na,b\na,b,c\n", ["line 4: 3 columns, but the header has 2"]),
        ("train.csv", b'document,summary\na,b\n"never closed,b\nc,d\n', ["line 3: malformed"]),
        ("train.csv", b"document,summary\ra,b\rc,d\r", ["line 1: malformed"]),
        ("train.csv", b"document,summary\na,\nb, \n", ["none of the 2 rows has a summary", "columns.summary"]),
        ("train.csv.gz", gzip.compress(as_csv())[:-12], ["cannot be read"]),
        ("train.csv.gz", as_csv(), ["cannot be read", "gzip"]),
        ("train.jsonl", as_jsonl() + b'{"id": "a4", "document', ["line 4: malformed JSON"]),
        ("train.jsonl", b"[" * 100000, ["line 1", "jq -c"]),
        ("train.json", b'[["a", "b"]]', ["line 1", "one object per line is needed", "jq -c"]),
        (
            "train.json",
            b'[{"document": "a", "summary": "b"},\n{"document": "a" "summary": "b"}]',
            ["line 2: malformed JSON"],
        ),
        ("train.json", b'[{"document": "a", "summary": "b"},\n{"docum', ["line 2: malformed JSON", "Unterminated"]),
        ("train.json", b'[{"document": "a", "summary": "b"}', ["line 1: malformed JSON", "the end of the file"]),
        (
            "train.json",
            b'[{"document": "a", "summary": "b"}] []',
            ["line 1: malformed JSON", "after the end of the array"],
        ),
        ("train.json", b'{"k1": {"document": "a"}, "k2": {"document": "b"}}', ["keyed by id", "jq -c '.[]'"]),
        ("train.json", b'{"document": ["a b", "c d"], "summary": ["e", "f"]}', ["columns, not rows", "pandas"]),
        ("train.json", b'{"document": {"0": "a"}, "summary": {"0": "b"}}', ["columns, not rows"]),
        (
            "train.json",
            b'{"a": [{"document": "a", "summary": "b"}],\n"b": [{"c": "d"}]}',
            ["several lists, 'a' and 'b'"],
        ),
        ("train.jsonl", b'{"document": "a", "summary": "b"}\n{"document": "a"}', ["line 2: there is no 'summary'"]),
        (
            "train.jsonl",
            b'{"document": "a", "summary": "b"}\n' + as_jsonl(),
            ["line 1: there is no 'id'", "Write null"],
        ),
        ("train.json", b'[{"document": "a"},\n{"document": "a", "summary": "b"}]', ["line 1: there is no 'summary'"]),
        (
            "train.jsonl",
            as_jsonl() + b'{"id": "d", "document": "a", "summary": "b", "summary": "c"}',
            ["line 4: malformed JSON: an object has the key 'summary' twice", "Rename one"],
        ),
        ("train.json", b'[{"document": "a",\n"document": "b", "summary": "c"}]', ["line 1", "'document' twice"]),
        ("train.json", b'{"n": 1, "data": [{"document": "a", "summary": "b"}],\n"n": 2}', ["line 1", "'n' twice"]),
        (
            "train.json",
            b'{"n": 1, "text": "' + b"a" * 2**21 + b'", "summary": "b",\n"n": 2}',
            ["line 2: malformed JSON", "'n' twice"],
        ),
        (
            "train.json",
            b'{"rows": [{"document": "' + b"a" * 2**21 + b'", "summary": "b"}],\n"rows": []}',
            ["line 2: malformed JSON", "'rows' twice"],
        ),
        ("train.jsonl", b'{"document": [1], "summary": "b"}', ["line 1: column 'document' holds [1] (list)"]),
        (
            "train.jsonl",
            b'{"document": [["a", 1]], "summary": "b"}',
            ["line 1: column 'document' holds [['a', 1]] (list)"],
        ),
        ("train.jsonl", b'{"document": "a", "summary": NaN}', ["line 1: column 'summary' holds nan (float)"]),
        ("train.jsonl", b'{"document": "\\ud800", "summary": "b"}', ["line 1: malformed JSON", "surrogate"]),
        ("train.jsonl", b'{"id": [1], "document": "a", "summary": "b"}', ["line 1: the id is [1]"]),
        ("train.parquet", as_parquet()[:-9], ["train.parquet: cannot be read as Parquet"]),
        ("train.parquet", b"", ["train.parquet: cannot be read as Parquet"]),
        ("train.parquet", as_parquet([("a", b"b", "c")]), ["row 1: column 'dialogue' holds b'b' (bytes)"]),
        ("train.parquet.gz", as_parquet(), ["holds no table"]),
    ],
)
def test_broken_files_are_told_with_their_place(tmp_path, name, content, said):
    """A broken file gives one clear message with the file, the position and the problem."""
    (tmp_path / name).write_bytes(content)
    told = message(tmp_path)
    assert all(part in told for part in [str(tmp_path), *said]), told


SWALLOWED = {
    "train.csv": 'id,document,summary\na-1,d,s\na-2,"He spoke,x\na-3,d,y\na-4,he ended",z\na-5,d,s\n',
    "train.tsv": 'id\tdocument\tsummary\na-1\td\ts\na-2\t"He, x\ty\na-3\td 1,000\ts\na-4\tended"\tz\na-5\td\ts\n',
    "pairs.csv": 'document,summary\none,s\n"He spoke,x\n\u4e8c,s\nthree,s\nfour,s\nended",y\nsix,s\n',
}


@pytest.mark.parametrize("name", SWALLOWED)
def test_a_quote_that_takes_in_rows_is_told(tmp_path, name):
    """Rows between an unclosed quote and the next one do not become part of a text."""
    (tmp_path / name).write_bytes(SWALLOWED[name].encode().replace(b"\n", b"\r\n"))
    told = message(tmp_path, "all" if name == "pairs.csv" else "train")
    assert f"{name}, line 3: a cell includes the lines that follow" in told and "remove it" in told


@pytest.mark.parametrize("header", [("document", "summary"), ("id", "document", "summary")])
@pytest.mark.parametrize(
    "text",
    [
        "First, a line.\nSecond, one.\nThird, another.",
        "It cost 1,000.\nAnd 2,000.\nThen 3,000.",
        'A "word",said\nan "other",one\nand "more",too',
        "\u96e8\u4e0b\u4e86,\u4e09\u5929\u3002\n\u4e24\u6761\u8def,\u5c01\u95ed\u4e86\u3002\n\u6865\u4e5f,\u5173\u4e86\u3002",
    ],
)
def test_prose_of_several_lines_is_one_text(tmp_path, header, text):
    """Lines with commas within a text are not rows, in a first, a middle and a last column."""
    rows = [tuple({"id": f"a-{number}"}.get(name, text) for name in header) for number in range(3)]
    write(tmp_path, train_csv=as_csv(rows, header))
    assert [(each.document, each.summary) for each in read(tmp_path)] == [(text, text)] * 3


def test_a_damaged_parquet_page_is_told(tmp_path):
    """Parquet with a valid footer but damaged pages is reported as unreadable, not a crash."""
    content = bytearray(as_parquet([(f"a{i}", f"document {i} " * 20, "s") for i in range(500)]))
    content[40:400] = b"\xff" * 360
    write(tmp_path, train_parquet=bytes(content))
    assert "cannot be read" in message(tmp_path)


def test_a_cell_that_python_cannot_hold_is_told(tmp_path):
    """A time after the year 9999 is reported with its row and column, if that column is read."""
    when = pyarrow.array([0, 2**45], pyarrow.timestamp("s"))
    table = pyarrow.table({"id": when, "document": ["a", "b"], "summary": ["c", "d"]})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train.parquet, row 2: the cell of column 'id' \(timestamp.*cannot be read"):
        list(tables.read_cells(tmp_path / "train.parquet", ["document", "id"]))
    assert [cells for _, cells in tables.read_cells(tmp_path / "train.parquet", ["document"])] == [["a"], ["b"]]


def test_a_line_without_end_is_refused(tmp_path):
    """An overlong line is refused instead of being read into memory."""
    write(tmp_path, train_jsonl=b'{"document": "' + b"a" * (17 * 2**20))
    assert "longer than 16 MiB" in message(tmp_path)


@pytest.mark.parametrize("folder", ["missing", "empty", "elsewhere"])
def test_folders_without_tables(tmp_path, folder):
    """A missing folder, one without tables, and one whose tables are in subfolders each have a specific message."""
    for name in ("empty", "elsewhere/3.0.0"):
        (tmp_path / name).mkdir(parents=True)
    write(tmp_path / "elsewhere" / "3.0.0", train_csv=as_csv())
    said = {
        "missing": "no folder or file",
        "empty": "holds no table",
        "elsewhere": "elsewhere/3.0.0: give one of these",
    }
    with pytest.raises(DataError, match=said[folder]):
        open_dataset(str(tmp_path / folder), data_config=None, data_revision="main", columns=Columns())


def test_unknown_split_and_unknown_ending(tmp_path):
    """A split or file that cannot be read is refused with a list of what can be."""
    write(tmp_path, train_csv=as_csv(), notes_docx=b"x")
    assert "has no split 'test'. Known: train" in message(tmp_path, "test")
    assert "Supported are .csv" in message(tmp_path / "notes.docx", "all")


def test_describe_says_what_would_be_read(tmp_path):
    """The description gives each split's files, columns, roles and rows, and the ignored tables."""
    write(tmp_path, train_csv=as_csv(), dev_jsonl=as_jsonl(ROWS[:2]), extra_csv=as_csv())
    described = describe_tables(tmp_path)
    train, validation = described.splits
    assert (train.split, train.files, train.rows) == ("train", (tmp_path / "train.csv",), 3)
    assert train.columns == ("id", "article", "highlights") and train.roles == Roles("id", "article", "highlights")
    assert (validation.split, validation.rows) == ("validation", 2)
    assert described.unread == (tmp_path / "extra.csv",)


def test_fingerprint_follows_files_and_columns(tmp_path):
    """The fingerprint changes with a file's content, its time and the requested columns, and with nothing else."""
    write(tmp_path, train_csv=as_csv())
    before = Tables(path=tmp_path).fingerprint()
    assert Tables(path=tmp_path).fingerprint() == before
    assert Tables(path=tmp_path, columns=Columns(document="article")).fingerprint() != before
    os.utime(tmp_path / "train.csv", (1, 1))
    assert Tables(path=tmp_path).fingerprint() != before


def test_memory_stays_bounded(tmp_path):
    """Reading a table takes the memory of a few rows, however long the table is."""
    row = as_csv([("a" * 8, "word " * 1000, "summary")], header=None)
    with gzip.open(tmp_path / "train.csv.gz", "wb", compresslevel=1) as file:
        file.write(b"id,article,highlights\n" + row * 4000)
    tracemalloc.start()
    rows = sum(1 for _ in Tables(path=tmp_path).examples("train"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 4000 and peak < 2**20  # the table is 20 MB


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("newswir", "Did you mean 'newswire'?"),
        ("two words", "or a name on the Hub"),
        ("./nowhere", "no folder or file"),
        ("nowhere.csv", "no folder or file"),
        ("a/b/c", "no folder or file"),
    ],
)
def test_names_that_mean_nothing(data, said):
    """A name that is neither registered, nor a path, nor possible on the Hub is refused at once, with the nearest
    name."""
    with pytest.raises(DataError) as caught:
        open_dataset(data, data_config=None, data_revision="main", columns=Columns())
    assert said in str(caught.value)


def test_names_that_mean_something(tmp_path):
    """A registered name gives that data set, a path gives a table, and OWNER/NAME gives a Hub data set that is not
    loaded yet."""
    options = {"data_config": "3.0.0", "data_revision": "v1", "columns": Columns(document="text")}
    write(tmp_path, train_csv=as_csv())
    assert open_dataset("newswire", **options).synthetic
    assert open_dataset(str(tmp_path), **options) == Tables(path=tmp_path, columns=Columns(document="text"))
    hub = open_dataset("abisee/cnn_dailymail", **options)
    assert (hub.name, hub.config, hub.revision, hub.columns.document) == ("abisee/cnn_dailymail", "3.0.0", "v1", "text")


def test_the_guide_is_right(tmp_path):
    """The files shown in the guide to your own data are read as the guide says, and its messages are the real ones."""
    guide = (CHECKOUT / "docs" / "guides" / "your-own-data.md").read_text()
    for name, content in re.findall(r"```(?:csv|jsonl) (\S+)\n(.*?)```", guide, re.DOTALL):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    described = describe_tables(tmp_path / "my-news")
    assert [(split.split, split.rows) for split in described.splits] == [("train", 2), ("validation", 1), ("test", 1)]
    assert read(tmp_path / "my-news")[1].summary.count("\n") == 1
    for name in {*DOCUMENT_NAMES, *SUMMARY_NAMES} - {"document", "summary", "article", "highlights"}:
        assert f"`{name}`" in guide
    for name in SplitCounts.model_fields:
        assert f"`{name}`" in guide
    source = "".join(path.read_text() for path in Path(tables.__file__).parent.glob("*.py"))
    for said in (
        "no column is known to hold the ",
        "not UTF-8",
        "one object per line is needed",
        "columns, but the header has",
    ):
        assert said in source and said in guide


OBJECTS = [dict(zip(("id", "document", "summary"), row, strict=True)) for row in ROWS]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(OBJECTS),
        json.dumps(OBJECTS, indent=2),
        json.dumps({"version": 1.0, "data": OBJECTS, "n": 1}),
        json.dumps({"data": OBJECTS}, indent=1),
        "\n\n".join(json.dumps(row, indent=2) for row in OBJECTS),
        "\n" + json.dumps(OBJECTS) + "\n\n",
    ],
    ids=["array", "pretty array", "held on one line", "held", "pretty objects", "blank lines around"],
)
@pytest.mark.parametrize("name", ["train.json", "train.jsonl"])
def test_json_of_every_shape_gives_the_same_examples(tmp_path, name, content):
    """An array, an object that contains one, and objects over several lines are read like one object per line."""
    (tmp_path / name).write_text(content)
    assert read(tmp_path) == EXAMPLES


def test_a_key_that_no_role_needs_may_be_missing(tmp_path):
    """If only some objects have a key that is not read, it does not matter."""
    rows = [{"document": "d", "summary": "s"}, {"document": "e", "summary": "t", "topic": "x"}]
    write(tmp_path, train_jsonl="".join(json.dumps(row) + "\n" for row in rows).encode())
    assert [(e.id, e.document) for e in read(tmp_path)] == [("train-1", "d"), ("train-2", "e")]
    write(tmp_path, train_jsonl="".join(json.dumps(row | {"id": row["document"]}) + "\n" for row in rows).encode())
    assert [(e.id, e.document) for e in read(tmp_path)] == [("d", "d"), ("e", "e")]  # the file as it is now


def test_a_long_array_is_read_object_by_object(tmp_path):
    """A very long array on one line is read in the memory of a few objects, with numbers on piece boundaries intact."""
    rows = [{"id": 10**15 + i, "n": 1.25e-7, "document": "wört " * 300, "summary": "s"} for i in range(3000)]
    (tmp_path / "train.json").write_text(json.dumps({"n": 123456789, "rows": rows}, ensure_ascii=False))
    tracemalloc.start()
    ids = [example.id for example in Tables(path=tmp_path).examples("train")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ids == [str(row["id"]) for row in rows] and peak < 8 * 2**20  # the file is 5 MB


def test_a_row_with_a_list_of_objects_is_a_row(tmp_path):
    """One object that has a document is a row, whatever lists it also has."""
    row = {"document": "d", "summary": "s", "entities": [{"name": "x"}]}
    write(tmp_path, train_json=json.dumps(row).encode())
    assert [(e.document, e.summary) for e in read(tmp_path)] == [("d", "s")]
    write(tmp_path, train_json=json.dumps(row, indent=1).encode())
    assert [(e.document, e.summary) for e in read(tmp_path)] == [("d", "s")]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (["One sentence.", "And two more."], "One sentence.\nAnd two more."),
        (["The", "cat", "sat", "."], "The cat sat ."),
        ([["The", "cat"], ["It", "sat"]], "The cat\nIt sat"),
        (["<S> One here. </S>", "<S> Two here. </S>"], "One here.\nTwo here."),
        (["<S> One here. </S>", "Two here."], "<S> One here. </S>\nTwo here."),
        (["alone"], "alone"),
        ([], ""),
        ([None, "A b."], "A b."),
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_lists_are_read_as_texts_and_it_is_said(tmp_path, cell, text, ending):
    """Lists of sentences are joined with line breaks and lists of words with spaces, and the notes say so."""
    rows = [{"document": cell, "summary": "s"}]
    if ending == "jsonl":
        write(tmp_path, train_jsonl=json.dumps(rows[0]).encode())
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train.parquet")
    assert [e.document for e in read(tmp_path)] == [text]
    (note,) = Tables(path=tmp_path).notes()
    assert "Lists in 'document' are read as one text each" in note
    assert ("joined by spaces" in note) == (text == "The cat sat .")


@pytest.mark.parametrize(
    ("ending", "summary"),
    [
        ("jsonl", ["One.", "Another.", "A third."]),
        ("parquet", ["One.", "Another.", "A third."]),
        ("parquet", ["one", None, "two"]),
        ("jsonl", [["One", "."], ["Two", "."]]),
    ],
)
def test_several_references_of_one_document_are_refused(tmp_path, ending, summary):
    """A list of summaries next to a single document is never joined: the message gives both meanings and ways out."""
    rows = [{"document": "d", "summary": ["s"]}, {"document": "d", "summary": summary}]
    if ending == "jsonl":
        write(tmp_path, train_jsonl="".join(json.dumps(row) + "\n" for row in rows).encode())
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train.parquet")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    count = len([each for each in summary if each is not None])
    said = str(caught.value)
    assert (
        f"column 'summary' holds a list of {count}, and the document is one text" in said and "2" in said.split(":")[0]
    )
    assert "several references, keep one (the first, say)" in said and "--set columns.summary=NAME" in said
    assert "one summary cut into sentences, join them" in said


@pytest.mark.parametrize(
    ("document", "summary", "text"),
    [
        ("d", ["alone"], "alone"),
        ("d", [None, "alone"], "alone"),
        ("d", [], ""),
        (["d.", "e f."], ["One.", "And two."], "One.\nAnd two."),
    ],
)
def test_a_list_of_one_summary_is_that_summary(tmp_path, document, summary, text):
    """A single entry is taken as it is; a table that stores documents as lists stores summaries so too."""
    rows = [{"document": document, "summary": summary}, {"document": document, "summary": ["s"]}]
    write(tmp_path, train_jsonl="".join(json.dumps(row) + "\n" for row in rows).encode())
    assert [e.summary for e in read(tmp_path)] == [text, "s"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train.csv", b"id\tdocument\tsummary\n1\ta, b\tc\n", "separated by tabs: name the file .tsv"),
        ("train.tsv", b"id,document,summary\n1,a,c\n", "separated by commas: name the file .csv"),
        ("train.csv", b"id;document;summary\n1;a;c\n", "must be separated by commas, not by ';'"),
        ("train.csv", b"sep=;\nid;document;summary\n1;a;c\n", "a note of Excel's"),
        (
            "train.csv",
            b'id, document, summary\n1, "a, b", "c"\n',
            "line 2: 4 columns, but the header has 3. There are spaces",
        ),
        (
            "train.csv",
            b'id, document, summary\n1, "a b", "c"\n',
            "line 2: There are spaces between a comma and a quote",
        ),
        (
            "train.csv",
            b'document,summary\n"a \\"b\\" c",d\n',
            "line 2: malformed: ',' expected after '\"'. Quotes inside",
        ),
        ("train.csv", b'document,summary\n"a ends \\"",d\n"e",f\n', "must be doubled: sed"),
    ],
)
def test_odd_csv_gets_the_hint_that_helps(tmp_path, name, content, said):
    """Tabs, semicolons, spaces before quotes and backslashes each have their own remedy."""
    (tmp_path / name).write_bytes(content)
    told = message(tmp_path)
    assert said in told and "must begin with a header" not in told, told


def test_the_remedies_for_odd_csv_work(tmp_path, monkeypatch):
    """The commands that messages suggest turn the files into readable ones, with every cell as intended."""
    monkeypatch.chdir(tmp_path)
    for content, document in (
        (b"id;document;summary\n007;a, b;NA\n", "a, b"),
        (b'id, document, summary\n007, "a, ""b""", "NA"\n', 'a, "b"'),
        (b'id,document,summary\n007,"a \\"b\\", c",NA\n', 'a "b", c'),
    ):
        (tmp_path / "OLD.csv").write_bytes(content)
        told = message(tmp_path / "OLD.csv", "all")
        command = re.search(r"(python -c \".*\"|sed .* > NEW\.csv)\.", told)
        assert command, told
        subprocess.run(command[1].replace("python", sys.executable, 1), shell=True, check=True)
        columns = {"id": "id", "document": "document", "summary": "summary"}
        assert read(tmp_path / "NEW.csv", "all", **columns) == [Example("007", document, "NA")]


@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet"])
def test_only_csv_is_told_of_headers(tmp_path, name):
    """The remark about headers is not made for formats without them."""
    (tmp_path / name).write_bytes((as_jsonl if name.endswith("l") else as_parquet)(names=("a", "b", "c")))
    told = message(tmp_path)
    assert "--set columns.document=NAME columns.summary=NAME." in told and "CSV" not in told


@given(st.text(max_size=12).filter(lambda name: "\0" not in name))
def test_a_named_column_survives_the_shell_and_the_parser(name):
    """What a message says to type after --set is parsed back to exactly that name, whatever it contains."""
    (argument,) = shlex.split(as_setting("columns.document", name))
    assert parse_setting(argument) == {"columns": {"document": name}}

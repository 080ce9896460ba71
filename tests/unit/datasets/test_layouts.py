"""Folders, archives and saved data sets: which file is which split, and that nothing is skipped silently."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import datasets
import pytest

from triptych.config.schema import Columns
from triptych.datasets import open_dataset
from triptych.datasets.tables import Tables, describe_tables, folders
from triptych.datasets.tables.splits import read_claim
from triptych.errors import DataError


def table(name: str, rows: int = 1) -> bytes:
    """A CSV file whose documents name the file they are from."""
    return b"document,summary\n" + "".join(f"{name} {i},s\n" for i in range(rows)).encode()


def lay(folder: Path, *names: str) -> Path:
    """Write one-row tables in the format of their extension; their text is their name."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".jsonl", ".json")):
            file.write_text(json.dumps({"document": f"{name} 0", "summary": "s"}))
        else:
            file.write_bytes(gzip.compress(table(name)) if name.endswith(".gz") else table(name))
    return folder


def zipped(file: Path, *names: str) -> Path:
    """An archive of one-row tables."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, table(name))
    return file


def read(path: Path) -> dict[str, list[str]]:
    """The files each split's rows come from, in order."""
    data = Tables(path=path)
    return {split: [example.document.removesuffix(" 0") for example in data.examples(split)] for split in data.splits()}


def refusal(path: Path) -> str:
    """The message about a folder that is not read."""
    with pytest.raises(DataError) as caught:
        open_dataset(str(path), data_config=None, data_revision="main", columns=Columns())
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "split", "rank"),
    [
        ("train", "train", 0),
        ("Training", "train", 0),
        ("valid", "validation", 0),
        ("val", "validation", 0),
        ("dev", "validation", 0),
        ("testing", "test", 0),
        ("eval", "eval", 0),
        ("evaluation", "eval", 0),
        ("us_train_data_final_OFFICIAL", "train", 1),
        ("train_1", "train", 0),
        ("train2", "train", 0),
        ("my test file", "test", 1),
        ("dialogsum.dev", "validation", 0),
        ("train (1)", "train", 0),
        ("1test", "test", 0),
    ],
)
def test_keywords_of_the_hub(name, split, rank):
    """Every keyword of the Hub's conventions counts between non-letters, and takes precedence as the last word."""
    made = read_claim(name)
    assert (made.splits, made.rank) == ((split,), rank)


@pytest.mark.parametrize("name", ["trained", "finetrain", "tests", "evaluate", "developer", "contest", "news", ""])
def test_words_that_hold_a_keyword_are_none(name):
    """A keyword inside a longer word is ignored."""
    assert read_claim(name) is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train.csv", "testing.csv"], {"train": ["train.csv"], "test": ["testing.csv"]}),
        (["train.csv", "evaluation.csv"], {"train": ["train.csv"], "test": ["evaluation.csv"]}),
        (
            ["train.csv", "eval.csv", "dev.csv"],
            {"train": ["train.csv"], "validation": ["dev.csv"], "test": ["eval.csv"]},
        ),
        (
            ["train.csv", "eval.csv", "test.csv"],
            {"train": ["train.csv"], "validation": ["eval.csv"], "test": ["test.csv"]},
        ),
        (
            ["us_train_data_final_OFFICIAL.jsonl", "us_test_data_final_OFFICIAL.jsonl"],
            {"train": ["us_train_data_final_OFFICIAL.jsonl"], "test": ["us_test_data_final_OFFICIAL.jsonl"]},
        ),
        (
            ["train/data.jsonl", "valid/data.jsonl", "test/data.csv.gz"],
            {"train": ["train/data.jsonl"], "validation": ["valid/data.jsonl"], "test": ["test/data.csv.gz"]},
        ),
        (
            ["data/train/b-10.jsonl", "data/train/b-2.jsonl", "data/test/x.jsonl"],
            {"train": ["data/train/b-2.jsonl", "data/train/b-10.jsonl"], "test": ["data/test/x.jsonl"]},
        ),
        (
            ["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv"],
            {"train": ["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv"]},
        ),
        (["labels.csv", "names.csv", "data/train.csv"], {"train": ["data/train.csv"]}),
        (["data/news.csv"], {"all": ["data/news.csv"]}),
        (["train/deep/er/a.csv", "test.csv"], {"train": ["train/deep/er/a.csv"], "test": ["test.csv"]}),
        (["train.csv/train.csv", "Test.CSV"], {"train": ["train.csv/train.csv"], "test": ["Test.CSV"]}),
        ([f"train_{i}.csv" for i in range(1, 12)], {"train": [f"train_{i}.csv" for i in range(1, 12)]}),
        (["part-0.csv", "part-1.csv"], {"all": ["part-0.csv", "part-1.csv"]}),
        (["news.csv", "README.csv"], {"all": ["news.csv"]}),
        (["train.csv", "train_small.csv"], {"train": ["train.csv"]}),
        (
            ["train.csv", "dev.csv", "test.csv", "train_test_split.csv"],
            {"train": ["train.csv"], "validation": ["dev.csv"], "test": ["test.csv"]},
        ),
    ],
)
def test_layouts_that_are_read(tmp_path, names, expected):
    """Splits are found by files, folders, shards and series in numeric order, and each text names its source."""
    assert read(lay(tmp_path, *names)) == expected


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["us_test_data.csv", "ca_test_data.csv"],
            ["the split 'test' is not clear", "put them into a folder named test"],
        ),
        (["train.csv", "train_2.csv"], ["the split 'train' is not clear among train.csv, train_2.csv"]),
        (["train_1.csv", "train_3.csv"], ["the split 'train' is not clear"]),
        (["train.csv", "train/a.csv"], ["the split 'train' is not clear among train.csv, train/a.csv"]),
        (
            ["train.csv", "dev.csv", "test.csv", "eval.csv"],
            ["the split 'test' is not clear among test.csv, eval.csv"],
        ),
        (["train.csv", "dev_test.csv"], ["dev_test.csv has keywords of several splits", "validation, test"]),
        (["train/train.csv", "train/test.csv"], ["train/ names the split 'train', and train/test.csv in it another"]),
        (["train/a.csv", "train/a.jsonl"], ["train/ contains tables in several formats"]),
        (["train/a-00000-of-00003.csv", "train/a-00002-of-00003.csv"], ["not complete: there are 2 of 3"]),
        (["en/train.csv", "de/train.csv"], ["There are tables in", "/de", "/en: give one of these"]),
        (["a/Train.csv", "b/Test.csv", "c/Dev.csv"], ["/a, ", "/b, ", "/c: put them together into one folder."]),
        (["a/b/c/news.csv"], ["a/b/c: give one of these"]),
        (["train.csv", "test.xlsx"], ["test.xlsx is named after the split 'test' and cannot be read", "CSV UTF-8"]),
        (["train.csv", "eval.pkl"], ["eval.pkl is named after the split 'test'", "never loaded"]),
        *(
            (["train.csv", name], [f"{name} is named after the split 'test' and cannot be read", "or remove it"])
            for name in ("test.dat", "test.csv.bak", "test", "my-test.msgpack", "test.xlsb", "test.json5")
        ),
        (
            ["train.csv", "test.jsonlines"],
            ["test.jsonlines is named after the split 'test'", "end its name with .jsonl"],
        ),
        (["train.csv", "dev.tab"], ["dev.tab is named after the split 'validation'", "end its name with .tsv"]),
        (["train.csv", "test.csv", "eval.xlsx"], ["eval.xlsx is named after the split 'validation'"]),
        (["news.csv", "test.dat"], ["test.dat is named after the split 'test'", "(.csv, .tsv, .jsonl or .parquet)"]),
        (["test.csv", "train.dat"], ["train.dat is named after the split 'train'", "or remove it."]),
        *(
            ([train, f"test/{name}"], [f"test/ is named after the split 'test' and cannot be read (test/{name}): "])
            for train in ("train.csv", "train/train.csv")
            for name in ("data.xlsx", "part.jsonlines", "data.unknown", "below/data.pkl")
        ),
        (["all.xlsx", "notes.docx"], ["1 .docx", "1 .xlsx", "save each sheet as CSV UTF-8"]),
        (["train.article.txt", "train.title.txt"], ["2 .txt", "NAME.source and NAME.target"]),
        (["cnn/a.story", "cnn/b.story"], ["It holds 2 .story"]),
        ([".hidden.csv", "__MACOSX/train.csv", "~$train.csv", "dataset_infos.json"], ["It is empty"]),
    ],
)
def test_layouts_that_are_refused(tmp_path, names, said):
    """Ambiguous layouts, and unreadable files named after a split, give one message with the files and a remedy."""
    told = refusal(lay(tmp_path, *names))
    assert all(part in told for part in said), told


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train.csv", "eval.csv"], ["eval.csv is read as the test split, as on the Hugging Face hub."]),
        (
            ["train.csv", "eval.csv", "test.csv"],
            ["eval.csv is read as the validation split, since test.csv is the test split."],
        ),
        (["train.csv", "extra.csv"], ["Not read: extra.csv (named after no split, or less plainly than another)."]),
        (
            ["train.csv", "train_small.csv"],
            ["Not read: train_small.csv (named after no split, or less plainly than another)."],
        ),
        (["news.csv", "README.csv"], ["Not read: README.csv (about the data)."]),
        (["train.csv", "more/x.csv", "more/y.csv", "pictures/a.png"], ["Not read: more/ (2 files)."]),
        (["train.csv", "test.txt", "notes.txt", "train.py"], ["Not read: test.txt."]),
        (["train.csv", "test/a.story"], ["Not read: test/ (1 file)."]),
        (["train.csv", "test.csv", "test.csv.bak", "test.dat", "test/data.xlsx"], ["Not read: test/ (1 file)."]),
        (["train.csv", "test.py", "test.log", "test/a.py", "test/Makefile", "evaluation.md", "test-notes.foo"], []),
        (["train.csv", "old.zip", "sheet.xlsx"], ["Not read: old.zip, sheet.xlsx."]),
        (["train/a.csv", "train/a.xlsx"], ["Not read: train/a.xlsx."]),
        (
            ["data/train.csv", "data/x.csv", "news.xlsx", "more/x.csv"],
            [
                "Not read: data/x.csv (named after no split, or less plainly than another).",
                "Not read: more/ (1 file).",
                "Not read: news.xlsx.",
            ],
        ),
        (["train.csv", "dataset_infos.json", "README.md", "LICENSE", ".DS_Store", "Thumbs.db", "__MACOSX/a.csv"], []),
    ],
)
def test_what_is_not_read_is_said(tmp_path, names, said):
    """Each skipped table, folder and data file is named, except what tools leave in a folder."""
    assert list(Tables(path=lay(tmp_path, *names)).notes()) == said


def test_an_archive_without_a_table_is_no_split(tmp_path):
    """A split is not cut from other data if an archive with its name contains something unreadable."""
    lay(tmp_path, "train.csv")
    zipped(tmp_path / "test.zip", "sheet.xlsx")
    told = refusal(tmp_path)
    assert "test.zip is named after the split 'test' and cannot be read: there is no table in it" in told


def test_a_name_that_a_terminal_would_obey_is_written_out(tmp_path):
    """A control character in the name of an unread file reaches neither record nor terminal."""
    lay(tmp_path, "train.csv", "ex\x1b[2Jtra.csv")
    (note,) = Tables(path=tmp_path).notes()
    assert "\\x1b" in note and "\x1b" not in note


def test_links_are_followed_and_one_that_leads_nowhere_is_said(tmp_path):
    """A linked table or folder is read, as the Hub's cache requires; a dangling link does not hide its split."""
    lay(tmp_path / "elsewhere", "x.csv", "many/y.csv")
    folder = lay(tmp_path / "data", "valid.csv")
    (folder / "train.csv").symlink_to(tmp_path / "elsewhere" / "x.csv")
    assert read(folder) == {"train": ["x.csv"], "validation": ["valid.csv"]}
    (folder / "test.csv").symlink_to("gone.csv")
    assert "test.csv is a link that leads nowhere" in refusal(folder)


def test_more_files_than_are_looked_at_are_refused(tmp_path, monkeypatch):
    """A folder with too many files is refused instead of being read in part."""
    monkeypatch.setattr(folders, "MAX_FILES", 5)
    assert "more than 5 files" in refusal(lay(tmp_path, *(f"train/{i}.csv" for i in range(6))))


def test_archives_are_read_in_place(tmp_path):
    """A zip archive is read like the folder it contains, by itself or alone in a folder, with or without an enclosing
    folder."""
    archive = zipped(
        tmp_path / "kaggle" / "archive.zip", "cnn/train.csv", "cnn/test.csv", "__MACOSX/cnn/._train.csv", "a.png"
    )
    expected = {"train": ["cnn/train.csv"], "test": ["cnn/test.csv"]}
    assert read(archive) == read(archive.parent) == expected
    before = sorted(tmp_path.rglob("*"))
    described = describe_tables(archive)
    assert str(described.splits[0].files[0]) == f"{archive}/cnn/train.csv" and described.splits[0].rows == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert read(zipped(tmp_path / "data.zip", "test_data/train.csv", "test_data/test.csv")) == {
        "train": ["test_data/train.csv"],
        "test": ["test_data/test.csv"],
    }
    assert read(zipped(tmp_path / "dirs.zip", "data/train/a.csv")) == {"train": ["data/train/a.csv"]}
    assert read(zipped(tmp_path / "one.zip", "news.csv")) == {"all": ["news.csv"]}


def test_an_archive_for_each_split(tmp_path):
    """Archives named after splits are read next to each other and next to tables; others are named as not read."""
    zipped(tmp_path / "train.csv.zip", "train.csv")
    lay(tmp_path, "test.csv")
    zipped(tmp_path / "more.zip", "x.csv")
    assert read(tmp_path) == {"train": ["train.csv"], "test": ["test.csv"]}
    assert Tables(path=tmp_path).notes() == ("Not read: more.zip.",)


def test_archives_that_are_refused(tmp_path):
    """An archive that is damaged, looks encrypted, leads elsewhere, is too full or has no text tables gives one
    message."""
    (tmp_path / "bad.zip").write_bytes(b"PK\3\4 no archive")
    assert "cannot be read as a zip archive" in refusal(tmp_path / "bad.zip")
    assert "leads elsewhere" in refusal(zipped(tmp_path / "slip.zip", "../train.csv"))
    assert "leads elsewhere" in refusal(zipped(tmp_path / "root.zip", "/etc/train.csv"))
    assert "holds tables in a, b" in refusal(zipped(tmp_path / "two.zip", "a/train.csv", "b/train.csv"))
    assert "no table in none.zip" in refusal(zipped(tmp_path / "none.zip", "a.txt"))
    with pytest.raises(DataError, match=r"only text files are read from archives. Unpack it: unzip p\.zip"):
        read(zipped(tmp_path / "p.zip", "train.parquet"))
    whole = zipped(tmp_path / "cut.zip", "train.csv").read_bytes()
    damaged = bytearray(whole)
    damaged[40] ^= 0xFF  # inside the member's content: its checksum does not match
    (tmp_path / "cut.zip").write_bytes(damaged)
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "cut.zip")


def test_damaged_archives_are_refused(tmp_path):
    """An archive with any changed byte or truncated anywhere is read or refused with one message."""
    whole = zipped(tmp_path / "a.zip", "train.csv", "test.csv").read_bytes()
    for place in range(0, len(whole), 3):
        for damage in (whole[place:], b"\0\0", b"\xff"):  # the first truncates the rest
            (tmp_path / "a.zip").write_bytes(
                whole[:place] + (damage + whole[place + len(damage) :]) * (len(damage) < 3)
            )
            try:
                read(tmp_path / "a.zip")
            except DataError as error:
                assert "a.zip" in str(error)


def test_an_archives_size_is_bounded(tmp_path, monkeypatch):
    """An archive that claims to unpack beyond a limit, or has too many files, is refused before it is read."""
    archive = zipped(tmp_path / "a.zip", "train.csv", "test.csv")
    monkeypatch.setattr("triptych.datasets.tables.sources.MAX_UNPACKED", 10)
    assert "would unpack to more than" in refusal(archive)
    monkeypatch.setattr("triptych.datasets.tables.sources.MAX_MEMBERS", 1)
    assert "2 files are more than the 1" in refusal(archive)


def test_a_fingerprint_follows_an_archive_and_its_members(tmp_path):
    """The fingerprint of data in an archive changes with the archive."""
    archive = zipped(tmp_path / "a.zip", "train.csv")
    before = Tables(path=archive).fingerprint()
    assert Tables(path=archive).fingerprint() == before
    zipped(archive, "train.csv", "test.csv")
    assert Tables(path=archive).fingerprint() != before


def test_pairs_of_text_files(tmp_path):
    """A .source file has one document per line, with its summary on the same line of .target; unequal lengths are
    refused."""
    for split, texts in (("train", "A.\nB.\n"), ("val", "C.")):
        (tmp_path / f"{split}.source").write_text(texts)
        (tmp_path / f"{split}.target").write_text(texts.lower())
    data = Tables(path=tmp_path)
    assert [(e.id, e.document, e.summary) for e in data.examples("train")] == [
        ("train-1", "A.", "a."),
        ("train-2", "B.", "b."),
    ]
    assert [e.document for e in data.examples("validation")] == ["C."] and data.notes() == ()
    (tmp_path / "train.target").write_text("a.\n")
    with pytest.raises(DataError, match=r"train\.target: it ends after line 1"):
        list(data.examples("train"))
    (tmp_path / "train.target").write_text("a.\nb.\nc.\n")
    with pytest.raises(DataError, match=r"more than the 2 lines of train\.source"):
        list(data.examples("train"))
    (tmp_path / "train.target").unlink()
    with pytest.raises(DataError, match=r"would be read from train\.target next to it, which is missing"):
        list(data.examples("train"))


@pytest.fixture
def saved(tmp_path):
    """Folders written by `save_to_disk`: `all` has splits with two training shards, and `one` is a single data set."""
    parts = {
        name: datasets.Dataset.from_dict({"article": [f"{name} {i}" for i in range(rows)], "highlights": ["s"] * rows})
        for name, rows in (("train", 5), ("dev", 2), ("testing", 1), ("extra", 1))
    }
    shards = {name: 2 if name == "train" else 1 for name in parts}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "all", num_shards=shards)
    parts["train"].select([3, 1]).save_to_disk(tmp_path / "one")
    return tmp_path


def test_saved_data_sets_are_read(saved):
    """What `save_to_disk` wrote is read row by row in order, including shards, splits and selected rows."""
    data = Tables(path=saved / "all")
    assert data.splits() == ("train", "validation", "test") and data.notes() == ("Not read: the split extra.",)
    assert [e.document for e in data.examples("train")] == [f"train {i}" for i in range(5)]
    assert [e.document for e in data.examples("validation")] == ["dev 0", "dev 1"]
    one = Tables(path=saved / "one")
    assert one.splits() == ("all",) and [e.document for e in one.examples("all")] == ["train 3", "train 1"]
    assert read(saved / "one" / "data-00000-of-00001.arrow") == {"all": ["train 3", "train 1"]}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (
            {"_data_files": [{"filename": "../all/train/data-00000-of-00002.arrow"}]},
            "names no .arrow file of the folder",
        ),
        ({"_data_files": [{"filename": "/etc/passwd"}]}, "names no .arrow file of the folder"),
        ({"_data_files": [{"filename": "state.json"}]}, "names no .arrow file of the folder"),
        ({"_data_files": [{"filename": "gone.arrow"}]}, "gone.arrow is missing"),
        ({"_data_files": []}, "names no files"),
        ({"_data_files": [7], "_indices_files": None}, "names no .arrow file"),
        ({"_data_files": [], "_indices_data_files": [{"filename": "i.arrow"}]}, "an index file picks its rows"),
        ([], "an object is needed"),
    ],
)
def test_saved_data_sets_cannot_lead_elsewhere(saved, state, said):
    """A state that names missing files, files outside its folder or none is refused."""
    (saved / "one" / "state.json").write_text(json.dumps(state))
    assert said in refusal(saved / "one")


def test_links_out_of_a_saved_data_set_are_refused(saved):
    """A data file that links out of its saved data set is not followed."""
    file = saved / "one" / "data-00000-of-00001.arrow"
    file.rename(saved / "elsewhere.arrow")
    file.symlink_to(saved / "elsewhere.arrow")
    assert "leads out of" in refusal(saved / "one")


def test_damaged_arrow_files_are_refused(saved):
    """An Arrow file that is truncated or has offsets outside its buffers gives one message, not a crash."""
    file = saved / "one" / "data-00000-of-00001.arrow"
    whole = file.read_bytes()
    messages = 0
    for place in range(0, len(whole), 7):
        for content in (whole[:place], whole[:place] + b"\xff\xff\xff\x7f" + whole[place + 4 :]):
            file.write_bytes(content)
            try:
                list(Tables(path=saved / "one").examples("all"))
            except DataError as error:
                assert str(saved) in str(error)
                messages += 1
    assert messages > 50


def test_arrow_files_of_both_kinds(tmp_path):
    """Arrow's stream and file formats give the same examples."""
    import pyarrow

    rows = pyarrow.table({"document": [f"d{i}" for i in range(600)], "summary": ["s"] * 600})
    for name, open_writer in (("a.arrow", pyarrow.ipc.new_stream), ("b.arrow", pyarrow.ipc.new_file)):
        sink = io.BytesIO()
        with open_writer(sink, rows.schema) as writer:
            writer.write_table(rows)
        (tmp_path / name).write_bytes(sink.getvalue())
        assert [e.document for e in Tables(path=tmp_path / name).examples("all")] == rows.column("document").to_pylist()


def test_files_of_a_split_have_the_same_columns(tmp_path):
    """Files of one split whose columns have different roles are refused, naming the file that differs."""
    folder = lay(tmp_path, "train/a.csv")
    (folder / "train" / "b.csv").write_text("article,summary\nx,y\n")
    with pytest.raises(DataError, match=r"b\.csv: its columns differ from those of .*a\.csv"):
        read(folder)

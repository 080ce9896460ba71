"""Data sets of the Hub: the real loading code on a local copy in Hub layout, and messages for unavailable ones."""

from types import SimpleNamespace

import datasets
import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
from datasets.exceptions import DatasetNotFoundError

from triptych.config.schema import Columns
from triptych.datasets import open_dataset
from triptych.datasets.hub import Hub
from triptych.datasets.tables import Tables
from triptych.datasets.tables.splits import assign_exact
from triptych.errors import DataError, ModelError
from triptych.models import hub_access
from triptych.models.base import BaseModel

ROWS = {
    "train": {"article": ["A. B.", "C."], "highlights": ["a\nb", "c"], "id": ["t1", "t2"]},
    "validation": {"article": ["D."], "highlights": ["d"], "id": ["v1"]},
    "test": {"article": ["E."], "highlights": ["e"], "id": ["e1"]},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A separate cache for each test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def repository(tmp_path):
    """Write a folder laid out like a Hub repository: a card with configurations, and Parquet shards."""

    def write(configs: dict[str, dict[str, dict[str, list]]]) -> str:
        folder = tmp_path / "cnn_dailymail"
        card = ["---", "configs:"]
        for config, splits in configs.items():
            (folder / config).mkdir(parents=True)
            card += [f"- config_name: {config}", "  data_files:"]
            for split, rows in splits.items():
                pyarrow.parquet.write_table(pyarrow.table(rows), folder / config / f"{split}-00000-of-00001.parquet")
                card += [f"  - split: {split}", f"    path: {config}/{split}-*"]
        (folder / "README.md").write_text("\n".join([*card, "---", ""]))
        return str(folder)

    return write


def test_a_hub_copy_reads_as_its_files_do(repository):
    """A repository in Hub layout gives the same examples as its Parquet files read as a folder."""
    name = repository({"1.0.0": {"train": ROWS["test"]}, "3.0.0": ROWS})
    hub, tables = Hub(name=name, config="3.0.0"), Tables(path=f"{name}/3.0.0")
    assert hub.splits() == tables.splits() == ("train", "validation", "test")
    for split in hub.splits():
        assert list(hub.examples(split)) == list(tables.examples(split))
    assert next(hub.examples("train")).summary == "a\nb"


def test_a_folder_with_a_configuration_is_a_copy_of_a_repository(repository):
    """`--data FOLDER` with `data_config` reads the folder like a Hub repository; without it, as a folder of tables."""
    name = repository({"1.0.0": {"train": ROWS["test"]}, "3.0.0": ROWS})
    opened = open_dataset(name, data_config="3.0.0", data_revision="main", columns=Columns())
    assert isinstance(opened, Hub) and [e.id for e in opened.examples("train")] == ["t1", "t2"]
    with pytest.raises(DataError, match=r"There are tables in .*3\.0\.0"):
        open_dataset(name, data_config=None, data_revision="main", columns=Columns())
    tables = open_dataset(f"{name}/3.0.0", data_config=None, data_revision="main", columns=Columns())
    assert isinstance(tables, Tables)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("dev", ("train", "validation")),
        ("valid", ("train", "validation")),
        ("odd", ("train",)),
        ("testing", ("train", "test")),
        ("eval", ("train", "test")),
        ("test_seen", ("train", "test")),
    ],
)
def test_split_aliases(repository, given, read):
    """Validation is found under its usual names; splits with other names are ignored if there is one to train on."""
    hub = Hub(name=repository({"default": {"train": ROWS["train"], given: ROWS["validation"]}}))
    assert hub.splits() == read


def test_what_is_not_plain_of_splits_is_said(repository):
    """Ignored splits, a split found under another name, and lists read as texts are named in the notes."""
    rows = {"text": [["One.", "Two more."]], "summary": ["s"]}
    hub = Hub(name=repository({"default": {"train": rows, "eval": rows, "test": rows, "extra": rows}}))
    assert hub.splits() == ("train", "validation", "test")
    assert next(hub.examples("validation")).document == "One.\nTwo more."
    said = " ".join(hub.notes())
    assert "eval is read as the validation split, since test is the test split" in said
    assert "Not read: the split extra" in said and "Lists in 'text' are read as one text each" in said


def test_several_references_of_one_document_are_refused(repository):
    """A column with a list of references per document is refused, on the Hub as in local tables."""
    rows = {"text": ["a b", "c d"], "summary": [["s"], ["One.", "Two."]]}
    with pytest.raises(DataError, match=r"row 2: column 'summary' holds a list of 2.*keep one .the first, say."):
        list(Hub(name=repository({"default": {"train": rows}})).examples("train"))


def test_two_names_for_one_split_are_refused(repository):
    """If two splits mean the same one, the one named exactly as the keyword is read; if neither is, both are named in
    an error."""
    rows = ROWS["test"]
    folder = repository({"default": {"train": rows, "train_small": rows}})
    hub = Hub(name=folder)
    assert hub.splits() == ("train",) and "Not read: the split train_small" in hub.notes()[0]
    splits = {"train_a": None, "train_b": None}
    with pytest.raises(DataError, match="two train splits, train_a, train_b"):
        assign_exact(list(splits), "data set 'x'")


def test_one_split_of_another_name_is_to_be_cut(repository):
    """A single split with another name is the split `all`; several are refused."""
    assert Hub(name=repository({"default": {"everything": ROWS["train"]}})).splits() == ("all",)


def test_several_splits_without_training_are_refused(repository):
    """If no split is recognized as training data, the message lists the splits."""
    hub = Hub(name=repository({"default": {"north": ROWS["train"], "south": ROWS["test"]}}))
    with pytest.raises(DataError, match="no training split, only north, south"):
        hub.splits()


@pytest.mark.parametrize("config", [None, "2.0.0"])
def test_a_missing_or_unknown_configuration_lists_those_there_are(repository, config):
    """A repository with several configurations lists them if none, or an unknown one, was requested."""
    hub = Hub(name=repository({"1.0.0": ROWS, "3.0.0": ROWS}), config=config)
    with pytest.raises(DataError, match=r"1\.0\.0.*3\.0\.0.*--set data_config=NAME"):
        hub.splits()


def test_columns_are_told_as_in_tables(repository):
    """Columns are recognized, named and refused like those of tables."""
    rows = {"text": ["a"], "note": ["b"], "idx": [5]}
    name = repository({"default": {"train": rows}})
    with pytest.raises(DataError, match=r"hold the summary. Its columns: text, note, idx"):
        list(Hub(name=name).examples("train"))
    (example,) = Hub(name=name, columns=Columns(summary="note", id="idx")).examples("train")
    assert (example.id, example.document, example.summary) == ("5", "a", "b")
    (example,) = Hub(name=name, columns=Columns(summary="note")).examples("train")
    assert example.id == "train-1"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"text": [[1]], "summary": ["b"]}, r"split 'train', row 1: column 'text' holds \[1\] \(list\)"),
        ({"text": ["a", "b"], "summary": ["", None]}, "none of the 2 rows has a summary"),
    ],
)
def test_cells_are_checked(repository, rows, said):
    """The message about a cell that is not text, or a split without summaries, says where it is."""
    with pytest.raises(DataError, match=said):
        list(Hub(name=repository({"default": {"train": rows}})).examples("train"))


def test_null_cells_are_empty(repository):
    """A null text is an empty one, so it is counted as such later."""
    rows = {"text": ["a", None], "summary": ["c", "d"]}
    assert [e.document for e in Hub(name=repository({"default": {"train": rows}})).examples("train")] == ["a", ""]


def test_fingerprint_is_stable_and_follows_the_options(repository):
    """The fingerprint is the same whenever the same data is loaded, and changes with the options."""
    name = repository({"1.0.0": {"train": ROWS["test"]}, "3.0.0": ROWS})
    print_of = lambda **options: Hub(name=name, **options).fingerprint()  # noqa: E731
    assert print_of(config="3.0.0") == print_of(config="3.0.0")
    assert (
        len({print_of(config="1.0.0"), print_of(config="3.0.0"), print_of(config="3.0.0", columns=Columns(id="id"))})
        == 3
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("Couldn't reach 'x' on the Hub"), ["could not be downloaded", "--data", "HF_HOME"]),
        (DatasetNotFoundError("Dataset 'x' doesn't exist on the Hub"), ["There is no data set", "'main'", "--data"]),
        (DatasetNotFoundError("Dataset 'x' is a gated dataset on the Hub."), ["gated", "hf auth login"]),
        (
            RuntimeError("Dataset scripts are no longer supported"),
            ["cannot be loaded: RuntimeError: Dataset scripts", "--data"],
        ),
        (OSError("disk full"), ["cannot be loaded: OSError: disk full"]),
    ],
)
def test_errors_of_the_hub_become_messages_with_a_remedy(monkeypatch, error, said):
    """Any failure while a data set is loaded from the Hub becomes one DataError with the reason and a remedy."""

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(hub_access, "_answers", lambda endpoint: True)
    monkeypatch.setattr("triptych.datasets.hub.find_commit", lambda *repository: "c0ffee")
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError) as caught:
        Hub(name="x").splits()
    assert all(part in str(caught.value) for part in [*said, "data set 'x'"])


def test_remote_code_is_never_asked_for(monkeypatch):
    """Only name, configuration and the revision's commit are passed on, and above all not trust_remote_code."""
    asked = []
    monkeypatch.setattr(hub_access, "_answers", lambda endpoint: True)
    monkeypatch.setattr("triptych.datasets.hub.find_commit", lambda *repository: asked.append(repository) or "c0ffee")
    table = SimpleNamespace(cache_files=[{"filename": "/cache/a___b/c/0.0.0/c0ffee/b-train.arrow"}])
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *args, **kwargs: asked.append((args, kwargs)) or {"train": table}
    )
    opened = Hub(name="a/b", config="c", revision="d")
    opened.splits()
    assert asked == [("a/b", "d", "dataset", "README.md"), (("a/b", "c"), {"revision": "c0ffee"})]
    assert opened.commit_read() == "c0ffee"


def test_another_commit_is_never_taken_from_the_cache(monkeypatch):
    """If a download fails, `datasets` falls back to another cached commit: this is refused."""
    monkeypatch.setattr(hub_access, "_answers", lambda endpoint: True)
    monkeypatch.setattr("triptych.datasets.hub.find_commit", lambda *repository: "c0ffee")
    table = SimpleNamespace(cache_files=[{"filename": "/cache/a___b/c/0.0.0/beef/b-train.arrow"}])
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: {"train": table})
    with pytest.raises(DataError, match=r"could not be downloaded .*commit c0ffee failed; the cache holds commit beef"):
        Hub(name="a/b").splits()


@pytest.mark.parametrize("error", ["RepositoryNotFoundError", "GatedRepoError", "RevisionNotFoundError"])
@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_refusal_of_the_hub_says_what_to_do(monkeypatch, error, kind):
    """A missing or gated repository and a wrong revision each have a specific message."""

    def refuse(*arguments, **options):
        request = SimpleNamespace(url="http://hub/a/b")
        raise getattr(huggingface_hub.errors, error)("no", response=SimpleNamespace(headers={}, request=request))

    said = {
        "RepositoryNotFoundError": r"There is no (model|data set) 'a/b' on the Hub that you may read.*hf auth login",
        "GatedRepoError": "'a/b' on the Hub is gated.*hf auth login.*--(model|data)",
        "RevisionNotFoundError": "'a/b' on the Hub has no branch, tag or commit 'v9': check (model|data)_revision",
    }
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(hub_access.HubRefusal, match=said[error]):
        hub_access.find_commit("a/b", "v9", kind, "README.md")


def test_a_hub_that_cannot_be_reached(monkeypatch):
    """Offline, without a cached copy, the message says that a local folder or HF_HOME helps."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        DataError,
        match=r"data set 'abisee/cnn_dailymail' \(3.0.0\) could not be downloaded from the Hub: HF_HUB_OFFLINE is set, "
        r"so that the Hub is not asked, and the cache .* --data, .* HF_HOME",
    ) as caught:
        Hub(name="abisee/cnn_dailymail", config="3.0.0").splits()
    assert "local_files_only" not in str(caught.value)


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch):
    """If the Hub does not answer, the libraries use only their caches, do not retry, and are restored afterwards."""
    asked = []
    monkeypatch.setattr(hub_access, "_answers", lambda endpoint: asked.append(endpoint) or False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)

    class NoNetwork:
        """A session that must not be used."""

        def __getattr__(self, name):
            raise AssertionError(f"the network was tried: {name}")

    monkeypatch.setattr("huggingface_hub.utils._http.get_session", NoNetwork)
    unreachable = r"the Hub cannot be reached \(https?://.*\), and the cache .* does not hold it\."
    with pytest.raises(DataError, match=f"could not be downloaded from the Hub: {unreachable}"):
        Hub(name="someone/data").splits()
    for part in ("tokenizer", "config"):
        with pytest.raises(ModelError, match=rf"from the hub: {unreachable}\n.*HF_HOME.*--preset demo"):
            getattr(BaseModel("someone/model"), part)
    assert len(asked) == 3 and not huggingface_hub.constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE


def test_an_answer_of_any_kind_is_an_answer(monkeypatch):
    """A response with any status leaves the libraries alone; a failed request does not."""

    class Session:
        """Answers or fails."""

        def __init__(self, error=None):
            self.error = error

        def head(self, endpoint, timeout):
            """As it was made."""
            assert timeout <= 5
            if self.error:
                raise self.error

    for error, expected in ((None, True), (OSError("no route"), False), (TimeoutError(), False)):
        monkeypatch.setattr(huggingface_hub, "get_session", lambda error=error: Session(error))
        assert hub_access._answers("https://example.org") is expected

"""Hub data sets: the real loading code, on a local copy in hub layout, and what is said where one cannot be had."""

import datasets
import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
from datasets.exceptions import DatasetNotFoundError

from triptych.config import Columns
from triptych.datasets.hub import Hub
from triptych.datasets.tables import Tables
from triptych.errors import DataError

ROWS = {
    "train": {"article": ["A. B.", "C."], "highlights": ["a\nb", "c"], "id": ["t1", "t2"]},
    "validation": {"article": ["D."], "highlights": ["d"], "id": ["v1"]},
    "test": {"article": ["E."], "highlights": ["e"], "id": ["e1"]},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for each test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def repository(tmp_path):
    """Write a folder as the hub lays out a repository: a card with configurations, and Parquet shards."""

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
    """A repository in hub layout gives the very examples that its Parquet files give as a folder."""
    name = repository({"1.0.0": {"train": ROWS["test"]}, "3.0.0": ROWS})
    hub, tables = Hub(name=name, config="3.0.0"), Tables(path=f"{name}/3.0.0")
    assert hub.splits() == tables.splits() == ("train", "validation", "test")
    for split in hub.splits():
        assert list(hub.examples(split)) == list(tables.examples(split))
    assert next(hub.examples("train")).summary == "a\nb"


@pytest.mark.parametrize(
    ("given", "read"), [("dev", ("train", "validation")), ("valid", ("train", "validation")), ("odd", ("train",))]
)
def test_split_aliases(repository, given, read):
    """Validation is found under its usual names; splits of other names are left aside where there is one to train on."""
    hub = Hub(name=repository({"default": {"train": ROWS["train"], given: ROWS["validation"]}}))
    assert hub.splits() == read


def test_one_split_of_another_name_is_to_be_cut(repository):
    """One split of any other name is the split `all`; several are refused."""
    assert Hub(name=repository({"default": {"everything": ROWS["train"]}})).splits() == ("all",)


def test_several_splits_without_training_are_refused(repository):
    """Splits of which none can be told for training are listed."""
    hub = Hub(name=repository({"default": {"north": ROWS["train"], "south": ROWS["test"]}}))
    with pytest.raises(DataError, match="no training split, only north, south"):
        hub.splits()


@pytest.mark.parametrize("config", [None, "2.0.0"])
def test_a_missing_or_unknown_configuration_lists_those_there_are(repository, config):
    """A repository with several configurations lists them where none, or an unknown one, was asked for."""
    hub = Hub(name=repository({"1.0.0": ROWS, "3.0.0": ROWS}), config=config)
    with pytest.raises(DataError, match=r"1\.0\.0.*3\.0\.0.*--set data_config=NAME"):
        hub.splits()


def test_columns_are_told_as_in_tables(repository):
    """Columns are recognised, named and refused as those of tables are."""
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
        ({"text": [["a"]], "summary": ["b"]}, r"split 'train', row 1: column 'text' holds \['a'\] \(list\)"),
        ({"text": ["a", "b"], "summary": ["", None]}, "none of the 2 rows has a summary"),
    ],
)
def test_cells_are_checked(repository, rows, said):
    """A cell that is no text, and a split without summaries, are told with their place."""
    with pytest.raises(DataError, match=said):
        list(Hub(name=repository({"default": {"train": rows}})).examples("train"))


def test_null_cells_are_empty(repository):
    """A null text is an empty one, to be counted as such later."""
    rows = {"text": ["a", None], "summary": ["c", "d"]}
    assert [e.document for e in Hub(name=repository({"default": {"train": rows}})).examples("train")] == ["a", ""]


def test_fingerprint_is_stable_and_follows_the_options(repository):
    """The fingerprint is the same whenever the same data is loaded, and another for other options."""
    name = repository({"1.0.0": {"train": ROWS["test"]}, "3.0.0": ROWS})
    print_of = lambda **options: Hub(name=name, **options).fingerprint()  # noqa: E731
    assert print_of(config="3.0.0") == print_of(config="3.0.0")
    assert len({print_of(config="1.0.0"), print_of(config="3.0.0"), print_of(config="3.0.0", columns=Columns(id="id"))}) == 3


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("Couldn't reach 'x' on the Hub"), ["cannot be fetched", "--data", "HF_HOME"]),
        (DatasetNotFoundError("Dataset 'x' doesn't exist on the Hub"), ["There is no data set", "'main'", "--data"]),
        (DatasetNotFoundError("Dataset 'x' is a gated dataset on the Hub."), ["gated", "hf auth login"]),
        (
            RuntimeError("Dataset scripts are no longer supported"),
            ["cannot be loaded: RuntimeError: Dataset scripts", "--data"],
        ),
        (OSError("disk full"), ["cannot be loaded: OSError: disk full"]),
    ],
)
def test_what_the_hub_says_is_told_with_a_remedy(monkeypatch, error, said):
    """Whatever goes wrong on the way to a hub data set is one DataError with what was said and what to do."""

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError) as caught:
        Hub(name="x").splits()
    assert all(part in str(caught.value) for part in [*said, "data set 'x'"])


def test_remote_code_is_never_asked_for(monkeypatch):
    """Nothing but name, configuration and revision is passed on: above all not trust_remote_code."""
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: asked.append((args, kwargs)) or {"train": None})
    Hub(name="a/b", config="c", revision="d").splits()
    assert asked == [(("a/b", "c"), {"revision": "d"})]


def test_a_hub_that_cannot_be_reached(monkeypatch):
    """Offline, without a cached copy, the message says that a local folder or HF_HOME helps."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"data set 'abisee/cnn_dailymail' \(3.0.0\) cannot be fetched .* --data, .* HF_HOME"):
        Hub(name="abisee/cnn_dailymail", config="3.0.0").splits()

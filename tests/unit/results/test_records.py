"""`record.json` must contain what its run wrote, or it is refused."""

import json

import pytest

from support.made_up import make_results
from triptych.errors import ResultsError
from triptych.results import records
from triptych.results.reading import read_record
from triptych.results.records import Record


@pytest.fixture
def record() -> Record:
    """A made-up record of a run that trained."""
    return make_results(labels=("lora",)).runs[0].record


def test_a_record_is_read_as_it_was_written(record, tmp_path):
    """A sealed record is read whatever the order and spacing of its keys; one without a digest is read as it is."""
    sealed = record.sealed()
    for data in (sealed, dict(reversed(sealed.items())), record.model_dump(mode="json")):
        for indent in (None, 4):
            (tmp_path / "record.json").write_text(json.dumps(data, indent=indent))
            assert read_record(tmp_path / "record.json").model_copy(update={"digest": None}) == record


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"weight_decay"', '"veight_decay"'),
        ('"max_epochs"', '"max_epocht"'),
        ('"train_flops": ', '"train_flops": 1'),
        ('"seed": 0', '"seed": 1'),
        ('"kind": "lora"', '"kind": "dora"'),
    ],
)
def test_a_changed_record_is_refused(record, tmp_path, old, new):
    """A changed key or value is detected anywhere in the record."""
    text = json.dumps(record.sealed())
    assert old in text
    (tmp_path / "record.json").write_text(text.replace(old, new, 1))
    with pytest.raises(ResultsError, match="changed after its run wrote it"):
        read_record(tmp_path / "record.json")


def test_a_record_whose_digest_is_of_others_work_too_is_read(record, tmp_path):
    """Records of an earlier version, whose digest includes the note on other work, can still be read."""
    record.cost.shared_note = "processes other than this run used about 60% of the cores"
    data = record.model_dump(mode="json")
    data["digest"] = records._digest(data, records.READINGS_BEFORE)
    assert data["digest"] != record.sealed()["digest"]
    (tmp_path / "record.json").write_text(json.dumps(data))
    assert read_record(tmp_path / "record.json").cost == record.cost
    data["cost"]["shared_note"] = None
    (tmp_path / "record.json").write_text(json.dumps(data))
    with pytest.raises(ResultsError, match="changed after its run wrote it"):
        read_record(tmp_path / "record.json")


def test_the_digest_is_of_what_a_repeated_run_repeats(record):
    """Times, memory, energy, others' work, date and command do not change the digest; any figure that a rerun
    reproduces does."""
    repeated = record.model_copy(deep=True)
    repeated.cost.train_seconds += 1.0
    repeated.cost.peak_memory_bytes = 7
    repeated.cost.shared_note = "processes other than this run used about 60% of the cores"
    assert record.provenance is not None and repeated.provenance is not None
    repeated.provenance.time, repeated.provenance.command = "later", "another"
    assert repeated.sealed()["digest"] == record.sealed()["digest"]
    repeated.loss.test = 0.5
    assert repeated.sealed()["digest"] != record.sealed()["digest"]


def test_the_commits_that_were_read_take_the_place_of_branches(record):
    """A record's settings can be given with the Hub commits of model and data that were read; a local model's
    fingerprint is a digest and leaves the revision unchanged."""
    assert record.provenance is not None and record.data is not None
    record.config |= {"model": "someone/m", "model_revision": "main", "data_revision": "main"}
    for fingerprint, expected in (("0f" * 32, "main"), (None, "main"), ("other/m@c0ffee", "main")):
        record.provenance.model_fingerprint, record.data.commit = fingerprint, None
        assert record.pinned_config() == {**record.config, "model_revision": expected}
    record.provenance.model_fingerprint, record.data.commit = "someone/m@c0ffee", "beef"
    assert record.pinned_config() == {**record.config, "model_revision": "c0ffee", "data_revision": "beef"}

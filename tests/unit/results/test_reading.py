"""A run read for resuming: damage is repaired by running again, other settings are refused."""

import json

import pytest

from support.folders import write_run
from triptych.config.schema import make_suite
from triptych.errors import ResultsError
from triptych.results.reading import OtherSettings, read_run

SUITE = make_suite({"model": "tiny", "data": "newswire", "methods": ["lora"]})
OTHER = make_suite({"model": "tiny", "data": "newswire", "methods": ["lora"], "training": {"patience": 7}})


def test_other_settings_and_damage_are_different_errors(tmp_path):
    """A complete record with other settings is distinguished from damage, even if the files next to it are damaged."""
    folder = write_run(tmp_path, SUITE.model_dump(mode="json"), "lora", 0)
    assert read_run(folder, "lora", 0, SUITE).done
    with pytest.raises(OtherSettings, match=r"training\.patience.*--fresh"):
        read_run(folder, "lora", 0, OTHER)
    (folder / "predictions.jsonl").unlink()
    with pytest.raises(OtherSettings, match=r"training\.patience"):
        read_run(folder, "lora", 0, OTHER)
    with pytest.raises(ResultsError, match="is missing") as caught:
        read_run(folder, "lora", 0, SUITE)
    assert not isinstance(caught.value, OtherSettings)


@pytest.mark.parametrize("change", [{"status": "failed"}, {"schema_version": 2}, {"label": 3}])
def test_a_record_that_is_not_a_whole_finished_one_has_no_other_settings(change, tmp_path):
    """A failed run, and a record that cannot be read, are run again whatever their settings."""
    folder = write_run(tmp_path, SUITE.model_dump(mode="json"), "lora", 0)
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(record | change))
    try:
        assert not read_run(folder, "lora", 0, OTHER).done
    except ResultsError as error:
        assert not isinstance(error, OtherSettings)

"""In an unpacked bundle, what belongs to a fine-tuned model is found; elsewhere, nothing is taken from another
folder."""

from pathlib import Path

import pytest

from triptych.results import bundled


@pytest.fixture
def bundle(tmp_path) -> Path:
    """An unpacked bundle with one fine-tuned model, the embedded base and the results."""
    for name in (
        "models/tuned/lora/0/adapter/triptych.json",
        "models/base/tiny/config.json",
        "results/suite.json",
        "results/runs/lora/0/record.json",
        "results/runs/lora/0/predictions.jsonl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_the_parts_of_a_bundle_are_found(bundle, monkeypatch):
    """Record, predictions and base of `models/tuned/LABEL/SEED` come from the same bundle, whatever the working
    directory."""
    run = bundle / bundled.tuned_folder("lora", 0)
    assert bundled.record_folder(run) == bundle / "results/runs/lora/0"
    assert bundled.predictions_file(run) == bundle / "results/runs/lora/0/predictions.jsonl"
    assert bundled.base_in_bundle(run, "tiny") == str(bundle / "models/base/tiny")
    monkeypatch.chdir(run)
    assert bundled.record_folder(Path()) == bundle / "results/runs/lora/0"


def test_a_runs_own_files_come_first(bundle):
    """A folder with a record, as in older bundles, is read itself; its predictions may still come from the bundle."""
    run = bundle / "models/tuned/lora/0"
    (run / "record.json").write_text("{}")
    assert bundled.record_folder(run) == run
    assert bundled.predictions_file(run) == bundle / "results/runs/lora/0/predictions.jsonl"
    (run / "predictions.jsonl").write_text("")
    assert bundled.predictions_file(run) == run / "predictions.jsonl"


@pytest.mark.parametrize("place", ["runs/lora/0", "models/tuned/lora/x", "models/tuned/dora/0", "other/tuned/lora/0"])
def test_elsewhere_a_run_has_its_own_folder_alone(bundle, place):
    """A run that is in no bundle, or not in the bundle's results, is looked up only in its own folder."""
    run = bundle / place
    assert bundled.record_folder(run) == run and bundled.predictions_file(run) == run / "predictions.jsonl"


@pytest.mark.parametrize("model", ["../tiny", "/tiny", "org/tiny", "gpt2", "", "..", "."])
def test_a_base_that_the_bundle_lacks_is_not_invented(bundle, model):
    """Only a plain name is looked up below models/base, and only a folder with a configuration is a model."""
    (bundle / "models/config.json").write_text("{}")
    assert bundled.base_in_bundle(bundle / "models/tuned/lora/0", model) is None
    assert bundled.base_in_bundle(bundle / "runs/lora/0", "tiny") is None


def test_without_results_there_is_no_bundle(bundle):
    """A folder that merely looks like a bundle's belongs to a run."""
    (bundle / "results/suite.json").unlink()
    assert bundled.base_in_bundle(bundle / "models/tuned/lora/0", "tiny") is None

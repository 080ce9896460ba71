"""A run given by a short name: used if only one can be meant, listed if several can."""

import json
import shutil

import pytest

from support.folders import edit_record, write_results
from support.paths import CHECKOUT
from triptych import api, cli
from triptych.errors import ResultsError
from triptych.results.reading import read_results
from triptych.use.find_run import find_run, is_run_folder, known_columns, runs_of_row


@pytest.fixture
def out(tmp_path):
    """Two baselines, and two trained methods, under two seeds."""
    return write_results(tmp_path / "out", methods=("untuned", "lead-3", "prompt-tuning", "lora"), seeds=(0, 1))


def test_a_folder_that_is_a_run_or_an_adapter_is_itself(out, tmp_path):
    """If a run's or adapter's folder is given, nothing is printed about the choice."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    for folder in (out / "runs/lora/1", adapter):
        found = find_run(str(folder))
        assert (found.folder, found.message) == (folder, "") and is_run_folder(folder)


def test_a_row_with_one_finished_seed_is_that_run(out):
    """A failed seed is not a candidate; the run taken is reported with its score."""
    edit_record(out, "lora/0", lambda record: record.update(status="failed", error="no memory"))
    found = find_run(out / "runs/lora")
    assert found.folder == out / "runs/lora/1" and str(found.folder) in found.message and "R-1" in found.message
    assert find_run(out / "runs/lead-3").folder == out / "runs/lead-3/0"


def test_a_results_folder_with_one_trained_run_is_that_run(tmp_path):
    """Untrained methods are not candidates if a method trains; alone, one of them is."""
    out = write_results(tmp_path / "one", methods=("untuned", "lead-3", "lora"), seeds=(3,))
    assert find_run(out).folder == out / "runs/lora/3"
    assert find_run(out / "runs").folder == out / "runs/lora/3"
    alone = write_results(tmp_path / "alone", methods=("lead-3",), seeds=(0,))
    assert find_run(alone).folder == alone / "runs/lead-3/0"


def test_several_runs_are_listed_with_their_scores(out):
    """The message lists every candidate, and the best one's short name."""
    with pytest.raises(ResultsError) as caught:
        find_run(out)
    message = str(caught.value)
    for run in ("lora/0", "lora/1", "prompt-tuning/0", "lead-3/0"):
        assert f"\n  {out / 'runs' / run} (R-1 " in message
    assert f"\n  {out}@best" in message
    with pytest.raises(ResultsError, match=r"holds several runs(.|\n)*lora/0(.|\n)*lora/1"):
        find_run(out / "runs/lora")


def test_the_best_is_the_row_that_trains_with_the_best_mean(out):
    """Of its seeds, the one with the lowest validation loss is taken; anything better without training is named."""
    edit_record(out, "lora/1", lambda record: record["loss"].update(validation=1.0))
    edit_record(out, "lora/1", lambda record: record.pop("training"))
    found = find_run(f"{out}@best")
    assert found.folder == out / "runs/lora/1" and "lowest validation loss" in found.message
    assert runs_of_row(out, "lora", [0, 1]) == [out / "runs/lora/1", out / "runs/lora/0"]
    better = write_results(out.parent / "lead", methods=("lead-3", "prompt-tuning"), seeds=(0,))
    found = find_run(f"{better}@best")
    assert found.folder == better / "runs/prompt-tuning/0" and "better without training: lead-3" in found.message
    same = write_results(out.parent / "loss", methods=("lora", "full"), seeds=(0,), analysis={"primary": "loss"})
    assert find_run(f"{same}@best").folder.parent.name in ("lora", "full")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "There is no folder 'nowhere'"),
        ("nowhere@best", "There is no results folder 'nowhere'"),
        ("empty", "is neither a run"),
        ("baselines@best", "No method in 'baselines' was trained"),
        ("failed", "No run in 'failed' finished"),
    ],
)
def test_what_is_no_run_is_one_message(name, message, tmp_path, monkeypatch):
    """The message names what was given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_results(tmp_path / "baselines", methods=("lead-3", "untuned"), seeds=(0,))
    failed = write_results(tmp_path / "failed", methods=("lora",), seeds=(0,))
    edit_record(failed, "lora/0", lambda record: record.update(status="failed", error="no memory"))
    with pytest.raises(ResultsError, match=message):
        find_run(name)


def test_a_run_knows_its_columns(out):
    """A run's columns are those of its settings; a missing run, or another tool's adapter, has none."""
    assert read_results(out).runs[0].setting("columns.document") is None
    edit_record(out, "lora/0", lambda record: record["config"]["columns"].update(document="ticket_text"))
    assert [each.document for each in known_columns([out / "runs/lora/0", "nowhere"])] == ["ticket_text"]


def test_advice_names_the_folder_of_the_choice_and_the_commands_that_use_it(out):
    """Runs are listed with the lowest validation loss first, in the text and in the JSON."""
    found = api.advise(out, max_parameters="1M")
    assert found.choice == "lora" and found.runs == (str(out / "runs/lora/0"), str(out / "runs/lora/1"))
    assert f"triptych export {out / 'runs/lora/0'} DIR" in found.text and "lowest validation loss" in found.text
    assert api.advise(out, max_parameters="0k").choice == api.advise(out, max_parameters=0).choice
    none = api.advise(out, max_parameters=0)
    assert none.choice == "lead-3" and "triptych export" not in none.text and "summarize" in none.text


def test_the_command_takes_human_numbers_prints_json_and_exports(out, tmp_path, monkeypatch, capsys):
    """`1M`, `8GB` and `30min` are limits; the first run is exported; a wrong unit gives status 2."""
    exported = []
    monkeypatch.setattr(api, "export", lambda run, folder, **more: exported.append((run, folder, more)) or "written.")
    limits = ["--max-parameters", "1M", "--max-memory", "8GB", "--max-seconds", "30min"]
    assert cli.main(["advise", str(out), *limits, "--json", "--export", str(tmp_path / "to"), "--model", "m"]) == 0
    captured = capsys.readouterr()
    advice = json.loads(captured.out)
    assert advice["choice"] == "lora" and advice["runs"][0] == str(out / "runs/lora/0") and captured.err == "written.\n"
    assert exported == [(advice["runs"][0], tmp_path / "to", {"model": "m", "plugins": []})]
    for wrong in (["--max-parameters", "1Q"], ["--max-memory", "8 hours"], ["--max-seconds", "-1"]):
        assert cli.main(["advise", str(out), *wrong]) == 2
        assert wrong[0] in capsys.readouterr().err
    assert cli.main(["advise", str(out), "--max-parameters", "1e6"]) == 0
    assert "triptych summarize" in capsys.readouterr().out


def test_models_of_an_unpacked_bundle_are_found_by_their_records_in_the_results(out, tmp_path):
    """`models/tuned/LABEL` and `models/tuned` work as well as names in a results folder."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    out.rename(bundle / "results")
    (bundle / "models/tuned/lora/1").mkdir(parents=True)
    assert find_run(bundle / "models/tuned/lora/1").message == ""
    assert find_run(bundle / "models/tuned/lora").folder == bundle / "models/tuned/lora/1"
    assert find_run(bundle / "models/tuned").folder == bundle / "models/tuned/lora/1"


def test_a_published_comparison_is_advised_on_without_its_runs(tmp_path, capsys):
    """Figures alone give the same advice, with their tests; there is no run to name or export."""
    shutil.copy(CHECKOUT / "docs/results/cnn-dailymail/comparison.json", tmp_path)
    found = api.advise(tmp_path, max_parameters="1M")
    assert found.choice == "prompt-tuning" and found.runs == ()
    assert set(found.refused) == {"last-layers", "last-head", "full"}
    assert {rival.label: rival.decision for rival in found.rivals} == {
        "lora": "undecided",
        "lead-3": "undecided",
        "untuned": "different",
        "untuned-chat": "different",
    }
    assert cli.main(["advise", str(tmp_path), "--max-parameters", "1M", "--export", "nowhere"]) == 2
    captured = capsys.readouterr()
    assert (
        "With at most 1,000,000 trainable parameters: prompt-tuning." in captured.out
        and "Nothing is exported" in captured.err
    )

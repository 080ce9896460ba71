"""A comparison can gain methods and seeds; whatever would make its runs differ is refused."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from support.folders import write_results, write_run
from support.in_process import run_here
from triptych import api, registry
from triptych.analysis.comparison import compare_results
from triptych.config import reading
from triptych.config.schema import Suite, make_suite
from triptych.contracts import Metric
from triptych.errors import ResultsError
from triptych.results.reading import read_results, read_suite
from triptych.run import entries, experiment
from triptych.run.events import BeginEvent, KeptEvent, NoteEvent, ReadyEvent, TrialEvent
from triptych.suite import executors, reports
from triptych.suite import folder as folders
from triptych.suite.arguments import SuiteArguments
from triptych.suite.folder import check_claim, claim_folder, note_command, write_suite
from triptych.suite.growth import Growth, Unlike, grow
from triptych.suite.planned_runs import PlannedRun


def _suite(**settings) -> Suite:
    return entries.resolve(reading.merge_tables(reading.preset_settings("demo"), settings))[0]


def _grown(there: Suite, wanted: Suite) -> Growth:
    found = grow(there, wanted)
    assert isinstance(found, Growth)
    return found


def test_rows_and_seeds_are_added_after_those_that_are_there():
    """The folder's own come first, so its first seed stays that of every search; new methods bring their options."""
    there = _suite(methods=["lora", "lead-3"], seeds=[3])
    wanted = _suite(methods=["dora", "lora"], seeds=[5, 3], method={"dora": {"rank": 2}})
    found = _grown(there, wanted)
    assert found.suite.methods == ("lora", "lead-3", "dora") and found.suite.seeds == (3, 5)
    assert found.suite.method["dora"] == wanted.method["dora"] and found.suite.method["lora"] == there.method["lora"]
    assert found.suite == make_suite(found.suite.model_dump(mode="json"))
    text = " ".join(found.changes)
    assert "the method dora" in text and "the seed 5" in text and "lead-3" in text


def test_fewer_rows_and_seeds_take_nothing_out_and_are_named():
    """The folder's methods and seeds stay in its comparison, and a sentence says so; for the same suite nothing is
    said."""
    there = _suite(methods=["lora", "lead-3"], seeds=[0, 1])
    found = _grown(there, _suite(methods=["lora"], seeds=[1]))
    assert found.suite == there
    assert any("lead-3" in change and "stay in it" in change for change in found.changes)
    assert any("seed 0" in change for change in found.changes)
    assert _grown(there, there) == Growth(there)
    assert _grown(there, _suite(methods=["lead-3", "lora"], seeds=[1, 0])) == Growth(there)


@pytest.mark.parametrize(
    ("change", "key", "values"),
    [
        ({"training": {"max_epochs": 9}}, "training.max_epochs", (3, 9)),
        ({"limits": {"test_documents": 5}}, "limits.test_documents", (48, 5)),
        ({"method": {"lora": {"rank": 2}}}, "method.lora.rank", (8, 2)),
        ({"method": {"lora": {"kind": "dora"}}}, "method.lora.kind", ("lora", "dora")),
        ({"model": "other"}, "model", ("tiny", "other")),
        ({"scaling": {"train_documents": [8]}}, "scaling.train_documents", ([], [8])),
    ],
)
def test_a_setting_of_runs_that_are_there_is_refused_by_name(change, key, values):
    """Any other difference is refused with its dotted name and both values, also together with new methods and
    seeds."""
    more = {"methods": ["lora", "dora"], "seeds": [0, 1]}
    for wanted in (_suite(**{"methods": ["lora"]} | change), _suite(**more | change)):
        assert grow(_suite(methods=["lora"]), wanted) == Unlike(key, *values)


def test_a_design_is_kept_as_long_as_its_sizes_are_those_of_the_suite():
    """More methods keep what `--within` chose; more seeds no longer match that design; another design is refused."""
    design = {"within_seconds": 60, "estimated_seconds": 50, "detect": 1, "power": 0.8, "train_documents": 256}
    design |= {"max_epochs": 3, "test_documents": 48, "seeds": 1}
    there = _suite(methods=["lora"], design=design)
    assert there.design is not None
    assert _grown(there, _suite(methods=["dora"])).suite.design == there.design
    assert _grown(there, _suite(methods=["lora"], seeds=[0, 1])).suite.design is None
    other = grow(there, _suite(methods=["lora"], design=design | {"within_seconds": 90}))
    assert other == Unlike("design.within_seconds", 60, 90)


def test_what_is_said_for_the_report_is_kept_or_replaced():
    """A folder's title is no reason to refuse a suite without one, and a new title replaces it."""
    there = _suite(methods=["lora"], report={"title": "Mine", "author": "Ann"})
    assert _grown(there, _suite(methods=["lora"])).suite == there
    grown = _grown(there, _suite(methods=["dora"], report={"title": "Ours"})).suite
    assert (grown.report.title, grown.report.author, grown.methods) == ("Ours", "Ann", ("lora", "dora"))


def test_a_refusal_leaves_suite_json_as_it_is_and_says_what_may_be_added(tmp_path):
    """The message names the key and says that methods and seeds may be added."""
    out = tmp_path / "out"
    with claim_folder(out, _suite(methods=["lora"])):
        pass
    before = (out / "suite.json").read_bytes()
    refusal = r"training\.max_epochs is 3 there and 9 here\. Methods and seeds may be added"
    with pytest.raises(ResultsError, match=refusal):
        check_claim(out, _suite(methods=["dora"], training={"max_epochs": 9}), fresh=False)
    assert (out / "suite.json").read_bytes() == before


def test_a_claim_alone_adds_nothing(tmp_path):
    """`suite.json` is rewritten once the methods can run, not when the folder is claimed."""
    out = tmp_path / "out"
    small, large = _suite(methods=["lora"]), _suite(methods=["lora", "dora"], seeds=[0, 1])
    with claim_folder(out, small):
        pass
    with claim_folder(out, large):
        assert read_suite(out / "suite.json") == small
        write_suite(out, large)
        assert read_suite(out / "suite.json") == large
    with pytest.raises(ResultsError, match="meanwhile"), claim_folder(out, small):
        pytest.fail("a suite that another process extended was claimed as it was")


def test_the_commands_that_made_a_comparison_are_kept_in_order(tmp_path, monkeypatch):
    """The first command and those that added something are kept; one that resumes adds nothing."""
    out = tmp_path / "out"
    small, large = _suite(methods=["lora"]), _suite(methods=["lora", "dora"])
    for words, suite in (("compare a", small), ("compare again", small), ("compare out --methods dora", large)):
        monkeypatch.setattr("sys.argv", ["/usr/bin/triptych", *words.split()])
        with claim_folder(out, suite):
            note_command(out)
            write_suite(out, suite)
    kept = "triptych compare a && triptych compare out --methods dora"
    assert json.loads((out / "command.json").read_text()) == {"command": kept}


def test_records_of_fewer_rows_and_seeds_belong_to_the_grown_suite(tmp_path):
    """Runs keep their original settings: the folder is read, compared and complete with the new ones."""
    out = write_results(tmp_path / "out", methods=("lead-3", "lora"), seeds=(0,))
    before = {path: path.read_bytes() for path in out.rglob("runs/**/*.*")}
    old = read_suite(out / "suite.json")
    grown = _grown(old, old.model_copy(update={"methods": ("full", "lora"), "seeds": (0, 1)})).suite
    write_suite(out, grown)
    partial = read_results(out, partial=True)
    assert partial.missing == (("lora", 1), ("full", 0))
    for label, seed in (("lora", 1), ("full", 0), ("full", 1)):
        write_run(out, grown.model_dump(mode="json"), label, seed)
    comparison = compare_results(read_results(out))
    assert list(comparison.rows) == ["lead-3", "lora", "full"] and comparison.rows["lora"].seeds == [0, 1]
    assert {path: path.read_bytes() for path in before} == before


def test_a_results_folder_is_a_suite_that_is_extended_in_place(tmp_path, monkeypatch):
    """`compare OUT` takes settings and folder from OUT, unless another folder is named."""
    out = tmp_path / "out"
    with claim_folder(out, _suite(methods=["lora"])):
        pass
    for given, file, folder in (
        (SuiteArguments(out), out / "suite.json", out),
        (SuiteArguments(str(out), out="other"), out / "suite.json", Path("other")),
        (SuiteArguments("suite.toml", out="other"), "suite.toml", Path("other")),
        (SuiteArguments(), None, None),
    ):
        assert (given.file, given.folder) == (file, folder)
    monkeypatch.setattr("triptych.run.preflight.check_suite", lambda suite, *_: pytest.fail(f"{suite.methods}"))
    with pytest.raises(pytest.fail.Exception, match=r"'lora', 'dora'"):
        api.compare(out, out=None, methods=["dora"])


SMALL = {
    "limits": {"train_documents": 8, "validation_documents": 2, "test_documents": 2},
    "training": {"max_epochs": 1},
    "decoding": {"max_new_tokens": 4, "num_beams": 1},
    "search": {"trials": 2, "validation_documents": 2},
}


def test_a_seed_that_is_added_reads_the_search_of_the_smaller_suite(workplace):
    """No trial is repeated, here or planned for another machine; the first run's files are byte-identical."""
    out = workplace / "searched"
    small = _suite(**SMALL, methods=["lora"])
    (first,) = entries.suite_entries(small)
    with claim_folder(out, small):
        made = experiment.run_experiment(small, first, 0, out, "cpu", lambda run, event: None)
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    large = check_claim(out, _suite(**SMALL, methods=["bitfit", "lora"], seeds=[0, 1]), fresh=False).suite
    entry = entries.find_entry(entries.suite_entries(large), "lora")
    assert PlannedRun(large, out, entry, 1, "lora").job(None, ()).trials == ()
    said = []
    added = experiment.run_experiment(large, entry, 1, out, "cpu", lambda run, event: said.append(event))
    assert added.search == made.search and added.search.charged_to == 0
    assert not [event for event in said if isinstance(event, TrialEvent)]
    assert not [event for event in said if isinstance(event, NoteEvent) and "made with other" in event.message]
    assert {path: path.read_bytes() for path in before} == before
    assert json.loads((out / "runs/lora/0/record.json").read_text())["config"]["seeds"] == [0]


def test_compare_adds_a_row_and_a_seed_and_keeps_every_byte_of_what_is_done(workplace, monkeypatch):
    """Only the new runs are carried out, additional ones in the folder are named, and all are in one table."""
    monkeypatch.setattr(executors, "_carry_out", run_here)
    monkeypatch.setattr(reports, "write_report", lambda results, comparison, folder: None)
    out, settings = workplace / "grown", SMALL | {"search": {"trials": 0}}
    api.compare(preset="demo", out=out, settings=settings, methods=["bitfit"], device="cpu")
    before = {path: path.read_bytes() for path in out.rglob("runs/**/*") if path.is_file()}
    said = []
    listen = {"listener": lambda *one: said.append(one)}
    comparison = api.compare(out, out=None, methods=["lead-3"], seeds=[1], device="cpu", **listen)
    assert list(comparison.rows) == ["bitfit", "lead-3"] and comparison.seeds == [0, 1]
    assert comparison.rows["bitfit"].seeds == [0, 1] and comparison.rows["lead-3"].seeds == [0]
    (ready,) = [event for _, event in said if isinstance(event, ReadyEvent)]
    assert "method lead-3" in ready.changes[0] and "method bitfit" in ready.changes[1] and "seed 1" in ready.changes[2]
    assert [run for run, event in said if isinstance(event, KeptEvent)] == [("bitfit", 0)]
    assert [run for run, event in said if isinstance(event, BeginEvent)] == [("bitfit", 1), ("lead-3", 0)]
    assert {path: path.read_bytes() for path in before} == before
    assert api.compare(preset="demo", out=out, settings=settings, methods=["bitfit"], device="cpu") == comparison


def test_a_row_that_changes_how_documents_are_cut_is_refused_before_anything_is_written(workplace, monkeypatch):
    """A new method's virtual tokens shorten the window: runs with other tokens may not join the table."""
    monkeypatch.setattr(executors, "_carry_out", run_here)
    monkeypatch.setattr(reports, "write_report", lambda results, comparison, folder: None)
    data = workplace / "long.jsonl"
    texts = [f"Report {number}. " + f"The council of town {number} met. " * 200 for number in range(12)]
    summaries = [f"It met {number}. " + "Much was said by all. " * (60 if number % 2 else 1) for number in range(12)]
    lines = [json.dumps({"document": d, "summary": s}) for d, s in zip(texts, summaries, strict=True)]
    data.write_text("\n".join(lines))
    limits = {"train_documents": 0, "validation_documents": 0, "test_documents": 0, "document_tokens": 352}
    settings = SMALL | {"limits": limits | {"summary_tokens": 100}, "search": {"trials": 0}, "data": str(data)}
    out, split = workplace / "cut", {"split": {"fractions": [0.4, 0.3, 0.3]}}
    api.compare(preset="demo", out=out, settings=settings | split, methods=["bitfit"], device="cpu")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    for call in (api.compare, partial(api.train, "prompt-tuning")):
        for count, change in (
            (20, "other tokens of .* a new method with more"),
            (50, "other documents .* a new method has more"),
        ):
            more = {"method": {"prompt-tuning": {"num_virtual_tokens": count}}}
            with pytest.raises(ResultsError, match=f"{change} virtual tokens"):
                call(out, out=None, methods=["prompt-tuning"], settings=more, device="cpu")
        assert {path: path.read_bytes() for path in before} == before
        assert not (out / "runs/prompt-tuning").exists()


def test_train_adds_its_row_to_a_folder_that_exists(workplace):
    """`train` extends OUT like `compare`; the search and untrained methods keep the folder's first seed."""
    out, settings = workplace / "trained", SMALL | {"search": {"trials": 0}}
    common = {"preset": "demo", "settings": settings, "out": out, "device": "cpu"}
    api.train("bitfit", **common, seeds=[4])
    api.train("ia3", **common, seeds=[2])
    assert read_suite(out / "suite.json").methods == ("bitfit", "ia3")
    assert read_suite(out / "suite.json").seeds == (4, 2)
    assert [path.parent.name for path in out.glob("runs/ia3/*/record.json")] == ["2"]


def test_train_gives_an_untrained_method_the_folders_first_seed(workplace):
    """It runs once, whichever seed the command names; a seed that a suite file has may be asked for."""
    out = workplace / "untrained"
    common = {"preset": "demo", "settings": SMALL | {"method": {"lead-2": {"kind": "lead-3"}}}, "out": out}
    api.train("lead-3", **common, seeds=[4], device="cpu")
    api.train("lead-2", **common, seeds=[7], device="cpu")
    assert [path.parent.name for path in out.glob("runs/lead-2/*/record.json")] == ["4"]


def test_train_on_other_documents_replaces_nothing(workplace):
    """If the data has changed, a run that is there is not replaced by one that no table could hold."""
    data, out = workplace / "changing.jsonl", workplace / "kept"
    lines = [json.dumps({"document": f"Text {n}. " * 20, "summary": f"It is {n}."}) for n in range(20)]
    data.write_text("\n".join(lines))
    settings = SMALL | {"data": str(data), "method": {"lead-2": {"kind": "lead-3"}}}
    common = {"preset": "demo", "settings": settings, "out": out, "device": "cpu"}
    for label in ("lead-3", "lead-2"):
        api.train(label, **common)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    data.write_text("\n".join(line.replace("Text", "Another text") for line in lines))
    with pytest.raises(ResultsError, match="lead-3/0' was made with other documents"):
        api.train("lead-2", **common)
    assert {path: path.read_bytes() for path in before} == before


def test_settings_of_the_report_are_no_command_that_adds(workplace, monkeypatch):
    """The command that a report shows is that of its runs: a title changes none of them."""
    out = workplace / "commanded"
    monkeypatch.setattr(folders.sys, "argv", ["triptych", "compare", "first"])
    there = _suite(**SMALL, methods=["lead-3"])
    write_suite(out, there)
    note_command(out)
    write_suite(out, make_suite(there.model_dump() | {"report": {"title": "Mine"}}))
    assert read_suite(out / "suite.json").report.title == "Mine"
    assert json.loads((out / "command.json").read_text()) == {"command": "triptych compare first"}


def test_train_keeps_what_is_said_for_the_report(workplace):
    """Settings of the report given to `train` are kept in OUT, although they add no method and no seed."""
    out = workplace / "titled"
    api.train("lead-3", preset="demo", settings=SMALL, out=out, seeds=[0], device="cpu")
    api.train("lead-3", out, settings={"report.title": "Mine"}, device="cpu")
    assert read_suite(out / "suite.json").report.title == "Mine"


def test_a_metric_that_scored_what_is_there_must_be_given_again(workplace, monkeypatch):
    """Further runs would have no values in its column: compare, its dry run and train refuse, and say what to give."""

    class Compression(Metric):
        """The compression of a summary."""

        def score(self, prediction: str, reference: str, document: str) -> dict[str, float]:
            return {"compression": len(prediction) / len(document)}

        def signature(self) -> str:
            return "compression"

    monkeypatch.setattr(executors, "_carry_out", run_here)
    monkeypatch.setattr(reports, "write_report", lambda results, comparison, folder: None)
    out = workplace / "scored"
    common = {"preset": "demo", "out": out, "settings": SMALL | {"search": {"trials": 0}}, "device": "cpu"}
    with pytest.MonkeyPatch.context() as patch:
        known = {name: dict(table) for name, table in registry._tables.items()}
        known["metric"]["compression"] = Compression
        patch.setattr(registry, "_tables", known)
        made = api.compare(**common, methods=["lead-3"])
    before = (out / "suite.json").read_bytes()
    more = {"methods": ["lead-3", "bitfit"]}
    for call in (api.compare, partial(api.dry_run, timing=False), partial(api.train, "bitfit")):
        with pytest.raises(ResultsError, match=r"also scored by compression.*give --plugin FILE\.py"):
            call(**common, **more)
    assert (out / "suite.json").read_bytes() == before and not (out / "runs/bitfit").exists()
    assert api.compare(**common, methods=["lead-3"]) == made  # nothing is left to run


def test_only_the_first_seed_of_a_row_plans_trials(tmp_path):
    """On a cluster, trials are made ahead only for the run that makes the search."""
    suite = _suite(**SMALL, methods=["lora"], seeds=[0, 1])
    run = PlannedRun(suite, tmp_path, entries.suite_entries(suite)[0], 0, "lora")
    assert len(run.job(None, ()).trials) == 2
    assert replace(run, seed=1).job(None, (), searches=False).trials == ()


@pytest.mark.parametrize("place", [".", "out/..", ".."])
def test_the_current_folder_is_not_renamed(place, tmp_path, monkeypatch):
    """Starting over in the current folder, or in one that holds it, is refused, and the folder stays as it was."""
    (tmp_path / "here" / "out").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ResultsError, match="start from a folder outside it"), claim_folder(Path(place), _suite(), True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["out"]

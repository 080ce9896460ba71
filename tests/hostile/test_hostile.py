"""Files and arguments from strangers: none of their code runs, nothing is written outside OUT, and one message says
what is wrong."""

import gzip
import hashlib
import io
import itertools
import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.made_up import make_comparison, make_results
from support.paths import CHECKOUT
from torture_inputs import (
    Bench,
    Payload,
    Watch,
    read_bundle,
    read_results,
    read_setting,
    read_suite,
    read_tables,
    torture,
)
from triptych import cli
from triptych.config import schema
from triptych.config.reading import merge_tables, parse_setting, preset_settings
from triptych.config.schema import Suite
from triptych.datasets import tables
from triptych.errors import ConfigError, DataError, ModelError, ResultsError
from triptych.models.base import BaseModel
from triptych.reporting import figures
from triptych.results import json_files, reading, tensor_files
from triptych.run import adapters, entries, experiment
from triptych.run.events import ignore
from triptych.suite.finished import finished_record
from triptych.suite.planned_runs import PlannedRun

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
FEW = settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
SMALL = [
    "limits.train_documents=8",
    "limits.validation_documents=2",
    "limits.test_documents=2",
    "limits.document_tokens=64",
    "training.max_epochs=1",
    "decoding.max_new_tokens=4",
    "decoding.num_beams=1",
]


@pytest.fixture(scope="module")
def watch() -> Watch:
    """The audit hook of this process; there can only be one."""
    return Watch()


@pytest.fixture(scope="module")
def bench(tmp_path_factory, watch) -> Bench:
    """Valid files of every kind, to be corrupted."""
    return Bench(tmp_path_factory.mktemp("hostile") / "bench", watch)


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


def obeyed(bench: Bench, read, *writable: Path) -> str:
    """Check that a file is read or refused with one message, and return that message (None: it was read)."""
    outcome, detail = bench.attempt(read, *writable)
    assert outcome in ("accepted", "refused"), f"{outcome}: {detail}"
    return detail


# From a seed


def test_mutated_files_are_read_or_refused(bench):
    """Files with seeded mutations are read or refused with one message; none runs code or writes elsewhere."""
    bad = [case for number in range(500) if (case := bench.case(1, number))[1] not in ("accepted", "refused")]
    assert not bad, bad[:3]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_mutated_files_are_read_or_refused(tmp_path, watch):
    """The same for ten thousand cases."""
    summary = torture(10_000, 0, tmp_path / "bench", watch)
    assert not summary["violations"], summary["violations"][:3]


def test_the_watch_hears_what_it_is_there_for(bench, tmp_path):
    """A reader that unpickles, writes elsewhere or raises another exception is reported: these tests can fail."""
    mark = tmp_path / "executed"
    assert bench.attempt(lambda: pickle.loads(pickle.dumps(Payload(mark))))[0] == "executed"
    assert bench.attempt(lambda: (tmp_path / "x").write_text("x"))[0] == "outside"
    assert bench.attempt(lambda: (tmp_path / "x").write_text("x"), tmp_path)[0] == "accepted"
    assert bench.attempt(lambda: {}["x"])[0] == "other exception"


# Anything at all


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@FEW
@given(
    content=st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")),
    ending=st.sampled_from(["csv", "tsv", "jsonl", "json", "csv.gz", "jsonl.gz", "parquet"]),
    packed=st.booleans(),
)
def test_any_bytes_are_a_table_or_refused(bench, tmp_path, content, ending, packed):
    """Any bytes in a file with a table's extension are read or refused."""
    shutil.rmtree(tmp_path / "any", ignore_errors=True)
    (tmp_path / "any").mkdir()
    (tmp_path / f"any/train.{ending}").write_bytes(
        gzip.compress(content) if packed and ending.endswith("gz") else content
    )
    obeyed(bench, lambda: read_tables(tmp_path / "any"))


@FEW
@given(cells=st.lists(st.lists(st.text(max_size=12), min_size=3, max_size=3), min_size=1, max_size=4))
def test_any_cells_come_back_as_they_were(bench, tmp_path, cells):
    """Text is data: every cell of a JSON line is read back as it was written, or refused."""
    rows_ = [dict(zip(("id", "document", "summary"), row, strict=True)) for row in cells]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_))
    read: list = []
    message = obeyed(bench, lambda: read.extend(tables.Tables(path=tmp_path / "train.jsonl").examples("all")))
    assert message or [(e.document, e.summary) for e in read] == [(r["document"], r["summary"]) for r in rows_]


@FEW
@given(
    key=st.sampled_from(
        ["", "limits", "method", "columns", "split.fractions", "seeds", "name", "data", "model", "methods"]
    )
    | st.text(max_size=12),
    value=st.text(max_size=30) | JSON.map(repr),
)
def test_any_setting_is_taken_or_refused(bench, key, value):
    """Any --set gives a resolved suite or an error, and OUT stays below its folder."""
    place = bench.folder / "setting"
    bench.put("setting/set.txt", f"{key}={value}".encode("utf-8", "surrogateescape" if False else "replace"))
    obeyed(bench, lambda: read_setting(place), place / "out")


@FEW
@given(tree=st.dictionaries(st.sampled_from([*Suite.model_fields, "x"]), JSON, max_size=4))
def test_any_tree_is_a_suite_or_refused(bench, tree):
    """Any JSON in a suite file is resolved or refused."""
    place, kept = bench.folder / "suite", (bench.folder / "suite/suite.json").read_bytes()
    bench.put("suite/suite.json", json.dumps(tree))
    try:
        obeyed(bench, lambda: read_suite(place), place / "out")
    finally:
        bench.put("suite/suite.json", kept)


@FEW
@given(
    key=st.sampled_from(["", "loss", "cost", "notes", "options", "config", "parameters", "provenance", "data"]),
    tree=JSON,
)
def test_any_tree_in_a_record_is_reported_or_refused(bench, key, tree):
    """Any JSON in a record is reported or refused."""
    path = bench.folder / "results/runs/lora/0/record.json"
    kept = path.read_bytes()
    record = json.loads(kept)
    path.write_text(json.dumps({**record, key: tree} if key else tree))
    try:
        obeyed(bench, lambda: read_results(bench.folder / "results"))
    finally:
        path.write_bytes(kept)


# No code is run


def weights(folder: Path, payload: bytes) -> dict[str, bytes]:
    """A pickle in each of the forms in which weights are distributed."""
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        archive.writestr("archive/data.pkl", payload)
    return {"pickle": payload, "archive of torch": (folder / "archive.zip").read_bytes()}


@pytest.mark.parametrize("form", ["pickle", "archive of torch"])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_pickled_weights_are_never_loaded(bench, tmp_path, form, name):
    """A pickle in place of a model's weights, under either name, is refused and not executed."""
    folder = tmp_path / "model"
    shutil.copytree(bench.folder / "model", folder)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(weights(tmp_path, bench.payload)[form])
    assert obeyed(bench, lambda: BaseModel(str(folder)).load())
    if name != "model.safetensors":  # beside a file that makes the folder look right
        tensor_files.write_tensors(folder / "other.safetensors", {"x": torch.zeros(1)})
        assert obeyed(bench, lambda: BaseModel(str(folder)).load())


@pytest.mark.parametrize("form", ["pickle", "archive of torch"])
def test_pickled_adapters_are_never_loaded(bench, tmp_path, form):
    """A pickle in place of an adapter, with a manifest that matches it, is refused and not executed."""
    folder = tmp_path / "adapter"
    shutil.copytree(bench.folder / "adapter", folder)
    content = weights(tmp_path, bench.payload)[form]
    manifest = json.loads((folder / adapters.MANIFEST).read_text())
    for name in (manifest["tensors"], "adapter_model.bin"):
        (folder / name).write_bytes(content)
        sha = hashlib.sha256(content).hexdigest()
        (folder / adapters.MANIFEST).write_text(json.dumps(manifest | {"tensors": name, "sha256": sha}))
        assert "safetensors" in obeyed(bench, lambda: adapters.read_manifest(folder))


def test_pickles_in_tables_are_never_loaded(bench, tmp_path):
    """A pickle in place of a table, or as the type of a Parquet column, is refused or read as text, and not
    executed."""
    for name in ("train.parquet", "train.csv", "train.jsonl", "train.csv.gz"):
        (tmp_path / name).write_bytes(bench.payload)
        assert obeyed(bench, lambda name=name: read_tables(tmp_path / name))
    kind = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": bench.payload}
    fields = [pyarrow.field(name, pyarrow.string(), metadata=kind) for name in ("document", "summary")]
    pyarrow.parquet.write_table(
        pyarrow.table([["One."], ["Two."]], schema=pyarrow.schema(fields)), tmp_path / "train.parquet"
    )
    obeyed(bench, lambda: read_tables(tmp_path / "train.parquet"))


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_in_a_model_folder_is_never_run(bench, tmp_path, file):
    """A model folder with Python code is refused, or read without running it."""
    folder = tmp_path / "model"
    shutil.copytree(bench.folder / "model", folder)
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(bench.mark)!r})\n")
    found = json.loads((folder / file).read_text())
    names = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoTokenizer": ["evil.T", "evil.T"]}
    (folder / file).write_text(json.dumps(found | {"auto_map": names, "model_type": "evil", "tokenizer_class": "Evil"}))
    obeyed(bench, lambda: (BaseModel(str(folder)).tokenizer, BaseModel(str(folder)).load()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attn_implementation": "someone/kernels"}, "remote code is never run"),
        ({"_attn_implementation": "someone/kernels"}, "remote code is never run"),
        ({"n_layer": 10**9}, "blocks"),
        ({"n_layer": 0}, "blocks"),
    ],
)
def test_a_configuration_cannot_ask_for_code_or_for_all_memory(bench, tmp_path, change, words):
    """Attention code from the Hub, and more blocks than any model has, are refused before anything is built."""
    folder = tmp_path / "model"
    shutil.copytree(bench.folder / "model", folder)
    found = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(found | change))
    assert words in obeyed(bench, lambda: BaseModel(str(folder)).structure())


def test_an_adapter_beside_a_model_is_refused(bench, tmp_path):
    """A model folder that contains an adapter, which transformers would load silently, is refused."""
    shutil.copytree(bench.folder / "model", tmp_path / "model")
    (tmp_path / "model/adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "someone/else"}'
    )
    with pytest.raises(ModelError, match="adapter"):
        BaseModel(str(tmp_path / "model")).load()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"peft_type": "XLORA", "adapters": {"0": "someone/else"}}, "those read are"),
        ({"peft_type": "SHADOW", "shadow_model": "someone/else"}, "those read are"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "does not fit"),
        ({"r": 10**9}, "a rank above 24"),
        ({"rank_pattern": {"c_attn": 10**9}}, "a rank above 24"),
        ({"init_lora_weights": {"a": 1}}, "does not fit"),
        ({"num_virtual_tokens": "many"}, "malformed"),
    ],
)
def test_a_peft_configuration_cannot_ask_for_more_models_modules_or_memory(bench, tmp_path, change, words):
    """Adapter types that load other models, modules to import, and ranks larger than the tensors are refused; nothing
    is downloaded."""
    shutil.copytree(bench.folder / "peft", tmp_path / "peft")
    file = tmp_path / "peft/lora/adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert words in obeyed(bench, lambda: bench.read_peft(tmp_path / "peft"))


@pytest.mark.slow
def test_modules_of_the_working_folder_are_not_imported(tmp_path, capfd):
    """A suite started in a stranger's folder imports no module from there."""
    for name in ("json", "numpy", "pydantic", "rouge_score", "triptych"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\nraise SystemExit(7)\n")
    status = cli.main(["compare", "--methods", "lead-3", "--out", "out", "--set", *SMALL])
    assert status == 0, capfd.readouterr().err
    assert not (tmp_path / "executed").exists()


def test_settings_of_matplotlib_in_the_working_folder_do_not_reach_the_figures():
    """A matplotlibrc, which could make matplotlib run LaTeX, does not change the figures."""
    comparison = make_comparison(make_results(labels=("untuned", "lora"), documents=4))
    plain = figures.cost_figure(comparison)
    with matplotlib.rc_context({"text.usetex": True, "lines.linewidth": 9, "figure.facecolor": "red"}):
        assert figures.cost_figure(comparison) == plain


def test_a_run_opens_no_port_unpickles_nothing_and_writes_to_out_and_cache_alone(bench, tmp_path):
    """A whole run makes no connection and writes only to OUT and the cache; the only program it calls is git, for the
    commit."""
    made = preset_settings("demo")
    for setting in SMALL:
        made = merge_tables(made, parse_setting(setting))
    resolved, table = entries.resolve(made, ["lora"])
    with bench.watch.listening(tmp_path / "out", tmp_path / "cache") as seen:
        experiment.run_experiment(resolved, table[0], 0, tmp_path / "out", "cpu", ignore)
    assert [event for event in seen if "git" not in event and "uname" not in event] == []


# Nothing is written outside OUT


@pytest.mark.parametrize(
    "name", ["../escaped", "/etc/x", "..", ".hidden", "a/b", "a\\b", "", " ", "a\nb", "x" * 300, "\x1b[2J"]
)
def test_a_suites_name_cannot_choose_another_place(name):
    """OUT is results/NAME: a name that leads elsewhere is refused."""
    with pytest.raises(ConfigError, match="name"):
        schema.make_suite({"name": name})


@pytest.mark.parametrize(
    "label", ["../x", "/x", "..", "-x", "--help", ".x", "a/b", "a b", "x" * 101, "", "=cmd()", "a\0", "a\n"]
)
@pytest.mark.parametrize("where", ["methods", "section"])
def test_a_row_cannot_be_named_like_a_path_an_option_or_a_formula(label, where):
    """A label becomes a folder's name, an argument and a table cell: one that could be a path, an option or a formula
    is refused."""
    bad = {"methods": [label]} if where == "methods" else {"method": {label: {"kind": "lora"}}}
    with pytest.raises(ConfigError):
        entries.resolve(bad)


@pytest.mark.parametrize(
    "link", [".lock", "suite.json", "runs", "runs/lead-3", "runs/lead-3/0", "runs/lead-3/0/log.txt"]
)
def test_links_out_of_a_results_folder_are_refused(tmp_path, capsys, link):
    """A results folder with a link that leads out of it is not resumed, and the target of the link is not changed."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "out" / link).parent.mkdir(parents=True)
    resolved, _ = entries.resolve(preset_settings("demo"), ["lead-3"])
    json_files.write_json(tmp_path / "out/suite.json", resolved.model_dump(mode="json"))
    (tmp_path / "out" / link).unlink(missing_ok=True)
    (tmp_path / "out" / link).symlink_to(victim)
    assert cli.main(["compare", "--methods", "lead-3", "--out", "out"]) == 2
    assert "leads out" in capsys.readouterr().err and victim.read_text() == "mine"


@pytest.mark.parametrize("kind", ["device", "pipe"])
@pytest.mark.parametrize(
    "file",
    [
        "suite/suite.json",
        "results/suite.json",
        "results/runs/lora/0/record.json",
        "results/runs/lora/0/history.jsonl",
        "results/runs/lora/0/predictions.jsonl",
        "adapter/triptych.json",
        "model/tokenizer.json",
        "model/config.json",
        "search/search.json",
        "search/micro_batch.json",
        "search/0.1-4.json",
        "tables/train.csv",
        "documents/news.csv",
        "peft/lora/adapter_model.safetensors",
        "bundle/comparison.json",
        "bundle/runs/lora/0/adapter/trained.safetensors",
        "checkpoint/10.json",
        "checkpoint/10.safetensors",
    ],
)
def test_what_could_be_read_for_ever_is_refused(bench, tmp_path, file, kind):
    """A device or a pipe in place of a file is refused, or is not taken for a table, and is never read."""
    target = file.split("/")[0]
    shutil.copytree(bench.folder / target, tmp_path / target)
    (tmp_path / file).unlink()
    if kind == "device":
        (tmp_path / file).symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / file)
    message = obeyed(bench, lambda: bench.targets[target].read(tmp_path / target), tmp_path)
    # Where it counts as not there, the other splits, runs and checkpoints are read
    assert message or target in ("tables", "checkpoint") or file.endswith("record.json")


@pytest.mark.parametrize("file", ["report.pdf", "runs/lora/0/history.jsonl", "runs/lora/0/adapter/triptych.json"])
def test_a_bundle_hands_in_nothing_from_elsewhere(bench, tmp_path, file):
    """A link in a results folder does not bring a file of the user's into the zip."""
    shutil.copytree(bench.folder / "bundle", tmp_path / "bundle")
    link, elsewhere = tmp_path / "bundle" / file, tmp_path / "elsewhere"
    elsewhere.write_bytes(link.read_bytes() if link.exists() else b"mine")
    link.unlink(missing_ok=True)
    link.symlink_to(elsewhere)
    assert "leads out" in obeyed(bench, lambda: read_bundle(tmp_path / "bundle"))


def test_reports_replace_links_and_never_follow_them(bench, tmp_path):
    """A link in place of a report file is replaced; its target is not changed."""
    shutil.copytree(bench.folder / "results", tmp_path / "out")
    (tmp_path / "victim").write_text("mine")
    for name in ("comparison.json", "comparison.csv", "comparison.md", "report.pdf", "report.html"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "victim")
    assert cli.main(["report", "out"]) == 0
    assert (tmp_path / "victim").read_text() == "mine" and not (tmp_path / "out/comparison.csv").is_symlink()


# What is shown


def test_control_characters_do_not_reach_the_terminal(tmp_path, capsys):
    """Messages that quote a file write control characters out: no escape sequence reaches the terminal."""
    (tmp_path / "train.csv").write_text("id,\x1b]0;owned\x07,b\n1,2,3\n")
    assert cli.main(["list", "data", "train.csv"]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error and "\\x1b]0;owned" in error


@pytest.mark.parametrize("settings_", [{"x" * 10**6: 1}, {f"k{i}": 1 for i in range(5000)}, {"name": "a" * 10**6}])
def test_messages_stay_short(settings_):
    """However much is wrong, the message is short enough to read."""
    with pytest.raises(ConfigError) as caught:
        schema.make_suite(settings_)
    assert len(str(caught.value)) < 3000


def test_too_many_columns_are_refused_at_once(tmp_path):
    """A header with a million columns is refused before their names are compared."""
    (tmp_path / "train.csv").write_text("," * 10**6 + "\n")
    with pytest.raises(DataError, match="columns"):
        tables.describe_tables(tmp_path / "train.csv")


def test_stored_predictions_are_read_line_by_line(tmp_path):
    """A Unicode line separator in a summary does not end a line; a line that is not a prediction is refused."""
    scores = dict.fromkeys(reading.ROUGE_TYPES, 50.0)
    line = {"id": "a", "prediction": "one\u2028two\x85three", "reference": "r", "scores": scores}
    json_files.write_json_lines(tmp_path / "p.jsonl", [line, line])
    assert [p.prediction for p in reading.read_predictions(tmp_path / "p.jsonl")] == [line["prediction"]] * 2
    (tmp_path / "p.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(ResultsError, match="line 1, is not a prediction"):
        reading.read_predictions(tmp_path / "p.jsonl")


# Damage is not believed


def test_a_flipped_bit_of_an_adapter_is_always_found(bench, tmp_path):
    """An adapter whose tensors have a flipped bit, or whose file is cut, is refused."""
    folder = tmp_path / "adapter"
    shutil.copytree(bench.folder / "adapter", folder)
    file = folder / adapters.OWN_TENSORS
    content = file.read_bytes()
    for at in range(0, len(content), max(1, len(content) // 60)):
        file.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(ResultsError):
            adapters.read_manifest(folder)
        file.write_bytes(content[:at])
        with pytest.raises(ResultsError):
            adapters.read_manifest(folder)


def test_a_flipped_bit_of_the_model_changes_its_fingerprint(bench, tmp_path):
    """Weights that differ in one bit are another model: their runs cannot share a table, and their adapters are
    refused."""
    shutil.copytree(bench.folder / "model", tmp_path / "model")
    file = tmp_path / "model/model.safetensors"
    before, content = BaseModel(str(tmp_path / "model")).fingerprint, file.read_bytes()
    for at in (len(content) // 2, len(content) - 1):
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert BaseModel(str(tmp_path / "model")).fingerprint != before


@pytest.mark.parametrize("file", ["train.arrow", "validation.arrow", "test.arrow", "manifest.json"])
def test_damaged_prepared_data_is_prepared_again(bench, file):
    """A cut or corrupted cache file is never used: the same data is prepared again."""
    place = bench.folder / "cache"
    path = next(place.glob(f"*/{file}"))
    content = path.read_bytes()
    for spoilt in (
        content[: len(content) // 2],
        b"",
        content[:99] + bytes([content[99] ^ 1]) + content[100:],
        bench.payload,
    ):
        path.write_bytes(spoilt)
        bench.read_cache(place)  # asserts that the data is what it was
        assert file == "manifest.json" or path.read_bytes() == content


@pytest.mark.parametrize("cut", [0, 1, 100, -2])
def test_a_cut_record_is_not_a_finished_run(bench, tmp_path, cut):
    """A truncated record does not count as finished: the run is repeated, and the report refuses the record until
    then."""
    shutil.copytree(bench.folder / "results", tmp_path / "out")
    path = tmp_path / "out/runs/lora/0/record.json"
    path.write_bytes(path.read_bytes()[:cut])
    planned = reading.read_suite(tmp_path / "out/suite.json")
    assert not finished_record(PlannedRun(planned, tmp_path / "out", entries.make_entry("lora", {}), 0, "lora"))
    with pytest.raises(ResultsError, match=r"record\.json"):
        reading.read_results(tmp_path / "out")


# The disk, the folder, the memory


@contextmanager
def largest_file(size: int):
    """Simulate a full disk: no file may grow beyond this size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def unprivileged():
    """Run without the superuser's right to write everywhere."""
    changed = os.geteuid() == 0
    if changed:
        os.seteuid(65534)
    try:
        yield
    finally:
        if changed:
            os.seteuid(0)


def test_a_full_disk_leaves_the_old_report_whole(bench, tmp_path, capsys):
    """A report that does not fit on the disk gives one clear error; the old report stays complete, and no new file is
    left."""
    shutil.copytree(bench.folder / "results", tmp_path / "out")
    (tmp_path / "out/report.pdf").write_text("the old one")
    (tmp_path / "out/comparison.json").write_text("of the old one")
    before = {path for path in (tmp_path / "out").rglob("*")}
    with largest_file(40_000):
        assert cli.main(["report", "out"]) == 2
    assert (
        "report.pdf" in (error := capsys.readouterr().err) and "cannot be written" in error and "Traceback" not in error
    )
    assert (tmp_path / "out/report.pdf").read_text() == "the old one"
    assert (tmp_path / "out/comparison.json").read_text() == "of the old one"
    assert {path for path in (tmp_path / "out").rglob("*") if path.name != ".lock"} == before


def test_a_full_disk_under_the_cache_is_told_before_work(tmp_path, capsys):
    """If prepared data does not fit, the suite ends with status 2 before OUT is made, and the cache has no partial
    entry."""
    with largest_file(4000):
        assert cli.main(["compare", "--methods", "lead-3", "--out", "out", "--set", *SMALL]) == 2
    assert "Make room" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_full_disk_during_a_run_is_a_failed_run(tmp_path, capsys):
    """A run that cannot write its files is recorded as failed with the reason, and the suite ends with status 1 or
    2."""
    resolved, table = entries.resolve(
        merge_tables(preset_settings("demo"), {"limits": {"train_documents": 8, "test_documents": 4}}), ["lead-3"]
    )
    with pytest.raises(ResultsError, match="cannot be written"):
        experiment_with_full_disk(resolved, table[0], tmp_path / "out")
    assert not list((tmp_path / "out").rglob("record.json")) and not list((tmp_path / "out").rglob(".*"))


def experiment_with_full_disk(resolved, row, out: Path) -> None:
    """Run an experiment whose data is prepared and whose output files do not fit."""
    from triptych.run.corpus import load_corpus
    from triptych.storage.cache_place import cache_folder

    load_corpus(resolved, [row], BaseModel("tiny"), cache_folder())
    with largest_file(2000):
        experiment.run_experiment(resolved, row, 0, out, "cpu", ignore)


def let_everyone_reach(place: Path) -> None:
    """Let another user enter a folder of these tests, however deep below the temporary folder it is."""
    for folder in (place, *itertools.takewhile(lambda parent: parent != Path(tempfile.gettempdir()), place.parents)):
        if folder.stat().st_uid == os.geteuid() and folder.stat().st_mode & 0o055 != 0o055:
            folder.chmod(folder.stat().st_mode | 0o055)


def test_an_out_that_cannot_be_written_is_refused(bench, tmp_path, capsys):
    """OUT below a file, or in a folder without write permission, gives one clear error with status 2."""
    (tmp_path / "file").write_text("mine")
    for out in ("file/out", "file"):
        assert cli.main(["compare", "--methods", "lead-3", "--out", out, "--set", *SMALL]) == 2
        assert "file" in capsys.readouterr().err
    place = bench.folder.parent / "locked"
    shutil.copytree(bench.folder / "results", place)
    let_everyone_reach(place)
    for folder in (place, *place.rglob("*")):
        os.chmod(folder, 0o555)
    with unprivileged():
        status = cli.main(["report", str(place)])
    error = capsys.readouterr().err
    assert status == 2 and "cannot be locked: .lock: Permission denied" in error and "Traceback" not in error


def test_a_data_folder_that_may_only_be_read_is_enough(bench, tmp_path):
    """Data is read in place: a folder without write permission is enough, and nothing is written there."""
    data = bench.folder.parent / "read-only"
    shutil.copytree(bench.folder / "tables", data)
    let_everyone_reach(data)
    os.chmod(data, 0o555)
    before = sorted(path.name for path in data.iterdir())
    with unprivileged():
        assert obeyed(bench, lambda: read_tables(data)) == ""
    assert sorted(path.name for path in data.iterdir()) == before


BOMB = """
import resource, sys
from triptych import cli, plugins
from triptych.datasets import tables
plugins.import_plugins()
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 700 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is counted from /proc")
def test_a_memory_limit_is_met_with_one_message(tmp_path):
    """A Parquet file of a few kilobytes that expands to gigabytes reaches the memory limit with one message and no
    traceback."""
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 256, pyarrow.int32()), ["x" * (24 << 20)])
    pyarrow.parquet.write_table(
        pyarrow.table({"document": text, "summary": text}), tmp_path / "train.parquet", compression="zstd"
    )
    assert (tmp_path / "train.parquet").stat().st_size < 100_000
    command = [sys.executable, "-c", BOMB, "list", "data", str(tmp_path / "train.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (1, 2) and done.stderr.startswith("triptych: ") and "Traceback" not in done.stderr, done


# A hundred through the command line


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive with these files."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return sink.getvalue()


LONG_CELL = b"a" * (17 << 20)
TABLES: dict[str, bytes] = {
    "empty.csv": b"",
    "newlines.csv": b"\n\n\n",
    "nul.csv": b"id,article,highlights\n1,a\0b,c\n",
    "header alone.csv": b"id,article,highlights\n",
    "open quote.csv": b'id,article,highlights\n1,"a,b\n',
    "too few cells.csv": b"id,article,highlights\n1,a\n",
    "too many cells.csv": b"id,article,highlights\n1,a,b,c\n",
    "latin-1.csv": b"id,article,highlights\n1,caf\xe9,x\n",
    "utf-16 cut.csv": "id,article,highlights\n1,a,b\n".encode("utf-16")[:-1],
    "utf-16 without a mark.csv": "id,article,highlights\n1,a,b\n".encode("utf-16-le"),
    "utf-32.csv": "id,article,highlights\n1,a,b\n".encode("utf-32"),
    "gigantic field.csv": b"id,article,highlights\n1,b," + LONG_CELL + b"\n",
    "twice the column.csv": b"article,article,highlights\na,b,c\n",
    "no column known.csv": b"a,b\n1,2\n",
    "semicolons.csv": b"id;article;highlights\n1;a;b\n",
    "carriage returns.csv": b"id,article,highlights\r1,a,b\r",
    "empty.tsv": b"",
    "commas.tsv": b"id,article,highlights\n1,a,b\n",
    "array of numbers.json": b"[1, 2]",
    "cut array.json": b'[{"document": "a", "summary": "b"},',
    "deep in an array.json": b'[{"document": ' + b"[" * 100_000,
    "deep in a list.json": b'{"data": [{"document": ' + b'{"a":' * 50_000,
    "long value.json": b'[{"document": "' + b"a" * (17 << 20) + b'"}]',
    "not arrow.arrow": b"ARROW1" + b"x" * 99,
    "empty.arrow": b"",
    "not zip.zip": b"PK\3\4" + b"x" * 99,
    "leads out.zip": zipped({"../train.csv": b"document,summary\na,b\n"}),
    "absolute.zip": zipped({"/train.csv": b"document,summary\na,b\n"}),
    "without tables.zip": zipped({"a.txt": b"x"}),
    "no partner.source": b"a\n",
    "number.jsonl": b"1\n",
    "cut.jsonl": b'{"document": "a", "summ',
    "deep.jsonl": b"[" * 100_000 + b"\n",
    "deep object.jsonl": b'{"document":' * 50_000 + b"\n",
    "number as text.jsonl": b'{"document": 1, "summary": "b"}\n',
    "half a surrogate.jsonl": b'{"document": "\\ud800", "summary": "b"}\n',
    "list as id.jsonl": b'{"id": [], "document": "a", "summary": "b"}\n',
    "missing key.jsonl": b'{"document": "a", "summary": "b"}\n{"document": "a"}\n',
    "gigantic number.jsonl": b'{"document": ' + b"9" * 5000 + b', "summary": "b"}\n',
    "not packed.csv.gz": b"id,article,highlights\n1,a,b\n",
    "cut.csv.gz": gzip.compress(b"id,article,highlights\n" + os.urandom(999).hex().encode())[:-300],
    "bomb.csv.gz": gzip.compress(b"id,article,highlights\n1," + b"a" * (40 << 20), 1),
    "not parquet.parquet": b"PAR1" + b"x" * 99 + b"PAR1",
    "empty.parquet": b"",
    "pickle.parquet": pickle.dumps({"a": 1}),
    "binary.bin": b"\0\1\2",
}
SUITES = {
    "nul": "\0",
    "no value": "model =",
    "twice": "name = 'a'\nname = 'b'",
    "array": "[[limits]]\ntrain_documents = 1",
    "deep": "a = " + "[" * 9000,
    "deep tables": ".".join("a" * 3000) + " = 1",
    "date": "name = 1979-05-27",
    "date as seed": "seeds = [1979-05-27]",
    "nan": "[split]\nfractions = [nan, 0.1, 0.1]",
    "gigantic number": "seeds = [" + "9" * 5000 + "]",
    "name as path": "name = '../../x'",
    "absolute name": "name = '/tmp/x'",
    "empty name": "name = ''",
    "label as path": "methods = ['../x']",
    "label as option": "methods = ['--plugin']",
    "section as path": "[method.'../x']\nkind = 'lora'",
    "kind as a list": "[method.x]\nkind = []",
    "unknown kind": "[method.x]\nkind = 'os.system'",
    "data with nul": 'data = "a\\u0000b"',
    "data of a stranger's home": "data = '~nobody-there/data'",
    "data too long": f"data = '/{'x' * 5000}'",
    "data is a device": "data = '/dev/null'",
    "model with nul": 'model = "./a\\u0000b"',
    "model of a stranger's home": "model = '~nobody-there/m'",
    "model too long": f"model = './{'x' * 5000}'",
    "negative seed": "seeds = [-1]",
    "half a fraction": "[split]\nfractions = [0.5]",
    "infinite cache": "[cache]\nmax_gigabytes = inf",
    "cache beyond numbers": "[cache]\nmax_gigabytes = 1e308",
    "string for a table": "limits = 'x'",
    "gigantic key": "x" * 100_000 + " = 1",
}
SETTINGS = [
    "=",
    "a",
    "a=",
    ".=1",
    "a..b=1",
    "__class__=1",
    "limits.__dict__=1",
    "limits=1",
    "limits.train_documents=-1",
    "seeds=[]",
    "methods=[]",
    "methods=[1]",
    "method.lora=1",
    "method.lora.rank=1e999",
    "method.lora.rank=" + "9" * 5000,
    "method.x.kind=../x",
    "separator=[1]",
    "columns.id=[]",
    "split.fractions=[1e308,1e308,1e308]",
    "name=../../x",
    "data=",
    "model=",
    "model=\x1b[2J/a/b",
    "separator=\udcff",
    "=" + "a" * 50_000,
]
RESULTS = {
    "no suite": ("suite.json", None),
    "suite cut": ("suite.json", b'{"name": "x"'),
    "suite a list": ("suite.json", b"[]"),
    "suite deep": ("suite.json", b"[" * 100_000),
    "suite of paths": ("suite.json", b'{"methods": ["../../etc"]}'),
    "suite named as a path": ("suite.json", b'{"name": "/etc/x"}'),
    "record cut": ("runs/lora/0/record.json", b'{"schema_version": 1'),
    "record of another version": ("runs/lora/0/record.json", b'{"schema_version": "1"}'),
    "record empty": ("runs/lora/0/record.json", b""),
    "record binary": ("runs/lora/0/record.json", b"\x80\x04\x95"),
    "record a number": ("runs/lora/0/record.json", b"NaN"),
    "history cut": ("runs/lora/0/history.jsonl", b'{"event": "step"'),
    "history of lists": ("runs/lora/0/history.jsonl", b"[]\n"),
    "history gone": ("runs/lora/0/history.jsonl", None),
    "predictions empty": ("runs/lora/0/predictions.jsonl", b""),
    "predictions nul": ("runs/lora/0/predictions.jsonl", b"\0\n"),
    "predictions gone": ("runs/lora/0/predictions.jsonl", None),
    "predictions of another run": (
        "runs/lora/0/predictions.jsonl",
        b'{"id": "a", "prediction": "", "reference": "", "scores": {}}\n',
    ),
}
MODELS = {
    "config cut": ("config.json", b'{"model_type": "gpt2"'),
    "config a list": ("config.json", b"[]"),
    "config of nothing": ("config.json", b"{}"),
    "unknown type": ("config.json", b'{"model_type": "../../x"}'),
    "encoder-decoder": ("config.json", b'{"model_type": "t5"}'),
    "tokenizer cut": ("tokenizer.json", b'{"version"'),
    "weights gone": ("model.safetensors", None),
    "adapter beside": ("adapter_config.json", b"{}"),
}
NARROW = ["limits.document_tokens=10", "limits.summary_tokens=8", "decoding.max_new_tokens=8"]  # for a window of 64
NARROW += ["method.prompt-tuning.num_virtual_tokens=2"]
ARGUMENTS = {
    "no such folder": ["report", "nowhere"],
    "a file for a folder": ["report", "file"],
    "advise nothing": ["advise", "nowhere"],
    "evaluate nothing": ["evaluate", "nowhere"],
    "list something": ["list", "thing"],
    "list data nowhere": ["list", "data", "nowhere"],
    "plug-in that is no Python": ["list", "--plugin", "file"],
    "plug-in nowhere": ["list", "--plugin", "/nowhere/x.py"],
    "several without a place": ["report", "results", "results"],
    "seeds beyond numbers": ["compare", "--seeds", "9" * 5000],
}


def refused(capsys, *arguments: str) -> str:
    """Run a command that must be refused, and return its message: status 2, one message, nothing else, no OUT."""
    assert cli.main([*arguments]) == 2, capsys.readouterr().err[-2000:]
    captured = capsys.readouterr()
    assert captured.err.startswith("triptych: ") and captured.err.count("triptych: ") == 1, captured.err
    assert (
        "Traceback" not in captured.err and "triptych: unexpected" not in captured.err and len(captured.err) < 3000
    ), captured.err[-2000:]
    assert "\x1b" not in captured.err and not Path("out").exists()
    return captured.err


@pytest.mark.parametrize("name", TABLES)
def test_hostile_tables_are_refused_by_the_command(name, capsys):
    """`list data FILE` with an unreadable table ends with status 2 and names the file."""
    Path(name).write_bytes(TABLES[name])
    assert name in refused(capsys, "list", "data", name)


@pytest.mark.parametrize("name", SUITES)
def test_hostile_suites_are_refused_by_the_command(name, capsys):
    """`compare SUITE` with an invalid suite ends with status 2."""
    Path("suite.toml").write_text(SUITES[name])
    refused(capsys, "compare", "suite.toml", "--preset", "demo", "--out", "out")


@pytest.mark.parametrize("setting", SETTINGS, ids=[ascii(s[:30]) for s in SETTINGS])
def test_hostile_settings_are_refused_by_the_command(setting, capsys):
    """`compare --set` with an invalid setting ends with status 2."""
    refused(capsys, "compare", "--set", setting, "--out", "out")


@pytest.mark.parametrize("command", ["report", "advise"])
@pytest.mark.parametrize("name", RESULTS)
def test_hostile_results_are_refused_by_the_command(bench, name, command, capsys):
    """`report` and `advise` with a results folder that was tampered with end with status 2 and name the file."""
    shutil.copytree(bench.folder / "results", "results")
    file, content = RESULTS[name]
    Path("results", file).unlink() if content is None else Path("results", file).write_bytes(content)
    assert Path(file).name in refused(capsys, command, "results")
    assert not Path("results/comparison.json").exists()


@pytest.mark.parametrize("name", MODELS)
def test_hostile_models_are_refused_by_the_command(bench, name, capsys):
    """`compare --model DIR` with a folder that is not a model ends with status 2 and names the folder."""
    shutil.copytree(bench.folder / "model", "model")
    file, content = MODELS[name]
    Path("model", file).unlink() if content is None else Path("model", file).write_bytes(content)
    message = refused(capsys, "compare", "--model", "./model", "--data", "newswire", "--out", "out", "--set", *NARROW)
    assert re.search(r"'(\./)?model'", message), message


@pytest.mark.parametrize("name", ARGUMENTS)
def test_hostile_arguments_are_refused_by_the_command(bench, name, capsys):
    """Arguments that name nothing usable end with status 2."""
    Path("file").write_text("mine")
    refused(capsys, *ARGUMENTS[name])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label", "../../x"),
        ("kind", "os.system"),
        ("options", {"rank": -1}),
        ("config", {"model": "/nowhere"}),
        ("config", {"data": "~nobody/x"}),
        ("seed", -1),
        ("status", "failed"),
        ("loss", {}),
        ("rouge", None),
        ("data", None),
        ("config", {}),
        ("schema_version", 2),
    ],
)
def test_hostile_records_are_refused_by_evaluate(bench, field, value, capsys):
    """`evaluate RUN` with a record that was tampered with ends with status 2."""
    shutil.copytree(bench.folder / "results/runs/lora/0", "run")
    record = json.loads(Path("run/record.json").read_text())
    Path("run/record.json").write_text(
        json.dumps(record | {field: record[field] | value if value and isinstance(value, dict) else value})
    )
    refused(capsys, "evaluate", "run")


@pytest.mark.parametrize(
    "case", ["argument", *(pytest.param(c, marks=pytest.mark.slow) for c in ("table", "suite", "results"))]
)
def test_a_process_of_its_own_says_the_same(bench, case, tmp_path):
    """In a real process: status 2, one message on standard error, nothing on standard output, and no traceback."""
    Path("bad.csv").write_bytes(TABLES["nul.csv"])
    Path("suite.toml").write_text(SUITES["name as path"])
    commands = {
        "table": ["list", "data", "bad.csv"],
        "suite": ["compare", "suite.toml"],
        "results": ["report", "nowhere"],
        "argument": [b"compare", b"--set", b"name=\xff\xfe", b"--out", b"\xff/../\xfe"],
    }
    command = [sys.executable, "-P", "-m", "triptych", *commands[case]]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 2 and done.stdout == b"", done
    assert done.stderr.startswith(b"triptych: ") and b"Traceback" not in done.stderr, done
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "suite.toml"]


def test_every_test_that_the_security_page_names_is_there():
    """Every test and file that `SECURITY.md` names exists."""
    page = (CHECKOUT / "SECURITY.md").read_text()
    names, files = set(re.findall(r"`(test_\w+)`", page)), set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    there = {
        name for file in (CHECKOUT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert len(names) > 15 and names <= there
    assert files and all((CHECKOUT / file).is_file() for file in files)


# Slow: whole suites on a machine that gives out


HUNGRY = """
\"\"\"A method that takes more memory than there is.\"\"\"
import resource
import torch
from triptych.contracts import AdaptedModel, Method
from triptych.registry import register


@register("hungry")
class Hungry(Method):
    \"\"\"Fails for want of memory.\"\"\"

    def adapt(self, parts, context):
        \"\"\"Take too much unless planned.\"\"\"
        if parts.device.type != "meta":
            here = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (here + 2**26, here + 2**26))
            torch.zeros(2**32)
        return AdaptedModel(parts)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is counted from /proc")
def test_a_run_that_meets_the_memory_limit_fails_alone(tmp_path, capfd):
    """A run that gets no more memory is recorded as failed with the reason; the others finish."""
    (tmp_path / "hungry.py").write_text(HUNGRY)
    command = ["compare", "--methods", "hungry,lead-3", "--plugin", "hungry.py", "--out", "out", "--set", *SMALL]
    assert cli.main(command) == 1
    record = reading.read_record(tmp_path / "out/runs/hungry/0/record.json")
    assert record.status == "failed" and "memory" in record.error.lower()
    assert reading.read_record(tmp_path / "out/runs/lead-3/0/record.json").status == "done"
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("size", [3_000, 40_000])
def test_a_suite_on_a_full_disk_goes_on_when_there_is_room(bench, tmp_path, capfd, size):
    """A suite on a full disk ends with a message; once there is space, the same command gives the results of an
    uninterrupted one."""
    command = ["compare", "--quiet", "--methods", "lead-3,lora", "--set", *SMALL]
    assert cli.main([*command, "--out", "whole"]) == 0
    capfd.readouterr()  # standard error is a file too
    with largest_file(size):
        assert cli.main([*command, "--out", "broken"]) in (1, 2)
    error = capfd.readouterr().err
    assert "Traceback" not in error and "triptych: " in error
    assert cli.main([*command, "--out", "broken"]) == 0
    for label in ("lead-3", "lora"):
        one, other = (tmp_path / out / f"runs/{label}/0/predictions.jsonl" for out in ("whole", "broken"))
        assert one.read_bytes() == other.read_bytes()

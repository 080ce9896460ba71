"""The runs of a suite on a Ray cluster: the same comparison, and a lost worker loses nothing."""

import json

import psutil
import pytest

from triptych import catalogue, cli, config, executors, materials, preflight, rows, suite
from triptych.errors import ConfigError

SMALL = ["limits.train_documents=24", "limits.validation_documents=6", "limits.test_documents=4", "training.max_epochs=3",
         "training.global_batch_size=4", "decoding.max_new_tokens=12", "decoding.num_beams=2", "search.trials=2",
         "search.train_documents=8", "seeds=[0, 1]"]  # fmt: skip
FREE = ("_seconds", "_per_second", "peak_memory_bytes", "energy_joules")


@pytest.mark.parametrize("name", ["slurm", "ray:/head:10001"])
def test_an_unknown_executor_is_refused_with_those_there_are(name):
    """The message names what can be asked for."""
    with pytest.raises(ConfigError, match="local, ray"):
        executors.make(name, executors.Resources())


def test_a_missing_package_is_named(monkeypatch):
    """Without ray installed, the message says how to install it."""
    monkeypatch.setattr(executors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"triptych\[ray\]"):
        executors.make("ray", executors.Resources())


def _without_times(value):
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if not key.endswith(FREE)}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_a_cluster_with_a_killed_worker_gives_the_comparison_of_one_machine(tmp_path, monkeypatch):
    """A worker is killed in the middle of a run: the run goes on elsewhere from its checkpoint; the numbers are the same."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compare", "--methods", "lora,lead-3", "--out", "local", "--set", *SMALL]) == 0
    catalogue.load()
    settings = config.merge(config.preset("assignment"), config.read_suite_file(tmp_path / "local/suite.json"))
    resolved, table = rows.resolve(settings)
    plan = preflight.check(resolved, table, None, materials.cache_folder())
    out, killed, notes = tmp_path / "cluster", [], []
    suite.claim(out, resolved, fresh=False)

    def listen(name, seed, event):
        if event["event"] == "note":
            notes.append(event["message"])
        if event["event"] == "step" and event["step"] == 5 and not killed:
            child = next(p for p in psutil.process_iter(["cmdline"]) if str(out) in " ".join(p.info["cmdline"] or []))
            killed.append(child.ppid())
            psutil.Process(child.ppid()).kill()

    with suite.locked(out) as lock:
        assert suite.carry_out(plan, out, lock, None, [], listen, executors.make("ray", executors.Resources())) == []
    assert killed and any("goes on from the checkpoint" in note for note in notes)
    first, second = suite.conclude(tmp_path / "local"), suite.conclude(out)
    rows_of = [_without_times(json.loads(c.model_dump_json())["rows"]) for c in (first, second)]
    assert rows_of[0] == rows_of[1] and first.tests == second.tests

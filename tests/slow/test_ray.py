"""The runs of a suite on a Ray cluster: the same comparison, and a lost worker loses nothing."""

import json
import os
import subprocess
import sys

import psutil
import pytest

from triptych import cli
from triptych.config import reading
from triptych.errors import ConfigError
from triptych.plugins import import_plugins
from triptych.results.lock import Lock
from triptych.results.records import READINGS
from triptych.run import entries, preflight
from triptych.run.events import NoteEvent, StepEvent, TriedEvent, ignore
from triptych.storage.cache_place import cache_folder
from triptych.suite import executors, jobs, reports
from triptych.suite.folder import claim_folder

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # before ray is imported: as `--executor ray` has it

SMALL = [
    "limits.train_documents=24",
    "limits.validation_documents=6",
    "limits.test_documents=4",
    "training.max_epochs=3",
    "training.global_batch_size=4",
    "decoding.max_new_tokens=12",
    "decoding.num_beams=2",
    "search.trials=2",
    "seeds=[0, 1]",
]
BUSY = "Processes other than this run used"


@pytest.mark.parametrize("name", ["slurm", "ray:/head:10001"])
def test_an_unknown_executor_is_refused_with_those_there_are(name):
    """The message names the available executors."""
    with pytest.raises(ConfigError, match="local, ray"):
        executors.make_executor(name, executors.Resources())


def test_a_missing_package_is_named(monkeypatch):
    """Without ray installed, the message says how to install it."""
    monkeypatch.setattr(executors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"triptych\[ray\]"):
        executors.make_executor("ray", executors.Resources())


def _without_times(value):
    """A comparison without its times and without the notes about other processes, which affect times."""
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if not key.endswith(READINGS)}
    if isinstance(value, list):
        return [_without_times(item) for item in value if not (isinstance(item, str) and BUSY in item)]
    return value


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory):
    """The suite run by the local executor, with a cache shared by these tests only."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    folder = tmp_path_factory.mktemp("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_CACHE", str(folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.chdir(folder)
        assert cli.main(["compare", "--methods", "lora,lead-3", "--out", "local", "--set", *SMALL]) == 0
        yield folder


def _fan_out(folder, name, executor, on_step):
    """Run the same suite with another executor and an action at one step; return the events of its runs and trials."""
    import_plugins()
    settings = reading.merge_settings(folder / "local/suite.json")
    resolved, table = entries.resolve(settings)
    plan = preflight.check_suite(resolved, table, None, cache_folder())
    out, reported = folder / name, []

    def listen(run, event):
        if run is not None:  # else it concerns the suite
            reported.append((run.name, event))
        if isinstance(event, StepEvent):
            on_step(out, event.step)

    with claim_folder(out, resolved) as lock:
        assert jobs.run_suite(plan, out, lock, None, [], listen, executor) == []
    return reported


def _resumes(reported):
    return any("resumes from the checkpoint" in event.message for _, event in reported if isinstance(event, NoteEvent))


def _same(folder, name):
    first, second = (reports.report_suite(folder / one) for one in ("local", name))
    rows_of = [_without_times(json.loads(c.model_dump_json())["rows"]) for c in (first, second)]
    return rows_of[0] == rows_of[1] and first.tests == second.tests


def _worker_of(out) -> psutil.Process:
    """The process of the cluster that carries out a run."""
    child = next(p for p in psutil.process_iter(["cmdline"]) if str(out) in " ".join(p.info["cmdline"] or []))
    return psutil.Process(child.ppid())


@pytest.mark.slow
def test_a_cluster_with_a_killed_worker_gives_the_comparison_of_one_machine(one_machine):
    """A worker is killed in the middle of a run: the run resumes elsewhere from its checkpoint, with the same
    results."""
    killed = []

    def kill(out, step):
        if step == 5 and not killed:
            killed.append(_worker_of(out))
            killed[0].kill()

    reported = _fan_out(one_machine, "cluster", executors.make_executor("ray", executors.Resources()), kill)
    assert killed and _resumes(reported)
    tried = [name for name, event in reported if event == TriedEvent(message=None)]
    trials = json.loads((one_machine / "cluster/runs/lora/search.json").read_text())["trials"]
    made = [f"lora at {trial['learning_rate']:g}" for trial in trials]
    assert len(trials) == 2 and sorted(tried) == sorted(made)
    assert _same(one_machine, "cluster")


@pytest.mark.slow
def test_a_local_cluster_listens_on_loopback_alone(tmp_path):
    """Every port that the processes of a local cluster open during a run is on 127.0.0.1."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    program = """
import psutil
from pathlib import Path
from triptych.results import lock
from triptych.run.events import BeginEvent, RunId
from triptych.suite import executors

def listening():
    processes = psutil.Process().children(recursive=True)
    servers = ("gcs_server", "raylet")
    gcs = [p for p in psutil.process_iter() if p.name() in servers and p.ppid() == psutil.Process().pid]
    for process in {psutil.Process(), *processes, *gcs}:
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                yield process.name(), connection.laddr.ip

def listen(run, event):
    if isinstance(event, BeginEvent):
        print(*(f"{name} {address}" for name, address in listening()), sep="\\n")

out = Path("out").resolve()
out.mkdir()
job = executors.Job(RunId("one", 0), "one", ("list",), out / "run")
with lock.locked(out) as held:
    for _, error in executors.make_executor("ray", executors.Resources())([job], held, listen):
        print("ended")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    *opened, last = done.stdout.splitlines()
    assert last == "ended"
    names = {line.rpartition(" ")[0] for line in opened}
    assert {"gcs_server", "raylet"} <= names, opened
    assert {line.rpartition(" ")[2] for line in opened} <= {"127.0.0.1", "::ffff:127.0.0.1"}, opened


def test_a_cluster_open_to_the_network_is_refused(tmp_path, monkeypatch):
    """If Ray listens on another address nevertheless, nothing runs there, and the message says what to do."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    ended = []
    monkeypatch.setattr(ray, "init", lambda *_, **__: None)
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(True))
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "192.168.0.9")
    with pytest.raises(ConfigError, match=r"192\.168\.0\.9.*ray://HOST:PORT"):
        list(executors.make_executor("ray", executors.Resources())([], Lock(tmp_path, ""), ignore))
    assert ended == [True]


@pytest.mark.slow
def test_a_cluster_of_two_nodes_loses_one_and_ends_with_all_runs_done(one_machine):
    """Of two nodes, the busy one is lost with everything that runs on it: the other one does the rest, with the same
    results."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    lost = []

    def lose(out, step):
        if step == 5 and not lost:
            above = [process.pid for process in _worker_of(out).parents()]
            (node,) = (
                node for node in nodes if any(info.process.pid in above for info in node.all_processes["raylet"])
            )
            lost.append(node)
            cluster.remove_node(node, allow_graceful=False)

    try:
        reported = _fan_out(one_machine, "nodes", executors.OnRay(cluster.address, executors.Resources()), lose)
    finally:
        cluster.shutdown()
    assert lost and _resumes(reported)
    assert _same(one_machine, "nodes")

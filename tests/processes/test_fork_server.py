"""A suite's runs are forked from one process: they report, end and fail like separately started processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import triptych
from triptych.errors import ModelError
from triptych.suite import fork_server, processes
from triptych.suite.fork_server import ForkServer

LONG = ("train", "lora", "--preset", "demo", "--events", "--out")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server is for Linux")


@pytest.fixture(scope="module")
def server():
    """One server for all of these tests, since it imports torch."""
    with ForkServer() as started:
        yield started


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "log.txt"


def start(server: ForkServer, log: Path, *arguments: str):
    """Start a forked child; fail the test if it is spawned instead."""
    with log.open("ab") as errors:
        child = server.start(arguments, errors, None)
    assert isinstance(child, fork_server.ForkedProcess)
    return child


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int) -> bool:
    """Whether the process ends within ten seconds."""
    for _ in range(100):
        if not alive(pid):
            return True
        time.sleep(0.1)
    return False


def test_a_child_prints_and_ends_as_its_command_does(server, log):
    """The command's output comes through the pipe, its errors are in the log, and its status is its own."""
    child = start(server, log, "list")
    assert "assignment" in child.stdout.read() and child.wait() == 0
    refused = start(server, log, "list", "nonsense")
    assert refused.stdout.read() == "" and refused.wait() == 2
    assert "nonsense" in log.read_text()


def test_children_are_processes_of_their_own(server, log):
    """Each child is a separate process, started after the server imported everything; none starts torch anew."""
    children = []
    for _ in range(2):
        child = start(server, log, "train", "lora", "--events", "--trial", "nonsense")
        child.stdout.read()
        assert child.wait() == 2
        children.append(child.pid)
    assert len({*children, os.getpid()}) == 3


IMPORTED_BY_A_RUN = """
import sys
from pathlib import Path
from triptych.cli import forking

forking.import_all()
before = {name.split(".")[0] for name in sys.modules}
from triptych.config.reading import merge_tables, preset_settings
from triptych.run import entries, experiment
from triptych.run.events import ignore

small = {
    "methods": ["lora", "last-layers", "prompt-tuning"],
    "limits": {"train_documents": 4, "validation_documents": 2, "test_documents": 2},
    "training": {"max_epochs": 1},
    "decoding": {"max_new_tokens": 4},
    "search": {"trials": 0},
}
suite, table = entries.resolve(merge_tables(preset_settings("demo"), small))
for entry in table:
    experiment.run_experiment(suite, entry, 0, Path(sys.argv[1]), "cpu", ignore)
print(sorted({name.split(".")[0] for name in sys.modules} - before - sys.stdlib_module_names))
"""


@pytest.mark.slow
def test_a_fork_imports_no_further_package(tmp_path):
    """The server imports once what runs need: peft, the stemmers and pandas took seconds in each run."""
    imported = subprocess.run(
        [sys.executable, "-c", IMPORTED_BY_A_RUN, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert imported.stdout.splitlines()[-1] == "[]", imported.stdout


def test_a_server_that_was_begun_is_the_one_that_forks(log):
    """The server imports from `begin` on; a second `begin` does not start another."""
    with ForkServer() as server:
        server.begin()
        begun = server._process
        server.begin()
        assert begun is not None and begun.poll() is None
        child = start(server, log, "list")
        assert server._process is begun
        child.stdout.read()
        assert child.wait(timeout=60) == 0


def test_where_no_server_can_be_used_begin_does_nothing(monkeypatch):
    """On systems other than Linux no process is started."""
    monkeypatch.setattr(fork_server.sys, "platform", "darwin")
    with ForkServer() as server:
        server.begin()
        assert server._process is None


def test_a_refused_suite_leaves_no_server(tmp_path):
    """If an error is found while the server imports, the server ends too."""
    before = set(psutil.Process().children())
    with pytest.raises(ModelError):
        triptych.compare(preset="demo", model=tmp_path, out=tmp_path / "out")
    assert set(psutil.Process().children()) <= before


def waiting(server: ForkServer, log: Path):
    """A child that works for minutes."""
    child = start(server, log, *LONG, str(log.with_name("out")))
    assert alive(child.pid)
    return child


def test_a_child_can_be_terminated_and_killed(server, log):
    """A signal reaches the child itself; a timeout leaves it alone; its status gives the signal."""
    child = waiting(server, log)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(timeout=0.2)
    child.kill()
    assert child.wait(timeout=10) == -signal.SIGKILL
    child = waiting(server, log)
    child.terminate()
    assert child.wait(timeout=10) in (-signal.SIGTERM, 143)
    child.kill()  # nothing is left to kill


def test_a_child_ends_with_its_server_and_others_are_spawned(log):
    """If the server is killed its child ends too, and is reported as killed; further children are spawned."""
    with ForkServer() as server:
        child = waiting(server, log)
        assert server._process is not None
        server._process.kill()
        assert child.wait(timeout=10) == -signal.SIGKILL and gone(child.pid)
        with log.open("ab") as errors:
            spawned = server.start(["list"], errors, None)
        assert isinstance(spawned, subprocess.Popen)
        assert "assignment" in spawned.stdout.read() and spawned.wait() == 0


def test_nothing_is_left_when_the_suite_ends(log):
    """When the server is closed, it and any running child are gone."""
    with ForkServer() as server:
        child = waiting(server, log)
        assert server._process is not None
        pid = server._process.pid
    assert gone(child.pid) and not alive(pid)


def test_a_suite_without_a_server_spawns(log, monkeypatch):
    """On systems other than Linux, and if the server cannot be started, children are spawned."""
    monkeypatch.setattr(fork_server, "spawn", lambda arguments, errors, lock: ("spawned", arguments))
    monkeypatch.setattr(fork_server.sys, "platform", "darwin")
    with log.open("ab") as errors:
        assert ForkServer().start(["list"], errors, None) == ("spawned", ["list"])
    monkeypatch.setattr(fork_server.sys, "platform", "linux")
    monkeypatch.setattr(fork_server.sys, "executable", "/bin/false")
    with log.open("ab") as errors, ForkServer() as server:
        assert server.start(["list"], errors, None) == ("spawned", ["list"])
        assert server.start(["list"], errors, None) == ("spawned", ["list"])


def test_a_child_holds_the_lock_and_the_server_does_not(server, log):
    """A lock's descriptor is open only in the child: the lock is free as soon as the child has ended."""
    file = log.with_name("lock")
    file.touch()
    descriptor = os.open(file, os.O_RDWR)
    try:
        with log.open("ab") as errors:
            child = server.start([*LONG, str(log.with_name("out"))], errors, descriptor)
        assert server._process is not None
        holders = [pid for pid in (child.pid, server._process.pid) if _has_open(pid, file)]
        assert holders == [child.pid]
        child.kill()
        child.wait(timeout=10)
    finally:
        os.close(descriptor)


def _has_open(pid: int, file: Path) -> bool:
    return any(Path(link).resolve() == file.resolve() for link in Path(f"/proc/{pid}/fd").iterdir())


def test_events_of_a_forked_child_are_passed_on(server, log):
    """`run_command` reads a forked child like a spawned one: an error event is the reason of the failure."""
    arguments = ["train", "lora", "nothing.toml", "--events"]
    reason = processes.run_command(arguments, log, None, lambda event: None, server.start)
    assert reason is not None and "nothing.toml" in reason

"""Shared fixtures: small random models of two families, a few pairs, and the flag that enables slow tests."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from support.paths import CHECKOUT
from support.worlds import FAMILIES, VOCABULARY, World
from triptych import registry
from triptych.corpus.sequence import Pair, Template
from triptych.machine import Machine, start_machine
from triptych.models.tiny import Tiny
from triptych.plugins import import_plugins

PROCESSES = CHECKOUT / "tests" / "processes"


def pytest_addoption(parser):
    """Add `--slow` for tests that take minutes."""
    parser.addoption("--slow", action="store_true", help="also run what takes minutes: full size, browser, faults")


def pytest_collection_modifyitems(config, items):
    """Without `--slow`, skip slow tests with a reason, and all of `processes`, which start new processes."""
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow") or PROCESSES in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="takes minutes; run with --slow"))


def pytest_collection_finish(session):
    """Exclude everything imported and collected so far from garbage collection during the tests."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _session():
    """Import all plug-ins. One thread is fastest for models this small, and gives the same bits here as in child
    processes."""
    import_plugins()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def own_registry(_session):
    """Undo what a test file registers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_tables", {name: dict(table) for name, table in registry._tables.items()})
        yield


@pytest.fixture(autouse=True)
def own_signals():
    """Restore signal handlers: an interrupted command ignores further signals until its process ends."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {signum: signal.getsignal(signum) for signum in signals}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Iterator[Path]:
    """A working folder with its own cache, for every process of a file's tests."""
    folder = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder next to the checkout with real articles and full-size shapes."""
    folder = CHECKOUT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the folder {folder}")
    return folder


@pytest.fixture(scope="session")
def tokenizer():
    """The embedded model's tokenizer."""
    return AutoTokenizer.from_pretrained(Tiny().folder())


@pytest.fixture(scope="session")
def machine() -> Machine:
    """The CPU in fp32."""
    return start_machine("cpu", "fp32")


@pytest.fixture(scope="session")
def worlds(tokenizer, machine, tmp_path_factory) -> dict[str, World]:
    """One world for each family."""
    numbers = np.random.default_rng(0)

    def pair(index: int) -> Pair:
        document, summary = (
            numbers.integers(2, VOCABULARY, int(numbers.integers(*size))).astype(np.int32)
            for size in ((8, 40), (3, 12))
        )
        return Pair(f"pair-{index}", document, summary)

    pairs = [pair(i) for i in range(12)]
    cue = tuple(tokenizer("\n\nTL;DR:").input_ids)
    prefixes = {"gpt2": (), "llama": (1,)}
    made = {}
    for name, make in FAMILIES.items():
        model, folder = make(), tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        made[name] = World(model, folder, tokenizer, Template(prefixes[name], cue, 0), pairs, machine)
    return made


@pytest.fixture(params=list(FAMILIES))
def world(request, worlds) -> World:
    """Each family in turn."""
    return worlds[request.param]


@pytest.fixture
def gpt2(worlds) -> World:
    """The GPT-2 family only."""
    return worlds["gpt2"]

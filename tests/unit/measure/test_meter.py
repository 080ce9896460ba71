"""Clocks, counts, FLOPs, memory and energy: measured from outside, or reported as missing."""

import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel

from support.worlds import VOCABULARY, disturb, with_abilities
from triptych.engine import flops, forward
from triptych.engine.batching import collate
from triptych.engine.flops import SHAPES, _FlopCounter, entering_flops, training_flops, work_shape
from triptych.engine.forward import read_losses, target_losses
from triptych.engine.savings import partial_forward
from triptych.engine.savings.trunk_cache import entering, resumed_losses
from triptych.engine.training import Loop
from triptych.measure import other_work
from triptych.measure.busy import Busy
from triptych.measure.clocks import Clocks, process_seconds
from triptych.measure.counters import integral
from triptych.measure.energy import Energy
from triptych.measure.flops import fit_flops
from triptych.measure.memory import PeakMemory, _malloc_trim, memory_reader
from triptych.measure.nvml import other_processes
from triptych.measure.parameters import ParameterCounts, count_parameters
from triptych.measure.training_meters import TrainingMeters, num_devices
from triptych.methods.dora import DoRA
from triptych.methods.full import Full
from triptych.methods.last_layers import LastLayers
from triptych.methods.lora import LoRA
from triptych.methods.prefix_tuning import PrefixTuning
from triptych.methods.prompt_tuning import PromptTuning
from triptych.models.parts import take_apart

ROWS = {
    "prompt": PromptTuning(),
    "lora": LoRA(),
    "lora-all": LoRA(target_modules="all-linear"),
    "last-blocks": LastLayers(),
    "last-head": LastLayers(num_blocks=0, final_norm=False, head="untied"),
    "full": Full(),
    "dora": DoRA(),
    "prefix": PrefixTuning(num_virtual_tokens=4),
}


# Clocks


class HandClock:
    """A clock that is advanced by hand."""

    def __init__(self):
        self.now = 0.0

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def perf_counter(self) -> float:
        return self.now

    def clock_gettime(self, clock: int) -> float:
        return time.clock_gettime(clock)

    CLOCK_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


@pytest.fixture
def hand(monkeypatch) -> HandClock:
    """Make the meter read a clock that is advanced by hand."""
    clock = HandClock()
    for module in ("clocks", "counters"):
        monkeypatch.setattr(f"triptych.measure.{module}.time", clock)
    return clock


@pytest.mark.skipif(
    not Path("/proc/self/stat").is_file(), reason="only Linux tells when a process began by such a clock"
)
def test_a_wall_clock_that_is_set_anew_changes_no_clock(monkeypatch):
    """A time of day that jumps by an hour is not counted as work."""
    before = process_seconds()
    monkeypatch.setattr("triptych.measure.clocks.time.time", lambda: time.perf_counter() + 3600)
    assert 0 < process_seconds() - before < 60


def test_one_clock_runs_at_a_time(hand):
    """Clocks add up to the elapsed time, including carried-over time: an inner clock pauses the outer one."""
    clocks = Clocks(lambda: None, base="startup")
    clocks.carry("train", 5)
    started = clocks.read()["startup"]
    hand.pass_time(1)
    with clocks.time("search"):
        hand.pass_time(2)
        with clocks.time("train"):
            hand.pass_time(4)
        hand.pass_time(8)
    hand.pass_time(16)
    seconds = clocks.read()
    assert (seconds["startup"] - started, seconds["search"], seconds["train"]) == pytest.approx((17, 10, 9))
    assert clocks.wall_seconds() - process_seconds() == pytest.approx(5, abs=0.1)


def test_a_clock_stops_where_its_work_fails(hand):
    """When an error is raised, the work in progress is on its clock, and later work is not."""
    clocks = Clocks(lambda: None, base="startup")
    with pytest.raises(ValueError, match="x"), clocks.time("train"):
        hand.pass_time(3)
        raise ValueError("x")
    hand.pass_time(5)
    assert clocks.read()["train"] == 3


def test_a_clock_waits_for_the_device(hand):
    """A clock is read after the device has finished: pending work counts for the clock that requested it."""
    clocks = Clocks(lambda: hand.pass_time(1), base="startup")
    with clocks.time("train"):
        pass
    assert clocks.read()["train"] == 1


def test_training_time_is_of_steps_alone(gpt2, hand):
    """However long validation, logging and preparation take, the training clock counts only optimizer steps."""
    clocks = Clocks(lambda: None, base="startup")
    loop = gpt2.loop(LoRA(rank=2), micro_batch_size=4)
    batches = []

    def work(*shape):
        batches.append(shape)
        hand.pass_time(1)
        return 0.0, 0.0

    def validate() -> float:
        with clocks.time("evaluation"):
            hand.pass_time(1000)
        return 1.0 / (1 + loop.state.progress.step)

    loop = Loop(loop.model, loop.pairs, loop.plan, loop.state, work)
    while not loop.finished:
        if loop.evaluation_due:
            loop.evaluate(validate())
        else:
            with clocks.time("train"):
                loop.step()
        hand.pass_time(100)
    seconds = clocks.read()
    assert (seconds["train"], seconds["evaluation"]) == (len(batches), 2000)


# Memory


MEGABYTE = 2**20
CPU = torch.device("cpu")


def allocate(megabytes: int) -> torch.Tensor:
    """Allocate this much memory, write every page, and hold it long enough for the sampler to see it."""
    block = torch.ones(megabytes * MEGABYTE // 4)
    time.sleep(0.03)
    return block


def test_peak_memory_is_of_its_phase():
    """The peak is that of its phase; memory allocated and freed before it, or allocated after it, does not count."""
    allocate(400)
    memory = PeakMemory(CPU)
    with memory.phase():
        pass
    base = memory.peak_bytes
    with memory.phase():
        allocate(100)
    assert 80 * MEGABYTE < memory.peak_bytes - base < 250 * MEGABYTE
    reached = memory.peak_bytes
    allocate(400)
    assert memory.peak_bytes == reached and memory.kind == memory_reader()[0]


def test_the_rise_of_memory_is_what_a_phase_adds():
    """300 MB allocated in a step count as a rise of 300 MB, whatever was in use before; both peaks include what was in
    use."""
    before = allocate(200)
    memory = PeakMemory(CPU)
    memory.begin()
    with memory.phase():
        allocate(300)
    del before
    assert 290 * MEGABYTE < memory.rise_bytes < 330 * MEGABYTE
    assert memory.peak_bytes > memory.rise_bytes + 190 * MEGABYTE


needs_anonymous = pytest.mark.skipif(
    memory_reader()[0] != "anonymous", reason="this system does not tell anonymous memory from mapped files"
)


@needs_anonymous
def test_a_mapped_file_is_not_memory_of_training(tmp_path):
    """200 MB read from a mapped file in a step, such as a data set or a cache, do not count."""
    (tmp_path / "file").write_bytes(bytes(200 * MEGABYTE))
    memory = PeakMemory(CPU)
    with memory.phase():
        mapped = np.memmap(tmp_path / "file", np.uint8, "r")
        assert mapped.sum() == 0
        time.sleep(0.03)
    assert memory.rise_bytes < 20 * MEGABYTE


@needs_anonymous
@pytest.mark.skipif(_malloc_trim() is None, reason="this C library cannot give its free pages back")
def test_memory_that_earlier_work_has_freed_is_not_memory_of_training():
    """What a search or an evaluation has freed, in large pieces, small ones or cycles, is in neither figure."""

    def work() -> None:
        cycle: list = [allocate(200)]
        cycle.append(cycle)
        small = [torch.ones(4096) for _ in range(6000)]  # 16 kB each, from the heap
        kept.append(small[-1])  # at its end: what lies below is still returned
        small.append(cycle[0])

    kept: list[torch.Tensor] = []
    fresh = PeakMemory(CPU)
    with fresh.phase():
        pass
    work()
    later = PeakMemory(CPU)
    with later.phase():
        pass
    assert later.peak_bytes - fresh.peak_bytes < 15 * MEGABYTE and kept


@needs_anonymous
@pytest.mark.skipif(_malloc_trim() is None, reason="this C library cannot give its free pages back")
def test_blocks_are_returned_at_once_where_it_is_asked_for():
    """Freed blocks of 2 MB, every second one, are returned to the system even after larger ones were freed, when glibc
    by default would keep them."""
    program = (
        "import torch\n"
        "from triptych.measure.memory import memory_reader, return_blocks_at_once\n"
        "return_blocks_at_once(torch.device('cpu'))\n"
        "torch.ones(2**22)\n"
        "read = memory_reader()[1]\n"
        "before = read()\n"
        "blocks = [torch.ones(2**19) for _ in range(64)]\n"
        "del blocks[::2]\n"
        "print(read() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < 80 * MEGABYTE


def test_memory_goes_on_over_processes():
    """The figures of an interrupted run are the maxima over its processes."""
    first, second = (TrainingMeters(CPU) for _ in range(2))
    first.memory.peak_bytes, first.memory.rise_bytes = 2**50, 2**49
    second.load_state_dict(first.state_dict())
    second.begin()
    with second.phase():
        pass
    readings = second.readings(1.0)
    assert (readings["peak_memory_bytes"], readings["added_peak_memory_bytes"]) == (2**50, 2**49)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (b"Name:\tx\nVmRSS:\t 900 kB\nRssAnon:\t 300 kB\nRssFile:\t 500 kB\nRssShmem:\t 100 kB\n", "anonymous"),
        (b"Name:\tx\nVmRSS:\t 900 kB\n", "unique"),
        (None, "unique"),
    ],
)
def test_memory_is_read_as_the_system_tells_it(status, kind, tmp_path, monkeypatch):
    """Memory is anonymous and shared memory on Linux, otherwise this process's private pages from psutil; the record
    says which."""
    file = tmp_path / "status"
    if status is not None:
        file.write_bytes(status)
    monkeypatch.setattr("triptych.measure.memory._STATUS", file)
    found, read = memory_reader.__wrapped__()
    assert found == kind
    assert read() == 400 * 1024 if kind == "anonymous" else read() > 50 * MEGABYTE


def test_memory_of_a_phase_that_fails_is_kept():
    """The sampler ends with its phase, even if the phase fails."""
    memory = PeakMemory(torch.device("cpu"))
    with pytest.raises(ValueError, match="x"), memory.phase():
        raise ValueError("x")
    assert memory.peak_bytes > 0


# Energy


def counters(folder, monkeypatch, *domains: tuple[int, int]) -> list:
    """A powercap folder with one counter per domain: (current microjoules, wrap-around value)."""
    monkeypatch.setattr("triptych.measure.energy.RAPL", folder)
    files = []
    for i, (now, limit) in enumerate(domains):
        domain = folder / f"intel-rapl:{i}"
        domain.mkdir()
        (domain / "max_energy_range_uj").write_text(str(limit))
        (domain / "energy_uj").write_text(str(now))
        files.append(domain / "energy_uj")
    return files


def test_energy_is_the_counters_difference(tmp_path, monkeypatch):
    """Joules are what all packages used inside the phases, also if a counter wraps around."""
    one, two = counters(tmp_path, monkeypatch, (1_000_000, 10_000_000), (9_000_000, 10_000_000))
    energy = Energy(torch.device("cpu"))
    with energy.phase():
        one.write_text("3000000")
        two.write_text("1000000")
    one.write_text("4000000")
    with energy.phase():
        one.write_text("4500000")
    assert energy.joules == pytest.approx(2 + 2 + 0.5) and energy.note is None


def test_energy_that_cannot_be_measured_is_none(tmp_path, monkeypatch):
    """Without a counter, energy is None with the reason, never 0."""
    monkeypatch.setattr("triptych.measure.energy.RAPL", tmp_path / "nowhere")
    energy = Energy(torch.device("cpu"))
    with energy.phase():
        pass
    assert energy.joules is None and energy.note == "not measured: this machine shows no RAPL energy counter"


def test_a_counter_that_stands_still_is_no_measurement(tmp_path, monkeypatch):
    """A counter that does not change has measured nothing, and 0 J is not a result."""
    counters(tmp_path, monkeypatch, (5, 100))
    energy = Energy(torch.device("cpu"))
    with energy.phase():
        pass
    assert energy.joules is None and energy.note.startswith("not measured: ")


def test_a_counter_that_may_not_be_read_is_said(tmp_path, monkeypatch):
    """A counter that only the administrator may read gives a reason, not a crash."""
    counters(tmp_path, monkeypatch, (5, 100))
    monkeypatch.setattr("triptych.measure.energy.os", types.SimpleNamespace(access=lambda *asked: False, R_OK=4))
    energy = Energy(torch.device("cpu"))
    assert energy.joules is None and "administrator" in energy.note


def test_integrated_rates_are_trapezoids(hand):
    """A rate read at 0 s, 2 s and 3 s as 10, 30 and 30 integrates to 40 + 30."""
    rates = iter((10.0, 30.0, 30.0))
    read = integral(lambda: next(rates))
    hand.pass_time(2)
    assert read() == 40
    hand.pass_time(1)
    assert read() == 70


class FakeNvml:
    """NVML of one GPU: missing meters raise; each reading advances the clock."""

    class NVMLError(Exception):
        pass

    def __init__(self, clock: HandClock, missing: tuple[str, ...] = ()):
        self.clock, self.missing, self.joules, self.uuids, self.others = clock, missing, 0.0, [], 0

    def _answer(self, what: str, value):
        if what in self.missing:
            raise self.NVMLError(f"{what}: Not Supported")
        return value

    def nvmlInit(self):
        self._answer("init", None)

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.uuids.append(uuid)
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._answer("energy", int(1000 * self.joules))

    def nvmlDeviceGetPowerUsage(self, handle):
        return self._answer("power", 200_000)

    def nvmlDeviceGetUtilizationRates(self, handle):
        return self._answer("utilization", types.SimpleNamespace(gpu=75, memory=10))

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self._answer("processes", ["this"] + ["another"] * self.others)


@pytest.fixture
def nvml(monkeypatch, hand) -> Callable[..., FakeNvml]:
    """A GPU without the named meters: NVML answers as `FakeNvml`, and torch says which device it is."""

    def install(*missing: str) -> FakeNvml:
        fake = FakeNvml(hand, missing)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="12-34"))
        return fake

    return install


CUDA = torch.device("cuda", 1)


def test_energy_of_a_gpu_is_its_counter(nvml):
    """On CUDA, joules are the difference of NVML's energy counter for torch's device, even if NVML numbers it
    differently."""
    fake = nvml()
    energy = Energy(CUDA)
    fake.joules = 7
    with energy.phase():
        fake.joules = 50
    assert (energy.joules, energy.kind, energy.note) == (43, "NVML energy counter", None)
    assert fake.uuids == ["GPU-12-34"]


def test_energy_without_a_counter_is_integrated_power(nvml, hand):
    """A GPU without an energy counter gives its power, integrated only over the phases, and the record says so."""
    nvml("energy")
    energy = Energy(CUDA)
    for _ in range(2):
        hand.pass_time(100)
        with energy.phase():
            hand.pass_time(3)
    assert (
        energy.joules == pytest.approx(2 * 3 * 200) and energy.kind == "NVML power, integrated" and energy.note is None
    )


@pytest.mark.parametrize("missing", [("init",), ("energy", "power")])
def test_a_gpu_without_meters_says_so(nvml, missing):
    """If NVML has no energy, no power, or fails, energy is None and the note has NVML's message."""
    nvml(*missing)
    energy = Energy(CUDA)
    with energy.phase():
        pass
    assert energy.joules is None and energy.kind is None and "Not Supported" in energy.note


def test_without_the_nvml_package_nothing_is_measured(monkeypatch):
    """Without the NVML package, energy and utilization name the package to install."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    for found in (Energy(CUDA), Busy(CUDA)):
        assert found.note == "not measured: the package nvidia-ml-py is not installed"


# Other processes


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(0, 0, None), (1, 0, "other processes worked"), (0, 4, "other processes worked")],
)
def test_other_processes_on_the_gpu_are_told(nvml, monkeypatch, before, after, expected):
    """Other processes on the GPU at the start or end of training are reported; without any, nothing is reported."""
    fake = nvml()
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    meters = TrainingMeters(CUDA)
    fake.others = before
    meters.begin()
    fake.others = after
    note = meters.readings(1.0)["shared_note"]
    assert note is None if expected is None else note.startswith(expected)


def test_a_gpu_that_lists_no_processes_is_taken_as_alone(nvml):
    """If NVML does not list processes, nothing is reported."""
    nvml("processes")
    assert other_processes(CUDA) == 0


@pytest.mark.parametrize(
    ("others", "seconds", "alone", "expected"),
    [
        (0.84, 60.0, 2.0, "processes other than this run used about 40% of the cores while this method trained"),
        (0.84, 60.0, 1.0, "processes other than this run used about 40%"),  # this one works on only one core
        (0.04, 60.0, 1.0, None),
        (0.9, 2.0, 1.0, None),
    ],
)
def test_work_of_others_on_the_cores_is_told(monkeypatch, others, seconds, alone, expected):
    """On two cores, considerable use by others during training is reported; the run's own work, however little, is
    not."""
    sums = [0.0, 0.0, 0.0]  # seconds by the clock, worked by two cores, worked by this process
    monkeypatch.setattr(other_work, "_read", lambda: other_work._Reading(*sums))
    monkeypatch.setattr(other_work, "_cores", lambda: [0, 1])
    first, second = TrainingMeters(CPU), TrainingMeters(CPU)
    for meters in (first, second):  # the second continues from a checkpoint of the first
        meters.begin()
        sums[:] = [sums[0] + seconds / 2, sums[1] + (others + alone) * seconds / 2, sums[2] + alone * seconds / 2]
        if meters is first:
            second.load_state_dict(json.loads(json.dumps(first.state_dict())))
            sums[:] = [sums[0] + 1000, sums[1] + 2000, 0.0]  # between the two
    note = second.readings(1.0)["shared_note"]
    assert note is None if expected is None else note.startswith(expected)


def test_work_of_others_is_what_the_system_counts_beyond_this_process():
    """A process's own work is part of its cores' work; the share of others is between 0 and 1."""
    alone = other_work.OtherWork()
    alone.look()
    before, until = alone._last, time.process_time() + 0.2
    while time.process_time() < until:
        pass
    alone.look()
    assert alone._last.own - before.own >= 0.1 and alone._last.worked - before.worked >= 0.1
    assert 0 <= alone.share <= 1


def test_nothing_is_told_where_the_system_does_not_count(monkeypatch):
    """In a container without /proc, the work of others is not measured."""
    monkeypatch.setattr(other_work.psutil, "cpu_times", lambda percpu: (_ for _ in ()).throw(FileNotFoundError()))
    found = other_work.OtherWork()
    found.look()
    found.look()
    assert found.share == 0.0 and found.seconds == 0.0


# Utilization


def test_utilization_of_a_gpu_is_integrated(nvml, hand):
    """Busy seconds are NVML's utilization times the seconds of the phase; time between phases does not count."""
    nvml()
    busy = Busy(CUDA)
    for _ in range(2):
        with busy.phase():
            hand.pass_time(4)
        hand.pass_time(100)
    assert busy.seconds == pytest.approx(0.75 * 8) and busy.note is None


def test_utilization_that_cannot_be_measured_says_why(nvml):
    """Without a meter, on another kind of device, or with several processes, utilization is None with the reason."""
    nvml("utilization")
    for busy, reason in (
        (Busy(CUDA), "Not Supported"),
        (Busy(torch.device("mps")), "mps"),
        (Busy(torch.device("cpu"), processes=2), "2 processes"),
    ):
        with busy.phase():
            pass
        assert busy.seconds is None and busy.note.startswith("not measured: ") and reason in busy.note


def test_utilization_of_a_cpu_is_processor_time():
    """On a CPU, busy seconds are processor time: work counts, sleep does not."""
    busy = Busy(torch.device("cpu"))
    with busy.phase():
        time.sleep(0.2)
    assert busy.seconds < 0.1
    asleep, until = busy.seconds, time.process_time() + 0.1
    with busy.phase():
        while time.process_time() < until:
            pass
    assert busy.seconds - asleep == pytest.approx(0.1, rel=0.5)


def test_devices_held(monkeypatch):
    """Training holds one GPU per process, or the cores that the process may use."""
    assert num_devices(CUDA, 3) == 3
    assert num_devices(torch.device("cpu"), 1) == len(os.sched_getaffinity(0))


def test_reserved_memory_is_kept_beside_the_allocated(monkeypatch):
    """On CUDA the allocator's peak is reset when a phase begins, and its reserved memory is kept as well."""
    peaks, resets, emptied = iter(((100, 160), (90, 170))), [], []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(len(resets)))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 30)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: resets.append(next(peaks)))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: resets[-1][0])
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: resets[-1][1])
    memory = PeakMemory(CUDA)
    for _ in range(2):
        with memory.phase():
            pass
    assert (memory.peak_bytes, memory.reserved_bytes, memory.kind, len(resets)) == (100, 170, "allocated", 2)
    assert memory.rise_bytes == 70
    assert emptied == [0]  # before the first phase: memory reserved by evaluation is not included


# Parameters


def test_parameters_are_counted_by_storage(gpt2):
    """A tied head counts once; per-module counts would give more."""
    model = gpt2.parts().model
    counts = count_parameters(model)
    per_module = sum(p.numel() for module in model.modules() for p in module.parameters(recurse=False))
    assert counts.total == counts.trainable == sum(p.numel() for p in model.parameters())
    assert per_module - counts.total == model.lm_head.weight.numel()


def test_parameters_are_counted_over_modules():
    """A module given twice, or inside another, counts once, and shared names do not matter; frozen is not trainable."""
    inner, other = nn.Linear(2, 3), nn.Linear(3, 1).requires_grad_(False)
    outer = nn.Sequential(inner, other)
    assert count_parameters(outer, inner, None, outer) == ParameterCounts(9, 13)
    assert count_parameters(inner, other) == ParameterCounts(9, 13)


GPT2_SMALL = {  # label: (method, trainable, added)
    "prompt-tuning": (PromptTuning(num_virtual_tokens=20, init="random"), 15_360, 15_360),
    "lora": (LoRA(rank=8, target_modules=("c_attn",)), 294_912, 294_912),
    "lora-all": (LoRA(rank=8, target_modules="all-linear"), 1_179_648, 1_179_648),
    "lora-attention": (LoRA(rank=8, target_modules=("c_attn", "attn.c_proj")), 442_368, 442_368),
    "last-layers": (LastLayers(num_blocks=2), 14_177_280, 0),
    "last-head": (LastLayers(num_blocks=0, final_norm=False, head="untied"), 38_597_376, 38_597_376),
    "full": (Full(), 124_439_808, 0),
}


@pytest.mark.parametrize("label", GPT2_SMALL)
def test_gpt2_small_in_numbers(label, gpt2):
    """For GPT-2 small's shape, the counts after freezing are those worked out on paper."""
    method, trainable, added = GPT2_SMALL[label]
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config())
    assert count_parameters(model).total == 124_439_808
    adapted = method.adapt(take_apart(model), gpt2.context())
    counts = count_parameters(adapted.parts.model, adapted.virtual_tokens)
    assert (counts.trainable, counts.total - 124_439_808) == (trainable, added)


# FLOPs


def counted_flops(losses: Callable[[], torch.Tensor]) -> int:
    """The FLOPs that dispatch counts in a forward and backward pass."""
    with FlopCounterMode(display=False) as counter:
        losses().sum().backward()
    return counter.get_total_flops()


def uncached(world, method, prunes: bool):
    """A model with plain attention, moved away from its initial values; optionally with its last block only at the
    targets."""
    model = world.model(method)
    model.parts.model.set_attn_implementation("eager")
    disturb(model.adapted)
    return with_abilities(model, prune_in_training=prunes and model.adapted.prefix is None)


def fitted_to(world, method, like, first=None):
    """The formula for a method's passes, fitted on a sketch that takes the same path as the model `like`."""
    return training_flops(like.as_sketch(method.adapt(world.sketch(), world.context())), first)


@pytest.mark.parametrize("path", ["plain", "whole", "tail"])
@pytest.mark.parametrize("label", ROWS)
def test_flops_are_those_of_a_real_step(label, path, world):
    """The formula equals the count by dispatch on real passes of several sizes, for every method and path."""
    model = uncached(world, ROWS[label], path == "tail")
    model = model.on_plain_path() if path == "plain" else model
    fitted = fitted_to(world, ROWS[label], model)
    for size in (1, 5, 12):
        batch = collate(world.pairs[:size], world.template)
        counted = counted_flops(lambda: target_losses(model, batch))  # noqa: B023
        assert fitted.count(*work_shape(model, batch)) == pytest.approx(counted, rel=1e-6)


@pytest.mark.parametrize("label", ["lora", "full"])
def test_what_was_counted_before_is_not_carried_out_again(label, gpt2, monkeypatch):
    """A second count of the same passes finds each operation that makes new tensors, even if some of its gradients are
    not computed."""
    model = uncached(gpt2, ROWS[label], True)
    first, missed = fitted_to(gpt2, ROWS[label], model), []

    class Known(dict):
        def get(self, key):
            if key not in self:
                missed.append(key)
            return super().get(key)

    monkeypatch.setattr(flops, "_MADE", Known(flops._MADE))
    assert fitted_to(gpt2, ROWS[label], model) == first and not missed


@pytest.mark.parametrize("prunes", [False, True], ids=["whole", "tail"])
@pytest.mark.parametrize("label", ["prompt", "lora", "last-head", "full"])
def test_the_second_pass_through_the_head_is_charged(label, prunes, world, monkeypatch):
    """With more logits than are computed at once, the head's second pass is counted by dispatch and charged, 2 V D
    each."""
    monkeypatch.setattr(forward, "LOGITS_AT_ONCE", 7 * VOCABULARY)
    model = uncached(world, ROWS[label], prunes)
    fitted = fitted_to(world, ROWS[label], model)
    assert fitted.per_logit_again == pytest.approx(2 * 32 * VOCABULARY) and fitted.logits_at_once == 7
    for size in (1, 5, 12):
        batch = collate(world.pairs[:size], world.template)
        assert size == 1 or batch.num_targets > 7
        counted = counted_flops(lambda: target_losses(model, batch))  # noqa: B023
        assert fitted.count(*work_shape(model, batch)) == pytest.approx(counted, rel=1e-6)
    everywhere = fitted_to(world, ROWS[label], model.on_plain_path())
    assert everywhere.logits_at_once is None and everywhere.per_logit_again == pytest.approx(0)


@pytest.mark.parametrize("limit", [7, 10**6])
@pytest.mark.parametrize("prunes", [False, True], ids=["whole", "tail"])
@pytest.mark.parametrize("label", ["last-blocks", "last-head"])
def test_flops_from_the_trunk_cache_are_those_of_a_real_step(label, prunes, limit, world, monkeypatch):
    """Passes from cached states, below and above the limit of logits, and the passes that create them, are counted
    exactly."""
    monkeypatch.setattr(forward, "LOGITS_AT_ONCE", limit * VOCABULARY)
    method = LastLayers(num_blocks=1) if label == "last-blocks" else ROWS[label]
    model = uncached(world, method, prunes)
    first = partial_forward.first_trained(model.adapted)
    fitted = fitted_to(world, method, model, first)
    making = entering_flops(world.engine(method.adapt(world.sketch(), world.context())), first)
    for size in (1, 5, 12):
        batch = collate(world.pairs[:size], world.template)
        with FlopCounterMode(display=False) as counter:
            states = entering(model.adapted, batch, first)
        shape = work_shape(model, batch)
        assert making.count(*shape) == pytest.approx(counter.get_total_flops(), rel=1e-6)
        if first == len(model.parts.blocks):
            hidden = partial_forward.apply_final_norm(model.parts, states)
            counted = counted_flops(lambda: read_losses(model.parts.head, hidden, batch.targets))  # noqa: B023
        else:
            counted = counted_flops(lambda: resumed_losses(model, batch, first, states))  # noqa: B023
        assert fitted.count(*shape) == pytest.approx(counted, rel=1e-6)


def test_counting_changes_no_result():
    """A result whose layout is known from an earlier operation is unchanged; an operation that modifies its input still
    does."""
    ints, transposed = torch.zeros(2, 3, dtype=torch.long, device="meta"), torch.zeros(3, 2, device="meta").t()
    operations: list[Callable[[], torch.Tensor]] = [
        lambda: ints + 1,
        lambda: ints + 1.0,
        lambda: ints + True,
        lambda: transposed + 1,
        lambda: transposed.contiguous() + 1,
        lambda: ints.view(-1, 1),
        lambda: torch.ones(2, 3).cumsum(0),
        lambda: torch.zeros(2, 3).cumsum(0),
        lambda: ints.clone().resize_(6),
        lambda: ints.clone().t_(),
        lambda: torch.cat([ints, ints]),
        lambda: torch.cat([ints, ints, ints]),
        lambda: torch.native_layer_norm(transposed, [3], None, None, 1e-5)[1],
    ]
    with _FlopCounter():
        counted = [each() for _ in range(2) for each in operations]
    for result, expected in zip(counted, [each() for each in operations] * 2, strict=True):
        assert (result.shape, result.stride(), result.dtype) == (expected.shape, expected.stride(), expected.dtype)
        assert result.is_meta == expected.is_meta and (result.is_meta or torch.equal(result, expected))


def test_flops_of_full_fine_tuning_by_hand(gpt2):
    """Training everything takes three times the forward pass of 24 D^2 L a position, 4 D L a pair, 2 D V a logit."""
    width, layers, vocabulary = 32, 3, 3072
    sketch = gpt2.engine(Full().adapt(gpt2.sketch(), gpt2.context()))
    fitted = training_flops(sketch)
    assert fitted.per_position == pytest.approx(3 * 24 * width**2 * layers, rel=1e-3)
    assert fitted.per_pair == pytest.approx(3 * 4 * width * layers, rel=1e-3)
    assert fitted.per_logit == pytest.approx(3 * 2 * width * vocabulary, rel=1e-3)
    everywhere = training_flops(sketch.on_plain_path())
    assert everywhere.count(3, 50, 150) == pytest.approx(fitted.count(3, 50, 150), rel=1e-3)


def test_flops_of_a_frozen_trunk_by_hand(gpt2):
    """Training only the head takes one pass through the trunk and two through the head, not 6 N."""
    fitted = training_flops(gpt2.engine(ROWS["last-head"].adapt(gpt2.sketch(), gpt2.context())))
    assert fitted.per_position == pytest.approx(24 * 32**2 * 3, rel=1e-3)
    assert fitted.per_logit == pytest.approx(2 * 2 * 32 * 3072, rel=1e-3)


def test_the_exact_path_does_less(gpt2):
    """Logits only where they are read cost less than logits everywhere."""
    for label in ("prompt", "last-head"):
        sketch = gpt2.engine(ROWS[label].adapt(gpt2.sketch(), gpt2.context()))
        executed, plain = (training_flops(each) for each in (sketch, sketch.on_plain_path()))
        assert executed.count(4, 100, 40) < plain.count(4, 100, 400)


def test_passes_that_follow_no_formula_are_refused():
    """A pass that the formula does not explain within 0.1% is an error, not an estimate."""
    flops = [1000 * b * t + 3 * b * t * t + 50 * n + 7 * s * t + 900 for b, t, n, s in SHAPES]
    fitted = fit_flops(list(zip(SHAPES, flops, strict=True)))
    assert (fitted.per_position, fitted.per_pair, fitted.per_logit) == pytest.approx((1000, 3, 50))
    assert (fitted.per_chosen_pair, fitted.per_pass) == pytest.approx((7, 900))
    with pytest.raises(ArithmeticError, match="5 passes"):  # with as many unknowns as passes, anything fits
        fit_flops(list(zip(SHAPES[:5], flops[:5], strict=True)))
    flops[3] += 5000
    with pytest.raises(ArithmeticError, match="took"):
        fit_flops(list(zip(SHAPES, flops, strict=True)))

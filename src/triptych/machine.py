"""The machine that a run uses: device, precision, seeds and process group, through accelerate."""

import os
import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy
import psutil
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import gather_object
from torch import Tensor

from triptych.errors import ConfigError

DEVICES = ("cpu", "cuda", "mps")


@dataclass
class Machine:
    """One rank's view of the machine."""

    accelerator: Accelerator
    precision: str

    @property
    def device(self) -> torch.device:
        """The device that tensors are on."""
        return self.accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this is the main rank, the only one that writes."""
        return self.accelerator.is_main_process

    @property
    def num_processes(self) -> int:
        """The number of processes that share a run."""
        return self.accelerator.num_processes

    def owns(self, number: int) -> bool:
        """Whether work item `number` belongs to this rank; the ranks take items in turn."""
        return number % self.num_processes == self.accelerator.process_index

    def is_left_out(self, count: int) -> bool:
        """Whether this rank has no item in the last round over `count` items while another rank has one."""
        return self.num_processes > self.accelerator.process_index >= count % self.num_processes > 0

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks, the same on each."""
        if self.num_processes == 1:
            return values
        return self.accelerator.reduce(values.to(self.device), "sum").to(values.device)  # type: ignore[union-attr]

    def collect(self, pieces: list) -> list:
        """Gather the pieces of all ranks, in rank order."""
        return gather_object(pieces) if self.num_processes > 1 else pieces

    def memory(self) -> dict[str, int]:
        """The memory that a pass may fill: the bytes of the device or the machine, and the number of ranks there."""
        if self.device.type == "cuda":
            size = torch.cuda.get_device_properties(self.device).total_memory
        else:
            size = psutil.virtual_memory().total
        return {"bytes": size, "processes": self.num_processes}

    def has_room(self, num_bytes: int) -> bool:
        """Whether the GPU has this many bytes free; other devices are assumed to have room."""
        return self.device.type != "cuda" or torch.cuda.mem_get_info(self.device)[0] >= num_bytes

    def autocast(self) -> AbstractContextManager:
        """A context in which forward passes use the run's precision; it does nothing in fp32."""
        return nullcontext() if self.precision == "fp32" else self.accelerator.autocast()

    def seed(self, seed: int) -> None:
        """Seed the generator that dropout draws from on the device."""
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # `torch.manual_seed` spends a millisecond on the seeds of GPUs
        else:
            torch.manual_seed(seed)

    def loss_scaler(self) -> torch.amp.GradScaler | None:
        """A new loss scaler for training in fp16, where small gradients would underflow; None in other precisions."""
        return torch.amp.GradScaler(self.device.type) if self.precision == "fp16" else None

    def synchronize(self) -> None:
        """Wait until the device has finished its queued work, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def choose_device(device: str | None) -> str:
    """The device to use: the requested one, else cuda, else mps, else cpu.

    Raises:
        ConfigError: the requested device is not available.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device is None:
        return next(name for name in ("cuda", "mps", "cpu") if present[name])
    if not present.get(device, False):
        there = [name for name, is_there in present.items() if is_there]
        raise ConfigError(f"--device {device}: this machine has no such device. Available: {', '.join(there)}.")
    return device


def choose_precision(asked: str, device: str) -> str:
    """Resolve `auto` to a precision that is fast on the device: on CUDA bf16, else fp16 with tensor cores, else fp32.

    CUDA GPUs are fast in fp16 from compute capability 7.0 (Volta, Turing) and in bf16 from 8.0 (Ampere); most older
    ones are far slower in fp16 than in fp32. CPU and mps keep fp32, so that runs can be repeated; request bf16
    explicitly.

    Raises:
        ConfigError: fp16 was requested on a device without loss scaling.
    """
    if asked == "auto":
        if device != "cuda":
            return "fp32"
        if not is_emulated("bf16", device):
            return "bf16"
        return "fp16" if torch.cuda.get_device_capability() >= (7, 0) else "fp32"
    if asked == "fp16" and device != "cuda":
        raise ConfigError(f"training.precision = 'fp16' needs a CUDA device, and this is {device}; use bf16 or fp32.")
    return asked


def cpu_multiplies_bf16() -> bool:
    """Whether the CPU has instructions for bf16 products that oneDNN, and thus torch, uses."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def is_emulated(precision: str, device: str) -> bool:
    """Whether a device emulates a precision with another one, which is correct but slow.

    Args:
        precision: fp32, bf16 or fp16, not `auto`.
        device: cpu, cuda or mps.
    """
    if precision != "bf16" or device == "mps":
        return False
    if device == "cuda":
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    return not cpu_multiplies_bf16()


def start_machine(device: str | None, precision: str) -> Machine:
    """Set up the device and the process group.

    Raises:
        ConfigError: this process already uses another precision; accelerate allows one per process.
    """
    name = choose_device(device)
    chosen = choose_precision(precision, name)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    mixed = "no" if chosen == "fp32" else chosen
    if is_initialized() and (before := AcceleratorState().mixed_precision) != mixed:
        raise ConfigError(
            f"This process already computes in {before.replace('no', 'fp32')} and cannot change to {chosen}: run "
            "other precisions in separate commands."
        )
    if name == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)  # cuDNN attention makes a new plan for every batch length
    accelerator = Accelerator(cpu=name == "cpu", mixed_precision=mixed)
    return Machine(accelerator, chosen)


def seed_everything(seed: int) -> torch.Generator:
    """Seed every source of randomness; returns the generator that methods draw from."""
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)

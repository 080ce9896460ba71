"""Record what a run's results depend on: versions, commit, hardware, command and time."""

import os
import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

import triptych
from triptych.machine import Machine
from triptych.models import quantization
from triptych.models.base import BaseModel
from triptych.results.records import Architecture, Provenance
from triptych.text.characters import whole

RECORDED_PACKAGES = (
    "triptych",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "tokenizers",
    "datasets",
    "safetensors",
    "rouge-score",
)
FURTHER_PACKAGES = (
    "huggingface_hub",
    "numpy",
    "pyarrow",
    "matplotlib",
    "typst",
    "bitsandbytes",
    "gguf",
    "gradio",
    "ray",
    "tensorboard",
)
NOT_INSTALLED = "not installed"
_SOURCE_STATUS = ("status", "--porcelain", "--untracked-files=normal", "--", "src", "pyproject.toml")
BUILT_FROM = "built_from.txt"  # a file in the package: the commit, and whether files were "changed" or "unchanged"


def collect(command: list[str], base: BaseModel, fingerprint: str | None, machine: Machine) -> Provenance:
    """Collect the provenance of a run on this machine.

    Args:
        command: the words of the command that repeats the run.
        base: the suite's base model.
        fingerprint: the base model's fingerprint; None for a run without a model.
        machine: the machine of the run.
    """
    commit, dirty = _commit()
    packages = (*RECORDED_PACKAGES, *quantization.packages(base.quantization))
    return Provenance(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        command=whole(shlex.join(command)),
        versions={"python": platform.python_version(), **{name: version_of(name) for name in packages}},
        commit=commit,
        dirty=dirty,
        model=base.name,
        model_fingerprint=fingerprint,
        synthetic_model=base.is_synthetic,
        architecture=None if fingerprint is None else _architecture(base),
        hardware=hardware(machine.device) | {"num_processes": machine.num_processes},
        device=str(machine.device),
        precision=machine.precision,
    )


def _architecture(base: BaseModel) -> Architecture:
    text = base.config.get_text_config()
    return Architecture(model_type=text.model_type, num_blocks=text.num_hidden_layers, hidden_size=text.hidden_size)


def environment(device: str, precision: str) -> dict[str, Any]:
    """Versions, commit and hardware of this machine, by name.

    Args:
        device: the device that a run would use.
        precision: its default precision on that device.
    """
    commit, dirty = _commit()
    installed = {name: version_of(name) for name in (*RECORDED_PACKAGES, *FURTHER_PACKAGES)}
    facts = hardware(torch.device(device))
    return {
        "triptych": installed.pop("triptych"),
        "commit": "unknown (not from a clone)" if commit is None else f"{commit}{', changed since' if dirty else ''}",
        "python": platform.python_version(),
        **facts,
        "system": platform.platform(),
        "free_memory_bytes": psutil.virtual_memory().available,
        "device": device,
        "precision": precision,
        "cuda": torch.version.cuda,
        "environment": {name: bool(os.environ.get(name)) for name in ("TRIPTYCH_CACHE", "HF_HOME", "HF_HUB_OFFLINE")}
        | {name: os.environ[name] for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES") if name in os.environ},
        **installed,
    }


def version_of(package: str) -> str:
    """The installed version of a package, or `not installed`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return triptych.__version__ if package == "triptych" else NOT_INSTALLED


def _commit() -> tuple[str | None, bool | None]:
    """The commit of the clone that this package runs from or was built from, and whether its source was modified.

    Only changes that can affect results count: `pyproject.toml` and `src/`, including new files, because methods there
    are discovered automatically. A suite file or a zip elsewhere in the clone does not count. Without a clone, both are
    None, unless the package was built from one and has the file that setup.py wrote.
    """
    package = Path(triptych.__file__).resolve().parent
    home = package.parents[1]
    if not (home / ".git").exists():
        with suppress(OSError, ValueError):
            commit, state = (package / BUILT_FROM).read_text("utf-8").split()
            return commit, state == "changed"
        return None, None
    try:
        git = ["git", "--no-optional-locks", "-C", str(home)]  # otherwise `status` may leave .git/index.lock behind
        commit, status = (
            subprocess.run([*git, *words], capture_output=True, check=True, timeout=10).stdout.decode(
                "utf-8", "replace"
            )
            for words in (("rev-parse", "HEAD"), _SOURCE_STATUS)
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit.strip(), bool(status.strip())


def hardware(device: torch.device) -> dict[str, Any]:
    """Processor, memory and GPU of this machine for the record."""
    facts: dict[str, Any] = {
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory}
    return facts


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8", "replace").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"

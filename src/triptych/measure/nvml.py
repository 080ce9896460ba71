"""A GPU as NVIDIA's management library (NVML) shows it, or the reason why it does not."""

from typing import Any

import torch


def open_nvml(device: torch.device) -> tuple[Any, Any] | str:
    """The module `pynvml` and the handle of a device, or why there are none, as a clause.

    The handle is found by the device's own identifier, since torch numbers only the devices that it may see.
    """
    try:
        import pynvml
    except ImportError:
        return "the package nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except pynvml.NVMLError as error:
        return f"NVML does not answer here ({error})"


def other_processes(device: torch.device) -> int:
    """How many other processes have work on the GPU now; 0 where NVML does not tell.

    This process is one of those that NVML lists, perhaps under the number that it has outside a container.
    """
    nvml = open_nvml(device)
    if isinstance(nvml, str):
        return 0
    pynvml, handle = nvml
    try:
        return max(len(pynvml.nvmlDeviceGetComputeRunningProcesses(handle)) - 1, 0)
    except pynvml.NVMLError:
        return 0

"""Access a GPU through NVIDIA's management library (NVML), or give the reason why it is unavailable."""

from typing import Any

import torch


def open_nvml(device: torch.device) -> tuple[Any, Any] | str:
    """The module `pynvml` and the handle of a device, or a clause that says why they are unavailable.

    The handle is found by the device's UUID, because torch numbers only the devices visible to it.
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
    """Number of other processes currently using the GPU; 0 if NVML does not report it.

    NVML's list includes this process, possibly under its process id outside a container.
    """
    nvml = open_nvml(device)
    if isinstance(nvml, str):
        return 0
    pynvml, handle = nvml
    try:
        return max(len(pynvml.nvmlDeviceGetComputeRunningProcesses(handle)) - 1, 0)
    except pynvml.NVMLError:
        return 0

"""Say what an evaluation ran on."""

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

import l2nnn_lightning

__all__ = ["hardware", "versions"]

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "torchattacks", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the installed packages that numbers depend on."""
    found = {"python": platform.python_version(), "l2nnn-lightning": l2nnn_lightning.__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: torch.device | str = "cpu") -> str:
    """Name the machine in a few words: the accelerator in use, and the cores this process may run on.

    Args:
        device: where the network ran.
    """
    device = torch.device(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = f"{cores} CPU core{'' if cores == 1 else 's'} ({_cpu_name()})"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {cpu}"
    return cpu if device.type == "cpu" else f"{device.type}, {cpu}"


def _cpu_name() -> str:
    """Return the processor's name; only Linux tells it in a file."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

"""Write files so that a reader never meets half of one; and what they say of the machine that made them."""

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import l2nnn_lightning
from l2nnn_lightning.data.errors import UserError

__all__ = ["hardware", "versions", "write_json", "write_text"]

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "torchattacks", "numpy")


def write_text(path: Path | str, text: str) -> None:
    """Write text to a file in one step: an interrupted run leaves the old file or the new one, never a part.

    Raises:
        UserError: if it cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path | str, values: Mapping[str, Any]) -> None:
    """Write strict JSON with sorted keys, one value a line, in one step.

    Numbers that are not finite, which JSON lacks, become null, and paths become text.

    Raises:
        TypeError: if a value is none of these, nor text, a boolean, a list or a mapping.
    """
    text = json.dumps(_plain(values), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the installed packages that numbers depend on."""
    found = {"python": platform.python_version(), "l2nnn-lightning": l2nnn_lightning.__version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: torch.device | str = "cpu") -> str:
    """Name the machine in a few words: the accelerator where the network ran, and the cores this process may run on."""
    device = torch.device(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    listing = Path("/proc/cpuinfo")  # only Linux tells the processor's name in a file
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    cpu = f"{cores} CPU core{'' if cores == 1 else 's'} ({name})"
    if device.type == "cpu":
        return cpu
    return f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type}, {cpu}"

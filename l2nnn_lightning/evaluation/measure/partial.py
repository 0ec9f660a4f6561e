"""What attacks have found so far, kept on the disk batch by batch: an evaluation that was cut short goes on with it."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from l2nnn_lightning.data.errors import FailedWorkError

__all__ = ["PartialAttacks", "fingerprint"]

#: What an attack found on a batch, by name.
Found = Mapping[str, Tensor]


def fingerprint(settings: Mapping[str, Any], *tensors: Tensor, file: Path | None = None) -> str:
    """Name what an attack's results depend on: settings, and the content of tensors and of a file.

    Example:
        >>> fingerprint({"eps": 1.0}, torch.zeros(2)) == fingerprint({"eps": 1.0}, torch.zeros(2))
        True
        >>> fingerprint({"eps": 1.0}, torch.zeros(2)) == fingerprint({"eps": 2.0}, torch.zeros(2))
        False
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    if file is not None:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


class PartialAttacks:
    """One file a batch of an attack, in a folder of one evaluation, which several processes may share.

    Args:
        folder: it is made when there is something to keep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: How many batches were found here.
        self.taken_up = 0

    def batch(self, attack: str, first: int, run: Callable[[], Found]) -> Found:
        """Return what an attack has found on the batch that begins at a position of the data set, or run it now.

        Raises:
            FailedWorkError: if it cannot be kept.
        """
        path = self.folder / f"{re.sub(r'[^A-Za-z0-9.]+', '_', attack)}-{first}.pt"
        if path.is_file():
            try:
                found: Found = torch.load(path, weights_only=True)
                self.taken_up += 1
                return found
            except Exception:  # a damaged file, of whatever kind: it is attacked again
                path.unlink()
        found, part = run(), path.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            torch.save(dict(found), part)
            part.replace(path)
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            raise FailedWorkError(f"{path} cannot be written: make room and run the same command again") from error
        return found

    def remove(self) -> None:
        """Remove it, and the folder around it if that is empty then."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()

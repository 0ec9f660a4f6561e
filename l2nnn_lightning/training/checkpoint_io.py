"""Writing checkpoints so that a crash in the middle of it leaves the earlier one whole."""

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

__all__ = ["AtomicCheckpointIO"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place and move it there once it is on the disk.

    Lightning's own writer goes by way of the temporary folder, often another disk, from where a file is copied and not
    moved: a process killed while it copies leaves a torn ``last.ckpt``.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: its contents.
            path: a file on a local or mounted disk; anything else, such as ``s3://``, is left to Lightning.
            storage_options: unused, as in Lightning's own.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(place.name + ".part")
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(place)

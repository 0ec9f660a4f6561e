"""Run a training, and say in one line what ended it before its time, and how to go on."""

import errno
import re
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from l2nnn_lightning.data import ImageDataModule
from l2nnn_lightning.data.errors import FailedWorkError, LostProcessError, UserError
from l2nnn_lightning.training.arguments import program
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.run_folder import discard_unstarted

__all__ = ["fit"]

# How a backend says that another process is gone: gloo in words, NCCL by the type of the error.
_LOST_CONTACT = re.compile(r"gloo|Connection (closed|reset|refused)|remote process exited", re.I)
# What a disk says that takes no more.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def fit(
    trainer: pl.Trainer, model: Classifier, data: ImageDataModule, folder: Path, checkpoint: str | None = None
) -> None:
    """Train in a run folder, from a checkpoint if there is one.

    Raises:
        UserError: for settings that only show themselves now; a run without a checkpoint leaves no folder then.
        FailedWorkError: if the disk is full, or the training diverges.
        LostProcessError: if another process of the training is gone.
        SystemExit: on Ctrl-C or SIGTERM, once the run folder and how to resume have been named.
    """
    last, again = folder / "checkpoints" / "last.ckpt", program("train").replace("train.py", "python train.py")

    def resume(how: str) -> str:
        return f"resume with{how} --ckpt_path {last}" if last.is_file() else "no epoch was finished: start again"

    try:
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the run folder {folder} cannot be made ({error.strerror}): choose another --run_dir"
        ) from error
    try:
        trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as stop:
        if trainer.is_global_zero:
            print(f"stopped; run folder: {folder}; {resume(f': {again}')}", file=sys.stderr)
        # Lightning ends with 1 after Ctrl-C.
        raise SystemExit(130 if stop.code == 1 else stop.code or 143) from None
    except (MisconfigurationException, UserError) as error:
        if trainer.is_global_zero and checkpoint is None:
            discard_unstarted(folder)
        raise UserError(str(error)) from error
    except Exception as error:
        if (full := _disk_error(error)) is not None:
            said = f"{folder} cannot be written ({full.strerror})"
            raise FailedWorkError(f"{said}: make room, then {resume(f': {again}')}") from error
        is_lost = isinstance(error, torch.distributed.DistError) or _LOST_CONTACT.search(str(error))
        if trainer.world_size == 1 or not (isinstance(error, RuntimeError) and is_lost):
            raise
        raise LostProcessError(
            f"process {trainer.global_rank} lost contact with another one, which was killed or failed; {resume('')}"
        ) from error


def _disk_error(error: BaseException | None) -> OSError | None:
    """Find what the disk has said, also where a writer of checkpoints has failed over it with an error of its own."""
    while error is not None and not (isinstance(error, OSError) and error.errno in _DISK):
        error = error.__cause__ or error.__context__
    return error

"""What is evaluated: a checkpoint's network, and the images."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from l2nnn_lightning.data import DATAMODULES, ImageDataModule
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.arguments import nearest
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.models.base import Certified
from l2nnn_lightning.training.checkpoints import Checkpoint
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["Subject", "load_subject"]


@dataclass(frozen=True)
class Subject:
    """What is evaluated, on which images and how many of them at once.

    Args:
        classifier: as it was trained, on the CPU.
        certified: what is evaluated of it, on its device.
        datamodule: the data of its training, or those asked for.
        images: (N, C, H, W), uint8.
        labels: (N,).
        batch_size: images at once.
    """

    classifier: Classifier
    certified: Certified
    datamodule: ImageDataModule
    images: Tensor
    labels: Tensor
    batch_size: int


def load_subject(options: EvaluateOptions) -> Subject:
    """Load what is evaluated, and see that it fits together and to what is asked of it.

    Raises:
        UserError: if it does not.
    """
    checkpoint = Checkpoint.read(options.ckpt_path)
    classifier = checkpoint.classifier()
    if options.radii is not None and classifier.network.can_prove and not classifier.is_hard:
        raise UserError(
            f"{options.ckpt_path} is in penalty mode and proves nothing at any radius: leave out --radii, "
            "or use a checkpoint from after the switch to hard scaling"
        )
    try:
        datamodule = checkpoint.datamodule(options.data, options.root)
    except ValueError as error:
        raise UserError(f"{error}{nearest(str(options.data), DATAMODULES)}") from error
    device = _device(options)
    images, labels = _images(datamodule, options.split, options.limit)
    batch_size = options.batch_size or (100 if device.type == "cpu" else 500)
    return Subject(classifier, classifier.certified().to(device), datamodule, images, labels, batch_size)


def _images(datamodule: ImageDataModule, split: str, limit: int | None) -> tuple[Tensor, Tensor]:
    datamodule.setup("test" if split == "test" else "fit")
    held = {"test": datamodule.test_set, "val": datamodule.val_set, "train": datamodule.train_set}[split]
    if held is None:
        raise UserError(f"there are no {split} images: the data set was set up without them (val_size)")
    return held.images[:limit], held.labels[:limit]


def _device(options: EvaluateOptions) -> torch.device:
    if options.processes > 1:
        return torch.device("cpu")
    if options.device in (None, "cuda") and torch.cuda.is_available():
        # Of the processes on a machine, each takes a GPU of its own.
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        device = torch.device(options.device or "cpu")
        torch.empty(1, device=device).tolist()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {options.device} is not available here: use cpu") from error
    return device

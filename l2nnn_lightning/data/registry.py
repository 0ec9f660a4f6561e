"""DataModules by name, so that a checkpoint can say what it was trained on."""

from collections.abc import Mapping
from typing import Any

from l2nnn_lightning.data.cifar10 import CIFAR10DataModule
from l2nnn_lightning.data.image_folder import ImageFolderDataModule
from l2nnn_lightning.data.mnist import FashionMNISTDataModule, MNIST5kDataModule, MNISTDataModule
from l2nnn_lightning.data.module import ImageDataModule

__all__ = ["DATAMODULES", "build_datamodule"]

DATAMODULES: dict[str, type[ImageDataModule]] = {
    datamodule.name: datamodule
    for datamodule in (
        MNIST5kDataModule,
        MNISTDataModule,
        FashionMNISTDataModule,
        CIFAR10DataModule,
        ImageFolderDataModule,
    )
}


def build_datamodule(name: str, init_args: Mapping[str, Any]) -> ImageDataModule:
    """Build a DataModule from what its ``describe`` returned.

    Args:
        name: a key of ``DATAMODULES``.
        init_args: arguments of its constructor.

    Raises:
        ValueError: for an unknown name or a bad argument.

    Example:
        >>> build_datamodule("MNIST5k", {"batch_size": 64}).describe()["init_args"]["batch_size"]
        64
    """
    if name not in DATAMODULES:
        raise ValueError(f"data must be one of {', '.join(DATAMODULES)}, got {name!r}")
    return DATAMODULES[name](**init_args)

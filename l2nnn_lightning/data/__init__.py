"""LightningDataModules: images, label noise, and adversarial batches."""

from collections.abc import Mapping
from typing import Any

from l2nnn_lightning.attacks.registry import find_class
from l2nnn_lightning.attacks.training import LinfAttack, TrainingAttack
from l2nnn_lightning.data.cifar10 import CIFAR10DataModule
from l2nnn_lightning.data.image_folder import ImageFolderDataModule
from l2nnn_lightning.data.image_set import Batch, ImageSet, to_float
from l2nnn_lightning.data.mnist import FashionMNISTDataModule, MNIST5kDataModule, MNISTDataModule
from l2nnn_lightning.data.module import ImageDataModule

__all__ = ["DATAMODULES", "Batch", "CIFAR10DataModule", "FashionMNISTDataModule", "ImageDataModule"]
__all__ += ["ImageFolderDataModule", "ImageSet", "LinfAttack", "MNIST5kDataModule", "MNISTDataModule"]
__all__ += ["TrainingAttack", "build_datamodule", "short_name", "to_float"]

DATAMODULES: dict[str, type[ImageDataModule]] = {
    "MNIST5k": MNIST5kDataModule,
    "MNIST": MNISTDataModule,
    "FashionMNIST": FashionMNISTDataModule,
    "CIFAR10": CIFAR10DataModule,
    "ImageFolder": ImageFolderDataModule,
}


def short_name(name: str) -> str:
    """Return the key in ``DATAMODULES`` of a data set named by it, by its class or by the path of that; else the name.

    Example:
        >>> short_name("MNISTDataModule"), short_name("l2nnn_lightning.data.MNISTDataModule"), short_name("my.Data")
        ('MNIST', 'MNIST', 'my.Data')
    """
    for key, kind in DATAMODULES.items():
        if name in (key, kind.__name__, f"{__name__}.{kind.__name__}", f"{kind.__module__}.{kind.__name__}"):
            return key
    return name


def build_datamodule(name: str, init_args: Mapping[str, Any]) -> ImageDataModule:
    """Build a DataModule from what its ``describe`` returned; a ValueError for an unknown name or a bad argument.

    The name is a key of ``DATAMODULES`` or names its class, see :func:`short_name`, or it is the path
    ``package.module.Class`` of a class from elsewhere.

    Example:
        >>> build_datamodule("MNIST5k", {"batch_size": 64}).describe()["init_args"]["batch_size"]
        64
    """
    name = short_name(name)
    if name in DATAMODULES:
        return DATAMODULES[name](**init_args)
    if "." not in name:
        raise ValueError(f"data must be one of {', '.join(DATAMODULES)}, or package.module.Class, got {name!r}")
    return find_class(name, ImageDataModule)(**init_args)  # type: ignore[type-abstract]

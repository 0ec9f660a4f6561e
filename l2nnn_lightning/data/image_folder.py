"""The user's own images: one folder per label."""

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from l2nnn_lightning.attacks.base import check_at_least
from l2nnn_lightning.attacks.training import TrainingAttack
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.data.image_set import stratified_mask
from l2nnn_lightning.data.module import ImageDataModule

__all__ = ["IMAGE_SUFFIXES", "ImageFolderDataModule", "LabelledFiles", "decode", "find_images"]

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_DEEP_MODES = {"F", "I"}  # also I;16 and its variants: more than 8 bits a channel, which Pillow would clip at 255


class LabelledFiles(NamedTuple):
    """The images of a split: their files and, one for each, their labels (int64)."""

    paths: list[Path]
    labels: Tensor

    def where(self, mask: Tensor) -> "LabelledFiles":
        """Take those where ``mask``, (N,), is true."""
        return LabelledFiles([self.paths[row] for row in mask.nonzero().flatten().tolist()], self.labels[mask])


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
        UserError: on the first use of the folder, if it does not have the layout above.
    """

    name = "ImageFolder"
    default_attack = TrainingAttack(eps=8 / 255, steps=7, step_size=2 / 255)
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


def find_images(root: Path, test_fraction: float) -> tuple[list[str], LabelledFiles, LabelledFiles]:
    """List label names, sorted, training and test images, both by label and path; a UserError for another layout."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: set root to the folder that holds one folder of images per label")
    train, test = root / "train", root / "test"
    if train.is_dir() and test.is_dir():
        (names, train_files), (test_names, test_files) = _list_labels(train), _list_labels(test)
        if names != test_names:
            odd = sorted(set(names) ^ set(test_names))
            raise UserError(f"{train} and {test} must have the same labels, but only one of them has: {', '.join(odd)}")
        return names, train_files, test_files
    for here, gone in ((train, test), (test, train)):
        if here.is_dir():
            raise UserError(f"{here} exists but {gone} does not: add it, or put the labels' folders directly in {root}")
    names, files = _list_labels(root)
    is_test = stratified_mask(files.labels, test_fraction, seed=0)
    for split, chosen in (("train", ~is_test), ("test", is_test)):
        if len(set(files.labels[chosen].tolist())) < len(names):
            raise UserError(
                f"{root}: a label would have no {split} images with test_fraction {test_fraction}: "
                "add images or change test_fraction"
            )
    return names, files.where(~is_test), files.where(is_test)


def decode(path: Path, channels: int, image_size: int | None) -> npt.NDArray[np.uint8]:
    """Read an image as bytes (C, H, W), its centred square resized to ``image_size`` if set; or a UserError."""
    try:
        with Image.open(path) as file:
            if file.mode[:1] in _DEEP_MODES:
                raise UserError(f"{path} has more than 8 bits per channel: convert it to 8 bits")
            image = file.convert("RGB" if channels == 3 else "L")
            if image_size is not None:
                side = min(image.size)
                left, top = (image.width - side) // 2, (image.height - side) // 2
                image = image.crop((left, top, left + side, top + side))
                image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
            pixels = np.array(image, dtype=np.uint8).reshape(image.height, image.width, channels)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image ({error}): repair it or remove it") from error
    return pixels.transpose(2, 0, 1)


def _list_labels(folder: Path) -> tuple[list[str], LabelledFiles]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        raise UserError(f"{folder} must hold a folder of images for each of at least two labels, found {len(names)}")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        images = (path for path in (folder / name).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        found = sorted(path for path in images if not path.name.startswith("."))
        if not found:
            raise UserError(f"{folder / name} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        paths += found
        labels += [label] * len(found)
    return names, LabelledFiles(paths, torch.tensor(labels, dtype=torch.int64))

"""Find and decode images that lie in one folder per label."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.data.stratified import stratified_mask

__all__ = ["IMAGE_SUFFIXES", "LabelledFiles", "decode", "find_images"]

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_DEEP_MODES = {"F", "I"}  # also I;16 and its variants: more than 8 bits a channel, which Pillow would clip at 255


class LabelledFiles(NamedTuple):
    """The images of a split: their files and, one for each, their labels (int64)."""

    paths: list[Path]
    labels: Tensor

    def where(self, mask: Tensor) -> "LabelledFiles":
        """Take those where ``mask``, (N,), is true."""
        return LabelledFiles([self.paths[row] for row in mask.nonzero().flatten().tolist()], self.labels[mask])


def find_images(root: Path, test_fraction: float) -> tuple[list[str], LabelledFiles, LabelledFiles]:
    """List label names, sorted, training and test images, both by label and path.

    Args:
        root: holds ``train/<label>/`` and ``test/<label>/``, or ``<label>/``.
        test_fraction: share of each label taken for testing in the second case; the same images every time.

    Raises:
        UserError: if the folder is missing, has another layout, or leaves a split empty.
    """
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
    """Read an image as bytes (C, H, W), its centred square resized to ``image_size`` if that is set.

    Raises:
        UserError: if the file is damaged, or has more than 8 bits a channel.
    """
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

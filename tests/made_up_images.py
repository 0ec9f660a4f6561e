"""Tiny made-up images of three labels, in folders or as a DataModule, and configs that train on them in a second."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor

from l2nnn_lightning.data import ImageDataModule, TrainingAttack

LABELS = ["left", "middle", "right"]
SHAPE = (1, 6, 6)


def made_up_pixels(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright pair of columns whose place is the label."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(LABELS)
    pixels = rng.integers(0, 80, (count, *SHAPE), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[:, :, 2 * label : 2 * label + 2] += 150
    return pixels, labels


class StripesDataModule(ImageDataModule):
    """60 training and 18 test images in memory."""

    name = "Stripes"
    default_attack = TrainingAttack(eps=0.1, steps=2, step_size=0.05)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return SHAPE

    @property
    def label_names(self) -> list[str]:
        return LABELS

    def load_images(self, train: bool) -> tuple[Tensor, Tensor]:
        pixels, labels = made_up_pixels(60 if train else 18, seed=int(train))
        return torch.from_numpy(pixels), torch.from_numpy(labels)


def write_image_folder(root: Path, count: int = 60) -> Path:
    """Write ``root/<label>/NN.png``."""
    for i, (image, label) in enumerate(zip(*made_up_pixels(count, seed=2), strict=True)):
        folder = root / LABELS[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(folder / f"{i:02}.png")
    return root


def part(name: str, **options: Any) -> dict[str, Any]:
    """A class of the package and its options, as a config has them."""
    return {"class_path": f"l2nnn_lightning.{name}", "init_args": options}


def config(images: Path, **changes: Any) -> dict[str, Any]:
    """A config of four epochs of four steps, hard after two.

    ``changes`` are dotted keys without ``init_args``, such as ``data__augment`` or ``model__network__dense``.
    """
    model = {
        "network": part("models.ConvL2NNN", channels=[], dense=[6]),
        "optimizer": part("training.optimizers.ScaledAdam", lr=0.01),
        "scheduler": part("training.schedule.CosineAfterSwitch", warmup_steps=2),
    }
    callbacks = [part("training.callbacks.HardScalingSwitch", switch_epoch=2)]
    values: dict[str, Any] = {
        "model": part("L2NNNClassifier", **model),
        "data": part("data.ImageFolderDataModule", root=str(images), channels=1, batch_size=10, val_size=8),
        "trainer": {"max_epochs": 4, "accelerator": "cpu", "callbacks": callbacks},
    }
    for keys, value in changes.items():
        *path, name = keys.split("__")
        place = values
        for key in path:
            place = place[key] if key == "trainer" else place[key]["init_args"]
        place[name] = value
    return values


def write_config(path: Path, images: Path, **changes: Any) -> str:
    """Write :func:`config` as YAML; returns the path as the command line wants it."""
    path.write_text(yaml.safe_dump(config(images, **changes)))
    return str(path)

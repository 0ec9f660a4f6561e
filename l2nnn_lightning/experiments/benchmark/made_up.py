"""A checkpoint with random weights and made-up images, for parts that run whole commands."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from l2nnn_lightning.training.classifier import L2NNNClassifier

__all__ = ["write_run"]

_NUM_LABELS = 10


def write_run(
    folder: Path, network: str, network_args: dict[str, Any], image_shape: tuple[int, int, int], images: int
) -> Path:
    """Write images, and a hard network for them.

    Args:
        folder: where to write.
        network: its name.
        network_args: its options.
        image_shape: (channels, height, width); 1 or 3 channels.
        images: the number of test images.

    Returns:
        The checkpoint.
    """
    channels, height, width = image_shape
    pixels = np.random.default_rng(0).integers(0, 256, (images, height, width, channels), dtype=np.uint8)
    for split, count in (("train", _NUM_LABELS), ("test", images)):
        for i in range(count):
            label = folder / "images" / split / str(i % _NUM_LABELS)
            label.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[i].squeeze()).save(label / f"{i}.png")
    torch.manual_seed(0)
    classifier = L2NNNClassifier(network, network_args, image_shape, _NUM_LABELS)
    classifier.harden()
    checkpoint: dict[str, Any] = {
        "state_dict": classifier.state_dict(),
        "hyper_parameters": dict(classifier.hparams),
    }
    classifier.on_save_checkpoint(checkpoint)
    checkpoint["l2nnn_lightning"]["data"] = {
        "name": "ImageFolder",
        "init_args": {"root": str(folder / "images"), "channels": channels, "val_size": 0},
    }
    path = folder / "hard.ckpt"
    torch.save(checkpoint, path)
    return path

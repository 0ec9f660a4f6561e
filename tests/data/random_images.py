"""A DataModule of random images in memory, for tests that need no real data."""

import numpy as np
import torch
from torch import Tensor

from l2nnn_lightning.data import ImageDataModule, TrainingAttack


class RandomImages(ImageDataModule):
    """100 training and 23 test images of 6x6 pixels, four labels; each image is its position and noise."""

    name = "RandomImages"
    default_attack = TrainingAttack(eps=0.1, steps=3, step_size=0.05)

    image_shape = (1, 6, 6)
    label_names = ("north", "east", "south", "west")

    def load_images(self, train: bool) -> tuple[Tensor, Tensor]:
        count = 100 if train else 23
        pixels = np.random.default_rng(train).integers(0, 256, (count, 1, 6, 6), dtype=np.uint8)
        pixels[:, 0, 0, 0] = np.arange(count)  # names the image, whatever split it ends in
        return torch.from_numpy(pixels), torch.arange(count) % 4

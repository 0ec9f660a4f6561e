"""Random shifts and flips of a whole batch, on the device that holds it."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["AUGMENTATIONS", "Augmentation", "random_crop", "random_flip"]

Augmentation = Literal["none", "shift", "flip", "flip_crop"]


def random_crop(image: Tensor, padding: int) -> Tensor:
    """Move each image by up to ``padding`` pixels in each direction, filling with zeros.

    Args:
        image: any type.
        padding: the largest move in pixels, >= 0.

    Shape:
        - image: (B, C, H, W)
        - Output: (B, C, H, W)
    """
    height, width = image.shape[-2:]
    padded = F.pad(image, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (B, C, 2p+1, 2p+1, H, W)
    offset = torch.randint(2 * padding + 1, (2, len(image)), device=image.device)
    return windows[torch.arange(len(image), device=image.device), :, offset[0], offset[1]]


def random_flip(image: Tensor) -> Tensor:
    """Mirror each image left to right with probability 1/2.

    Shape:
        - image: (B, C, H, W)
        - Output: (B, C, H, W)
    """
    is_flipped = torch.rand(len(image), 1, 1, 1, device=image.device) < 0.5
    return torch.where(is_flipped, image.flip(-1), image)


AUGMENTATIONS: dict[Augmentation, Callable[[Tensor], Tensor]] = {
    "none": lambda image: image,
    "shift": lambda image: random_crop(image, 2),
    "flip": random_flip,
    "flip_crop": lambda image: random_crop(random_flip(image), 4),
}
"""By name: digits may shift by 2 pixels; photographs may be mirrored and moved by 4."""

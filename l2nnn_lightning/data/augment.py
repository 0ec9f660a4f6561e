"""Random shifts, flips and small distortions of a whole batch, on the device that holds it."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["AUGMENTATIONS", "Augmentation", "random_affine", "random_crop", "random_flip"]

Augmentation = Literal["none", "shift", "affine", "affine_large", "flip", "flip_crop", "flip_reflect"]


def random_crop(image: Tensor, padding: int, *, reflect: bool = False) -> Tensor:
    """Move each image, (B, C, H, W) of any type, by up to ``padding`` >= 0 pixels each way.

    What enters is zeros, or the image mirrored at its border pixels; then ``padding`` must be less than its sides.
    """
    height, width = image.shape[-2:]
    if reflect:
        # By index: torch's own reflection takes no whole numbers.
        rows, columns = ((torch.arange(-padding, side + padding).abs() - (side - 1)).abs() for side in (height, width))
        rows, columns = (height - 1 - rows).to(image.device), (width - 1 - columns).to(image.device)
        padded = image[..., rows[:, None], columns]
    else:
        padded = F.pad(image, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (B, C, 2p+1, 2p+1, H, W)
    offset = torch.randint(2 * padding + 1, (2, len(image)), device=image.device)
    return windows[torch.arange(len(image), device=image.device), :, offset[0], offset[1]]


def random_flip(image: Tensor) -> Tensor:
    """Mirror each image, (B, C, H, W), left to right with probability 1/2."""
    is_flipped = torch.rand(len(image), 1, 1, 1, device=image.device) < 0.5
    return torch.where(is_flipped, image.flip(-1), image)


def random_affine(image: Tensor, strength: float) -> Tensor:
    """Turn, scale, shear and move each image a little about its centre, filling with zeros.

    Each of the four coefficients of the linear map differs from the identity's by up to ``strength`` (0.1 is a turn by
    6 degrees), and the image moves by up to ``strength / 4`` of its side. Pixels are
    interpolated linearly; whole numbers are rounded.
    """
    draw = torch.rand(6, len(image), device=image.device) * 2 - 1
    turn, shear, wide, high = strength * draw[:4]
    across, down = strength / 2 * draw[4:]  # the sides of the image are 2 long here
    rows = [torch.stack([1 + wide, shear - turn, across], 1), torch.stack([turn, 1 + high, down], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(image.shape), align_corners=False)
    real = image if image.is_floating_point() else image.float()
    moved = F.grid_sample(real, grid.to(real), align_corners=False)
    return moved if image.is_floating_point() else moved.round().to(image.dtype)


AUGMENTATIONS: dict[Augmentation, Callable[[Tensor], Tensor]] = {
    "none": lambda image: image,
    "shift": lambda image: random_crop(image, 2),
    "affine": lambda image: random_affine(image, 0.08),
    "affine_large": lambda image: random_affine(image, 0.12),
    "flip": random_flip,
    "flip_crop": lambda image: random_crop(random_flip(image), 4),
    "flip_reflect": lambda image: random_crop(random_flip(image), 4, reflect=True),
}
"""By name: digits may shift by 2 pixels, or be distorted; photographs may be mirrored and moved by 4."""

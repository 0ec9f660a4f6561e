"""Pieces that keep one part per label side by side in one tensor, for networks without a shared trunk."""

from torch import Tensor, nn

__all__ = ["CenterCrop2d", "PerLabel", "RepeatPerLabel"]


class RepeatPerLabel(nn.Module):
    """Hand each label its own copy of the channels, for grouped convolutions.

    Each label's part is nonexpansive; a split that does not reconverge needs no scaling (A.3).

    Args:
        num_labels: the number K of copies.

    Shape:
        (B, C, H, W) -> (B, K C, H, W).
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.num_labels = num_labels

    def forward(self, x: Tensor) -> Tensor:
        """Repeat the channels."""
        return x.repeat(1, self.num_labels, 1, 1)


class PerLabel(nn.Module):
    """Apply one module to each label's part of the channels, as if it were an image of its own.

    Args:
        num_labels: the number K of parts.
        module: maps (B, C, ...) to (B, C', ...).

    Shape:
        (B, K C, ...) -> (B, K C', ...).
    """

    def __init__(self, num_labels: int, module: nn.Module) -> None:
        super().__init__()
        self.num_labels, self.module = num_labels, module

    def forward(self, x: Tensor) -> Tensor:
        """Split, apply, join."""
        batch, channels = x.shape[:2]
        parts: Tensor = self.module(x.reshape(batch * self.num_labels, channels // self.num_labels, *x.shape[2:]))
        return parts.reshape(batch, self.num_labels * parts.shape[1], *parts.shape[2:])


class CenterCrop2d(nn.Module):
    """Look at the centre of an image alone: leaving entries out is nonexpansive.

    Args:
        size: the side that is kept; an odd margin is larger at the end.

    Shape:
        (B, C, H, W) -> (B, C, size, size).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Cut the margins off."""
        top, left = (x.shape[2] - self.size) // 2, (x.shape[3] - self.size) // 2
        return x[:, :, top : top + self.size, left : left + self.size]

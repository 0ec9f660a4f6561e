"""Pieces that keep one part per label side by side in one tensor, for networks without a shared trunk."""

import math

import torch
from torch import Tensor, nn

__all__ = ["CenterCrop2d", "LabelwiseLinear", "PerLabel", "RepeatPerLabel"]


class LabelwiseLinear(nn.Module):
    """Apply one linear map per label, all as one batched product.

    Args:
        num_labels: the number K of maps.
        in_features: inputs I of each map.
        out_features: outputs O of each map.
        bias: whether each map adds a bias.

    Shape:
        (B, I), shared by all labels, or (B, K, I), one input per label, -> (B, K, O).
    """

    def __init__(self, num_labels: int, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_labels, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(num_labels, out_features)) if bias else None
        for matrix in self.weight:
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the maps."""
        weight_KOI: Tensor = self.weight
        if x.dim() == 2:
            y = (x @ weight_KOI.flatten(0, 1).mT).reshape(-1, *weight_KOI.shape[:2])
        else:
            y = torch.bmm(x.transpose(0, 1), weight_KOI.mT).transpose(0, 1)
        return y if self.bias is None else y + self.bias


class RepeatPerLabel(nn.Module):
    """Hand each of K labels its own copy of the channels, for grouped convolutions.

    Each label's part is nonexpansive; a split that does not reconverge needs no scaling (A.3).

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
    """Apply one module, (B, C, ...) -> (B, C', ...), to each of K labels' part of the channels, as to an image.

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
    """Look at the centre of an image alone: leaving entries out is nonexpansive. An odd margin is larger at the end.

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

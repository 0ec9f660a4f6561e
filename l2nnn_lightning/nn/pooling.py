"""Smaller maps: a norm of a window instead of its maximum (section 2.3), or its entries as channels."""

import math
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LpPool2d", "NormPool2d", "PixelUnshuffle"]


class _Windows(nn.Module):
    """Which windows a pooling looks at, and how many of them an entry falls in, at most: ``copies``."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.kernel_size = _pair(kernel_size)
        self.stride = self.kernel_size if stride is None else _pair(stride)
        self.padding = _pair(padding)
        for k, s, p in zip(self.kernel_size, self.stride, self.padding, strict=True):
            if k < 1 or s < 1 or not 0 <= p <= k // 2:
                raise ValueError(
                    "kernel_size and stride must be at least 1 and padding at most half the kernel, "
                    f"got {self.kernel_size}, {self.stride} and {self.padding}"
                )
        self.copies = -(-self.kernel_size[0] // self.stride[0]) * -(-self.kernel_size[1] // self.stride[1])


class NormPool2d(_Windows):
    """Take the L2 norm of each window (Lemma 5).

    A norm is nonexpansive on its window. An entry that falls in up to K windows counts K times, so overlapping
    windows are divided by ``sqrt(K)``, ``K = prod ceil(kernel_size / stride)``. A window's norm is at least the root
    of the smallest normal number, which gives an all-zero window the gradient zero.

    Args:
        kernel_size: the window's side, or (height, width).
        stride: the step between windows; the kernel size if None.
        padding: zeros added on each side, at most half the kernel.

    Shape:
        (B, C, H, W) -> (B, C, H', W'), as ``nn.MaxPool2d``.

    Example:
        >>> NormPool2d(2)(torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]]]))
        tensor([[[[5.]]]])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pool each window to its norm."""
        square = F.avg_pool2d(x * x, self.kernel_size, self.stride, self.padding, divisor_override=self.copies)
        return square.clamp_min(torch.finfo(x.dtype).tiny).sqrt()


class LpPool2d(_Windows):
    """Take the Lp norm of each window, 1 <= p <= infinity (section 2.3: other norms than L2 can be used).

    For n entries ``|v|_p <= n^max(1/p - 1/2, 0) |v|_2``: Hoelder's inequality below p = 2, and norms fall with p. With
    the reverse triangle inequality, ``| |a|_p - |b|_p | <= |a - b|_p``, a window's norm divided by that factor is
    nonexpansive in L2; overlapping windows are divided as in :class:`NormPool2d`. p = 1 is the sum of absolute values,
    infinity the largest one. A window's entries are divided by the largest of them before they are raised to a power,
    so that none overflows or vanishes.

    Args:
        p: the norm, in [1, infinity].
        kernel_size: the window's side, or (height, width).
        stride: the step between windows; the kernel size if None.
        padding: zeros added on each side, at most half the kernel.

    Shape:
        (B, C, H, W) -> (B, C, H', W'), as ``nn.MaxPool2d``.

    Example:
        >>> LpPool2d(3.0, 2)(torch.tensor([[[[3.0, 0.0], [4.0, 5.0]]]]))  # 27 + 64 + 125 = 6^3
        tensor([[[[6.]]]])
    """

    def __init__(
        self,
        p: float,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        if not p >= 1:
            raise ValueError(f"p must be at least 1, got {p}")
        self.p = float(p)
        self.divisor: float = math.sqrt(self.copies) * max(1.0, math.prod(self.kernel_size) ** (1 / self.p - 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Pool each window to its norm."""
        down, right = self.padding
        padded = F.pad(x.abs(), (right, right, down, down))
        height, width = (
            (size - k) // s + 1 for size, k, s in zip(padded.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        ends = (height - 1) * self.stride[0] + 1, (width - 1) * self.stride[1] + 1
        windows = torch.stack(
            [
                padded[:, :, i : i + ends[0] : self.stride[0], j : j + ends[1] : self.stride[1]]
                for i, j in product(*map(range, self.kernel_size))
            ]
        )
        largest: Tensor = windows.amax(0)
        if self.p == math.inf:
            return largest / self.divisor
        # A norm is homogeneous: nothing is lost where the gradient does not see this division.
        scale = largest.detach().clamp_min(torch.finfo(x.dtype).tiny)
        powers = (windows / scale).pow(self.p).sum(0)
        # A sum is at least 1, but for windows of zeros: their gradient is zero.
        norm: Tensor = scale * powers.clamp_min(0.5).pow(1 / self.p)
        return norm / self.divisor


class PixelUnshuffle(nn.PixelUnshuffle):
    """Turn each block of ``factor x factor`` pixels into channels: a permutation of the entries, hence nonexpansive.

    Shape:
        (B, C, factor H, factor W) -> (B, C factor^2, H, W), laid out in memory as the input.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Permute the entries."""
        batch, channels, height, width = x.shape
        factor = self.downscale_factor
        # Torch's own leaves an empty batch in its old shape.
        return super().forward(x).reshape(batch, channels * factor**2, height // factor, width // factor)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])

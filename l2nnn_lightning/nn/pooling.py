"""Smaller maps: the Euclidean norm of a window instead of its maximum (section 2.3), or its entries as channels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["NormPool2d", "PixelUnshuffle"]


class NormPool2d(nn.Module):
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

    def forward(self, x: Tensor) -> Tensor:
        """Pool each window to its norm."""
        square = F.avg_pool2d(x * x, self.kernel_size, self.stride, self.padding, divisor_override=self.copies)
        return square.clamp_min(torch.finfo(x.dtype).tiny).sqrt()


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

"""Images without convolutions: channels move by one pixel, one matrix mixes them at every position.

A convolution copies each entry into k x k patches, and its flattened weight is divided by k for that (section 2.1). A
shift is a permutation of the entries, or drops some of them, and a mixer copies nothing: between mixers that have b(W)
the paper's construction loses nothing.

Everything here computes fastest where the batch is the innermost dimension in memory: a channel, a row and a mixer's
product are then contiguous. Each piece hands that layout on, and takes any other.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

__all__ = ["Absolute", "Mixer", "OnShare", "Padding", "Shift", "Unshuffle"]

Padding = Literal["circular", "zeros"]


class Mixer(nn.Module):
    """Multiply the channels at every position by one matrix, and add a bias for each channel and position.

    As a map of the whole image it is block diagonal with one block for each position, so its operator norm is that of
    the matrix, and nothing is copied. The biases of positions tell a wrapped border from an inner one.

    Args:
        in_channels: channels I that are read.
        out_channels: channels O that are written.
        sides: (height, width) of the maps; None for one bias a channel.

    Shape:
        (B, I, H, W) -> (B, O, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, sides: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(out_channels, in_channels)))
        self.bias = nn.Parameter(torch.zeros(out_channels, *((1, 1) if sides is None else sides)))

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels."""
        x = x.movedim(0, -1)
        mixed: Tensor = (self.weight @ x.flatten(1)).reshape(len(self.weight), *x.shape[1:])
        return (mixed + self.bias[..., None].to(mixed.dtype)).movedim(-1, 0)


class Shift(nn.Module):
    """Move a quarter of some channels by one pixel in each of the four directions, and keep the rest in place.

    A circular shift permutes the entries; with zeros the entries that leave are dropped. Neither enlarges a distance.

    Args:
        channels: how many of the first channels move, a multiple of 4.
        padding: what enters: what has left on the opposite side, or zeros.

    Shape:
        (B, C, H, W) -> (B, C, H, W), C >= ``channels``.

    Example:
        >>> image = torch.arange(8.0).reshape(1, 4, 1, 2)
        >>> Shift(4)(image).flatten().tolist()  # a row of its own keeps to itself, two columns are swapped
        [0.0, 1.0, 2.0, 3.0, 5.0, 4.0, 7.0, 6.0]
    """

    def __init__(self, channels: int, padding: Padding = "circular") -> None:
        super().__init__()
        if channels < 0 or channels % 4:
            raise ValueError(f"a quarter of the moving channels goes each way: give a multiple of 4, got {channels}")
        if padding not in get_args(Padding):
            raise ValueError(f"padding must be one of {', '.join(get_args(Padding))}, got {padding!r}")
        self.channels, self.padding = channels, padding

    def forward(self, x: Tensor) -> Tensor:
        """Move the first channels."""
        if x.shape[1] < self.channels:
            raise ValueError(f"{self.channels} channels move, but there are {x.shape[1]}")
        moved: Tensor = _Move.apply(x, self.channels // 4, self.padding == "circular", 1)
        return moved


class _Move(torch.autograd.Function):
    """Copy every entry once; its derivative is its transpose, the move back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, quarter: int, wraps: bool, step: int) -> Tensor:
        ctx.options = quarter, wraps, -step
        y = torch.empty_like(x)
        y[:, 4 * quarter :] = x[:, 4 * quarter :]
        for i, (side, by) in enumerate(((2, step), (2, -step), (3, step), (3, -step))):
            part = slice(i * quarter, (i + 1) * quarter)
            length = x.shape[side] - 1
            source, target = (0, 1) if by > 0 else (1, 0)
            y[:, part].narrow(side, target, length).copy_(x[:, part].narrow(side, source, length))
            entering, leaving = (0, length) if by > 0 else (length, 0)
            edge = y[:, part].select(side, entering)
            edge.copy_(x[:, part].select(side, leaving)) if wraps else edge.zero_()
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        moved: Tensor = _Move.apply(gradients[0], *ctx.options)
        return moved, None, None, None


class OnShare(nn.Module):
    """Apply an activation to some of the channels and hand the others on.

    The parts do not overlap, so it is nonexpansive if the activation is.

    Args:
        module: the activation, a map of the channels, which it finds in dimension 0.
        channels: how many of the **last** channels it sees: those that :class:`Shift` leaves in place.

    Shape:
        (B, C, H, W) -> (B, C', H, W), with C' - C the channels that the activation adds.
    """

    def __init__(self, module: nn.Module, channels: int) -> None:
        super().__init__()
        if channels < 0:
            raise ValueError(f"an activation sees no fewer than 0 channels, got {channels}")
        self.module, self.channels = module, channels

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        kept = x.shape[1] - self.channels
        if kept < 0:
            raise ValueError(f"the activation sees {self.channels} channels, but there are {x.shape[1]}")
        rest, seen = torch.split(x.movedim(0, -1), [kept, self.channels])
        return torch.cat((rest, self.module(seen))).movedim(-1, 0)


class Absolute(nn.Module):
    """Take the absolute value of each entry: slopes of 1 and -1, so nonexpansive, and no gradient's norm is lost.

    In a basis turned by 45 degrees it is MaxMin: the sum of a pair stays, its difference loses its sign.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop the signs."""
        return x.abs()


class Unshuffle(nn.PixelUnshuffle):
    """Turn each block of ``factor x factor`` pixels into channels: a permutation of the entries, hence nonexpansive.

    As :class:`PixelUnshuffle`, but the batch becomes the innermost dimension in memory.

    Shape:
        (B, C, factor H, factor W) -> (B, C factor^2, H, W).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Permute the entries."""
        factor = self.downscale_factor
        batch, channels, height, width = x.shape
        down, right = height // factor, width // factor
        blocks = x.movedim(0, -1).reshape(channels, down, factor, right, factor, batch).permute(0, 2, 4, 1, 3, 5)
        return blocks.reshape(channels * factor**2, down, right, batch).movedim(-1, 0)

"""Nonlinearities that keep distances: two-sided ReLU, its general form, MaxMin, the scaled sigmoid (section 2.2)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["MaxMin", "ScaledSigmoid", "TwoSided", "TwoSidedReLU"]


class TwoSided(nn.Module):
    """Complete a scalar nonlinearity by what it leaves out, ``x -> (f(x), f(x) - x)`` (Lemma 4).

    With slopes of f in [0, 1], a step of 1 becomes (a, a - 1) and ``a^2 + (1 - a)^2 <= 1``.

    Args:
        f: the nonlinearity, entry by entry: nonexpansive and monotonically increasing (this is not checked).
        dim: the dimension to double, the channels.

    Shape:
        (B, C, ...) -> (B, 2 C, ...).

    Example:
        >>> TwoSided(torch.relu)(torch.tensor([[1.0, -2.0]]))
        tensor([[1., 0., 0., 2.]])
    """

    def __init__(self, f: Callable[[Tensor], Tensor], dim: int = 1) -> None:
        super().__init__()
        self.f, self.dim = f, dim

    def forward(self, x: Tensor) -> Tensor:
        """Double ``dim``."""
        y = self.f(x)
        return torch.cat((y, y - x), self.dim)


class TwoSidedReLU(TwoSided):
    """Split each entry into its positive and its negative part, ``x -> (ReLU(x), ReLU(-x))``.

    Nonexpansive in every Lp norm: where x and x' have one sign the distance is kept, otherwise it shrinks.

    Args:
        dim: the dimension to double, the channels.
    """

    def __init__(self, dim: int = 1) -> None:
        super().__init__(torch.relu, dim)


class MaxMin(nn.Module):
    """Sort each pair of neighbouring channels, the larger entry first: GroupSort of size 2.

    Nonexpansive, because sorting does not enlarge distances: for a >= b and c >= d, pairing a with c and b with d is at
    least as close as the other pairing, ``(a - c)^2 + (b - d)^2 <= (a - d)^2 + (b - c)^2`` (the difference is
    ``2 (a - b) (c - d) >= 0``). Where no pair ties it permutes its entries, so no gradient's norm is lost, and the
    number of channels stays.

    Args:
        dim: the dimension whose neighbours (0, 1), (2, 3), ... are paired, the channels.

    Shape:
        (B, C, ...) -> (B, C, ...), C even.

    Example:
        >>> MaxMin()(torch.tensor([[1.0, 2.0, 0.0, -3.0]]))
        tensor([[ 2.,  1.,  0., -3.]])

    References:
        Anil, Lucas and Grosse, *Sorting out Lipschitz function approximation*, ICML 2019.
    """

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Sort the pairs of ``dim``."""
        dim = self.dim % x.dim()
        size = x.shape[dim]
        if size % 2:
            raise ValueError(f"MaxMin sorts pairs: the size of dimension {self.dim} must be even, got {size}")
        first, second = x.reshape(*x.shape[:dim], size // 2, 2, *x.shape[dim + 1 :]).unbind(dim + 1)
        pairs = torch.stack((torch.maximum(first, second), torch.minimum(first, second)), dim + 1)
        return pairs.flatten(dim, dim + 1)


class ScaledSigmoid(nn.Module):
    """A sigmoid whose steepest slope is 1: ``s(x) = t sigmoid(4 x / t)``, equation (8).

    The trainable height t > 0 is kept as its logarithm, which counts up to 80 in size. ``s'(x) = 4 p (1 - p)`` with p
    the sigmoid, in (0, 1].

    Args:
        num_features: the shape of t: (C, H, W) or (F,) for one per neuron; a number for one per channel, dimension 1;
            1 shares one height among all.
        height: the initial t, > 0.
        centred: subtract ``s(0) = t / 2``, ``x -> t / 2 tanh(2 x / t)``. The next layer's bias makes up for it; a
            signal, and with it its rounding error, is then never larger than x.

    Raises:
        ValueError: if an input has another shape than t.
    """

    def __init__(self, num_features: int | Sequence[int] = 1, height: float = 1.0, *, centred: bool = False) -> None:
        super().__init__()
        if not 0 < height < math.inf:
            raise ValueError(f"height must be positive and finite, got {height}")
        self.centred = centred
        self.log_height = nn.Parameter(torch.empty(num_features).fill_(math.log(height)))
        self.shape = tuple(self.log_height.shape)

    def forward(self, x: Tensor) -> Tensor:
        """Apply (8) entry by entry."""
        own = tuple(x.shape[1 : 1 + len(self.shape)])
        if self.shape != (1,) and own != self.shape:
            raise ValueError(f"t is made for {self.shape}, got an input of {tuple(x.shape)}")
        # Beyond, 4 / t or t would leave the range of float32.
        height = self.log_height.clamp(-80, 80).exp()
        height = height.reshape(*self.shape, *[1] * (x.dim() - 1 - len(self.shape)))
        if self.centred:
            return height / 2 * torch.tanh(2 * x / height)
        return height * torch.sigmoid(4 * x / height)

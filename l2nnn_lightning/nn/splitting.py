"""Split a signal that will meet again without adding distance, equation (9)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Splitting"]


class Splitting(nn.Module):
    """The two factors of a split, ``t`` and ``sqrt(1 - t^2)`` with trainable t in [0, 1], equation (9).

    Whatever t is, entry by entry, ``|t x|^2 + |sqrt(1 - t^2) x|^2 = |x|^2``: the pair is as far from another pair as
    x is from another x. Both factors are sines of one free parameter p,

    ``t = sin(pi/4 (1 - sin p))`` and ``sqrt(1 - t^2) = sin(pi/4 (1 + sin p))``,

    smooth for every p, where ``sqrt`` alone has an infinite slope at t = 1. They are rounded down by a few ulp, so that
    rounding never makes a split expansive. The slope is zero at the ends: a t that begins at 0 or 1 stays there.

    Args:
        shape: the shape of t, to be broadcast against one sample; () shares one t.
        initial: the initial t, in [0, 1].

    Raises:
        ValueError: if ``initial`` is not in [0, 1].

    Example:
        >>> kept, given = Splitting(initial=0.6)()
        >>> round(float(kept), 4), round(float(given), 4)
        (0.6, 0.8)
    """

    def __init__(self, shape: Sequence[int] = (), initial: float = math.sqrt(0.5)) -> None:
        super().__init__()
        if not 0 <= initial <= 1:
            raise ValueError(f"the initial t must be in [0, 1], got {initial}")
        self.phase = nn.Parameter(torch.full(tuple(shape), math.asin(1 - 4 * math.asin(initial) / math.pi)))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return t and sqrt(1 - t^2), both in [0, 1]."""
        sine = self.phase.sin()
        scale = 1 - 4 * torch.finfo(sine.dtype).eps
        return scale * (math.pi / 4 * (1 - sine)).sin(), scale * (math.pi / 4 * (1 + sine)).sin()

"""What the arithmetic of a program loses, and bounds ``a |x| + b`` that are computed outward."""

from typing import NamedTuple, Self, final

import torch
from torch import Tensor

__all__ = ["DOUBLE", "Affine", "Arithmetic", "inflate"]

# Every operation on bounds is followed by this factor. A float64 operation is off by 2^-53 of its result.
_OUTWARD = 1 + 2.0**-50


class Arithmetic(NamedTuple):
    """A binary floating-point format, rounded to nearest; subnormal numbers may be flushed to zero.

    Attributes:
        dtype: the format.
        unit: the unit roundoff u: ``fl(a op b) = (a op b) (1 + d)``, ``|d| <= u``, where nothing under- or overflows.
        tiny: the smallest normal number: what an operation whose result underflows is off by, at most.
        largest: the largest finite number.
    """

    dtype: torch.dtype
    unit: float
    tiny: float
    largest: float

    @classmethod
    def of(cls, dtype: torch.dtype) -> Self:
        """Describe a format of torch."""
        info = torch.finfo(dtype)
        return cls(dtype, info.eps / 2, info.tiny, info.max)

    def gamma(self, count: int) -> float:
        """Bound a product of ``count`` factors ``1 + d``: it is within ``n u / (1 - n u)`` of 1; inf unless n u < 1/2.

        So it is for a sum of products in **any** order: each term takes part in at most as many roundings as there
        are terms (Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1). Fused operations round less.
        """
        product = count * self.unit
        return product / (1 - product) * _OUTWARD if product < 0.5 else float("inf")


DOUBLE = Arithmetic.of(torch.float64)


def inflate(value: Tensor | float) -> Tensor:
    """Take a value >= 0 that some float64 operations gave, 8 of them at most, to one that is not below the exact one.

    An infinite or undefined value becomes infinite: it bounds nothing.
    """
    return (torch.as_tensor(value, dtype=torch.float64) * _OUTWARD).nan_to_num(torch.inf, torch.inf)


@final
class Affine(NamedTuple):
    """A bound ``slope |x| + offset`` of something in terms of the image's norm ``|x|``, both >= 0, float64 (P,).

    There are P of them where a signal has parts that do not meet, one for each label.
    """

    slope: Tensor
    offset: Tensor

    @classmethod
    def constant(cls, value: Tensor | float) -> Self:
        """Make a bound that does not depend on the image."""
        offset = inflate(value).reshape(-1)
        return cls(torch.zeros_like(offset), offset)

    def plus(self, other: "Affine | Tensor | float") -> "Affine":
        """Add a bound, or a constant, rounded up."""
        slope, offset = other if type(other) is Affine else (0.0, other)
        return Affine(inflate(self.slope + slope), inflate(self.offset + offset))

    def times(self, factor: Tensor | float) -> "Affine":
        """Multiply by a factor >= 0, rounded up."""
        return Affine(inflate(self.slope * factor), inflate(self.offset * factor))

    def largest(self, other: "Affine") -> "Affine":
        """Bound the larger of two, over all parts of both: (1,)."""
        return Affine(*(torch.maximum(a.amax(), b.amax())[None] for a, b in zip(self, other, strict=True)))

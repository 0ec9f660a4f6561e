"""Any scalar nonlinearity with a largest slope of 1: shrunk where it is steeper, enlarged where flatter (A.2)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["INCREASING", "NONLINEARITIES", "UnitSlope"]

ScalarMap = Callable[[Tensor], Tensor]


class UnitSlope(nn.Module):
    """Divide a scalar nonlinearity by its largest slope, ``x -> f(x) / sup |f'|`` (appendix A.2).

    Entry by entry ``|f(x) - f(x')| <= slope |x - x'|``, so the quotient is nonexpansive in every Lp norm, and 1 is
    attained: it loses no more distance than f itself does.

    Args:
        f: the nonlinearity, entry by entry.
        slope: an upper bound of ``|f'|``, > 0 and finite. It is taken at its word: a smaller one is not
            found out. Only of networks with functions of :data:`NONLINEARITIES` a radius is proved: how another one
            is rounded is not known (``nn/proof/bending.py``).

    Shape:
        (B, ...) -> (B, ...).

    Example:
        >>> UnitSlope(lambda x: 4 * x.sin(), 4.0)(torch.tensor([[0.0, 0.5 * math.pi]]))
        tensor([[0., 1.]])
    """

    def __init__(self, f: ScalarMap, slope: float) -> None:
        super().__init__()
        if not 0 < slope < math.inf:
            raise ValueError(f"slope must be positive and finite, got {slope}")
        self.f, self.slope = f, slope

    def forward(self, x: Tensor) -> Tensor:
        """Apply the nonlinearity, and divide."""
        return self.f(x) / self.slope


def _softplus(x: Tensor) -> Tensor:
    """``log(1 + e^x) - log 2``, without overflow or cancellation."""
    return x.relu() + torch.log1p(torch.expm1(-x.abs()) / 2)


# The largest slope of x Phi(x): Phi(x) + x phi(x) at sqrt(2), where its derivative (2 - x^2) phi is 0.
_GELU = (1 + math.erf(1)) / 2 + math.exp(-1) / math.sqrt(math.pi)
# Of x s(x), s the sigmoid, where x tanh(x / 2) = 2, at 2.39935728...: 1.09983932013..., rounded up.
_SILU = 1.0998393202
# Over the rounding of a constant.
_OUTWARD = 1 + 1e-12

#: By name: what to apply, and an upper bound of its slope. All are 0 at 0, so that signals, and with them their
#: rounding errors, do not grow.
NONLINEARITIES: dict[str, tuple[ScalarMap, float]] = {
    "atan": (torch.atan, 1.0),
    "elu": (F.elu, 1.0),
    "gelu": (F.gelu, _GELU * _OUTWARD),
    "relu": (torch.relu, 1.0),
    "silu": (F.silu, _SILU * _OUTWARD),
    "softplus": (_softplus, 1.0),
    "softsign": (F.softsign, 1.0),
    "tanh": (torch.tanh, 1.0),
}
#: Those with slopes in [0, 1], which have a two-sided form (Lemma 4).
INCREASING = ("atan", "elu", "relu", "softplus", "softsign", "tanh")

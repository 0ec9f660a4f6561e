"""How far an image must move inside the box [0, 1] to meet a linear constraint."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["BoxMove", "move_in_box"]

# Far above the rounding of a sum of float64 products, far below anything that a radius shows.
_MARGIN = 1e-9


class BoxMove(NamedTuple):
    """The smallest move of an image inside the box, from below.

    Attributes:
        step: the number t, (P,).
        norm: the move's length, (P,); infinite where no image in the box meets the constraint.
        move: ``clip(t a, -x, 1 - x)``, (P, F).
    """

    step: Tensor
    norm: Tensor
    move: Tensor


@torch.no_grad()
def move_in_box(image_PF: Tensor, direction_PF: Tensor, needed_P: Tensor, iterations: int = 30) -> BoxMove:
    """Find the shortest ``delta`` with ``a . delta >= c`` that keeps ``x + delta`` inside [0, 1].

    It is ``delta = clip(t a, -x, 1 - x)`` (the constraint's multiplier is t), so only t is to be found. The function
    ``f(t) = a . clip(t a, -x, 1 - x)`` is increasing and concave with f(0) = 0: every entry grows linearly and then
    stands still. A tangent therefore lies above f, and Newton's method from t = 0 never oversteps f(t) = c: every
    iterate gives a norm that is a lower bound, and after as many steps as f has kinks on the way it is exact.

    Rounding: all terms of f are >= 0, so f is known up to a relative error of some F ulp; the method aims at
    ``c (1 - 1e-9)``, which in float64 is more than that.

    Args:
        image_PF: the images x; an entry outside [0, 1] may stay where it is or move up to the far side of the box.
        direction_PF: the direction a.
        needed_P: the amount c; where it is not positive the move is 0.
        iterations: most steps of Newton's method, >= 1; with fewer the result is smaller, and still a lower bound.

    Example:
        >>> x, a = torch.tensor([[0.5, 0.9]]), torch.tensor([[1.0, 1.0]])
        >>> move_in_box(x, a, torch.tensor([0.4])).move  # the second pixel cannot go beyond 1
        tensor([[0.3000, 0.1000]])
    """
    size_PF = direction_PF.abs()
    limit_PF = torch.where(direction_PF > 0, 1 - image_PF, image_PF).clamp_min(0)
    target_P = needed_P.clamp_min(0) * (1 - _MARGIN)
    step_P = torch.zeros_like(target_P)
    unreachable_P = torch.zeros_like(target_P, dtype=torch.bool)
    for _ in range(iterations):
        reach_PF = step_P[:, None] * size_PF
        is_free_PF = reach_PF < limit_PF
        missing_P = target_P - (size_PF * torch.minimum(reach_PF, limit_PF)).sum(1)
        slope_P = (size_PF.square() * is_free_PF).sum(1)
        is_short_P = missing_P > _MARGIN * target_P
        unreachable_P |= is_short_P & (slope_P == 0)
        is_short_P &= ~unreachable_P
        if not is_short_P.any():
            break
        step_P = torch.where(is_short_P, step_P + missing_P / slope_P, step_P)
    size_PF = torch.minimum(step_P[:, None] * size_PF, limit_PF)
    norm_P = torch.linalg.vector_norm(size_PF, dim=1) * (1 - _MARGIN)
    return BoxMove(step_P, torch.where(unreachable_P, torch.inf, norm_P), size_PF * direction_PF.sign())

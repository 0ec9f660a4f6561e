"""Bjorck's iteration towards orthonormal rows, and why it may follow a bound: from norm 1 it never leads above 1."""

import math

import torch
from torch import Tensor

__all__ = ["bjorck_step", "bjorck_steps", "rounding_of_steps"]


def bjorck_step(weight_GOI: Tensor, beta: float = 0.5) -> Tensor:
    """Pull each matrix towards orthonormal rows (or columns, whichever are fewer): ``(1 + beta) W - beta W W^T W``.

    A step along the gradient of ``beta / 4 ||W^T W - I||^2``. A singular value s becomes ``(1 + beta) s - beta s^3``;
    with beta 1/2, Newton's iteration for the polar factor (Bjorck and Bowie, 1971), its small error e becomes
    ``-3/2 e^2``. It converges from singular values below ``sqrt(3)``, as after a small step from orthonormal rows.
    There b(W) of equation (2) is 1, exactly the squared norm, and the penalty (7) is zero.

    Shape:
        (G, O, I) or (O, I) -> the same.

    Example:
        >>> bjorck_step(torch.tensor([[1.1, 0.0], [0.0, 0.9]]))
        tensor([[0.9845, 0.0000],
                [0.0000, 0.9855]])
    """
    if weight_GOI.shape[-2] <= weight_GOI.shape[-1]:
        cubic = (weight_GOI @ weight_GOI.mT) @ weight_GOI
    else:  # the smaller of the two Gram matrices gives the same product
        cubic = weight_GOI @ (weight_GOI.mT @ weight_GOI)
    return (1 + beta) * weight_GOI - beta * cubic


def bjorck_steps(weight_GOI: Tensor, steps: int) -> Tensor:
    """Raise the singular values of matrices of norm at most 1 towards 1, and none above it.

    A step keeps the singular vectors and takes each singular value s to ``f(s) = (3 s - s^3) / 2``, which grows from
    f(0) = 0 to f(1) = 1 on [0, 1], and ``f(s) >= s`` there. So a matrix of norm at most 1, as after division by a sound
    bound, keeps a norm of at most 1 and loses no singular value, however few the steps and however far it is from
    orthonormal: nothing has to converge. Small values grow by 3/2 a step; an error ``1 - s`` near 1 is squared.

    The iteration is that of Bjorck and Bowie, *An iterative algorithm for computing the best estimate of an orthogonal
    matrix* (1971); Anil, Lucas and Grosse, *Sorting out Lipschitz function approximation* (2019), train through it and
    rely on its convergence. Nothing is done to a single row or column: divided by its norm it is orthonormal already.

    Args:
        weight_GOI: matrices of norm at most 1.
        steps: how many steps, at least 0.

    Shape:
        (G, O, I) -> the same, differentiable any number of times.

    Example:
        >>> bjorck_steps(torch.tensor([[[0.5, 0.0], [0.0, 1.0]]]), 1)
        tensor([[[0.6875, 0.0000],
                 [0.0000, 1.0000]]])
    """
    if min(weight_GOI.shape[1:]) > 1:
        for _ in range(steps):
            weight_GOI = bjorck_step(weight_GOI)
    return weight_GOI


def rounding_of_steps(rows: int, columns: int, dtype: torch.dtype) -> float:
    """Bound how far above 1 rounding can lift the norm of steps taken in float64 and then rounded to ``dtype``.

    Let r be the shorter side, n the longer one, and u the unit roundoff ``2^-53``; terms of order ``u^2`` are far below
    the slack of every constant here.

    - Before the last step. ``|f(s)| <= 1`` for every s in [0, 2], so an exact step forgives all earlier rounding, that
      of the bound included, whose relative error is some ``r (n + r) u``, as long as the norm stays below 2.
    - In the last step, X of norm 1 at most, hence ``|X|_F <= sqrt(r)``. The Gram matrix is off by
      ``n u |X|_F^2 <= n r u`` in Frobenius norm, its product with X by ``r u |X X^T|_F |X|_F <= r^2 u`` more, and half
      of both remains; scaling and subtraction add ``5/2 sqrt(r) u``. Together below ``r (n + r) u`` for r > 1, in
      whatever order sums are taken. A single row is only divided by its norm: ``(n / 2 + 3) u``.
    - Rounding to ``dtype``, of unit roundoff v, moves every entry by v times itself: a matrix of Frobenius norm
      ``v sqrt(r)`` at most.

    The sum is ``v sqrt(r) + u r (n + r)``, and what is left out of it, a few roundings of factors, is below the four
    ulp that every scaling is shrunk by. For 512 x 784 in float32 it is ``1.4e-6``. Two cases are weaker. In training
    the steps run in float32, where the second term would be ``2^29`` times larger in the worst case; as errors occur
    they are some ulp, which the first term covers. Half precision claims nothing, and counts as float32 here.

    Args:
        rows: of each matrix.
        columns: of each matrix.
        dtype: of the layer.
    """
    shorter, longer = sorted((rows, columns))
    unit, final = (torch.finfo(kind).eps / 2 for kind in (torch.float64, dtype))
    final = min(final, torch.finfo(torch.float32).eps / 2)
    return final * math.sqrt(shorter) + unit * shorter * (longer + shorter)

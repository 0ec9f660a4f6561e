"""The power refinement of the paper's bound: Gram matrices of Gram matrices, which tend to the exact norm."""

import torch
from torch import Tensor

from l2nnn_lightning.nn.bounds import gram_row_sums

__all__ = ["power_bound", "power_row_sums"]

# sqrt(b_t) / ||W|| of Gaussian matrices is 2.35, 1.47, 1.18, 1.07, 1.03 for t = 1 ... 5.
_STEPS = 5


def power_bound(weight_GOI: Tensor, steps: int = _STEPS) -> Tensor:
    """Bound the squared spectral norm of each matrix of a batch by a power of its Gram matrix.

    ``b_t(W) = r(M^p)^(1/p)`` with ``p = 2^(t-1)``, M the smaller Gram matrix and r the largest absolute row sum.
    Since M is positive semidefinite, ``||W||^2 = rho(M) = rho(M^p)^(1/p) <= r(M^p)^(1/p)``; and
    ``r(M^(2p)) <= r(M^p)^2``, so no step makes it larger. ``b_1`` is one side of the paper's (2); with n rows
    ``b_t <= n^(1 / (2 p)) ||W||^2``, so it tends to the exact value.

    Args:
        weight_GOI: a batch of matrices, float32 or float64.
        steps: t, at least 1; each costs one more product of the Gram matrix with itself.

    Shape:
        (G, O, I) -> (G,).

    Returns:
        The bounds, >= 0, differentiable almost everywhere.
    """
    small = weight_GOI if weight_GOI.shape[1] <= weight_GOI.shape[2] else weight_GOI.mT
    return power_row_sums(small, steps).amax(-1)


def power_row_sums(matrix_GRC: Tensor, steps: int) -> Tensor:
    """Compute ``d_i = (sum_j |M^p|_ij)^(1/p)`` of ``M = A A^T``, ``p = 2^(steps-1)``: (G, R, C) -> (G, R).

    Then ``M <= diag(d)``: ``M^p`` is symmetric, so ``diag(row sums) - M^p`` is diagonally dominant, hence positive
    semidefinite, and the power 1/p keeps that order (Loewner and Heinz). Every power is divided by its largest entry,
    whose logarithm is carried along, so that nothing overflows.

    Args:
        matrix_GRC: the matrices A.
        steps: t, at least 1.

    Raises:
        ValueError: if ``steps`` is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if steps == 1:
        return gram_row_sums(matrix_GRC)
    power = matrix_GRC @ matrix_GRC.mT
    tiny = torch.finfo(power.dtype).tiny
    scale = power.abs().amax((-2, -1), keepdim=True).clamp_min(tiny)
    power, log = power / scale, scale.log()
    for _ in range(steps - 1):
        power = power @ power
        scale = power.abs().amax((-2, -1), keepdim=True).clamp_min(tiny)
        power, log = power / scale, 2 * log + scale.log()
    # Products below the smallest number were lost: no more than one such number a term.
    sums = power.abs().sum(-1).clamp_min(power.shape[-1] * tiny)
    bounds: Tensor = ((sums.log() + log[..., 0]) / 2 ** (steps - 1)).exp()
    return bounds

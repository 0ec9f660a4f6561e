"""Upper bounds of a matrix's norm: the paper's b(W), equation (2), its penalty, (7), and its refinement by powers."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["gram", "gram_bound", "gram_penalty", "gram_row_sums", "power_bound", "power_row_sums", "sides"]
__all__ += ["weight_bound", "weight_penalty"]

# Beyond so many multiplications, or entries, a matrix's larger Gram matrix would cost more than the layer itself.
_MOST_MULTIPLICATIONS, _MOST_ENTRIES = 2**27, 2**21
_LARGE_PRODUCT = 128
# sqrt(b_t) / ||W|| of Gaussian matrices is 2.35, 1.47, 1.18, 1.07, 1.03 for t = 1 ... 5.
_STEPS = 5


def weight_bound(weight_OI: Tensor) -> Tensor:
    """Bound the squared spectral norm of a matrix by its Gram matrices, equation (2).

    ``b(W) = min(r(W^T W), r(W W^T))`` with ``r`` the largest absolute row sum. ``rho(W^T W) <= b(W)``, because a
    spectral radius never exceeds an induced infinity norm and both Gram matrices have the same one.

    Args:
        weight_OI: the matrix, one row per output. Float32 or float64; lower precision is refused.

    Shape:
        (O, I) -> (), >= 0, differentiable almost everywhere.

    Raises:
        ValueError: if ``weight_OI`` is not a matrix in float32 or float64.

    Example:
        >>> weight_bound(torch.tensor([[3.0, 0.0], [0.0, 2.0]]))
        tensor(9.)
    """
    _check_matrix(weight_OI)
    return torch.minimum(_row_sums(weight_OI.mT[None]).amax(), _row_sums(weight_OI[None]).amax())


def weight_penalty(weight_OI: Tensor) -> Tensor:
    """Penalise every Gram row that could make a matrix expansive, equation (7).

    ``L_W = min(l(W^T W), l(W W^T))`` with ``l(M) = sum_i max(sum_j |M_ij| - 1, 0)``. It is zero if and only if
    ``b(W) <= 1``. Arguments, shape and errors are as of :func:`weight_bound`.

    Example:
        >>> weight_penalty(torch.tensor([[3.0, 0.0], [0.0, 2.0]]))
        tensor(11.)
    """
    _check_matrix(weight_OI)
    return torch.minimum(_excess(weight_OI.mT[None]), _excess(weight_OI[None]))[0]


def gram_bound(weight_GOI: Tensor) -> Tensor:
    """Bound the squared spectral norm of each matrix of a batch: (2), at a cost far below the layer's own.

    Where the larger Gram matrix would take more than ``2^27`` multiplications or ``2^21`` entries, only the smaller one
    is formed: still an upper bound, and for dense weights usually the minimum anyway, since its sums have fewer terms.
    Only the largest row takes part in the gradient, so the backward pass costs one row instead of a matrix product.

    Shape:
        (G, O, I), float32 or float64, -> (G,), >= 0, differentiable almost everywhere.
    """
    return _smallest([_largest_row_sum(matrix) for matrix, _ in sides(weight_GOI)])


def gram_penalty(weight_GOI: Tensor) -> Tensor:
    """Penalise each matrix of a batch by (7), choosing the Gram matrices as in :func:`gram_bound`; shape as there."""
    return _smallest([_excess(matrix) for matrix, _ in sides(weight_GOI)])


def gram_row_sums(matrix_GRC: Tensor) -> Tensor:
    """Sum the absolute entries of each row of ``A A^T``, (G, R, C) -> (G, R), at half of autograd's cost.

    With the symmetric signs ``s_ij`` of the products, ``sum_i u_i d_i`` has the gradient ``sum_j s_ij (u_i + u_j) a_j``
    for row i: one matrix product.
    """
    sums: Tensor = _RowSums.apply(matrix_GRC)[0]
    return sums


def power_bound(weight_GOI: Tensor, steps: int = _STEPS) -> Tensor:
    """Bound the squared spectral norm of each matrix of a batch by a power of its Gram matrix.

    ``b_t(W) = r(M^p)^(1/p)`` with ``p = 2^(t-1)``, M the smaller Gram matrix and r the largest absolute row sum.
    Since M is positive semidefinite, ``||W||^2 = rho(M) = rho(M^p)^(1/p) <= r(M^p)^(1/p)``; and
    ``r(M^(2p)) <= r(M^p)^2``, so no step makes it larger. ``b_1`` is one side of the paper's (2); with n rows
    ``b_t <= n^(1 / (2 p)) ||W||^2``, so it tends to the exact value.

    Shape:
        (G, O, I), float32 or float64, -> (G,), >= 0, differentiable almost everywhere.
    """
    small = weight_GOI if weight_GOI.shape[1] <= weight_GOI.shape[2] else weight_GOI.mT
    return power_row_sums(small, steps).amax(-1)


def power_row_sums(matrix_GRC: Tensor, steps: int) -> Tensor:
    """Compute ``d_i = (sum_j |M^p|_ij)^(1/p)`` of ``M = A A^T``, ``p = 2^(steps-1)``: (G, R, C) -> (G, R).

    Then ``M <= diag(d)``: ``M^p`` is symmetric, so ``diag(row sums) - M^p`` is diagonally dominant, hence positive
    semidefinite, and the power 1/p keeps that order (Loewner and Heinz). Every power is divided by its largest entry,
    whose logarithm is carried along, so that nothing overflows. A ValueError if ``steps`` is below 1.
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


def sides(weight_GOI: Tensor) -> list[tuple[Tensor, bool]]:
    """List the matrices whose rows' Gram matrix is to be formed, the cheaper one first: (matrix, is it transposed)."""
    _, rows, columns = weight_GOI.shape
    both = [(weight_GOI, False), (weight_GOI.mT, True)]
    if rows > columns:
        both.reverse()
    short, long = sorted((rows, columns))
    # A vector's squared norm never exceeds the product of its largest entry and its sum.
    if short == 1 or long**2 > _MOST_ENTRIES or long**2 * short > _MOST_MULTIPLICATIONS:
        return both[:1]
    return both


def gram(matrix_GRC: Tensor) -> Tensor:
    """Form ``A A^T``, (G, R, R); of a large one on a CPU, the blocks below the diagonal are those above, transposed."""
    _, rows, columns = matrix_GRC.shape
    if min(rows, columns) < _LARGE_PRODUCT or matrix_GRC.device.type != "cpu":
        return torch.bmm(matrix_GRC, matrix_GRC.mT)
    upper, lower = matrix_GRC[:, : rows // 2], matrix_GRC[:, rows // 2 :]
    between = torch.bmm(upper, lower.mT)
    return torch.cat([torch.cat([gram(upper), between], 2), torch.cat([between.mT, gram(lower)], 2)], 1)


def _check_matrix(weight_OI: Tensor) -> None:
    if weight_OI.dim() != 2:
        raise ValueError(f"weight must be a matrix (outputs, inputs), got shape {tuple(weight_OI.shape)}")
    if weight_OI.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"weight must be float32 or float64, got {weight_OI.dtype}: rounding in lower precision breaks the bound"
        )


def _excess(matrix_GRC: Tensor) -> Tensor:
    return (gram_row_sums(matrix_GRC) - 1).clamp_min(0).sum(-1)


def _smallest(sides_G: list[Tensor]) -> Tensor:
    return sides_G[0] if len(sides_G) == 1 else torch.minimum(*sides_G)


def _row_sums(matrix_GRC: Tensor) -> Tensor:
    return gram(matrix_GRC).abs().sum(-1)


def _largest_row_sum(matrix_GRC: Tensor) -> Tensor:
    """r(A A^T) of each matrix: (G, R, C) -> (G,)."""
    with torch.no_grad():
        row_G = _row_sums(matrix_GRC).argmax(-1)
    row_G1C = matrix_GRC.gather(1, row_G[:, None, None].expand(-1, 1, matrix_GRC.shape[2]))
    return torch.bmm(row_G1C, matrix_GRC.mT).abs().sum((1, 2))


# Returns what its gradient needs beside the sums and sets up its context apart: torch.func asks for it.
class _RowSums(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(matrix_GRC: Tensor) -> tuple[Tensor, Tensor]:
        products = gram(matrix_GRC)
        sign = products.sign().to(torch.int8)
        return products.abs_().sum(-1), sign

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_GR: Tensor, _grad_sign: Tensor) -> Tensor:
        matrix_GRC, sign_GRR = ctx.saved_tensors
        return torch.bmm(sign_GRR * (grad_GR[:, :, None] + grad_GR[:, None, :]), matrix_GRC)

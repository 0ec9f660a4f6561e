"""Upper bounds of a matrix's spectral norm: the paper's b(W), equation (2), and its penalty, equation (7)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["gram", "gram_bound", "gram_penalty", "gram_row_sums", "sides", "weight_bound", "weight_penalty"]

# Beyond so many multiplications, or entries, a matrix's larger Gram matrix would cost more than the layer itself.
_MOST_MULTIPLICATIONS, _MOST_ENTRIES = 2**27, 2**21
_LARGE_PRODUCT = 128


def weight_bound(weight_OI: Tensor) -> Tensor:
    """Bound the squared spectral norm of a matrix by its Gram matrices, equation (2).

    ``b(W) = min(r(W^T W), r(W W^T))`` with ``r`` the largest absolute row sum. ``rho(W^T W) <= b(W)``, because a
    spectral radius never exceeds an induced infinity norm and both Gram matrices have the same one.

    Args:
        weight_OI: the matrix, one row per output. Float32 or float64; lower precision is refused.

    Shape:
        (O, I) -> ().

    Returns:
        A scalar tensor, >= 0, differentiable almost everywhere.

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
    ``b(W) <= 1``.

    Args:
        weight_OI: the matrix, one row per output. Float32 or float64; lower precision is refused.

    Shape:
        (O, I) -> ().

    Returns:
        A scalar tensor, >= 0, differentiable almost everywhere.

    Raises:
        ValueError: if ``weight_OI`` is not a matrix in float32 or float64.

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

    Args:
        weight_GOI: a batch of matrices, float32 or float64.

    Shape:
        (G, O, I) -> (G,).

    Returns:
        The bounds, >= 0, differentiable almost everywhere.
    """
    bounds = [_largest_row_sum(matrix) for matrix, _ in sides(weight_GOI)]
    return bounds[0] if len(bounds) == 1 else torch.minimum(bounds[0], bounds[1])


def gram_penalty(weight_GOI: Tensor) -> Tensor:
    """Penalise each matrix of a batch by (7), choosing the Gram matrices as in :func:`gram_bound`.

    Args:
        weight_GOI: a batch of matrices, float32 or float64.

    Shape:
        (G, O, I) -> (G,).

    Returns:
        The penalties, >= 0, differentiable almost everywhere.
    """
    penalties = [_excess(matrix) for matrix, _ in sides(weight_GOI)]
    return penalties[0] if len(penalties) == 1 else torch.minimum(penalties[0], penalties[1])


def gram_row_sums(matrix_GRC: Tensor) -> Tensor:
    """Sum the absolute entries of each row of ``A A^T``, at half of autograd's cost.

    With the symmetric signs ``s_ij`` of the products, ``sum_i u_i d_i`` has the gradient ``sum_j s_ij (u_i + u_j) a_j``
    for row i: one matrix product.

    Shape:
        (G, R, C) -> (G, R).
    """
    sums: Tensor = _RowSums.apply(matrix_GRC)[0]
    return sums


def sides(weight_GOI: Tensor) -> list[tuple[Tensor, bool]]:
    """List the matrices whose rows' Gram matrix is to be formed, the cheaper one first.

    Returns:
        The weights, the transposed weights, or both; beside each whether it is the transposed one.
    """
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

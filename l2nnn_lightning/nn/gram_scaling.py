"""Hard scaling by the paper's bound, ``W / sqrt(b(W))``, as one function whose gradient is taken by hand."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2nnn_lightning.nn.bounds import gram, sides

__all__ = ["NEGLIGIBLE", "scale_by_gram"]

# Far above the squares that float32 cannot hold, far below those of any weight that matters.
NEGLIGIBLE = 1e-30


def scale_by_gram(weight_GOI: Tensor, exact_GOI: Tensor, hard: Tensor, copies: int, shrink: float) -> Tensor:
    """Divide each matrix of a batch by ``sqrt(copies b(W))``, where ``b`` is :func:`gram_bound`.

    Equal to scaling by the bound as an operation of its own, at half the cost: with the scale ``c``, the gradient G of
    the result, row i the one whose sum is b, and ``s_j`` the sign of ``<a_i, a_j>``, the gradient is

        ``c (G - <G, W> / (2 b) (s a_i^T + e_i s^T W))``,

    one product of rank 2. Where b is that of the columns, the same holds of the transposed matrix.

    Args:
        weight_GOI: a batch of matrices.
        exact_GOI: the same in the precision that the bound is computed in.
        hard: a bool; where it is false, matrices are only divided by ``sqrt(copies)``.
        copies: the copying factor.
        shrink: one number more to multiply by.

    Returns:
        (G, O, I), differentiable once. A matrix whose bound is below ``NEGLIGIBLE`` stays as if soft.
    """
    scaled: Tensor = _ScaleByGram.apply(weight_GOI, exact_GOI.detach(), hard, copies, shrink)[0]
    return scaled


# Returns what its gradient needs beside the result and sets up its context apart: torch.func asks for it.
class _ScaleByGram(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        weight_GOI: Tensor, exact_GOI: Tensor, hard: Tensor, copies: int, shrink: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        bound_G, left_GO2, right_G2I = _bound_with_gradient(exact_GOI)
        divides_G = hard.to(bound_G.device) & (bound_G >= NEGLIGIBLE)
        square_G11 = torch.where(divides_G, bound_G, 1)[:, None, None]
        factor_G11 = ((shrink / math.sqrt(copies)) / square_G11.sqrt()).to(weight_GOI.device, weight_GOI.dtype)
        right_G2I = right_G2I * (divides_G[:, None, None] * -0.5 / square_G11)
        return weight_GOI * factor_G11, factor_G11, left_GO2.to(factor_G11), right_G2I.to(factor_G11)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(inputs[0], *output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_GOI: Tensor, *_grads: Tensor) -> tuple[Tensor | None, ...]:
        weight_GOI, factor_G11, left_GO2, right_G2I = ctx.saved_tensors
        groups = len(weight_GOI)
        product_G11 = torch.bmm(grad_GOI.reshape(groups, 1, -1), weight_GOI.reshape(groups, -1, 1))
        gradient_GOI = torch.baddbmm(grad_GOI, left_GO2, right_G2I * product_G11)
        return gradient_GOI.mul_(factor_G11), None, None, None, None


def _bound_with_gradient(weight_GOI: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the bound, (G,), and its gradient as two factors, (G, O, 2) and (G, 2, I)."""
    (bound_G, left_GO2, right_G2I), *other = [_side(matrix, transposed) for matrix, transposed in sides(weight_GOI)]
    for other_G, other_left, other_right in other:
        first_G11 = (bound_G <= other_G)[:, None, None]
        bound_G = torch.minimum(bound_G, other_G)
        left_GO2 = torch.where(first_G11, left_GO2, other_left)
        right_G2I = torch.where(first_G11, right_G2I, other_right)
    return bound_G, left_GO2, right_G2I


def _side(matrix_GRC: Tensor, transposed: bool) -> tuple[Tensor, Tensor, Tensor]:
    products_GRR = gram(matrix_GRC)
    largest_G, row_G = products_GRR.abs().sum(-1).max(-1)
    is_row_G1R = torch.zeros_like(products_GRR[:, :1]).scatter_(2, row_G[:, None, None], 1)
    sign_G1R = torch.bmm(is_row_G1R, products_GRR).sign_()
    of_rows = torch.cat([is_row_G1R, sign_G1R], 1)
    of_columns, of_rows = torch.bmm(of_rows, matrix_GRC), of_rows.flip(1)
    return (largest_G, of_columns.mT, of_rows) if transposed else (largest_G, of_rows.mT, of_columns)

"""The polar factor of a matrix, roughly and fast: all of its directions, each about equally long."""

from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["inverse_root", "near_polar", "symmetric_product", "turn_"]

# Fitted here: sigma h(sigma^2) is within 40.5% of 1 for sigma in [0.0105, 1], by a polynomial h of degree 32 that takes
# five products; then times 0.9245. Each term is a z z + b z' + c I, of the two before it. The first is G itself, and h
# a weighted sum of I, the first, the second, the fourth and the square of the fifth: the others would bring 0.3% more.
_SQUARES = (
    (4.5878927, -4.8760642, 0.74682182),
    (4.0385711, 0.42786394, -0.82695737),
    (-0.97708405, 0.83333077, 0.24259296),
    (-9.2039926, 1.2876718, 1.4183203),
)
_IDENTITY, _FIRST, _SECOND, _FOURTH, _LAST = (2.273661, -1.5513004, 3.5932525, -2.751336, 0.67064845)
# From this size on, a symmetric product on a CPU leaves out most of what lies below the diagonal.
_LARGE, _STRIPS = 256, 4


def near_polar(matrix_GOI: Tensor) -> Tensor:
    """Bring the singular values of each matrix to between about 0.5 and 1.3: fit for an update, not for a weight.

    That holds from a ninetieth of the largest on, or rather of a bound of it, which exceeds it by a tenth on gradients.
    Smaller ones are multiplied by 55 over the bound, at most. Singular vectors stay what they are.

    Shape:
        (G, O, I) -> the same; float32 or float64.
    """
    return torch.bmm(*_factors(matrix_GOI))


def turn_(weight_GOI: Tensor, direction_GOI: Tensor, angle: float) -> None:
    """Add ``angle near_polar(direction)`` to a weight, in place; shapes as there."""
    weight_GOI.baddbmm_(*_factors(direction_GOI), alpha=angle)


def _factors(matrix_GOI: Tensor) -> tuple[Tensor, Tensor]:
    """Two matrices whose product is near the polar factor; the root is taken on the shorter side."""
    if matrix_GOI.shape[1] <= matrix_GOI.shape[2]:
        return inverse_root(symmetric_product(matrix_GOI, matrix_GOI.mT)), matrix_GOI
    return matrix_GOI, inverse_root(symmetric_product(matrix_GOI.mT, matrix_GOI))


def inverse_root(gram_GRR: Tensor) -> Tensor:
    """Approximate ``G^(-1/2)`` of Gram matrices by a polynomial, for :func:`near_polar`. Overwrites its input.

    Five products of G's size take it to degree 32, where Newton-Schulz steps on the matrix itself would need two larger
    ones and one of this size for each factor of three. It is fitted to [0, 1], so G is divided by a bound of its norm,
    the root of the Frobenius norm of G^2. On gradients it exceeds the norm by a fifth at most, a tenth of singular
    values; the more evenly they are spread, the less it matters that it is far.

    Shape:
        (G, R, R) -> the same, symmetric.
    """
    # Squares of small gradients would be lost.
    trace_G11 = gram_GRR.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None].clamp_min(torch.finfo(gram_GRR.dtype).tiny)
    last = gram_GRR.div_(trace_G11)
    square = symmetric_product(last, last)
    bound_G11 = torch.linalg.vector_norm(square, dim=(-2, -1), keepdim=True).sqrt()
    bound_G11 = bound_G11.clamp_min(1e-10)  # of a matrix that is zero
    squared, before, identity = _SQUARES[0]
    terms = [last.div_(bound_G11), square.mul_(squared / bound_G11.square()).add_(last, alpha=before)]
    _add_identity(terms[-1], identity)
    for squared, before, identity in _SQUARES[1:]:
        terms.append(symmetric_product(terms[-1], terms[-1], terms[-2], before, squared))
        _add_identity(terms[-1], identity)
    first, second, _, fourth, fifth = terms
    total = first.mul_(_FIRST).add_(second, alpha=_SECOND).add_(fourth, alpha=_FOURTH)
    root = symmetric_product(fifth, fifth, total, 1.0, _LAST)
    _add_identity(root, _IDENTITY)
    return root.div_(bound_G11.sqrt() * trace_G11.sqrt())


def symmetric_product(
    left_GRC: Tensor, right_GCR: Tensor, plus_GRR: Tensor | None = None, beta: float = 0.0, alpha: float = 1.0
) -> Tensor:
    """Compute ``beta plus + alpha left right`` where that is symmetric, (G, R, R); ``plus`` may be left out."""
    groups, rows, columns = left_GRC.shape
    if min(rows, columns) < _LARGE or left_GRC.device.type != "cpu":
        if plus_GRR is None:
            return torch.bmm(left_GRC, right_GCR)
        return torch.baddbmm(plus_GRR, left_GRC, right_GCR, beta=beta, alpha=alpha)
    result = left_GRC.new_empty(groups, rows, rows)
    ends = [rows * i // _STRIPS for i in range(_STRIPS + 1)]
    for one, left, right in zip(range(groups), left_GRC, right_GCR, strict=True):
        for start, end in pairwise(ends):
            strip = result[one, start:end]
            factors = left[start:end], right[:, start:]
            if plus_GRR is None:
                torch.mm(*factors, out=strip[:, start:])
            else:
                torch.addmm(plus_GRR[one, start:end, start:], *factors, beta=beta, alpha=alpha, out=strip[:, start:])
            strip[:, :start].copy_(result[one, :start, start:end].mT)
    return result


def _add_identity(matrix_GRR: Tensor, factor: float) -> None:
    matrix_GRR.diagonal(dim1=-2, dim2=-1).add_(factor)

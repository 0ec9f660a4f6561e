"""What hard scaling divides a weight by: one number for a matrix, or one for each of its rows, columns or channels."""

import math
import pkgutil
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2nnn_lightning.nn.bounds import gram, gram_bound, power_bound, power_row_sums, sides
from l2nnn_lightning.nn.layouts import Layout
from l2nnn_lightning.nn.operator_bound import input_row_sums, largest_input_row_sum, output_row_sums

__all__ = ["BOUNDS", "STEPS", "UNIFORM", "Bound", "divisor", "find_bound", "scale_by_gram", "steps_of"]

#: A name of :data:`BOUNDS`, of which those in :data:`STEPS` may name their steps, or the path
#: ``package.module.function`` of a bound from elsewhere.
Bound = str
#: From a weight and how it is made of matrices to squares, (G, 1 or O, 1 or I), that divide it.
BoundFunction = Callable[[Tensor, Layout], Tensor]
#: Bounds that divide a whole matrix by one number.
UNIFORM = frozenset({"gram", "power", "operator", "minimum"})
#: Bounds after which a matrix takes Bjorck steps, and how many: 4, or 9 as ``bjorck:9``, from 1 to 99.
STEPS: dict[Bound, int] = {"bjorck": 4, "bjorck_rows": 2}
_NAMED_STEPS = re.compile(rf"({'|'.join(STEPS)}):([1-9][0-9]?)")
# Far above the squares that float32 cannot hold, far below those of any weight that matters.
_NEGLIGIBLE = 1e-30
# The squares of the Gram matrix in the scalings by powers: p = 4.
_STEPS = 3
# The larger side of an operator bound is left out where its products would outgrow the smaller side's so many times.
_LARGER_SIDE = 4


def _gram(weight: Tensor, layout: Layout) -> Tensor:
    """Equation (2) times the copying factor."""
    return (layout.copies * gram_bound(layout.matrices(weight)))[:, None, None]


def _power(weight: Tensor, layout: Layout) -> Tensor:
    """Its refinement by powers."""
    return (layout.copies * power_bound(layout.matrices(weight)))[:, None, None]


def _rows(weight: Tensor, layout: Layout, steps: int = 1) -> Tensor:
    """One factor a row: ``W W^T <= diag(d)``, so ``diag(d)^(-1/2) W`` is nonexpansive (Prach and Lampert, 2022)."""
    return (layout.copies * power_row_sums(layout.matrices(weight), steps))[:, :, None]


def _columns(weight: Tensor, layout: Layout, steps: int = 1) -> Tensor:
    """One factor a column: ``W^T W <= diag(d)``, so ``W diag(d)^(-1/2)`` is nonexpansive (Prach and Lampert, 2022)."""
    return (layout.copies * power_row_sums(layout.matrices(weight).mT, steps))[:, None, :]


def _shorter_side(weight: Tensor, layout: Layout) -> Tensor:
    """One factor a row or a column, whichever are fewer."""
    matrices = layout.matrices(weight)
    return (_rows if matrices.shape[1] <= matrices.shape[2] else _columns)(weight, layout)


def _operator(weight: Tensor, layout: Layout) -> Tensor:
    """The smallest of the paper's bound and the operator's row sums, on either side."""
    if layout.conv is None:
        return _gram(weight, layout)
    kernels = layout.kernels(weight)
    outputs, inputs = kernels.shape[1:3]
    bound = torch.minimum(_gram(weight, layout), _operator_side(kernels, outputs < inputs))
    if max(outputs, inputs) <= _LARGER_SIDE * min(outputs, inputs):
        bound = torch.minimum(bound, _operator_side(kernels, outputs >= inputs))
    return bound


def _operator_side(kernels: Tensor, outputs: bool) -> Tensor:
    return largest_input_row_sum(kernels.transpose(1, 2) if outputs else kernels)[:, None, None]


def _operator_rows(weight: Tensor, layout: Layout) -> Tensor:
    """One factor an output channel: ``T T^T <= diag(s)`` for the convolution operator T."""
    if layout.conv is None:
        return _rows(weight, layout)
    return output_row_sums(layout.kernels(weight))[:, :, None]


def _operator_columns(weight: Tensor, layout: Layout) -> Tensor:
    """One factor an input channel and phase: ``T^T T <= diag(s)`` for the convolution operator T.

    A linear map is scaled along whichever side is shorter.
    """
    if layout.conv is None:
        return _shorter_side(weight, layout)
    sums = input_row_sums(layout.kernels(weight)).reshape(layout.groups, -1, *layout.conv.stride)
    for side, size in enumerate(layout.conv.kernel_size):
        taps = torch.arange(size, device=sums.device) * layout.conv.dilation[side]
        sums = sums.index_select(2 + side, taps % layout.conv.stride[side])
    return sums.reshape(layout.groups, 1, -1)


def _minimum(weight: Tensor, layout: Layout) -> Tensor:
    return torch.minimum(_power(weight, layout), _operator(weight, layout))


BOUNDS: dict[Bound, BoundFunction] = {
    "gram": _gram,
    "power": _power,
    "rows": _rows,
    "columns": _columns,
    "rows_power": lambda weight, layout: _rows(weight, layout, _STEPS),
    "columns_power": lambda weight, layout: _columns(weight, layout, _STEPS),
    "operator": _operator,
    "operator_rows": _operator_rows,
    "operator_columns": _operator_columns,
    "minimum": _minimum,
    "bjorck": _gram,
    "bjorck_rows": _shorter_side,
}


@cache
def find_bound(name: Bound) -> BoundFunction:
    """Look a bound up by its name, or import it by its path; a ValueError if there is none."""
    named_steps = _NAMED_STEPS.fullmatch(name)
    if named_steps or name in BOUNDS:
        return BOUNDS[named_steps[1] if named_steps else name]
    try:
        found: Any = pkgutil.resolve_name(name) if "." in name else None
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"the bound {name} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"bound must be one of {', '.join(BOUNDS)}, or package.module.function, got {name!r}")
    bound: BoundFunction = found
    return bound


def steps_of(bound: Bound) -> int:
    """Tell how many Bjorck steps follow the division by a bound: 0 after most.

    Example:
        >>> steps_of("gram"), steps_of("bjorck"), steps_of("bjorck:6")
        (0, 4, 6)
    """
    named_steps = _NAMED_STEPS.fullmatch(bound)
    return int(named_steps[2]) if named_steps else STEPS.get(bound, 0)


def divisor(bound: Bound, weight: Tensor, layout: Layout) -> Tensor:
    """Compute what hard scaling divides a raw weight, float32 or float64, by, before the Bjorck steps of some bounds.

    Returns:
        (G, 1 or O, 1 or I), to divide ``layout.matrices(weight)`` by: the square root of the bound, or of the copying
        factor, as if soft, where the bound is so small that the squares lose precision.
    """
    squares = find_bound(bound)(weight, layout)
    return torch.where(squares < _NEGLIGIBLE, layout.copies, squares).sqrt()


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
        shrink: to be multiplied by.

    Returns:
        (G, O, I), differentiable once. A matrix whose bound is below 1e-30 stays as if soft.
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
        divides_G = hard.to(bound_G.device) & (bound_G >= _NEGLIGIBLE)
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

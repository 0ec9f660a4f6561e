"""What hard scaling divides a weight by: one number for a matrix, or one for each of its rows, columns or channels."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from l2nnn_lightning.nn.bounds import gram_bound, power_bound, power_row_sums
from l2nnn_lightning.nn.gram_scaling import NEGLIGIBLE
from l2nnn_lightning.nn.layouts import Layout
from l2nnn_lightning.nn.operator_bound import input_row_sums, largest_input_row_sum, output_row_sums

__all__ = ["Bound", "Uniform", "divisor"]

#: Bounds that divide a whole matrix by one number.
Uniform = Literal["gram", "power", "operator", "minimum"]
Bound = Literal[Uniform, "rows", "columns", "rows_power", "columns_power", "operator_rows", "operator_columns"]
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
    matrices = layout.matrices(weight)
    if layout.conv is None:
        return (_rows if matrices.shape[1] <= matrices.shape[2] else _columns)(weight, layout)
    sums = input_row_sums(layout.kernels(weight)).reshape(layout.groups, -1, *layout.conv.stride)
    for side, size in enumerate(layout.conv.kernel_size):
        taps = torch.arange(size, device=sums.device) * layout.conv.dilation[side]
        sums = sums.index_select(2 + side, taps % layout.conv.stride[side])
    return sums.reshape(layout.groups, 1, -1)


def _minimum(weight: Tensor, layout: Layout) -> Tensor:
    return torch.minimum(_power(weight, layout), _operator(weight, layout))


_SQUARES: dict[Bound, Callable[[Tensor, Layout], Tensor]] = {
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
}


def divisor(bound: Bound, weight: Tensor, layout: Layout) -> Tensor:
    """Compute what hard scaling divides a raw weight, float32 or float64, by.

    Returns:
        (G, 1 or O, 1 or I), to divide ``layout.matrices(weight)`` by: the square root of the bound, or of the copying
        factor, as if soft, where the bound is so small that the squares lose precision.
    """
    squares = _SQUARES[bound](weight, layout)
    return torch.where(squares < NEGLIGIBLE, layout.copies, squares).sqrt()

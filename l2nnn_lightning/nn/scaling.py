"""What hard scaling divides a weight by: one number for a matrix, or one for each of its rows, columns or channels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2nnn_lightning.nn.bounds import gram_bound
from l2nnn_lightning.nn.gram_scaling import NEGLIGIBLE
from l2nnn_lightning.nn.operator_bound import input_row_sums, largest_input_row_sum, output_row_sums, phases
from l2nnn_lightning.nn.power_bound import power_bound, power_row_sums

__all__ = ["UNIFORM", "Bound", "ConvShape", "Layout", "divisor", "scale"]

Bound = Literal[
    "gram",
    "power",
    "rows",
    "columns",
    "rows_power",
    "columns_power",
    "operator",
    "operator_rows",
    "operator_columns",
    "minimum",
]
#: Those that divide a whole matrix by one number.
UNIFORM: frozenset[Bound] = frozenset({"gram", "power", "operator", "minimum"})
# The squares of the Gram matrix in the scalings by powers: p = 4.
_STEPS = 3
# The larger side of an operator bound is left out where its products would outgrow the smaller side's so many times.
_LARGER_SIDE = 4


@dataclass(frozen=True)
class ConvShape:
    """How a convolution reads its input.

    Attributes:
        kernel_size: taps along each of two sides; a 1-D convolution has a first side of 1.
        stride: along each side; 1 where the padding is circular, since wrapped entries change phase on a map whose size
            is no multiple of the stride, and the strided outputs are some of those of stride 1.
        dilation: along each side.
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """How a weight is made of matrices.

    Attributes:
        groups: how many matrices the weight is made of, along its first dimension; each is scaled by its own bound.
        rows: outputs of each of these matrices.
        copies: the copying factor of a convolution, 1 elsewhere.
        conv: the convolution's shape; None for a linear map.
    """

    groups: int
    rows: int
    copies: int = 1
    conv: ConvShape | None = None

    def matrices(self, weight: Tensor) -> Tensor:
        """View a weight as its batch of matrices (G, O, I)."""
        return weight.reshape(self.groups, self.rows, -1)

    def kernels(self, weight: Tensor) -> Tensor:
        """View a convolution's weight as kernels of stride 1 over the phases of its input, (G, O, I, H, W)."""
        assert self.conv is not None
        kernels = weight.reshape(self.groups, self.rows, -1, *self.conv.kernel_size)
        return phases(kernels, self.conv.stride, self.conv.dilation)


def _gram(weight: Tensor, layout: Layout) -> Tensor:
    """Equation (2) times the copying factor."""
    return (layout.copies * gram_bound(layout.matrices(weight)))[:, None, None]


def _power(weight: Tensor, layout: Layout) -> Tensor:
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
    """Compute what hard scaling divides a raw weight by.

    Args:
        bound: the bound that makes the result nonexpansive.
        weight: the raw weight, float32 or float64.
        layout: how it is made of matrices.

    Returns:
        (G, 1 or O, 1 or I), to divide ``layout.matrices(weight)`` by: the square root of the bound, or of the copying
        factor, as if soft, where the bound is so small that the squares lose precision.
    """
    squares = _SQUARES[bound](weight, layout)
    return torch.where(squares < NEGLIGIBLE, layout.copies, squares).sqrt()


def scale(weight_GOI: Tensor, factor: Tensor) -> Tensor:
    """Multiply matrices by factors, whose gradient is taken without a copy of the weight where each matrix has one.

    Args:
        weight_GOI: a batch of matrices.
        factor: (G, 1 or O, 1 or I).

    Returns:
        (G, O, I), differentiable once.
    """
    scaled: Tensor = _Scale.apply(weight_GOI, factor)
    return scaled


class _Scale(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(weight_GOI: Tensor, factor: Tensor) -> Tensor:
        return weight_GOI * factor

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_GOI: Tensor) -> tuple[Tensor, Tensor]:
        weight_GOI, factor = ctx.saved_tensors
        if factor.shape[1:] == (1, 1):
            groups = len(weight_GOI)
            grad_factor = grad_GOI.reshape(groups, 1, -1) @ weight_GOI.reshape(groups, -1, 1)
        else:
            grad_factor = (grad_GOI * weight_GOI).sum_to_size(factor.shape)
        return grad_GOI * factor, grad_factor

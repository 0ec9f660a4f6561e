"""How a layer's weight is made of matrices, and how often a convolution copies an entry (section 2.1)."""

import math
from dataclasses import dataclass
from functools import singledispatch

from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from l2nnn_lightning.nn.labelwise import LabelwiseLinear
from l2nnn_lightning.nn.operator_bound import phases
from l2nnn_lightning.nn.shift import Mixer

__all__ = ["ConvShape", "Layout", "copying_factor", "layout_of"]


@dataclass(frozen=True)
class ConvShape:
    """How a convolution reads its input.

    Attributes:
        kernel_size: taps along each of two sides; a 1-D convolution has a first side of 1.
        stride: along each side; 1 where the padding is circular, since wrapped entries change phase on a map whose size
            is no multiple of the stride, and the strided outputs are some of those of stride 1.
        dilation: along each side.
    """

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]


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


@singledispatch
def layout_of(layer: nn.Module) -> Layout:
    """Tell how a layer's weight is made of matrices; a ValueError if it, or its copying factor, has no known bound."""
    raise ValueError(
        f"{type(layer).__name__} is not supported: use nn.Linear, nn.Conv1d, nn.Conv2d, LabelwiseLinear, Mixer"
    )


@layout_of.register
def _(layer: LazyModuleMixin) -> Layout:  # type: ignore[misc]
    raise ValueError(f"{type(layer).__name__} has no weight yet: run a batch through it first")


@layout_of.register
def _(layer: nn.Linear) -> Layout:
    return Layout(1, layer.out_features)


@layout_of.register
def _(layer: Mixer) -> Layout:
    return Layout(1, len(layer.weight))


@layout_of.register
def _(layer: LabelwiseLinear) -> Layout:
    labels, rows, _ = layer.weight.shape
    return Layout(labels, rows)


@layout_of.register(nn.Conv1d)
@layout_of.register(nn.Conv2d)
def _(conv: nn.Conv1d | nn.Conv2d) -> Layout:
    stride = (1,) * len(conv.stride) if conv.padding_mode == "circular" else conv.stride
    first = (1,) * (2 - len(stride))  # of a 1-D convolution
    shape = ConvShape(first + conv.kernel_size, first + stride, first + conv.dilation)
    return Layout(conv.groups, conv.out_channels // conv.groups, copying_factor(conv), shape)


def copying_factor(conv: nn.Conv1d | nn.Conv2d) -> int:
    """Count the windows that one input entry is copied into, at most, over all sides (section 2.1).

    Along one side with kernel k, stride s and dilation d, output o reads entry ``o s + d j``, j < k. For a given entry
    the taps j that can reach it are equal modulo ``s / g``, ``g = gcd(d, s)``, so there are at most ``ceil(k g / s)``;
    without dilation the paper's ``ceil(k / s)``. Zero padding adds no copies. Circular padding does, and changes phase
    where the map's size is no multiple of the stride: with at most d (k - 1) padded entries a side, every tap reads an
    entry once, hence k. Padding that repeats entries in another way has no known bound: a ValueError.
    """
    if conv.padding_mode not in ("zeros", "circular"):
        raise ValueError(
            f"padding_mode {conv.padding_mode!r} repeats border entries, which has no bound for every image size: "
            "use 'zeros', or 'circular'"
        )
    factor = 1
    for side, (k, s, d) in enumerate(zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)):
        if conv.padding_mode == "zeros":
            factor *= -(-k * math.gcd(d, s) // s)
            continue
        # For padding="same" torch pads d (k - 1) entries in all, the most that is allowed here.
        padded = 0 if isinstance(conv.padding, str) else 2 * conv.padding[side]
        if padded > d * (k - 1):
            raise ValueError(
                f"circular padding {conv.padding} repeats windows: use at most dilation * (kernel_size - 1) / 2"
            )
        factor *= k
    return factor

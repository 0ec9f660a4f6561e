"""The weight parametrization that makes a layer nonexpansive, and what can be done to a tree of such layers.

A layer holds its raw weight W. *Soft* (penalty mode) it computes with W itself, *hard* with
``W' = W / sqrt(b(W))``; a convolution also divides by the square root of its copying factor, so that both modes see
patches as the paper does (section 2.1). The mode is a bool buffer, so it travels with every kind of checkpoint.
"""

import copy
import math
from collections.abc import Iterator
from typing import TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from l2nnn_lightning.nn.bounds import gram_penalty
from l2nnn_lightning.nn.double import to_double
from l2nnn_lightning.nn.gram_scaling import scale_by_gram
from l2nnn_lightning.nn.scaling import UNIFORM, Bound, ConvShape, Layout, divisor, scale

__all__ = [
    "Bound",
    "LabelwiseLinear",
    "copying_factor",
    "fold",
    "harden",
    "is_hard",
    "largest_bound",
    "nonexpansive",
    "nonexpansive_layers",
    "penalty",
    "soften",
]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class LabelwiseLinear(nn.Module):
    """Apply one linear map per label, all as one batched product.

    Args:
        num_labels: the number K of maps.
        in_features: inputs of each map.
        out_features: outputs of each map.
        bias: whether each map adds a bias.

    Shape:
        - Input: (B, I), shared by all labels, or (B, K, I), one input per label.
        - Output: (B, K, O).
    """

    def __init__(self, num_labels: int, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_labels, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(num_labels, out_features)) if bias else None
        for matrix in self.weight:
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, I) or (B, K, I) to (B, K, O)."""
        weight_KOI: Tensor = self.weight
        labels, outputs, inputs = weight_KOI.shape
        if x.dim() == 2:
            y = (x @ weight_KOI.reshape(labels * outputs, inputs).mT).reshape(-1, labels, outputs)
        else:
            y = torch.bmm(x.transpose(0, 1), weight_KOI.mT).transpose(0, 1)
        return y if self.bias is None else y + self.bias


class NonexpansiveWeight(nn.Module):
    """The parametrization: raw weight -> weight of a layer that is nonexpansive once ``hard`` is set.

    In evaluation the bound is computed in float64. Nothing is kept for a next call (a fused optimizer changes a weight
    without a trace): what runs long with fixed weights works on a folded copy, or under ``parametrize.cached()``.

    Args:
        layout: how the weight is made of matrices.
        bound: the bound that hard scaling divides by.

    Attributes:
        computed: the scaled weight, where it has been computed in advance for a forward pass.
    """

    hard: Tensor
    computed: Tensor | None = None

    def __init__(self, layout: Layout, bound: Bound) -> None:
        super().__init__()
        self.layout, self.bound = layout, bound
        self.register_buffer("hard", torch.tensor(False))

    @property
    def groups(self) -> int:
        """How many matrices the weight is made of."""
        return self.layout.groups

    @property
    def rows(self) -> int:
        """Outputs of each of these matrices."""
        return self.layout.rows

    @property
    def is_uniform(self) -> bool:
        """Whether hard scaling divides each matrix by one number."""
        return self.bound in UNIFORM

    def forward(self, weight: Tensor) -> Tensor:
        """Scale the raw weight; same shape and dtype."""
        if self.computed is not None:
            return self.computed
        return self.scaled(self.layout.matrices(weight), self.hard, self.layout).view_as(weight)

    def scaled(self, matrices_GOI: Tensor, hard: Tensor, layout: Layout) -> Tensor:
        """Scale matrices of one or more layers like this one; ``hard`` is one mode for all, or one each."""
        with torch.autocast(matrices_GOI.device.type, enabled=False):
            # A few ulp, so that rounding never makes the weight expansive.
            shrink = 1 - 4 * torch.finfo(matrices_GOI.dtype).eps
            exact_GOI = self._exact(matrices_GOI)
            # The operator of a linear map is its matrix.
            if self.bound == "gram" or (self.bound == "operator" and layout.conv is None):
                return scale_by_gram(matrices_GOI, exact_GOI, hard, layout.copies, shrink)
            norm_GOI = torch.where(
                hard.reshape(-1, 1, 1), divisor(self.bound, exact_GOI, layout), math.sqrt(layout.copies)
            )
            return scale(matrices_GOI, (shrink / norm_GOI).to(matrices_GOI.device, matrices_GOI.dtype))

    def divisor(self, weight: Tensor) -> Tensor:
        """Compute what hard scaling divides a raw weight's matrices by, (groups, 1 or rows, 1 or columns).

        In evaluation the result is in float64.
        """
        return divisor(self.bound, self._exact(weight), self.layout)

    def matrices(self, weight: Tensor) -> Tensor:
        """View a weight as its batch of matrices (groups, rows, columns), float32 at least."""
        return self.layout.matrices(weight.to(torch.promote_types(weight.dtype, torch.float32)))

    def hard_norm(self, weight: Tensor) -> Tensor:
        """Compute by what the switch from soft to hard divides each matrix, at most: (groups,)."""
        return self.divisor(weight).amax((1, 2)) / math.sqrt(self.layout.copies)

    def _exact(self, weight: Tensor) -> Tensor:
        if self.training:
            return weight.to(torch.promote_types(weight.dtype, torch.float32))
        return to_double(weight)


def nonexpansive(module: ModuleT, bound: Bound = "gram") -> ModuleT:
    """Make a layer's map nonexpansive, by the parametrization of its weight (section 2.1).

    The layer starts soft (penalty mode): its weight is the raw one, divided by the square root of the copying factor
    for a convolution, and nothing is proved. After :func:`harden` its Lipschitz constant is at most 1.

    Args:
        module: an ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` or :class:`LabelwiseLinear`, changed in place. Any
            kernel, stride, zero padding, dilation and groups; circular padding up to the "same" amount.
        bound: the upper bound of the norm that hard scaling divides by, see ``l2nnn_lightning.nn.scaling``.
            ``"gram"`` is the paper's b(W), equation (2); ``"power"`` its refinement; ``"rows"`` and ``"columns"``
            scale each row or column by itself; ``"operator"``, ``"operator_rows"`` and ``"operator_columns"`` bound a
            convolution as an operator instead of copying patches; ``"minimum"`` is the smallest that divides by one
            number. The suffix ``_power`` refines rows and columns.

    Returns:
        ``module`` itself.

    Raises:
        ValueError: if the layer is of another kind, or if its copying factor is not known.

    Example:
        >>> layer = harden(nonexpansive(nn.Linear(4, 4)))
        >>> bool(torch.linalg.matrix_norm(layer.weight, 2) <= 1)
        True
    """
    if bound not in get_args(Bound):
        raise ValueError(f"bound must be one of {', '.join(get_args(Bound))}, got {bound!r}")
    if isinstance(module, LazyModuleMixin):
        raise ValueError(f"{type(module).__name__} has no weight yet: run a batch through it first")
    if parametrize.is_parametrized(module, "weight"):
        raise ValueError(f"the weight of {type(module).__name__} already has a parametrization")
    if isinstance(module, LabelwiseLinear):
        labels, rows, _ = module.weight.shape
        layout = Layout(labels, rows)
    elif isinstance(module, nn.Linear):
        layout = Layout(1, module.out_features)
    elif isinstance(module, nn.Conv1d | nn.Conv2d):
        copies = copying_factor(module)
        layout = Layout(module.groups, module.out_channels // module.groups, copies, _conv_shape(module))
    else:
        raise ValueError(
            f"{type(module).__name__} is not supported: use nn.Linear, nn.Conv1d, nn.Conv2d or LabelwiseLinear"
        )
    scaling = NonexpansiveWeight(layout, bound)
    scaling.train(module.training).to(next(module.parameters()).device)
    parametrize.register_parametrization(module, "weight", scaling)
    return module


def copying_factor(conv: nn.Conv1d | nn.Conv2d) -> int:
    """Count the windows that one input entry is copied into, at most (section 2.1).

    Along one side with kernel k, stride s and dilation d, output o reads entry ``o s + d j``, j < k. For a given entry
    the taps j that can reach it are equal modulo ``s / g``, ``g = gcd(d, s)``, so there are at most ``ceil(k g / s)``;
    without dilation the paper's ``ceil(k / s)``. Zero padding adds no copies. Circular padding does, and changes phase
    where the map's size is no multiple of the stride: with at most d (k - 1) padded entries a side, every tap reads an
    entry once, hence k.

    Args:
        conv: the convolution.

    Returns:
        The product over the sides, >= 1.

    Raises:
        ValueError: if the padding repeats entries in a way that has no known bound.
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


def _conv_shape(conv: nn.Conv1d | nn.Conv2d) -> ConvShape:
    circular = conv.padding_mode == "circular"
    sides = [
        (1, 1, 1) if len(conv.kernel_size) == 1 else None,
        *zip(conv.kernel_size, [1, 1] if circular else conv.stride, conv.dilation, strict=False),
    ]
    (k1, s1, d1), (k2, s2, d2) = [side for side in sides if side is not None]
    return ConvShape((k1, k2), (s1, s2), (d1, d2))


def harden(module: ModuleT) -> ModuleT:
    """Set every nonexpansive layer to hard scaling ``W / sqrt(b(W))``, in place; returns ``module``."""
    return _set_hard(module, True)


def soften(module: ModuleT) -> ModuleT:
    """Set every nonexpansive layer to its raw weight (penalty mode), in place; returns ``module``."""
    return _set_hard(module, False)


def is_hard(module: nn.Module) -> bool:
    """Tell whether there are nonexpansive layers and all of them are hard; otherwise nothing is proved."""
    modes = [bool(scaling.hard) for _, scaling in nonexpansive_layers(module)]
    return bool(modes) and all(modes)


def penalty(module: nn.Module) -> Tensor:
    """Sum the penalty (7) over every nonexpansive layer, on the raw weights.

    Returns:
        A scalar tensor, 0 where no layer is nonexpansive.
    """
    total = torch.zeros(())
    for layer, scaling in nonexpansive_layers(module):
        raw = layer.parametrizations["weight"].original  # type: ignore[index,union-attr]
        with torch.autocast(raw.device.type, enabled=False):
            total = total.to(raw.device) + gram_penalty(scaling.matrices(raw)).sum()
    return total


@torch.no_grad()
def largest_bound(module: nn.Module) -> float:
    """Return the largest bound of the raw weights: at most 1 means that the network is nonexpansive even soft."""
    bounds = [
        float(scaling.hard_norm(layer.parametrizations["weight"].original).max()) ** 2  # type: ignore[index,union-attr]
        for layer, scaling in nonexpansive_layers(module)
    ]
    return max(bounds, default=0.0)


def fold(module: ModuleT) -> ModuleT:
    """Copy a network and write each scaled weight into a plain layer: same outputs, no parametrization left.

    The copy holds no mode any more: it can be exported and run fast, while proofs belong to the original.

    Args:
        module: the network, left as it is.

    Returns:
        A plain copy, in the same train or eval mode.
    """
    plain = copy.deepcopy(module)
    for layer, scaling in list(nonexpansive_layers(plain)):
        scaling.eval()
        with torch.no_grad():
            weight: Tensor = layer.weight  # type: ignore[assignment]
        # Not torch's remove_parametrizations: it changes the class, which a copy shares with its original.
        layer.__class__ = type(layer).__bases__[0]
        del layer.parametrizations
        layer.weight = nn.Parameter(weight.clone())
    return plain


def nonexpansive_layers(module: nn.Module) -> Iterator[tuple[nn.Module, NonexpansiveWeight]]:
    """Iterate over the nonexpansive layers of a network, each with its parametrization."""
    for layer in module.modules():
        if parametrize.is_parametrized(layer, "weight"):
            for scaling in layer.parametrizations["weight"]:  # type: ignore[index]
                if isinstance(scaling, NonexpansiveWeight):
                    yield layer, scaling


def _set_hard(module: ModuleT, hard: bool) -> ModuleT:
    for _, scaling in nonexpansive_layers(module):
        scaling.hard.fill_(hard)
    return module

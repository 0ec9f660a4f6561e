"""The weight parametrization that makes a layer nonexpansive, and what can be done to a tree of such layers.

A layer holds its raw weight W. *Soft* (penalty mode) it computes with W itself, *hard* with
``W' = W / sqrt(b(W))``; a convolution also divides by the square root of its copying factor, so that both modes see
patches as the paper does (section 2.1). The mode is a bool buffer, so it travels with every kind of checkpoint.
"""

import copy
import math
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from l2nnn_lightning.nn.bjorck import bjorck_steps, rounding_of_steps
from l2nnn_lightning.nn.bounds import gram_penalty
from l2nnn_lightning.nn.layouts import Layout, layout_of
from l2nnn_lightning.nn.precision import to_double
from l2nnn_lightning.nn.scaling import UNIFORM, Bound, divisor, find_bound, scale_by_gram, steps_of

__all__ = ["Bound", "fold", "harden", "is_hard", "largest_bound", "nonexpansive", "nonexpansive_layers", "penalty"]
__all__ += ["plain_class", "raw_weight", "scaling_of", "soften"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class NonexpansiveWeight(nn.Module):
    """The parametrization: raw weight -> weight of a layer that is nonexpansive once ``hard`` is set.

    In evaluation the bound is computed in float64. Nothing is kept for a next call (a fused optimizer changes a weight
    without a trace): what runs long with fixed weights works on a folded copy, or under ``parametrize.cached()``.
    """

    hard: Tensor

    def __init__(self, layout: Layout, bound: Bound) -> None:
        super().__init__()
        self.layout, self.bound, self.steps = layout, bound, steps_of(bound)
        self.register_buffer("hard", torch.tensor(False))

    @property
    def is_uniform(self) -> bool:
        """Whether hard scaling divides each matrix by one number, and does no more."""
        return self.bound in UNIFORM

    def forward(self, weight: Tensor) -> Tensor:
        """Scale the raw weight; same shape and dtype."""
        copies = self.layout.copies
        with torch.autocast(weight.device.type, enabled=False):
            matrices_GOI = self.layout.matrices(weight)
            # A few ulp, so that rounding never makes the weight expansive.
            shrink = 1 - 4 * torch.finfo(weight.dtype).eps
            # The operator of a linear map is its matrix.
            if self.bound == "gram" or (self.bound == "operator" and self.layout.conv is None):
                scaled_GOI = scale_by_gram(matrices_GOI, self._exact(matrices_GOI), self.hard, copies, shrink)
            elif self.steps:
                stepped_GOI = self._stepped(matrices_GOI, shrink)
                scaled_GOI = torch.where(self.hard, stepped_GOI, matrices_GOI * (shrink / math.sqrt(copies)))
            else:
                norm_GOI = torch.where(self.hard, self._divisor(matrices_GOI), math.sqrt(copies))
                scaled_GOI = matrices_GOI * (shrink / norm_GOI).to(matrices_GOI)
        return scaled_GOI.view_as(weight)

    def _stepped(self, matrices_GOI: Tensor, shrink: float) -> Tensor:
        """Divide by the bound without its copies, take Bjorck steps, and then divide by the root of the copies.

        A matrix, row or column too small for its bound takes the steps as it is: its norm stays far below 1.
        """
        exact_GOI = self._exact(matrices_GOI)
        root = math.sqrt(self.layout.copies)
        unit_GOI = exact_GOI * (root / divisor(self.bound, exact_GOI, self.layout))
        rows, columns = matrices_GOI.shape[1:]
        outward = shrink - rounding_of_steps(rows, columns, matrices_GOI.dtype)
        return (bjorck_steps(unit_GOI, self.steps) * (outward / root)).to(matrices_GOI)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Find the raw weight of which, soft, this is the weight: what ``layer.weight = W`` sets.

        Hard, the layer then computes with W scaled by its bound.
        """
        return weight * math.sqrt(self.layout.copies)

    def matrices(self, weight: Tensor) -> Tensor:
        """View a weight as its batch of matrices (groups, rows, columns), float32 at least."""
        return self.layout.matrices(_single_at_least(weight))

    def hard_norm(self, weight: Tensor) -> Tensor:
        """Compute by what the switch from soft to hard divides each matrix, at most: (groups,).

        Bjorck steps, which lower no singular value, come after this division.
        """
        return self._divisor(weight).amax((1, 2)) / math.sqrt(self.layout.copies)

    def _divisor(self, weight: Tensor) -> Tensor:
        return divisor(self.bound, self._exact(weight), self.layout)

    def _exact(self, weight: Tensor) -> Tensor:
        return _single_at_least(weight) if self.training else to_double(weight)


def nonexpansive(module: ModuleT, bound: Bound = "gram") -> ModuleT:
    """Make a layer's map nonexpansive, by the parametrization of its weight (section 2.1).

    The layer starts soft (penalty mode): its weight is the raw one, divided by the square root of the copying factor
    for a convolution, and nothing is proved. After :func:`harden` its Lipschitz constant is at most 1. What is assigned
    to ``module.weight`` later is the weight that the soft layer has (up to its last digits).

    Args:
        module: an ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` or :class:`LabelwiseLinear`, changed in place. Any
            kernel, stride, zero padding, dilation and groups; circular padding up to the "same" amount.
        bound: the upper bound of the norm that hard scaling divides by, see ``l2nnn_lightning.nn.scaling``.
            ``"gram"`` is the paper's b(W), equation (2); ``"power"`` its refinement; ``"rows"`` and ``"columns"``
            scale each row or column by itself; ``"operator"``, ``"operator_rows"`` and ``"operator_columns"`` bound a
            convolution as an operator instead of copying patches; ``"minimum"`` is the smallest that divides by one
            number. The suffix ``_power`` refines rows and columns. ``"bjorck"`` (after b(W)) and ``"bjorck_rows"``
            (after rows or columns, whichever are fewer) go on with 4 and 2 Bjorck steps, which raise every singular
            value towards 1 and none above it; ``"bjorck:6"`` takes 6.

    Returns:
        ``module`` itself.

    Raises:
        ValueError: if the layer is of another kind, or if its copying factor is not known.

    Example:
        >>> layer = harden(nonexpansive(nn.Linear(4, 4)))
        >>> bool(torch.linalg.matrix_norm(layer.weight, 2) <= 1)
        True
    """
    find_bound(bound)  # refuses an unknown one
    if parametrize.is_parametrized(module, "weight"):
        raise ValueError(f"the weight of {type(module).__name__} already has a parametrization")
    scaling = NonexpansiveWeight(layout_of(module), bound)
    initial: Tensor = module.weight.detach().clone()  # type: ignore[operator]
    scaling.train(module.training).to(initial.device)
    parametrize.register_parametrization(module, "weight", scaling)
    # Registration assigns the weight; here what the layer holds is the raw one.
    raw_weight(module).data.copy_(initial)
    return module


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
    """Sum the penalty (7) over every nonexpansive layer, on the raw weights: a scalar, 0 where there is none."""
    total = torch.zeros(())
    for layer, scaling in nonexpansive_layers(module):
        raw = raw_weight(layer)
        with torch.autocast(raw.device.type, enabled=False):
            total = total.to(raw.device) + gram_penalty(scaling.matrices(raw)).sum()
    return total


@torch.no_grad()
def largest_bound(module: nn.Module) -> float:
    """Return the largest bound of the raw weights: at most 1 means that the network is nonexpansive even soft."""
    norms = [float(scaling.hard_norm(raw_weight(layer)).max()) for layer, scaling in nonexpansive_layers(module)]
    return max(norms, default=0.0) ** 2


def fold(module: ModuleT) -> ModuleT:
    """Copy a network and write each scaled weight into a plain layer: same outputs, no parametrization left.

    The copy is in the same train or eval mode, but neither soft nor hard any more: it can be exported and run fast,
    while proofs belong to the original, which is left as it is.
    """
    plain = copy.deepcopy(module)
    for layer, scaling in list(nonexpansive_layers(plain)):
        scaling.eval()
        with torch.no_grad():
            # Not layer.weight: torch's cache of weights knows layers by their address, which a copy may inherit.
            weight: Tensor = layer.parametrizations["weight"]()  # type: ignore[index,operator]
        # Not torch's remove_parametrizations: it changes the class, which a copy shares with its original.
        layer.__class__ = type(layer).__bases__[0]
        del layer.parametrizations
        layer.weight = nn.Parameter(weight.clone())
    return plain


def nonexpansive_layers(module: nn.Module) -> Iterator[tuple[nn.Module, NonexpansiveWeight]]:
    """Iterate over the nonexpansive layers of a network, each with its parametrization."""
    for layer in module.modules():
        scaling = scaling_of(layer)
        if scaling is not None:
            yield layer, scaling


def scaling_of(layer: nn.Module) -> NonexpansiveWeight | None:
    """Return the parametrization of a nonexpansive layer, None of any other module."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    parts = layer.parametrizations["weight"]  # type: ignore[index]
    return next((part for part in parts if isinstance(part, NonexpansiveWeight)), None)


def plain_class(layer: nn.Module) -> type[nn.Module]:
    """Return the class that a nonexpansive layer folds to, and any other module's own."""
    kind = type(layer)
    return kind if scaling_of(layer) is None else kind.__bases__[0]


def raw_weight(layer: nn.Module) -> nn.Parameter:
    """Return the raw weight of a nonexpansive layer."""
    raw: nn.Parameter = layer.parametrizations["weight"].original  # type: ignore[index,union-attr]
    return raw


def _single_at_least(weight: Tensor) -> Tensor:
    return weight.to(torch.promote_types(weight.dtype, torch.float32))


def _set_hard(module: ModuleT, hard: bool) -> ModuleT:
    for _, scaling in nonexpansive_layers(module):
        scaling.hard.fill_(hard)
    return module

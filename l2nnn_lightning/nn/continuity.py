"""Keep a network's function, up to one factor per label, when its layers become hard."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.activations import MaxMin, TwoSidedReLU
from l2nnn_lightning.nn.labelwise import CenterCrop2d, PerLabel, RepeatPerLabel
from l2nnn_lightning.nn.parametrization import nonexpansive_layers, raw_weight, scaling_of
from l2nnn_lightning.nn.pooling import LpPool2d, NormPool2d
from l2nnn_lightning.nn.shift import Absolute, OnShare, Shift

__all__ = ["keep_biases_in_scale"]

_TORCHS = (nn.ReLU, nn.MaxPool2d, nn.PixelUnshuffle, nn.Flatten, nn.Unflatten, nn.Dropout)
_KEEPING = (TwoSidedReLU, MaxMin, Absolute, Shift, NormPool2d, LpPool2d, CenterCrop2d, RepeatPerLabel)
_HOMOGENEOUS = (*_KEEPING, *_TORCHS)


@torch.no_grad()
def keep_biases_in_scale(chain: Iterable[nn.Module]) -> Tensor | None:
    """Divide each bias by what hard scaling divides the weights up to its layer by.

    Let layer l compute ``W_l x + b_l`` and let hard scaling divide W_l by s_l. If everything between the layers is
    positively homogeneous and ``b_l`` is divided by ``s_1 ... s_l``, the signal after layer l is the old one divided
    by that product: each logit changes by one factor and nothing else changes. Layers with one matrix per label have
    one product per label. What comes before the first layer, such as a subtracted mean, sees no change at all.

    Args:
        chain: the modules in the order in which one signal passes them, about to be hardened.

    Returns:
        By what each logit is divided, (1,) or (K,) in float64; None, with nothing changed, where some module is not
        positively homogeneous, mixes the labels' parts, or is not scaled by one number a matrix.
    """
    product_G = torch.ones(1, dtype=torch.float64)
    divisors: list[tuple[nn.Parameter, Tensor]] = []
    begun = False
    for module in chain:
        begun = begun or any(True for _ in nonexpansive_layers(module))
        scaling = scaling_of(module)
        if not begun:
            continue  # nothing that this module sees will change
        if scaling is None:
            if not _keeps_factors(module, len(product_G)):
                return None
            continue
        if not scaling.is_uniform:
            return None
        norm_G = scaling.hard_norm(raw_weight(module)).double().cpu()
        if len(product_G) > 1 and len(norm_G) != len(product_G):
            return None
        product_G = product_G * norm_G
        # The only parameter of the layer's own is its bias.
        divisors += [(bias, product_G) for bias in module.parameters(recurse=False)]
    for bias, product in divisors:
        bias.view(len(product), -1).div_(product.to(bias)[:, None])
    return product_G


def _keeps_factors(module: nn.Module, labels: int) -> bool:
    """Tell whether ``f(c x) = c f(x)`` for c > 0: one for all, or one for each of several labels' parts."""
    if isinstance(module, PerLabel | OnShare):
        return _keeps_factors(module.module, 1) and (labels == 1 or type(module) is PerLabel)
    mixes_labels = labels > 1 and isinstance(module, TwoSidedReLU | MaxMin) and module.dim == 1
    return isinstance(module, _HOMOGENEOUS) and not mixes_labels

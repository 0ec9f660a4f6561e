"""Keep a network's function, up to one factor per label, when its layers become hard."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from l2nnn_lightning.nn.activations import MaxMin, TwoSidedReLU
from l2nnn_lightning.nn.labelwise import CenterCrop2d, PerLabel, RepeatPerLabel
from l2nnn_lightning.nn.parametrization import nonexpansive_layers
from l2nnn_lightning.nn.pooling import NormPool2d

__all__ = ["keep_biases_in_scale"]

# f(c x) = c f(x) for c > 0.
_HOMOGENEOUS = (
    TwoSidedReLU,
    MaxMin,
    NormPool2d,
    nn.ReLU,
    nn.MaxPool2d,
    nn.PixelUnshuffle,
    nn.Flatten,
    nn.Unflatten,
    CenterCrop2d,
    RepeatPerLabel,
)


@torch.no_grad()
def keep_biases_in_scale(chain: Iterable[nn.Module]) -> Tensor | None:
    """Divide each bias by what hard scaling divides the weights up to its layer by.

    Let layer l compute ``W_l x + b_l`` and let hard scaling divide W_l by s_l. If everything between the layers is
    positively homogeneous and ``b_l`` is divided by ``s_1 ... s_l``, the signal after layer l is the old one divided
    by that product: each logit changes by one factor and nothing else changes. Layers with one matrix per label have
    one product per label. What comes before the first layer, such as a subtracted mean, sees no change at all.

    Args:
        chain: the modules in the order in which one signal passes them, about to be hardened; biases change in place.

    Returns:
        By what each logit is divided, (1,) or (K,) in float64; None, with nothing changed, where some module is not
        positively homogeneous, mixes the labels' parts, or is not scaled by one number a matrix.
    """
    product_G = torch.ones(1, dtype=torch.float64)
    divisors: list[tuple[nn.Parameter, Tensor]] = []
    begun = False
    for module in chain:
        scalings = [scaling for _, scaling in nonexpansive_layers(module)]
        begun = begun or bool(scalings)
        if not begun:
            continue  # nothing that this module sees will change
        if len(scalings) == 1 and parametrize.is_parametrized(module, "weight"):
            if not scalings[0].is_uniform:
                return None
            raw: Tensor = module.parametrizations["weight"].original  # type: ignore[index,union-attr]
            norm_G = scalings[0].hard_norm(raw).double().cpu()
            if len(product_G) > 1 and len(norm_G) != len(product_G):
                return None
            product_G = product_G * norm_G
            if isinstance(module.bias, nn.Parameter):
                divisors.append((module.bias, product_G))
        elif isinstance(module, PerLabel):
            if not isinstance(module.module, _HOMOGENEOUS):
                return None
        elif not isinstance(module, _HOMOGENEOUS) or (
            len(product_G) > 1 and isinstance(module, TwoSidedReLU | MaxMin) and module.dim == 1
        ):
            return None
    for bias, product in divisors:
        bias.view(len(product), -1).div_(product.to(bias)[:, None])
    return product_G

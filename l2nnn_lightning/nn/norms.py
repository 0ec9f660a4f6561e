"""Norms computed once, tightly and from above in float64, of a layer and a hard chain: what certificates divide by."""

import math

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.parametrization import fold, scaling_of
from l2nnn_lightning.nn.proof.norms import operator_norms

__all__ = ["chain_norm", "layer_norms", "tight_norm"]


def chain_norm(module: nn.Module) -> float:
    """Bound the Lipschitz constant of a hard trunk by the product of its layers' norms: in [0, 1], rounded up.

    A hard layer's norm is often well below 1, because its bound is not tight; then features move less than the images,
    and a radius is larger by that factor. Layers in a sequence multiply. Every other module of a trunk (an
    activation, pooling, a residual block) is nonexpansive as a whole and counts as 1.
    """
    if isinstance(module, nn.Sequential):
        # A product of n rounded numbers is off by n ulp at most.
        return min(1.0, math.prod(chain_norm(part) for part in module) * (1 + 1e-12))
    return 1.0 if scaling_of(module) is None else tight_norm(module)


def tight_norm(layer: nn.Module) -> float:
    """Bound the Lipschitz constant of a hard layer from above, nearly exactly, and by 1, which hard scaling proves.

    Args:
        layer: a layer made by :func:`nonexpansive`, hard.

    Raises:
        ValueError: if the layer is not nonexpansive or not hard.
    """
    scaling = scaling_of(layer)
    if scaling is not None and not scaling.hard:
        raise ValueError("the layer is not hard: call harden first")
    return min(1.0, float(layer_norms(layer).max()))


@torch.no_grad()
def layer_norms(layer: nn.Module) -> Tensor:
    """Bound the norm of each matrix of a layer from above, nearly exactly, with the weight that it has, soft or hard.

    See :func:`.nn.proof.norms.operator_norms`.

    Args:
        layer: a layer made by :func:`nonexpansive`.

    Returns:
        The norms, (G,) in float64 on the CPU, the Lipschitz constant of the layer being the largest of them; of a
        convolution only that, (1,). Infinite where the weight is not finite.

    Raises:
        ValueError: if the layer is not nonexpansive.
    """
    scaling = scaling_of(layer)
    if scaling is None:
        raise ValueError(f"{type(layer).__name__} is not a nonexpansive layer: it has no norm that is proved")
    norm_G = operator_norms(fold(layer).weight, scaling.layout)  # type: ignore[arg-type]
    return norm_G if scaling.layout.conv is None else norm_G.amax(0, keepdim=True)

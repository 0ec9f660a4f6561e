"""Back to orthonormal rows, after a step of an optimizer: there the bound of every layer is tight."""

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.parametrization import nonexpansive_layers, raw_weight
from l2nnn_lightning.nn.polar import symmetric_product

__all__ = ["retract_", "retracted"]


@torch.no_grad()
def retracted(weight_GOI: Tensor, beta: float = 0.5, steps: int = 1) -> Tensor:
    """Pull matrices towards orthonormal rows by :func:`bjorck_step`, here at less cost and without a gradient.

    After a small step from orthonormal rows one is enough.

    Args:
        weight_GOI: the matrices, of norm below ``sqrt(3)``.
        beta: how far to go, in (0, 1/2].
        steps: how often, at least 0.

    Shape:
        (G, O, I) -> the same.
    """
    is_wide = weight_GOI.shape[1] <= weight_GOI.shape[2]
    for _ in range(steps):
        # The smaller of the two Gram matrices gives the same product.
        factors = (weight_GOI, weight_GOI.mT) if is_wide else (weight_GOI.mT, weight_GOI)
        correction = symmetric_product(*factors).mul_(-beta)
        correction.diagonal(dim1=1, dim2=2).add_(1 + beta)
        weight_GOI = correction @ weight_GOI if is_wide else weight_GOI @ correction
    return weight_GOI


@torch.no_grad()
def retract_(module: nn.Module, beta: float = 0.5, steps: int = 1) -> None:
    """Apply :func:`retracted` to the raw weight of every nonexpansive layer, in place.

    Args:
        module: the network.
        beta: how far to go, in (0, 1/2].
        steps: how often.
    """
    for layer, scaling in nonexpansive_layers(module):
        raw = raw_weight(layer)
        raw.copy_(retracted(scaling.matrices(raw), beta, steps).reshape(raw.shape))

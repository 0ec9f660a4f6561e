"""Back to orthonormal rows: the Bjorck step, which makes the bound of every layer tight."""

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.parametrization import nonexpansive_layers, raw_weight

__all__ = ["bjorck_step", "retract_"]


def bjorck_step(weight_GOI: Tensor, beta: float = 0.5) -> Tensor:
    """Pull each matrix towards orthonormal rows (or columns, whichever are fewer): ``(1 + beta) W - beta W W^T W``.

    A step along the gradient of ``beta / 4 ||W^T W - I||^2``. A singular value s becomes ``(1 + beta) s - beta s^3``;
    with beta 1/2, Newton's iteration for the polar factor (Bjorck and Bowie, 1971), its small error e becomes
    ``-3/2 e^2``. It converges from singular values below ``sqrt(3)``, as after a small step from orthonormal rows.
    There b(W) of equation (2) is 1, exactly the squared norm, and the penalty (7) is zero.

    Shape:
        (G, O, I) or (O, I) -> the same.

    Example:
        >>> bjorck_step(torch.tensor([[1.1, 0.0], [0.0, 0.9]]))
        tensor([[0.9845, 0.0000],
                [0.0000, 0.9855]])
    """
    if weight_GOI.shape[-2] <= weight_GOI.shape[-1]:
        cubic = (weight_GOI @ weight_GOI.mT) @ weight_GOI
    else:  # the smaller of the two Gram matrices gives the same product
        cubic = weight_GOI @ (weight_GOI.mT @ weight_GOI)
    return (1 + beta) * weight_GOI - beta * cubic


@torch.no_grad()
def retract_(module: nn.Module, beta: float = 0.5, steps: int = 1) -> None:
    """Apply :func:`bjorck_step` to the raw weight of every nonexpansive layer, in place.

    Args:
        module: the network.
        beta: how far to go, in (0, 1/2].
        steps: how often.
    """
    for layer, scaling in nonexpansive_layers(module):
        raw = raw_weight(layer)
        weight = scaling.matrices(raw)
        for _ in range(steps):
            weight = bjorck_step(weight, beta)
        raw.copy_(weight.reshape(raw.shape))

"""Back to orthonormal rows: the Bjorck step, which makes the bound of every layer tight."""

import torch
from torch import nn

from l2nnn_lightning.nn.bjorck import bjorck_step
from l2nnn_lightning.nn.parametrization import nonexpansive_layers, raw_weight

__all__ = ["bjorck_step", "retract_"]


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

"""Optimizers that know what a group of parameters is: the classifier names the columns of each nonexpansive weight."""

from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import ParamsT

from l2nnn_lightning.nn.parametrization import nonexpansive_layers, raw_weight

__all__ = ["ScaledAdam", "parameter_groups"]


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Group what is trained: each nonexpansive weight alone, naming the ``columns`` of its matrices; then the rest."""
    groups: list[dict[str, Any]] = []
    for layer, scaling in nonexpansive_layers(module):
        raw = raw_weight(layer)
        groups.append({"params": [raw], "columns": scaling.matrices(raw).shape[-1]})
    weights = {id(group["params"][0]) for group in groups}
    rest = [weight for weight in module.parameters() if weight.requires_grad and id(weight) not in weights]
    return [*groups, {"params": rest}] if rest else groups


class ScaledAdam(torch.optim.Adam):
    """Adam whose step turns the rows of every layer by the same angle.

    The learning rate of a group that names its ``columns``, the inputs of one row, is multiplied by
    ``16 / sqrt(columns)``: a step of Adam changes every entry by about the learning rate, hence a row by
    ``sqrt(columns)`` times that, and noise in long rows would inflate b(W).

    Args:
        params: parameters, or groups of them.
        lr: the base learning rate, > 0.
        betas: of Adam's moving averages.
        eps: of Adam's denominator.
        weight_decay: the weight of the L2 penalty, >= 0.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not lr > 0:
            raise ValueError(f"lr must be positive, got {lr}")
        super().__init__(params, lr, betas, eps, weight_decay, fused=True)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, with its own learning rate where it names its columns."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if "columns" in group:
            group["lr"] = group["lr"] * 16 / group["columns"] ** 0.5

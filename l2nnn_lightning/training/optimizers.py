"""Optimizers that know what a group of parameters is: the classifier names the columns of each nonexpansive weight."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from l2nnn_lightning.nn.parametrization import nonexpansive_layers, raw_weight
from l2nnn_lightning.nn.polar import turn_
from l2nnn_lightning.nn.precision import full_precision
from l2nnn_lightning.nn.retraction import retracted

__all__ = ["OrthogonalMomentum", "ScaledAdam", "parameter_groups"]


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Group what is trained: each nonexpansive weight alone, then the rest.

    A weight's group names the ``columns`` of its matrices and its ``layout``, how many matrices of how many rows.
    """
    groups: list[dict[str, Any]] = []
    for layer, scaling in nonexpansive_layers(module):
        raw = raw_weight(layer)
        matrices = scaling.matrices(raw)
        groups.append({"params": [raw], "columns": matrices.shape[-1], "layout": list(matrices.shape[:2])})
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


class OrthogonalMomentum(torch.optim.Adam):
    """Turn the matrices of nonexpansive layers along orthogonalised momentum, and keep their rows orthonormal.

    For each matrix of a group that names its ``layout``, a single row included, which becomes a unit vector:
    ``m <- momentum m + g``, ``W <- W - matrix_lr polar(g + momentum m)``, and a Bjorck step back to orthonormal rows.
    The polar factor, whose singular values are all 1, is approximated by :func:`near_polar`, to between about 0.5 and
    1.3: every direction turns alike (Jordan et al., 2024, *Muon*). Adam's steps are noise in most directions, which
    inflates b(W) over the norm; on the manifold of orthonormal rows b(W) = 1. Everything else is trained by Adam.
    Network, bound and certificate are the paper's: this changes the way to the weights alone.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate of Adam, > 0.
        matrix_lr: the step of the matrices, about in radians, > 0.
        momentum: how much of their last direction is kept, in [0, 1).
        betas: of Adam's moving averages.
        retract: Bjorck steps after each update of a matrix, >= 0.
        every: update the matrices at every so many steps, so many times as far; their momentum takes up all gradients.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 2e-3,
        matrix_lr: float = 0.03,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        retract: int = 1,
        every: int = 1,
    ) -> None:
        for name, value, fits in (
            ("lr", lr, lr > 0),
            ("matrix_lr", matrix_lr, matrix_lr > 0),
            ("momentum", momentum, 0 <= momentum < 1),
            ("retract", retract, retract >= 0),
            ("every", every, every >= 1),
        ):
            if not fits:
                raise ValueError(f"{name} is out of range, got {value}")
        self.matrix_lr, self.momentum, self.retract, self.every = matrix_lr, momentum, retract, every
        super().__init__(params, lr, betas, fused=True)
        # A GradScaler would leave unscaling to the fused step, which knows nothing of matrices.
        self._step_supports_amp_scaling = False

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; matrices get the learning rate of their own."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if _has_matrices(group):
            group["lr"] = self.matrix_lr

    def _init_group(self, group: dict[str, Any], *lists: list[Any]) -> bool:
        """Turn the matrices here, where Adam's step collects what it has to update: nothing then of such a group."""
        if not _has_matrices(group):
            return bool(super()._init_group(group, *lists))  # type: ignore[no-untyped-call]
        for weight in group["params"]:
            if weight.grad is not None:
                with full_precision(weight.device):
                    self._turn(weight, weight.grad, group)
        return False

    def _turn(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            # Adam asks for the steps of all that has a state.
            state.update(momentum=torch.zeros_like(weight), step=torch.zeros((), device=weight.device))
        state["step"] += 1
        torch.add(gradient, state["momentum"], alpha=self.momentum, out=state["momentum"])
        if self.every > 1 and int(state["step"]) % self.every:
            return
        direction = gradient.add(state["momentum"], alpha=self.momentum)
        shape = (*group["layout"], -1)
        matrices = weight.reshape(shape)
        turn_(matrices, direction.reshape(shape), -self.every * group["lr"])
        weight.copy_(retracted(matrices, steps=self.retract).view_as(weight))


def _has_matrices(group: dict[str, Any]) -> bool:
    return "layout" in group and bool(max(group["layout"][1], group["columns"]) > 1)

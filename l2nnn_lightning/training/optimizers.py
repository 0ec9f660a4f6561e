"""Optimizers that know what a group of parameters is: the classifier names the columns of each nonexpansive weight."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from l2nnn_lightning.nn.parametrization import nonexpansive_layers, raw_weight
from l2nnn_lightning.nn.retraction import bjorck_step

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

    For each matrix of a group that names its ``layout``, unless it is a single row:
    ``m <- momentum m + g``, ``W <- W - matrix_lr polar(g + momentum m)``, and a Bjorck step back to orthonormal rows.
    The polar factor, all of whose singular values are 1, is approximated by quintic Newton-Schulz steps (Jordan et
    al., 2024, *Muon*): every direction turns alike. Adam's steps are noise in most directions, which inflates b(W)
    over the norm; on the manifold of orthonormal rows b(W) = 1. Everything else is trained by Adam. Network, bound
    and certificate are the paper's: this changes the way to the weights alone.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate of Adam, > 0.
        matrix_lr: the step of the matrices, about in radians, > 0.
        momentum: how much of their last direction is kept, in [0, 1).
        betas: of Adam's moving averages.
        retract: Bjorck steps after each update, >= 0.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 2e-3,
        matrix_lr: float = 0.03,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        retract: int = 1,
    ) -> None:
        for name, value, fits in (
            ("lr", lr, lr > 0),
            ("matrix_lr", matrix_lr, matrix_lr > 0),
            ("momentum", momentum, 0 <= momentum < 1),
            ("retract", retract, retract >= 0),
        ):
            if not fits:
                raise ValueError(f"{name} is out of range, got {value}")
        self.matrix_lr, self.momentum, self.retract = matrix_lr, momentum, retract
        super().__init__(params, lr, betas, fused=True)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; matrices get the learning rate of their own."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if _has_matrices(group):
            group["lr"] = self.matrix_lr

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in filter(_has_matrices, self.param_groups):
            (weight,) = group["params"]
            if weight.grad is not None:
                self._turn(weight, group)
                weight.grad = None  # which Adam then leaves alone
        super().step()
        return loss

    def _turn(self, weight: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        if not state:
            # Adam asks for the steps of all that has a state.
            state.update(momentum=torch.zeros_like(weight), step=torch.zeros((), device=weight.device))
        state["step"] += 1
        state["momentum"].mul_(self.momentum).add_(gradient)
        direction = gradient.add(state["momentum"], alpha=self.momentum)
        shape = (*group["layout"], -1)
        turned = weight.reshape(shape) - group["lr"] * orthogonalised(direction.reshape(shape))
        for _ in range(self.retract):
            turned = bjorck_step(turned)
        weight.copy_(turned.view_as(weight))


def orthogonalised(matrices_GOI: Tensor, steps: int = 4) -> Tensor:
    """Bring all singular values of each matrix near 1, between about 0.5 and 1.3: fit for an update, not for a weight.

    With A = X X^T a step is ``X <- 3.4445 X + (-4.7750 A + 2.0315 A^2) X``; it begins from X of Frobenius norm 1.
    """
    is_tall = matrices_GOI.shape[-2] > matrices_GOI.shape[-1]
    x: Tensor = matrices_GOI.mT if is_tall else matrices_GOI
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(1e-30)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if is_tall else x


def _has_matrices(group: dict[str, Any]) -> bool:
    return bool(min(group.get("layout", (1, 1))[1], group.get("columns", 1)) > 1)

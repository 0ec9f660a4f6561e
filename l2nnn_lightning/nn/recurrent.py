"""Recurrent layers that are nonexpansive in the whole sequence, in both readings of appendix A.4."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from l2nnn_lightning.nn.parametrization import Bound, nonexpansive
from l2nnn_lightning.nn.residual import Splitting

__all__ = ["LastStep", "Reading", "Recurrent", "RowsAsSteps"]

Reading = Literal["overlapping", "joint"]


class Recurrent(nn.Module):
    """A recurrent layer ``h_k = f(A r_{k-1} + B x_k + b)`` whose combined weight ``(A B)`` is nonexpansive.

    Every step is nonexpansive in what it receives together: ``|dh_k|^2 <= |dr_{k-1}|^2 + |dx_k|^2``. The state begins
    at zero, so ``dr_0 = 0``.

    - ``reading="overlapping"``: one L2NNN per time step, which share their layers: ``r_k = h_k``, and h_k is the
      output. By induction ``|dh_k|^2 <= |dx_1|^2 + ... + |dx_k|^2``: *each* output is nonexpansive in the whole
      sequence. All of them together are not.
    - ``reading="joint"``: one L2NNN that gives all time steps. A state is split as in (9) into what recurs,
      ``r_k = t h_k``, and the output ``o_k = sqrt(1 - t^2) h_k``: ``|do_k|^2 + |dr_k|^2 <= |dr_{k-1}|^2 + |dx_k|^2``.
      Summed over all K steps the states cancel: ``|do_1|^2 + ... + |do_K|^2 <= |dx_1|^2 + ... + |dx_K|^2``. The layers
      above may use every step.

    Args:
        input_size: entries of each step's input.
        hidden_size: outputs of the combined weight.
        activation: f, a nonexpansive map of (B, hidden_size) to the state (B, S); None for the identity.
        reading: which of the two.
        t: whether one t is shared, or each entry of the state has its own (``"joint"`` only).
        initial: the initial t, in [0, 1].
        bound: the bound of the weight.

    Shape:
        (B, K, input_size) -> (B, K, S).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        activation: nn.Module | None = None,
        reading: Reading = "overlapping",
        *,
        t: Literal["block", "channel"] = "channel",
        initial: float = math.sqrt(0.5),
        bound: Bound = "gram",
    ) -> None:
        super().__init__()
        if reading not in get_args(Reading):
            raise ValueError(f"reading must be one of {', '.join(get_args(Reading))}, got {reading!r}")
        if t not in ("block", "channel"):
            raise ValueError(f"t must be 'block' or 'channel', got {t!r}")
        self.activation = nn.Identity() if activation is None else activation
        with torch.no_grad():
            self.state_size: int = self.activation(torch.zeros(1, hidden_size)).shape[1]
        self.linear = nonexpansive(nn.Linear(self.state_size + input_size, hidden_size), bound)
        self.split = None
        if reading == "joint":
            self.split = Splitting((self.state_size,) if t == "channel" else (), initial)

    def forward(self, x_BKI: Tensor) -> Tensor:
        """Run through the sequence."""
        weight: Tensor = self.linear.weight
        inputs = weight.shape[1] - self.state_size
        if x_BKI.dim() != 3 or x_BKI.shape[1] < 1 or x_BKI.shape[2] != inputs:
            raise ValueError(f"a sequence must be (batch, steps, {inputs}), got {tuple(x_BKI.shape)}")
        # The weight is scaled once a sequence, and all inputs enter by one product.
        received_BKO = F.linear(x_BKI, weight[:, self.state_size :], self.linear.bias)
        recurrence = weight[:, : self.state_size]
        recurs, gives = (1, 1) if self.split is None else self.split()
        states: list[Tensor] = []
        for received_BO in received_BKO.unbind(1):
            if states:
                received_BO = received_BO + F.linear(recurs * states[-1], recurrence)
            states.append(self.activation(received_BO))
        return torch.stack(states, 1) * gives


class RowsAsSteps(nn.Module):
    """Read an image from top to bottom, one row a time step, (B, C, H, W) -> (B, H, C W); keeps every distance."""

    def forward(self, image: Tensor) -> Tensor:
        """Rearrange."""
        return image.transpose(1, 2).flatten(2)


class LastStep(nn.Module):
    """Keep the last time step's output, (B, K, S) -> (B, S)."""

    def forward(self, steps: Tensor) -> Tensor:
        """Select."""
        return steps[:, -1]

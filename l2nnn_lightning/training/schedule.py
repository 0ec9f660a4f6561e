"""The learning rate as a pure function of the step, so that a resumed run repeats it."""

import math
from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["CosineAfterSwitch", "ScheduleFactory"]

Shape = Literal["cosine", "constant"]
ScheduleFactory = Callable[[Optimizer], LRScheduler]


class CosineAfterSwitch(LRScheduler):
    """Warm up, stay constant while soft, warm up again at the switch to hard scaling and fall along a cosine.

    Without penalty mode the cosine begins at once. Stepped once a batch.

    Args:
        optimizer: the optimizer.
        shape: what the learning rate does after the last warm-up.
        warmup_steps: steps of linear warm-up, at the start and at the switch, >= 0.
        final: the last learning rate as a fraction of the one after the switch, in [0, 1].
        wait: whether the cosine waits for the switch. Otherwise it begins at once and the switch only multiplies it, by
            its ``lr_factor``: for penalty mode to the end, or for a switch close to it.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        shape: Shape = "cosine",
        warmup_steps: int = 50,
        final: float = 0.01,
        wait: bool = True,
    ) -> None:
        if shape not in ("cosine", "constant"):
            raise ValueError(f"shape must be 'cosine' or 'constant', got {shape!r}")
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps must be at least 0, got {warmup_steps}")
        if not 0 <= final <= 1:
            raise ValueError(f"final must be in [0, 1], got {final}")
        self.shape, self.warmup_steps, self.final, self.wait = shape, warmup_steps, final, wait
        self.total_steps = 1
        #: The step at which the cosine begins, None while it is not known, and by what it is multiplied.
        self.start: int | None = None
        self.scale = 1.0
        super().__init__(optimizer)

    def begin(self, total_steps: int, *, soft: bool) -> None:
        """Say how long the training is, and whether it begins soft, so that the cosine waits for the switch."""
        self.total_steps, self.start = total_steps, None if soft and self.wait else 0
        self._apply()

    def restart(self, scale: float) -> None:
        """Begin the cosine at the current step, at ``scale`` times the base learning rate, if it has waited."""
        if self.wait:
            self.start = self.last_epoch
        self.scale = scale
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the length of the training, which a resumed one may change."""
        return {key: value for key, value in super().state_dict().items() if key != "total_steps"}

    def get_lr(self) -> list[float | Tensor]:
        """Compute the learning rate of each group at the current step."""
        since = self.last_epoch - (self.start or 0)
        factor = min(1.0, (since + 1) / (self.warmup_steps + 1))
        if self.start is not None:
            if self.shape == "cosine":
                done = min(1.0, since / max(1, self.total_steps - self.start))
                factor *= self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done))
            factor *= self.scale
        return [base * factor for base in self.base_lrs]

    def _apply(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

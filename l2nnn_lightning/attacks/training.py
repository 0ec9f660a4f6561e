"""Attacked copies of training images: projected gradient descent in the L-infinity norm (Madry et al., 2018)."""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from l2nnn_lightning.attacks.base import spread, undisturbed
from l2nnn_lightning.attacks.pgd import climb

__all__ = ["LinfAttack", "pgd_linf_images"]


@dataclass(frozen=True)
class LinfAttack:
    """Settings of the attack that training defends against.

    Args:
        eps: largest change of a pixel, in (0, 1]; also as a fraction in text, such as "8/255".
        steps: number of gradient steps, >= 1.
        step_size: change of a pixel per step, > 0; also as a fraction in text.
        random_start: begin at a random point of the box around the image instead of at the image.
        restarts: number of random starts, >= 1, of which the worst image, by its cross-entropy, counts.
    """

    eps: float
    steps: int
    step_size: float
    random_start: bool = True
    restarts: int = 1

    def __post_init__(self) -> None:
        for name in ("eps", "step_size"):
            given: Any = getattr(self, name)
            with contextlib.suppress(ValueError, ZeroDivisionError):  # refused below
                if isinstance(given, str):
                    object.__setattr__(self, name, float(Fraction(given)))
        # They come from a dictionary in a config, whose values no parser has checked.
        for name, is_good, rule in (
            ("eps", type(self.eps) in (int, float) and 0 < self.eps <= 1, "in (0, 1]"),
            ("steps", type(self.steps) is int and self.steps >= 1, "an integer >= 1"),
            ("step_size", type(self.step_size) in (int, float) and 0 < self.step_size < math.inf, "> 0"),
            ("random_start", type(self.random_start) is bool, "true or false"),
            ("restarts", type(self.restarts) is int and self.restarts >= 1, "an integer >= 1"),
        ):
            if not is_good:
                raise ValueError(f"attack.{name} must be {rule}, got {getattr(self, name)}")
        if self.restarts > 1 and not self.random_start:
            raise ValueError("attack.restarts above 1 needs attack.random_start, or all attempts are the same")

    def replaced(self, settings: Mapping[str, Any] | None) -> Self:
        """Return a copy with some settings changed; a ValueError for an unknown one."""
        values = asdict(self)
        for name in settings or {}:
            if name not in values:
                raise ValueError(f"attack has no setting {name!r}; it has {', '.join(values)}")
        return type(self)(**{**values, **(settings or {})})


def pgd_linf_images(
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    attack: LinfAttack,
    *,
    logits_of: Callable[[Tensor], Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Climb the cross-entropy of a model, in evaluation mode and float32, inside a box around each image.

    Args:
        model: maps images to logits (B, K).
        image: (B, C, H, W) in [0, 1]; so is the result, within ``attack.eps`` of it in every pixel and detached.
        label: (B,), int64.
        attack: the box and the steps.
        logits_of: computes, by the model, the logits to be climbed, if not the model's own: those of an L2NNN are so
            close together that cross-entropy at their scale hardly tells a good step from a bad one.
        generator: source of the random start; the global one of the device if None.
    """
    climbed = model if logits_of is None else logits_of
    # Weights do not change between the steps, so a parametrized weight is computed once for all of them.
    with undisturbed(model), torch.autocast(image.device.type, enabled=False), parametrize.cached():
        image, label = image.clone(), label.clone()
        lower, upper = (image - attack.eps).clamp(min=0), (image + attack.eps).clamp(max=1)
        worst, largest = image, torch.full_like(label, -torch.inf, dtype=image.dtype)
        for _ in range(attack.restarts):
            start = image
            if attack.random_start:
                noise = torch.rand(image.shape, generator=generator, device=image.device, dtype=image.dtype)
                start = torch.clamp(image + attack.eps * (2 * noise - 1), lower, upper)
            attacked = climb(
                # A sum, not a mean: the sign is the same and small gradients are not divided further.
                lambda points: F.cross_entropy(climbed(points), label, reduction="sum"),
                start,
                lambda points: torch.clamp(points, lower, upper),
                steps=attack.steps,
                step_size=attack.step_size,
                norm_kind="Linf",
            )
            if attack.restarts == 1:
                return attacked
            with torch.no_grad():
                reached = F.cross_entropy(climbed(attacked), label, reduction="none")
            worst = torch.where(spread(reached > largest, worst), attacked, worst)
            largest = torch.maximum(largest, reached)
        return worst

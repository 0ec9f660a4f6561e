"""Attacked copies of training images: projected gradient descent in the L-infinity or L2 norm (Madry et al., 2018)."""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from l2nnn_lightning.attacks.base import NormKind, spread, undisturbed
from l2nnn_lightning.attacks.pgd import climb, into_ball

__all__ = ["LinfAttack", "TrainingAttack", "attacked_images"]


@dataclass(frozen=True)
class TrainingAttack:
    """Settings of the attack that training defends against.

    Args:
        eps: largest distance, > 0; in the L-infinity norm the largest change of a pixel, at most 1. Also as a fraction
            in text, such as "8/255".
        steps: number of gradient steps, >= 1.
        step_size: length of a step in the norm, > 0; also as a fraction in text.
        random_start: begin at a random point of the ball around the image instead of at the image.
        restarts: number of random starts, >= 1, of which the worst image, by its cross-entropy, counts.
        norm: ``Linf``, as in Madry et al., or ``L2``, as in Tsipras et al., 2019: steps along the gradient.
    """

    eps: float
    steps: int
    step_size: float
    random_start: bool = True
    restarts: int = 1
    norm: NormKind = "Linf"

    def __post_init__(self) -> None:
        for name in ("eps", "step_size"):
            given: Any = getattr(self, name)
            with contextlib.suppress(ValueError, ZeroDivisionError):  # refused below
                if isinstance(given, str):
                    object.__setattr__(self, name, float(Fraction(given)))
        # They come from a dictionary in a config, whose values no parser has checked.
        largest, range_of_eps = (math.inf, "> 0 and finite") if self.norm == "L2" else (1, "in (0, 1]")
        for name, is_good, rule in (
            ("norm", self.norm in get_args(NormKind), "Linf or L2"),
            ("eps", type(self.eps) in (int, float) and 0 < self.eps <= largest and self.eps < math.inf, range_of_eps),
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


LinfAttack = TrainingAttack  # the name that DataModules of your own may know


def attacked_images(
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    attack: TrainingAttack,
    *,
    logits_of: Callable[[Tensor], Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Climb the cross-entropy of a model, in evaluation mode and float32, inside a ball around each image.

    Args:
        model: maps images to logits (B, K).
        image: (B, C, H, W) in [0, 1]; so is the result, within ``attack.eps`` of it in the attack's norm and detached.
        label: (B,), int64.
        attack: the ball and the steps.
        logits_of: computes, by the model, the logits to be climbed, if not the model's own: those of an L2NNN are so
            close together that cross-entropy at their scale hardly tells a good step from a bad one.
        generator: source of the random start; the global one of the device if None.
    """
    climbed = model if logits_of is None else logits_of
    # Weights do not change between the steps, so a parametrized weight is computed once for all of them.
    with undisturbed(model), torch.autocast(image.device.type, enabled=False), parametrize.cached():
        image, label = image.clone(), label.clone()
        lower, upper = (image - attack.eps).clamp(min=0), (image + attack.eps).clamp(max=1)

        def project(points: Tensor) -> Tensor:
            if attack.norm == "Linf":
                return torch.clamp(points, lower, upper)
            return into_ball(points, image, attack.eps, "L2")

        worst, largest = image, torch.full_like(label, -torch.inf, dtype=image.dtype)
        for _ in range(attack.restarts):
            start = image
            if attack.random_start:
                start = project(image + _random_move(image, attack, generator))
            attacked = climb(
                # A sum, not a mean: the sign is the same and small gradients are not divided further.
                lambda points: F.cross_entropy(climbed(points), label, reduction="sum"),
                start,
                project,
                steps=attack.steps,
                step_size=attack.step_size,
                norm_kind=attack.norm,
            )
            if attack.restarts == 1:
                return attacked
            with torch.no_grad():
                reached = F.cross_entropy(climbed(attacked), label, reduction="none")
            worst = torch.where(spread(reached > largest, worst), attacked, worst)
            largest = torch.maximum(largest, reached)
        return worst


def _random_move(image: Tensor, attack: TrainingAttack, generator: torch.Generator | None) -> Tensor:
    """Draw a move within the ball: uniform in the L-infinity norm; in the L2 norm its direction and its length are."""
    settings: Any = {"generator": generator, "device": image.device, "dtype": image.dtype}
    if attack.norm == "Linf":
        return attack.eps * (2 * torch.rand(image.shape, **settings) - 1)
    move = torch.randn(image.shape, **settings)
    length = torch.rand(len(image), **settings) * attack.eps / torch.linalg.vector_norm(move.flatten(1), dim=1)
    return move * spread(length, move)

"""Attacked copies of training images: projected gradient descent in the L-infinity norm (Madry et al., 2018)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

__all__ = ["LinfAttack", "pgd_linf_images"]


@dataclass(frozen=True)
class LinfAttack:
    """Settings of the attack that training defends against.

    Args:
        eps: largest change of a pixel, in (0, 1].
        steps: number of gradient steps, >= 1.
        step_size: change of a pixel per step, > 0.
        random_start: begin at a random point of the box around the image instead of at the image.
        restarts: number of random starts, >= 1, of which the worst image counts.
    """

    eps: float
    steps: int
    step_size: float
    random_start: bool = True
    restarts: int = 1

    def __post_init__(self) -> None:
        if not _is_number(self.eps) or not 0 < self.eps <= 1:
            raise ValueError(f"attack.eps must be in (0, 1], got {self.eps}")
        if type(self.steps) is not int or self.steps < 1:
            raise ValueError(f"attack.steps must be an integer >= 1, got {self.steps}")
        if not _is_number(self.step_size) or not 0 < self.step_size < math.inf:
            raise ValueError(f"attack.step_size must be > 0, got {self.step_size}")
        if type(self.random_start) is not bool:
            raise ValueError(f"attack.random_start must be true or false, got {self.random_start}")
        if type(self.restarts) is not int or self.restarts < 1:
            raise ValueError(f"attack.restarts must be an integer >= 1, got {self.restarts}")
        if self.restarts > 1 and not self.random_start:
            raise ValueError("attack.restarts above 1 needs attack.random_start, or all attempts are the same")

    def replaced(self, settings: Mapping[str, Any] | None) -> Self:
        """Return a copy with some settings changed.

        Raises:
            ValueError: for an unknown setting or a bad value.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        unknown = sorted(set(settings or {}) - set(values))
        if unknown:
            raise ValueError(f"attack has no setting {unknown[0]!r}; it has {', '.join(values)}")
        return type(self)(**{**values, **(settings or {})})


def pgd_linf_images(
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    *,
    eps: float,
    step_size: float,
    steps: int,
    random_start: bool,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Climb the cross-entropy of a model by steps of the gradient's sign, inside a box around each image.

    The model runs in evaluation mode and float32; its modes are restored and its parameters get no gradient. If it has
    a method ``attack_logits``, that is climbed instead of its output: the logits of an L2NNN are so close together
    that cross-entropy at their own scale hardly tells a good step from a bad one.

    Args:
        model: maps images to logits (B, K).
        image: in [0, 1].
        label: int64.
        eps: half the side of the box.
        step_size: length of a step in each pixel.
        steps: number of steps.
        random_start: begin at a uniformly random point of the box.
        restarts: number of attempts; each image is the one of its attempts with the largest cross-entropy.
        generator: source of the random start; the global one of the device if None.

    Returns:
        Images within ``eps`` of ``image`` in every pixel and within [0, 1], detached.

    Shape:
        - image: (B, C, H, W)
        - label: (B,)
        - Output: (B, C, H, W)

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.
    """
    logits_of: Callable[[Tensor], Tensor] = getattr(model, "attack_logits", model)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        # Weights do not change between the steps, so a parametrized weight is computed once for all of them.
        with torch.inference_mode(False), torch.enable_grad(), _no_autocast(image), parametrize.cached():
            image, label = image.clone(), label.clone()
            lower, upper = (image - eps).clamp(min=0), (image + eps).clamp(max=1)
            worst, largest = image, torch.full_like(label, -torch.inf, dtype=image.dtype)
            for _ in range(restarts):
                attacked = image
                if random_start:
                    noise = torch.rand(image.shape, generator=generator, device=image.device, dtype=image.dtype)
                    attacked = torch.clamp(image + eps * (2 * noise - 1), lower, upper)
                for _ in range(steps):
                    attacked = attacked.detach().requires_grad_()
                    # A sum, not a mean: the sign is the same and small gradients are not divided further.
                    loss = F.cross_entropy(logits_of(attacked), label, reduction="sum")
                    (gradient,) = torch.autograd.grad(loss, attacked)
                    attacked = torch.clamp(attacked.detach() + step_size * gradient.sign(), lower, upper)
                attacked = attacked.detach()
                if restarts == 1:
                    return attacked
                with torch.no_grad():
                    reached = F.cross_entropy(logits_of(attacked), label, reduction="none")
                worst = torch.where((reached > largest)[:, None, None, None], attacked, worst)
                largest = torch.maximum(largest, reached)
            return worst
    finally:
        # Parents come first, so a child whose mode differs from its parent's is set after it.
        for module, mode in modes:
            if module.training != mode:
                module.train(mode)


def _no_autocast(image: Tensor) -> torch.autocast:
    return torch.autocast(image.device.type, enabled=False)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""What every attack takes and gives back, and how its success is measured."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["AttackResult", "NormKind", "check_at_least", "check_batch", "check_positive"]
__all__ += ["distance", "spread"]

NormKind = Literal["L2", "Linf"]


class AttackResult(NamedTuple):
    """One row per sample of an attacked batch.

    Attributes:
        images: the adversarial images; the original one where the attack failed.
        norm: (B,) distance of ``images`` from the originals in the attack's norm, measured on the very images
            returned: 0 where the model was wrong to begin with, infinite where the attack failed.
        broken: (B,) whether the model is wrong on ``images`` and, where the attack has an ``eps``, ``norm <= eps``.
        iterations: (B,) gradient steps spent on the sample, 0 where none was needed.
    """

    images: Tensor
    norm: Tensor
    broken: Tensor
    iterations: Tensor


def check_batch(images: Tensor, labels: Tensor, radius: Tensor | None = None) -> None:
    """Refuse, by a ValueError, a batch that an attack in the box [0, 1] would misread."""
    if images.dtype not in (torch.float32, torch.float64) or images.dim() < 2:
        raise ValueError(
            f"images must be a float32 or float64 batch, got {images.dtype} of shape {tuple(images.shape)}"
        )
    if labels.is_floating_point() or labels.shape != images.shape[:1]:
        raise ValueError(f"labels must be {len(images)} integers, got {labels.dtype} of shape {tuple(labels.shape)}")
    if radius is not None and radius.shape != labels.shape:
        raise ValueError(f"radius must have shape {tuple(labels.shape)}, got {tuple(radius.shape)}")
    lowest, highest = (bound.item() for bound in images.aminmax()) if images.numel() > 0 else (0, 1)
    if not (lowest >= 0 and highest <= 1):
        raise ValueError(
            f"images must lie in [0, 1], got values from {lowest:.4g} to {highest:.4g}: "
            "put any standardisation inside the model"
        )


def check_at_least(lowest: int, **settings: int | None) -> None:
    """Refuse, by a ValueError that names it, a setting below ``lowest``; None means that it is not set."""
    for name, value in settings.items():
        if value is not None and not value >= lowest:
            raise ValueError(f"{name} must be >= {lowest}, got {value}")


def check_positive(**settings: float | None) -> None:
    """Refuse, by a ValueError that names it, a setting that is not positive and finite; None means not set."""
    for name, value in settings.items():
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a positive number, got {value}")


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Refuse, by a ValueError that names them, a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value}")


def distance(images: Tensor, originals: Tensor, norm_kind: NormKind) -> Tensor:
    """Measure how far images moved, (B,), accumulated in double precision."""
    if len(images) == 0:
        return images.new_zeros(0)
    order = 2 if norm_kind == "L2" else torch.inf
    exact = torch.float32 if images.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    difference = images.flatten(1).to(exact) - originals.flatten(1).to(exact)
    lengths: Tensor = torch.linalg.vector_norm(difference, order, dim=1)
    return lengths.to(images.dtype)


def spread(values_B: Tensor, like: Tensor) -> Tensor:
    """View one value per sample so that it broadcasts over the samples' entries."""
    return values_B.view(-1, *[1] * (like.dim() - 1))

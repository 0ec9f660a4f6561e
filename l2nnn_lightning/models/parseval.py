"""Parseval networks (Cisse et al., 2017): orthonormal filters, convex aggregation (11), ReLU and max-pooling."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from l2nnn_lightning.models.base import ImageShape
from l2nnn_lightning.models.conv import ConvL2NNN
from l2nnn_lightning.nn.parametrization import nonexpansive_layers, raw_weight

__all__ = ["ConvexAggregation", "ParsevalNet", "parseval_retraction_"]


class ConvexAggregation(nn.Module):
    """Join a block with what skips it, as a convex combination: ``y = a x + (1 - a) f(x)``, equation (11).

    It is nonexpansive where f is, since ``a + (1 - a) = 1``; unlike (9) and (10) it scales nothing at the split. The
    coefficient is trained as a logit, so that it stays in (0, 1).

    Args:
        block: the map f, with outputs of its inputs' shape.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.logit = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Mix the input with the block's output."""
        share = torch.sigmoid(self.logit)
        mixed: Tensor = share * x + (1 - share) * self.block(x)
        return mixed


class ParsevalNet(ConvL2NNN):
    """The Parseval network of the size of the small MNIST L2NNN.

    Each convolution is followed by ReLU, an aggregation layer around a convolution of the same width, and 2x2
    max-pooling; dense layers and one orthonormal layer of K outputs end it. The copies that a convolution makes are
    paid for with ``1 / sqrt(k)``, as Parseval networks do. :func:`parseval_retraction_` keeps the filters orthonormal
    after each step of the optimizer. What it leaves over is divided out by hard scaling, so the certificate (Lemma 1)
    rests on a bound and not on how well the retraction converged.

    Args:
        channels: filters of each convolution.
        **options: the rest, as for :class:`ConvL2NNN`.

    References:
        Cisse et al., "Parseval Networks: Improving Robustness to Adversarial Examples", ICML 2017.
    """

    def __init__(
        self, image_shape: ImageShape, num_labels: int, *, channels: Sequence[int] = (16, 32), **options: Any
    ) -> None:
        super().__init__(
            image_shape, num_labels, channels=channels, pooling="max", activation="relu", head="single", **options
        )

    def ending(self, filters: int, convolution: Callable[[int, int], list[nn.Module]]) -> list[nn.Module]:
        """End a stage with an aggregation layer around a convolution."""
        return [ConvexAggregation(nn.Sequential(*convolution(filters, filters)))]


@torch.no_grad()
def parseval_retraction_(module: nn.Module, beta: float = 0.5, steps: int = 2) -> None:
    """Pull every nonexpansive layer's raw weight back towards orthonormal rows (or columns, whichever are fewer).

    ``W <- (1 + beta) W - beta W W^T W``, a step along the gradient of ``beta / 4 ||W^T W - I||^2``. With beta 1/2 it
    is Newton's iteration for the polar factor, which squares the distance of each singular value from 1. These must be
    below ``sqrt(3)``, as after a small step of the optimizer from orthonormal rows.

    Args:
        module: the network, changed in place.
        beta: how far to go, in (0, 1/2].
        steps: how often.

    Example:
        >>> from l2nnn_lightning.nn import nonexpansive
        >>> layer = nonexpansive(nn.Linear(2, 2))
        >>> raw = raw_weight(layer)
        >>> raw.data = torch.tensor([[1.1, 0.0], [0.0, 0.9]])
        >>> parseval_retraction_(layer, steps=4)
        >>> torch.allclose(raw, torch.eye(2))
        True
    """
    for layer, scaling in nonexpansive_layers(module):
        raw = raw_weight(layer)
        weight = scaling.matrices(raw)
        is_wide = weight.shape[-2] <= weight.shape[-1]
        for _ in range(steps):
            # The smaller of the two Gram matrices gives the same product.
            cubic = (weight @ weight.mT) @ weight if is_wide else weight @ (weight.mT @ weight)
            weight = (1 + beta) * weight - beta * cubic
        raw.copy_(weight.reshape(raw.shape))

"""Parseval networks (Cisse et al., 2017): orthonormal filters, convex aggregation (11), ReLU and max-pooling."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from l2nnn_lightning.models.base import ImageShape
from l2nnn_lightning.models.conv import ConvL2NNN
from l2nnn_lightning.nn.proof.arithmetic import Affine, Arithmetic, inflate
from l2nnn_lightning.nn.proof.blocks import within
from l2nnn_lightning.nn.proof.signal import Signal, UnprovableError, follow, stage

__all__ = ["ConvexAggregation", "ParsevalNet"]


class ConvexAggregation(nn.Module):
    """Join a block with what skips it, as a convex combination: ``y = a x + (1 - a) f(x)``, equation (11).

    It is nonexpansive where f is, since ``a + (1 - a) = 1``; unlike (9) and (10) it scales nothing at the split. The
    coefficient is trained as a logit, so that it stays in (0, 1).

    Args:
        block: the map f, with outputs of its inputs' shape.
    """

    kept: Tensor | None

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.logit = nn.Parameter(torch.zeros(()))
        self.register_buffer("kept", None, persistent=False)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the coefficient as a number: no two libraries need to agree on a sigmoid."""
        self.kept = torch.sigmoid(self.logit)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the input with the block's output."""
        share = torch.sigmoid(self.logit) if self.kept is None else self.kept
        mixed: Tensor = share * x + (1 - share) * self.block(x)
        return mixed


@stage(ConvexAggregation)
def _(layer: ConvexAggregation, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """``y = a x + a' f(x)`` with a stored and ``a' = fl(1 - a)``, f of constant L: Lipschitz with ``a + a' L``.

    What is computed at some x' is off by a' times the branch's own error, and two roundings of each product.
    """
    if signal.parts > 1:
        raise UnprovableError("ConvexAggregation joins what was split for each label")
    share = torch.sigmoid(layer.logit) if layer.kept is None else layer.kept
    # 1 - a is rounded once more in the program.
    share, rest = share.detach().reshape(1), (1 - share.detach().reshape(1)) * (1 + 2 * arithmetic.unit)
    branch = follow([layer.block], within(signal, signal.value, 1.0, arithmetic), arithmetic)
    constant = inflate(share + rest * branch.lipschitz)
    sums = signal.computed.times(share).plus(branch.computed.times(rest))
    own = branch.error.times(rest).plus(sums.times(arithmetic.gamma(6))).plus(8 * arithmetic.tiny * signal.entries**0.5)
    return replace(
        signal,
        value=layer(signal.value),
        lipschitz=inflate(signal.lipschitz * constant),
        norm=signal.norm.times(constant).plus(Affine.constant(branch.norm.offset).times(rest)),
        error=signal.error.times(constant).plus(own),
        peak=signal.peak.largest(branch.peak).largest(sums.times(2 / arithmetic.largest)),
        sided=False,
    )


class ParsevalNet(ConvL2NNN):
    """The Parseval network of the size of the small MNIST L2NNN.

    Each convolution is followed by ReLU, an aggregation layer around a convolution of the same width, and 2x2
    max-pooling; dense layers and one orthonormal layer of K outputs end it. The copies that a convolution makes are
    paid for with ``1 / sqrt(k)``, as Parseval networks do. :class:`ParsevalRetraction` keeps the filters orthonormal
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

"""Parseval networks (Cisse et al., 2017): orthonormal filters, convex aggregation (11), ReLU and max-pooling."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from l2nnn_lightning.models.base import ImageShape
from l2nnn_lightning.models.l2nnn import L2NNN
from l2nnn_lightning.models.options import check_kernel
from l2nnn_lightning.nn.heads import SingleHead
from l2nnn_lightning.nn.parametrization import Bound, nonexpansive, nonexpansive_layers

__all__ = ["ConvexAggregation", "ParsevalNet", "parseval_retraction_"]


class ConvexAggregation(nn.Module):
    """Join a block with what skips it, as a convex combination: ``y = a x + (1 - a) f(x)``, equation (11).

    It is nonexpansive where f is, since ``a + (1 - a) = 1``; unlike (9) and (10) it scales nothing at the split. The
    coefficient is trained as a logit, so that it stays in (0, 1).

    Args:
        block: the map f, with outputs of its inputs' shape.

    Shape:
        as ``block``.
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


class ParsevalNet(L2NNN):
    """The Parseval network of the size of the small MNIST L2NNN.

    Each convolution is followed by ReLU, an aggregation layer around a convolution of the same width, and 2x2
    max-pooling; dense layers and one orthonormal layer of K outputs end it. The copies that a convolution makes are
    paid for with ``1 / sqrt(k)``, as Parseval networks do. :func:`parseval_retraction_` keeps the filters orthonormal
    after each step of the optimizer. What it leaves over is divided out by hard scaling, so the certificate (Lemma 1)
    rests on a bound and not on how well the retraction converged.

    Args:
        image_shape: (channels, height, width) of the images.
        num_labels: the number K of labels.
        channels: filters of each convolution.
        kernel_size: their odd kernel size, at stride 1 with "same" zero padding.
        dense: outputs of each dense layer.
        bound: the bound of every layer; that of orthonormal rows is 1.
        **options: ``certificate``, ``hard`` and ``init``, see :class:`L2NNN`.

    Raises:
        ValueError: if the kernel is even or the image is too small for the poolings.

    References:
        Cisse et al., "Parseval Networks: Improving Robustness to Adversarial Examples", ICML 2017.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_labels: int,
        *,
        channels: Sequence[int] = (16, 32),
        kernel_size: int = 5,
        dense: Sequence[int] = (256,),
        bound: Bound = "gram",
        **options: Any,
    ) -> None:
        check_kernel(kernel_size, image_shape, len(channels))
        features, height, width = image_shape

        def convolution(inputs: int, outputs: int) -> list[nn.Module]:
            conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)
            return [nonexpansive(conv, bound), nn.ReLU()]

        layers: list[nn.Module] = []
        for filters in channels:
            layers += [
                *convolution(features, filters),
                ConvexAggregation(nn.Sequential(*convolution(filters, filters))),
                nn.MaxPool2d(2),
            ]
            features, height, width = filters, height // 2, width // 2
        layers.append(nn.Flatten())
        features *= height * width
        for outputs in dense:
            layers += [nonexpansive(nn.Linear(features, outputs), bound), nn.ReLU()]
            features = outputs
        super().__init__(nn.Sequential(*layers), SingleHead(features, num_labels, True, bound), **options)


@torch.no_grad()
def parseval_retraction_(module: nn.Module, beta: float = 0.5, steps: int = 2) -> None:
    """Pull every nonexpansive layer's raw weight back towards orthonormal rows (or columns, whichever are fewer).

    ``W <- (1 + beta) W - beta W W^T W``, a step along the gradient of ``beta / 4 ||W^T W - I||^2``. With beta 1/2 it
    is Newton's iteration for the polar factor, which squares the distance of each singular value from 1.

    Args:
        module: the network, changed in place. Singular values must be below ``sqrt(3)``, as after a small step of the
            optimizer from orthonormal rows.
        beta: how far to go, in (0, 1/2].
        steps: how often.

    Example:
        >>> layer = nonexpansive(nn.Linear(2, 2))
        >>> raw = layer.parametrizations.weight.original
        >>> raw.data = torch.tensor([[1.1, 0.0], [0.0, 0.9]])
        >>> parseval_retraction_(layer, steps=4)
        >>> torch.allclose(raw, torch.eye(2))
        True
    """
    for layer, scaling in nonexpansive_layers(module):
        raw: Tensor = layer.parametrizations["weight"].original  # type: ignore[index,union-attr]
        weight = scaling.matrices(raw)
        for _ in range(steps):
            # The smaller of the two Gram matrices gives the same product.
            if weight.shape[-2] <= weight.shape[-1]:
                cubic = (weight @ weight.mT) @ weight
            else:
                cubic = weight @ (weight.mT @ weight)
            weight = (1 + beta) * weight - beta * cubic
        raw.copy_(weight.reshape(raw.shape))

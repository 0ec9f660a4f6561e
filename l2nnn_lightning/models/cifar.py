"""The paper's CIFAR-10 network: one network per label, none of it shared (the released classifiers)."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from l2nnn_lightning.models.base import ImageShape
from l2nnn_lightning.models.l2nnn import L2NNN
from l2nnn_lightning.models.options import check_kernel
from l2nnn_lightning.nn.activations import TwoSidedReLU
from l2nnn_lightning.nn.heads import MultiHead
from l2nnn_lightning.nn.labelwise import CenterCrop2d, PerLabel, RepeatPerLabel
from l2nnn_lightning.nn.parametrization import Bound, nonexpansive
from l2nnn_lightning.nn.pooling import NormPool2d

__all__ = ["SeparateL2NNNs"]


class SeparateL2NNNs(L2NNN):
    """K separate networks: centre crop; convolution; then (convolution, norm-pool) for the rest; a dense stack.

    They run as one: convolutions in K groups, each scaled by its own bound, and batched products.

    Args:
        image_shape: (channels, height, width) of the images.
        num_labels: the number K of labels.
        crop: side of the centre that is looked at; a crop is nonexpansive.
        channels: filters of each convolution, per label; two-sided ReLU doubles them.
        kernel_size: their odd kernel size, at stride 1 with "same" zero padding.
        head_hidden: outputs of each inner dense layer, per label.
        bound: the bound of every layer.
        **options: ``certificate``, ``hard`` and ``init``, see :class:`L2NNN`.

    Raises:
        ValueError: if the kernel is even or the crop does not fit or is too small for the poolings.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_labels: int,
        *,
        crop: int = 28,
        channels: Sequence[int] = (16, 16, 32),
        kernel_size: int = 3,
        head_hidden: Sequence[int] = (64,),
        bound: Bound = "gram",
        **options: Any,
    ) -> None:
        inputs, height, width = image_shape
        if not 0 < crop <= min(height, width):
            raise ValueError(f"crop must be in [1, {min(height, width)}] for images of {height}x{width}, got {crop}")
        check_kernel(kernel_size, (inputs, crop, crop), len(channels) - 1)
        layers: list[nn.Module] = [CenterCrop2d(crop), RepeatPerLabel(num_labels)]
        side = crop
        for i, filters in enumerate(channels):
            conv = nn.Conv2d(
                num_labels * inputs, num_labels * filters, kernel_size, padding=kernel_size // 2, groups=num_labels
            )
            layers += [nonexpansive(conv, bound), PerLabel(num_labels, TwoSidedReLU())]
            inputs = 2 * filters
            if i > 0:
                layers.append(NormPool2d(2))
                side //= 2
        layers.append(nn.Unflatten(1, (num_labels, inputs)))
        layers.append(nn.Flatten(2))
        head = MultiHead(inputs * side * side, num_labels, head_hidden, bound=bound)
        super().__init__(nn.Sequential(*layers), head, **options)

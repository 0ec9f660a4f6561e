"""Ordinary networks to compare with: Madry's MNIST net, and the plain twin of any convolutional L2NNN."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from l2nnn_lightning.models.base import ImageShape, Network
from l2nnn_lightning.models.conv import ConvL2NNN, Pooling
from l2nnn_lightning.models.options import Activation
from l2nnn_lightning.nn.parametrization import fold

__all__ = ["MadryNet", "PlainTwin"]


class MadryNet(Network, nn.Sequential):
    """The four-layer network of Madry et al. (2017): two 5x5 convolutions, max-pooling, a dense layer of 1024.

    Args:
        image_shape: (channels, height, width) of the images, 4 pixels a side at least.
        num_labels: the number K of labels.
        dropout: probability of leaving out each dense feature, in [0, 1].
        channels: filters of the two convolutions.
        dense: outputs of the dense layer.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_labels: int,
        *,
        dropout: float = 0.0,
        channels: Sequence[int] = (32, 64),
        dense: int = 1024,
    ) -> None:
        first, second = channels
        inputs, height, width = image_shape
        if min(height, width) < 4:
            raise ValueError(f"images of {height}x{width} are too small for two poolings")
        super().__init__(
            nn.Conv2d(inputs, first, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * (height // 4) * (width // 4), dense),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dense, num_labels),
        )


class PlainTwin(Network, nn.Sequential):
    """The ordinary network of a convolutional L2NNN's architecture: plain layers, ReLU, max-pooling.

    Args:
        image_shape: (channels, height, width) of the images.
        num_labels: the number K of labels.
        dropout: probability of leaving out each feature before the heads, in [0, 1].
        activation: as for :class:`ConvL2NNN`.
        pooling: as for :class:`ConvL2NNN`.
        **options: the rest of the architecture, as for :class:`ConvL2NNN`.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_labels: int,
        *,
        dropout: float = 0.0,
        activation: Activation = "relu",
        pooling: Pooling = "max",
        **options: Any,
    ) -> None:
        twin = fold(ConvL2NNN(image_shape, num_labels, activation=activation, pooling=pooling, **options))
        for layer in twin.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.reset_parameters()
        super().__init__(twin.trunk, nn.Dropout(dropout), twin.head)

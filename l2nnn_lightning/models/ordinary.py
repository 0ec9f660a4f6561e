"""Ordinary networks to compare with: Madry's MNIST net, and the plain twin of any L2NNN."""

from typing import Any

from torch import nn

from l2nnn_lightning.models.mnist import conv_l2nnn
from l2nnn_lightning.nn.parametrization import fold

__all__ = ["madry_mnist", "plain_twin"]


def madry_mnist(
    image_shape: tuple[int, int, int],
    num_labels: int,
    *,
    dropout: float = 0.0,
    channels: tuple[int, int] = (32, 64),
    dense: int = 1024,
) -> nn.Sequential:
    """Build the four-layer network of Madry et al. (2017): two 5x5 convolutions, max-pooling, a dense layer of 1024.

    Args:
        image_shape: (channels, height, width) of the images, 4 pixels a side at least.
        num_labels: the number K of labels.
        dropout: probability of leaving out each dense feature, in [0, 1].
        channels: filters of the two convolutions.
        dense: outputs of the dense layer.

    Returns:
        The network: (B, C, H, W) -> (B, K).
    """
    first, second = channels
    inputs, height, width = image_shape
    if min(height, width) < 4:
        raise ValueError(f"images of {height}x{width} are too small for two poolings")
    return nn.Sequential(
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


def plain_twin(
    image_shape: tuple[int, int, int], num_labels: int, *, dropout: float = 0.0, **options: Any
) -> nn.Sequential:
    """Build the ordinary network of an L2NNN's architecture: plain layers, ReLU, max-pooling.

    Args:
        image_shape: (channels, height, width) of the images.
        num_labels: the number K of labels.
        dropout: probability of leaving out each feature before the heads, in [0, 1].
        options: the architecture, as for :func:`conv_l2nnn`.

    Returns:
        The network: (B, C, H, W) -> (B, K).
    """
    options = {"activation": "relu", "pooling": "max"} | options
    twin = fold(conv_l2nnn(image_shape, num_labels, **options))
    for layer in twin.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.reset_parameters()
    return nn.Sequential(twin.trunk, nn.Dropout(dropout), twin.head)

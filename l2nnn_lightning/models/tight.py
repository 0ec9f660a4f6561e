"""Networks that lose little distance: copies are bounded as operators, pixels are regrouped instead of pooled."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from l2nnn_lightning.models.activations import Activation, activation_of
from l2nnn_lightning.models.l2nnn import L2NNN
from l2nnn_lightning.nn.heads import MultiHead
from l2nnn_lightning.nn.initialization import dirac_, orthogonal_
from l2nnn_lightning.nn.normalization import SubtractMean
from l2nnn_lightning.nn.parametrization import Bound, nonexpansive
from l2nnn_lightning.nn.pooling import NormPool2d, PixelUnshuffle

__all__ = ["cifar_tight", "conv_tight"]


def cifar_tight(
    image_shape: tuple[int, int, int],
    num_labels: int,
    *,
    channels: Sequence[int] = (48, 96),
    depth: int = 2,
    kernel_size: int = 3,
    dense: Sequence[int] = (256,),
    head_bias: bool = True,
    activation: Activation = "maxmin",
    mean: float | Sequence[float] = 0.5,
    bound: Bound = "operator_columns",
) -> L2NNN:
    """Build a trunk that begins as an isometry as far as its widths allow: mean, (unshuffle, convolutions), dense.

    Each stage regroups 2x2 pixels into channels, which keeps every distance, and goes on with ``depth`` convolutions
    that begin as the identity. A logit is one unit row on the shared features.

    Args:
        image_shape: (channels, height, width) of the images.
        num_labels: the number K of labels.
        channels: filters of each convolution of each stage.
        depth: convolutions a stage.
        kernel_size: their odd kernel size, at stride 1 with "same" zero padding.
        dense: outputs of each shared dense layer.
        head_bias: whether each logit adds a bias.
        activation: what follows each convolution and dense layer; two-sided ReLU doubles the channels.
        mean: what is subtracted from the images, one number or one per channel (A.5).
        bound: the bound of every layer.

    Returns:
        The network, soft, with delta kernels and orthogonal dense layers.

    Raises:
        ValueError: if an option is out of range or the image's sides are no multiple of ``2 ** len(channels)``.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    build, widening = activation_of(activation, (*channels, *dense))
    features, height, width = image_shape
    step: int = 2 ** len(channels)
    if height % step or width % step:
        raise ValueError(f"images of {height}x{width}: {len(channels)} unshuffles need sides divisible by {step}")
    layers: list[nn.Module] = [SubtractMean(mean)]
    for filters in channels:
        layers.append(PixelUnshuffle(2))
        features *= 4
        for _ in range(depth):
            layers += [_convolution(features, filters, kernel_size, bound), build()]
            features = filters * widening
    features *= (height // step) * (width // step)
    network = _finish(layers, features, num_labels, dense, head_bias, activation, bound)
    dirac_(network)
    return network


def conv_tight(
    image_shape: tuple[int, int, int],
    num_labels: int,
    *,
    channels: Sequence[int] = (16, 32),
    kernel_size: int = 5,
    pooling: Literal["norm", "unshuffle"] = "norm",
    dense: Sequence[int] = (256,),
    head_bias: bool = True,
    activation: Activation = "two_sided_relu",
    mean: float | Sequence[float] = 0.0,
    bound: Bound = "operator_columns",
) -> L2NNN:
    """Build a small network for images such as digits: one convolution a stage, then dense layers and unit rows.

    Args:
        image_shape: (channels, height, width) of the images.
        num_labels: the number K of labels.
        channels: filters of each convolution.
        kernel_size: their odd kernel size, at stride 1 with "same" zero padding.
        pooling: 2x2 norm-pooling after each convolution, or regrouping 2x2 pixels into channels before it.
        dense: outputs of each shared dense layer.
        head_bias: whether each logit adds a bias.
        activation: what follows each convolution and dense layer; two-sided ReLU doubles the channels.
        mean: what is subtracted from the images, one number or one per channel (A.5).
        bound: the bound of every layer.

    Returns:
        The network, soft: with norm-pooling all weights are orthogonal, otherwise the kernels are deltas.

    Raises:
        ValueError: if an option is out of range or the image's sides do not allow the pooling.
    """
    if pooling == "unshuffle":
        return cifar_tight(
            image_shape,
            num_labels,
            channels=channels,
            depth=1,
            kernel_size=kernel_size,
            dense=dense,
            head_bias=head_bias,
            activation=activation,
            mean=mean,
            bound=bound,
        )
    if pooling != "norm":
        raise ValueError(f"pooling must be 'norm' or 'unshuffle', got {pooling!r}")
    build, widening = activation_of(activation, (*channels, *dense))
    features, height, width = image_shape
    if min(height, width) >> len(channels) == 0:
        raise ValueError(f"images of {height}x{width} are too small for {len(channels)} poolings")
    layers: list[nn.Module] = [SubtractMean(mean)]
    for filters in channels:
        layers += [_convolution(features, filters, kernel_size, bound), build(), NormPool2d(2)]
        features, height, width = filters * widening, height // 2, width // 2
    return _finish(layers, features * height * width, num_labels, dense, head_bias, activation, bound)


def _convolution(inputs: int, filters: int, kernel_size: int, bound: Bound) -> nn.Module:
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, got {kernel_size}")
    return nonexpansive(nn.Conv2d(inputs, filters, kernel_size, padding=kernel_size // 2), bound)


def _finish(
    layers: list[nn.Module],
    features: int,
    num_labels: int,
    dense: Sequence[int],
    head_bias: bool,
    activation: Activation,
    bound: Bound,
) -> L2NNN:
    """Flatten, add the dense layers and the heads, and make every weight orthogonal."""
    build, widening = activation_of(activation)
    layers.append(nn.Flatten())
    for outputs in dense:
        layers += [nonexpansive(nn.Linear(features, outputs), bound), build()]
        features = outputs * widening
    network = L2NNN(nn.Sequential(*layers), MultiHead(features, num_labels, bias=head_bias, bound=bound))
    orthogonal_(network)
    return network

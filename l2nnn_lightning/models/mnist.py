"""The paper's MNIST network and a small one, for any image of one size (section 3 and the released classifiers)."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from l2nnn_lightning.models.l2nnn import L2NNN
from l2nnn_lightning.nn.activations import TwoSidedReLU
from l2nnn_lightning.nn.heads import MultiHead, SingleHead
from l2nnn_lightning.nn.initialization import orthogonal_
from l2nnn_lightning.nn.parametrization import Bound, nonexpansive
from l2nnn_lightning.nn.pooling import NormPool2d

__all__ = ["conv_l2nnn"]


def conv_l2nnn(
    image_shape: tuple[int, int, int],
    num_labels: int,
    *,
    channels: Sequence[int] = (8, 32),
    kernel_size: int = 5,
    dense: Sequence[int] = (256,),
    head_hidden: Sequence[int] = (),
    head: Literal["multi", "single"] = "multi",
    head_bias: bool = True,
    activation: Literal["two_sided_relu", "relu"] = "two_sided_relu",
    pooling: Literal["norm", "max"] = "norm",
    bound: Bound = "gram",
) -> L2NNN:
    """Build convolutions with 2x2 pooling, shared dense layers and a stack per label.

    Args:
        image_shape: (channels, height, width) of the images.
        num_labels: the number K of labels.
        channels: filters of each convolution; each is followed by the activation and pooling. Eight principal
            directions of a 5x5 patch of one channel keep nearly all of its length.
        kernel_size: their odd kernel size, at stride 1 with "same" zero padding.
        dense: outputs of each shared dense layer, each followed by the activation.
        head_hidden: outputs of each inner layer of a label's stack (``head="multi"``).
        head: K overlapping L2NNNs, or one jointly nonexpansive layer.
        head_bias: whether the last layer adds a bias.
        activation: two-sided ReLU doubles the channels; ReLU is the ablation of table 3.
        pooling: norm-pooling; max-pooling is the ablation of table 3.
        bound: the bound of every layer.

    Returns:
        The network, with orthogonal weights, soft.

    Raises:
        ValueError: if the kernel is even or the image is too small for the poolings.
    """
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, got {kernel_size}")
    two_sided = activation == "two_sided_relu"
    if not two_sided and activation != "relu":
        raise ValueError(f"activation must be 'two_sided_relu' or 'relu', got {activation!r}")
    if pooling not in ("norm", "max"):
        raise ValueError(f"pooling must be 'norm' or 'max', got {pooling!r}")
    if head not in ("multi", "single"):
        raise ValueError(f"head must be 'multi' or 'single', got {head!r}")
    features, height, width = image_shape
    if min(height, width) >> len(channels) == 0:
        raise ValueError(f"images of {height}x{width} are too small for {len(channels)} poolings")
    layers: list[nn.Module] = []
    for filters in channels:
        layers += [
            nonexpansive(nn.Conv2d(features, filters, kernel_size, padding=kernel_size // 2), bound),
            TwoSidedReLU() if two_sided else nn.ReLU(),
            NormPool2d(2) if pooling == "norm" else nn.MaxPool2d(2),
        ]
        features, height, width = filters * (1 + two_sided), height // 2, width // 2
    layers.append(nn.Flatten())
    features *= height * width
    for outputs in dense:
        layers += [nonexpansive(nn.Linear(features, outputs), bound), TwoSidedReLU() if two_sided else nn.ReLU()]
        features = outputs * (1 + two_sided)
    last = (
        MultiHead(features, num_labels, head_hidden, head_bias, bound, two_sided)
        if head == "multi"
        else SingleHead(features, num_labels, head_bias, bound)
    )
    network = L2NNN(nn.Sequential(*layers), last)
    orthogonal_(network)
    return network

"""Convolutional and dense networks: the paper's for MNIST, and those that regroup pixels instead of pooling them."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import nn

from l2nnn_lightning.models.base import ImageShape
from l2nnn_lightning.models.l2nnn import L2NNN
from l2nnn_lightning.models.options import Activation, activation_of, check_choice, check_kernel
from l2nnn_lightning.nn.heads import MultiHead, SingleHead
from l2nnn_lightning.nn.initialization import dirac_
from l2nnn_lightning.nn.normalization import SubtractMean
from l2nnn_lightning.nn.parametrization import Bound, nonexpansive
from l2nnn_lightning.nn.pooling import NormPool2d, PixelUnshuffle

__all__ = ["ConvL2NNN", "Pooling"]

Pooling = Literal["norm", "max", "unshuffle"]
Head = Literal["multi", "single"]


class ConvL2NNN(L2NNN):
    """Convolutions, shared dense layers and a stack per label: the paper's MNIST network (section 3), and its variants.

    With ``pooling: unshuffle`` each stage regroups 2x2 pixels into channels, which keeps every distance, and its
    convolutions begin as the identity (delta kernels): a trunk that is an isometry as far as its widths allow.
    Without convolutions (``channels: []``) it is a dense network.

    Args:
        image_shape: (channels, height, width) of the images.
        num_labels: the number K of labels.
        channels: filters of the convolutions of each stage. Eight principal directions of a 5x5 patch of one channel
            keep nearly all of its length.
        depth: convolutions a stage, each followed by the activation.
        kernel_size: their odd kernel size, at stride 1 with "same" zero padding.
        pooling: 2x2 norm-pooling at the end of each stage; max-pooling, the ablation of table 3; or regrouping 2x2
            pixels into channels at its beginning.
        dense: outputs of each shared dense layer, each followed by the activation.
        head_hidden: outputs of each inner layer of a label's stack (``head: multi``).
        head: K overlapping L2NNNs, or one jointly nonexpansive layer.
        head_bias: whether the last layer adds a bias.
        activation: two-sided ReLU doubles the channels; MaxMin sorts pairs of them; ReLU is the ablation of table 3.
        mean: what is subtracted from the images, one number or one per channel (A.5); null for nothing.
        bound: the bound of every layer.
        **options: ``certificate``, ``hard`` and ``init``, see :class:`L2NNN`.

    Raises:
        ValueError: if an option is out of range, or the image's sides do not allow the pooling.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_labels: int,
        *,
        channels: Sequence[int] = (8, 32),
        depth: int = 1,
        kernel_size: int = 5,
        pooling: Pooling = "norm",
        dense: Sequence[int] = (256,),
        head_hidden: Sequence[int] = (),
        head: Head = "multi",
        head_bias: bool = True,
        activation: Activation = "two_sided_relu",
        mean: float | Sequence[float] | None = None,
        bound: Bound = "gram",
        **options: Any,
    ) -> None:
        check_choice("pooling", pooling, Pooling)
        check_choice("head", head, Head)
        check_kernel(kernel_size, image_shape, len(channels))
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}")
        build, widening = activation_of(activation, (*channels, *dense))
        features, height, width = image_shape
        step = 2 ** len(channels)
        if pooling == "unshuffle" and (height % step or width % step):
            raise ValueError(f"images of {height}x{width}: {len(channels)} unshuffles need sides divisible by {step}")
        pools: dict[str, Callable[[], nn.Module]] = {
            "norm": lambda: NormPool2d(2),
            "max": lambda: nn.MaxPool2d(2),
        }
        layers: list[nn.Module] = [] if mean is None else [SubtractMean(mean)]
        for filters in channels:
            if pooling == "unshuffle":
                layers.append(PixelUnshuffle(2))
                features *= 4
            for _ in range(depth):
                convolution = nn.Conv2d(features, filters, kernel_size, padding=kernel_size // 2)
                layers += [nonexpansive(convolution, bound), build()]
                features = filters * widening
            if pooling != "unshuffle":
                layers.append(pools[pooling]())
            height, width = height // 2, width // 2
        layers.append(nn.Flatten())
        features *= height * width
        for outputs in dense:
            layers += [nonexpansive(nn.Linear(features, outputs), bound), build()]
            features = outputs * widening
        last = (
            MultiHead(features, num_labels, head_hidden, head_bias, bound, activation != "relu")
            if head == "multi"
            else SingleHead(features, num_labels, head_bias, bound)
        )
        super().__init__(nn.Sequential(*layers), last, **options)
        if pooling == "unshuffle":
            dirac_(self)

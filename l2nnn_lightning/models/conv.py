"""Convolutional and dense networks: the paper's for MNIST and CIFAR-10, and those that regroup pixels."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import nn

from l2nnn_lightning.models.base import ImageShape
from l2nnn_lightning.models.l2nnn import L2NNN, Activation, activation_of, check_choice, check_kernel, dense_layers
from l2nnn_lightning.nn.activations import TwoSidedReLU
from l2nnn_lightning.nn.heads import MultiHead, SingleHead
from l2nnn_lightning.nn.initialization import dirac_
from l2nnn_lightning.nn.labelwise import CenterCrop2d, PerLabel, RepeatPerLabel
from l2nnn_lightning.nn.normalization import SubtractMean
from l2nnn_lightning.nn.parametrization import Bound, nonexpansive
from l2nnn_lightning.nn.pooling import LpPool2d, NormPool2d, PixelUnshuffle

__all__ = ["ConvL2NNN", "Pooling", "SeparateL2NNNs"]

Pooling = Literal["norm", "max", "unshuffle"]
Head = Literal["multi", "single"]


class ConvL2NNN(L2NNN):
    """Convolutions, shared dense layers and a stack per label: the paper's MNIST network (section 3), and its variants.

    With ``pooling: unshuffle`` each stage regroups 2x2 pixels into channels, which keeps every distance, and its
    convolutions begin as the identity (delta kernels): a trunk that is an isometry as far as its widths allow.
    Without convolutions (``channels: []``) it is a dense network.

    Args:
        channels: filters of the convolutions of each stage. Eight principal directions of a 5x5 patch of one channel
            keep nearly all of its length.
        depth: convolutions a stage, each followed by the activation.
        kernel_size: their odd kernel size, at stride 1 with "same" zero padding.
        pooling: 2x2 norm-pooling at the end of each stage; max-pooling, the ablation of table 3; or regrouping 2x2
            pixels into channels at its beginning.
        norm_order: p of the Lp norm that norm-pooling takes, in [1, infinity] (``.inf``); 2 is the paper's.
        dense: outputs of each shared dense layer, each followed by the activation.
        head_hidden: outputs of each inner layer of a label's stack (``head: multi``).
        head: K overlapping L2NNNs, or one jointly nonexpansive layer.
        head_bias: whether the last layer adds a bias.
        activation: two-sided ones double the channels; MaxMin sorts pairs of them; ReLU is the ablation of table 3. A
            sigmoid's height is trained for each neuron.
        mean: what is subtracted from the images, one number or one per channel (A.5); null for nothing.
        dropout: probability of leaving out each feature before the last layers, in [0, 1); in training alone, so that
            it takes nothing from a certificate.
        bound: the bound of every layer.
        **options: ``certificate``, ``hard`` and ``init``, see :class:`L2NNN`.
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
        norm_order: float = 2.0,
        dense: Sequence[int] = (256,),
        head_hidden: Sequence[int] = (),
        head: Head = "multi",
        head_bias: bool = True,
        activation: Activation = "two_sided_relu",
        mean: float | Sequence[float] | None = None,
        dropout: float = 0.0,
        bound: Bound = "gram",
        **options: Any,
    ) -> None:
        check_choice("pooling", pooling, Pooling)
        check_choice("head", head, Head)
        check_kernel(kernel_size, image_shape, len(channels))
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        build, widening = activation_of(activation, (*channels, *dense))
        in_stacks = activation_of(activation, head_hidden, dim=2)

        def convolution(inputs: int, outputs: int) -> list[nn.Module]:
            layer = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)
            return [nonexpansive(layer, bound), build((outputs, height, width))]

        features, height, width = image_shape
        step = 2 ** len(channels)
        if pooling == "unshuffle" and (height % step or width % step):
            raise ValueError(f"images of {height}x{width}: {len(channels)} unshuffles need sides divisible by {step}")
        layers: list[nn.Module] = [] if mean is None else [SubtractMean(mean)]
        for filters in channels:
            if pooling == "unshuffle":
                layers.append(PixelUnshuffle(2))
                features, height, width = 4 * features, height // 2, width // 2
            for _ in range(depth):
                layers += convolution(features, filters)
                features = filters * widening
            layers += self.ending(filters, convolution)
            if pooling != "unshuffle":
                norm = NormPool2d(2) if norm_order == 2 else LpPool2d(norm_order, 2)
                layers.append(norm if pooling == "norm" else nn.MaxPool2d(2))
                height, width = height // 2, width // 2
        layers.append(nn.Flatten())
        features *= height * width
        stack, features = dense_layers(features, dense, build, widening, bound)
        last = (
            MultiHead(features, num_labels, head_hidden, head_bias, bound, in_stacks)
            if head == "multi"
            else SingleHead(features, num_labels, head_bias, bound)
        )
        if dropout:
            stack.append(nn.Dropout(dropout))
        super().__init__(nn.Sequential(*layers, *stack), last, **options)
        if pooling == "unshuffle":
            dirac_(self)

    def ending(self, filters: int, convolution: Callable[[int, int], list[nn.Module]]) -> list[nn.Module]:  # noqa: ARG002
        """Add layers to the convolutions of a stage, in subclasses; ``convolution`` builds one and its activation."""
        return []


class SeparateL2NNNs(L2NNN):
    """The paper's network for CIFAR-10 as released, K separate ones, none of it shared between labels.

    Centre crop; convolution; then (convolution, norm-pool) for the rest; a dense stack. They run as one:
    convolutions in K groups, each scaled by its own bound, and batched products.

    Args:
        crop: side of the centre that is looked at; a crop is nonexpansive.
        channels: filters of each convolution, per label; two-sided ReLU doubles them.
        kernel_size: their odd kernel size, at stride 1 with "same" zero padding.
        head_hidden: outputs of each inner dense layer, per label.
        bound: the bound of every layer.
        **options: ``certificate``, ``hard`` and ``init``, see :class:`L2NNN`.
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
        layers += [nn.Unflatten(1, (num_labels, inputs)), nn.Flatten(2)]
        head = MultiHead(inputs * side * side, num_labels, head_hidden, bound=bound)
        super().__init__(nn.Sequential(*layers), head, **options)

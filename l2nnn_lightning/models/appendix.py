"""The networks of the appendix: residual blocks (A.3), and an image that is read row by row (A.4)."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from l2nnn_lightning.models.base import ImageShape
from l2nnn_lightning.models.l2nnn import L2NNN, Activation, activation_of, check_choice, check_kernel, dense_layers
from l2nnn_lightning.nn.heads import MultiHead
from l2nnn_lightning.nn.initialization import dirac_
from l2nnn_lightning.nn.normalization import (
    BatchScaling,
    BoundedScaling,
    SubtractBatchMean,
    SubtractMean,
    SubtractSubsetMeans,
)
from l2nnn_lightning.nn.parametrization import Bound, nonexpansive
from l2nnn_lightning.nn.pooling import PixelUnshuffle
from l2nnn_lightning.nn.recurrent import LastStep, Reading, Recurrent, RowsAsSteps
from l2nnn_lightning.nn.residual import Residual, SharedOver

__all__ = ["ResNetL2NNN", "RowsRNN"]

Readout = Literal["last", "all"]
Normalization = Literal["none", "batch", "batch_std", "sample"]


class ResNetL2NNN(L2NNN):
    """Stages of residual blocks (9), (10), shared dense layers and a stack per label.

    A stage regroups 2x2 pixels into channels, applies one convolution and the activation, then ``depth`` blocks (9),
    (10) whose branch is convolution, activation, convolution. Kernels begin as the identity: what a stage's first
    activation gives is sorted (or not negative), the branch hands it on unchanged, and so does the block, for any t.
    Sides that are no multiple of ``2 ** len(channels)`` are padded with zeros, which keeps every distance.

    Args:
        channels: filters of each stage's first convolution; two-sided ReLU doubles the channels of its blocks.
        depth: residual blocks a stage.
        kernel_size: the odd kernel size, at stride 1 with "same" zero padding.
        t: what shares one t of (9) and (10): a block, a channel, or no two entries.
        initial_t: the initial t, in [0, 1]; 1 is the identity.
        shared_t: whether (10) uses the t of (9).
        added: how many of a branch's outputs are added to as many of the block's channels (10), the first ones; null
            for all. The block's other channels pass, scaled by t of (9) alone.
        grown: how many further outputs a branch has, which become new channels of the block: it widens by them.
        normalize: what stands behind each branch (A.5). ``batch``, or true: subtract the batch's mean per channel, and
            scale channels by trained factors in [-1, 1]; ``batch_std``: by factors over the batch's standard
            deviation, all divided by the largest; ``sample``: subtract the sample's own mean over each of
            ``mean_groups`` groups of neighbouring channels; ``none``, or false.
        mean_groups: see ``normalize``.
        dense: outputs of each shared dense layer.
        head_hidden: outputs of each inner layer of a label's stack.
        head_bias: whether each logit adds a bias.
        activation: the nonlinearity of the trunk.
        mean: what is subtracted from the images, one number or one per channel (A.5).
        bound: the bound of every layer.
        **options: ``certificate``, ``hard`` and ``init``, see :class:`L2NNN`.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_labels: int,
        *,
        channels: Sequence[int] = (48, 96),
        depth: int = 2,
        kernel_size: int = 3,
        t: SharedOver = "channel",
        initial_t: float = math.sqrt(0.5),
        shared_t: bool = True,
        added: int | None = None,
        grown: int = 0,
        normalize: bool | Normalization = False,
        mean_groups: int = 1,
        dense: Sequence[int] = (256,),
        head_hidden: Sequence[int] = (),
        head_bias: bool = True,
        activation: Activation = "maxmin",
        mean: float | Sequence[float] = 0.5,
        bound: Bound = "operator_columns",
        **options: Any,
    ) -> None:
        if depth < 1 or not channels:
            raise ValueError(f"depth must be at least 1 and channels not empty, got {depth} and {tuple(channels)}")
        if isinstance(normalize, bool):
            normalize = "batch" if normalize else "none"
        check_choice("normalize", normalize, Normalization)
        check_kernel(kernel_size, image_shape, 0)
        build, widening = activation_of(activation, (*channels, *dense))
        narrowest = min(channels) * widening
        if grown < 0 or not 0 <= (narrowest if added is None else added) <= narrowest:
            raise ValueError(f"grown must be at least 0, added in [0, {narrowest}] or null, got {grown} and {added}")
        if grown % 2 and activation == "maxmin":
            raise ValueError(f"maxmin sorts pairs of channels: grown must be even, got {grown}")

        def convolution(inputs: int, outputs: int) -> nn.Conv2d:
            return nonexpansive(nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2), bound)

        features, rows, columns = image_shape
        layers: list[nn.Module] = [SubtractMean(mean)]
        down, right = -rows % 2 ** len(channels), -columns % 2 ** len(channels)
        if down or right:
            layers.append(nn.ZeroPad2d((right // 2, right - right // 2, down // 2, down - down // 2)))
            rows, columns = rows + down, columns + right
        for filters in channels:
            layers += [PixelUnshuffle(2), convolution(4 * features, filters)]
            features, rows, columns = filters * widening, rows // 2, columns // 2
            layers.append(build((filters, rows, columns)))
            for _ in range(depth):
                given = (features if added is None else added) + grown
                shape = (features, rows, columns)
                branch = [convolution(features, features), build(shape), convolution(features * widening, given)]
                branch += _normalization(normalize, given, mean_groups)
                meets = (features if added is None else added) if grown else added
                block = Residual(nn.Sequential(*branch), t, shape, initial=initial_t, shared=shared_t, added=meets)
                layers.append(block)
                features += grown
        layers.append(nn.Flatten())
        features *= rows * columns
        stack, features = dense_layers(features, dense, build, widening, bound)
        head = MultiHead(features, num_labels, head_hidden, head_bias, bound)
        super().__init__(nn.Sequential(*layers, *stack), head, **options)
        dirac_(self)


def _normalization(kind: Normalization, features: int, mean_groups: int) -> list[nn.Module]:
    """Build what stands behind a branch of so many channels."""
    if kind == "batch":
        return [SubtractBatchMean(features), BoundedScaling(features)]
    if kind == "batch_std":
        return [SubtractBatchMean(features), BatchScaling(features)]
    if kind == "none":
        return []
    if mean_groups < 1 or features % mean_groups:
        raise ValueError(f"mean_groups must divide the {features} outputs of a branch, got {mean_groups}")
    size = features // mean_groups
    return [SubtractSubsetMeans(features, [range(start, start + size) for start in range(0, features, size)])]


class RowsRNN(L2NNN):
    """Recurrent layers over an image's rows, shared dense layers and a stack per label.

    Each logit is nonexpansive in the whole image. A layer whose outputs are all used is read as one L2NNN that gives
    all time steps; where only the last step of the last layer is used, that layer is read as overlapping L2NNNs, one a
    step, and loses nothing at a split.

    Args:
        hidden: outputs of each recurrent layer's weight.
        readout: classify the last state, or all states.
        t: whether a recurrent layer's states share one t, or each entry has its own.
        dense: outputs of each shared dense layer.
        head_hidden: outputs of each inner layer of a label's stack.
        head_bias: whether each logit adds a bias.
        activation: the nonlinearity of the trunk.
        bound: the bound of every layer.
        **options: ``certificate``, ``hard`` and ``init``, see :class:`L2NNN`.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_labels: int,
        *,
        hidden: Sequence[int] = (128,),
        readout: Readout = "all",
        t: Literal["block", "channel"] = "channel",
        dense: Sequence[int] = (128,),
        head_hidden: Sequence[int] = (),
        head_bias: bool = True,
        activation: Activation = "maxmin",
        bound: Bound = "operator_columns",
        **options: Any,
    ) -> None:
        check_choice("readout", readout, Readout)
        if not hidden:
            raise ValueError("hidden must name at least one recurrent layer")
        build, widening = activation_of(activation, (*hidden, *dense))
        channels, height, width = image_shape
        layers: list[nn.Module] = [RowsAsSteps()]
        features = channels * width
        for i, outputs in enumerate(hidden):
            reading: Reading = "overlapping" if readout == "last" and i == len(hidden) - 1 else "joint"
            layers.append(Recurrent(features, outputs, build((outputs,)), reading, t=t, bound=bound))
            features = outputs * widening
        layers.append(LastStep() if readout == "last" else nn.Flatten())
        features *= 1 if readout == "last" else height
        stack, features = dense_layers(features, dense, build, widening, bound)
        head = MultiHead(features, num_labels, head_hidden, head_bias, bound)
        super().__init__(nn.Sequential(*layers, *stack), head, **options)

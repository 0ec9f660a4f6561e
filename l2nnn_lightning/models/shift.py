"""Shift networks: orthonormal mixers of channels that move by one pixel, for colour images."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from l2nnn_lightning.models.base import ImageShape
from l2nnn_lightning.models.l2nnn import L2NNN, activation_of, check_choice, dense_layers
from l2nnn_lightning.nn.activations import MaxMin, TwoSidedReLU
from l2nnn_lightning.nn.heads import MultiHead
from l2nnn_lightning.nn.normalization import SubtractMean
from l2nnn_lightning.nn.parametrization import Bound, nonexpansive
from l2nnn_lightning.nn.pooling import NormPool2d
from l2nnn_lightning.nn.shift import Absolute, Mixer, OnShare, Padding, Shift, Unshuffle

__all__ = ["ShiftNet"]

ShiftActivation = Literal["absolute", "maxmin", "two_sided_relu"]
Downsampling = Literal["unshuffle", "norm"]


class ShiftNet(L2NNN):
    """Stages of shifts and mixers, shared dense layers and a stack per label.

    The image is regrouped by 2x2 pixels; a stage begins with a mixer and its activation, goes on with ``depth`` times
    shift, mixer, activation, and between stages the maps are halved. Every weight is a matrix under the paper's b(W),
    without a copying factor; everything between is a permutation, an activation or norm-pooling. Sides that cannot be
    halved so often are padded with zeros, which keeps every distance.

    Args:
        widths: channels that the mixers of each stage write.
        depth: shifts in each stage, each followed by a mixer and its activation.
        moving: the share of the channels that move by one pixel, a quarter of them in each direction.
        active: the share of a mixer's outputs that its activation sees.
        activation: the absolute value, MaxMin, or two-sided ReLU, which adds as many channels as it sees.
        downsampling: regroup 2x2 pixels into channels between stages, which keeps every distance; or norm-pooling.
        padding: what enters where channels move: what left on the other side, or zeros.
        dense: outputs of each shared dense layer, each followed by the activation on all of them.
        head_hidden: outputs of each inner layer of a label's stack.
        head_bias: whether each logit adds a bias.
        mean: what is subtracted from the images, one number or one per channel (A.5); null for nothing.
        bound: the bound of every layer.
        **options: ``certificate``, ``hard`` and ``init``, see :class:`L2NNN`.

    References:
        The stage without convolutions is LipNeXt's (2026), the mixers' scaling the paper's (Qian and Wegman, ICLR
        2019, section 2.1).
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_labels: int,
        *,
        widths: Sequence[int] = (64, 128, 192, 256),
        depth: int = 3,
        moving: float = 0.5,
        active: float = 0.5,
        activation: ShiftActivation = "absolute",
        downsampling: Downsampling = "unshuffle",
        padding: Padding = "circular",
        dense: Sequence[int] = (256,),
        head_hidden: Sequence[int] = (),
        head_bias: bool = True,
        mean: float | Sequence[float] | None = 0.5,
        bound: Bound = "gram",
        **options: Any,
    ) -> None:
        check_choice("activation", activation, ShiftActivation)
        check_choice("downsampling", downsampling, Downsampling)
        if not widths or min(widths) < 8 or depth < 0:
            raise ValueError(f"widths of 8 and more, depth of 0 and more: got {tuple(widths)} and {depth}")
        for name, share in (("moving", moving), ("active", active)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is a share of the channels, in [0, 1], got {share}")
        channels, height, width = image_shape
        layers: list[nn.Module] = [] if mean is None else [SubtractMean(mean)]
        down, right = -height % 2 ** len(widths), -width % 2 ** len(widths)
        if down or right:
            layers.append(nn.ZeroPad2d((right // 2, right - right // 2, down // 2, down - down // 2)))
            height, width = height + down, width + right

        def mixer(outputs: int) -> list[nn.Module]:
            nonlocal channels
            layer = nonexpansive(Mixer(channels, outputs, (height, width)), bound)
            seen = 2 * round(active * outputs / 2)  # MaxMin sorts pairs
            channels = outputs + (seen if activation == "two_sided_relu" else 0)
            return [layer, OnShare(_activation(activation), seen)]

        for stage, outputs in enumerate(widths):
            height, width = height // 2, width // 2
            if stage == 0 or downsampling == "unshuffle":
                layers.append(Unshuffle(2))
                channels *= 4
            else:
                layers.append(NormPool2d(2))
            layers += mixer(outputs)
            for _ in range(depth):
                layers += [Shift(4 * round(moving * channels / 4), padding), *mixer(outputs)]
        layers.append(nn.Flatten())
        # A dense layer has no channels to spare for a share that stays linear.
        in_dense = "maxmin" if activation == "absolute" else activation
        build, widening = activation_of(in_dense, dense)
        stack, features = dense_layers(channels * height * width, dense, build, widening, bound)
        in_stacks = activation_of(in_dense, head_hidden, dim=2)
        head = MultiHead(features, num_labels, head_hidden, head_bias, bound, in_stacks)
        super().__init__(nn.Sequential(*layers, *stack), head, **options)


def _activation(name: ShiftActivation) -> nn.Module:
    return Absolute() if name == "absolute" else MaxMin(dim=0) if name == "maxmin" else TwoSidedReLU(dim=0)

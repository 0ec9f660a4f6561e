"""Affine layers: dense, convolution, one a label; sums of products in any order (Murray 2026; Higham 2002, 3.1)."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.blocked import BlockedLinear
from l2nnn_lightning.nn.labelwise import LabelwiseLinear
from l2nnn_lightning.nn.layouts import Layout, layout_of
from l2nnn_lightning.nn.patches import PatchConv2d
from l2nnn_lightning.nn.proof.arithmetic import DOUBLE, Affine, Arithmetic, inflate
from l2nnn_lightning.nn.proof.norms import absolute_norms, operator_norms
from l2nnn_lightning.nn.proof.signal import Signal, UnprovableError, name_of, stage
from l2nnn_lightning.nn.shift import Mixer

__all__ = ["rounding_of_sums"]


def rounding_of_sums(arithmetic: Arithmetic, terms: int, outputs: int, size: Affine, weight: Tensor) -> Affine:
    """Bound how far sums of ``terms`` products and a bias are off: ``gamma_(n + 1) (|W| |x'| + |b|)``, and underflow.

    Each product is rounded once and takes part in at most n additions of numbers that are not zero, in whatever order
    they are done; the bias in at most n. Where a product, a sum or an operand underflows, or is flushed to zero, it is
    off by the smallest normal number at most, each of n + 1 times an output; an operand by that times the other one.

    Args:
        arithmetic: of the program.
        terms: n, the products in a sum of which neither factor is zero for certain.
        outputs: how many sums.
        size: a bound of ``| |W| |x'| | + |b|``.
        weight: a bound of ``| |W| |``, (P,).
    """
    flushed = 4 * arithmetic.tiny * (terms + 2) * outputs**0.5
    lost = size.times(arithmetic.gamma(terms + 1))
    return lost.plus((1 + weight) * flushed).plus(size.times(flushed))


@stage(nn.Linear, nn.Conv1d, nn.Conv2d, PatchConv2d, LabelwiseLinear)
def _(layer: nn.Linear | nn.Conv2d | LabelwiseLinear, signal: Signal, arithmetic: Arithmetic) -> Signal:
    try:
        layout = layout_of(layer)
    except ValueError as error:
        raise UnprovableError(str(error)) from error
    groups, parts, by_label = layout.groups, signal.parts, layout.conv is None and layer.weight.dim() == 3
    if by_label and parts == 1:
        parts = groups  # a split that does not meet again
    kept_apart = groups == parts if by_label else groups % parts == 0 if layout.conv is not None else signal.apart
    if parts > 1 and (not kept_apart or (layout.conv is not None and signal.apart)):
        raise UnprovableError(f"{name_of(layer)} joins what was split for each label")
    # The halves are those of the dimension that the weight reads.
    sided = signal.sided and (groups == 1 if layout.conv is not None else signal.reads_channels)
    terms = layer.weight.shape[-1] if layout.conv is None else layer.weight[0].numel()
    apart = by_label or signal.apart
    moved = replace(signal, parts=parts, apart=apart, sided=sided)
    return _affine(layer, layer.weight, layout, terms // 2 if sided else terms, moved, arithmetic)


@stage(Mixer)
def _(layer: Mixer, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """One matrix at every position, and a bias of each."""
    if signal.parts > 1:
        raise UnprovableError(f"{name_of(layer)} joins what was split for each label")
    moved = replace(signal, sided=False)
    return _affine(layer, layer.weight, layout_of(layer), layer.weight.shape[1], moved, arithmetic)


@stage(BlockedLinear)
def _(layer: BlockedLinear, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """A tree of sums: what counts is its depth."""
    if signal.parts > 1 or signal.value.dim() != 2:
        raise UnprovableError(f"{name_of(layer)} joins what was split for each label")
    weight = layer.matrix()
    return _affine(layer, weight, Layout(1, len(weight)), layer.depth, signal, arithmetic)


def _affine(
    layer: nn.Module, weight: Tensor, layout: Layout, terms: int, signal: Signal, arithmetic: Arithmetic
) -> Signal:
    """Follow a signal through a layer, of sums in which a product is added to at most ``terms`` others."""
    norm = _by_part(operator_norms(weight, layout), signal.parts)
    absolute = _by_part(absolute_norms(weight, layout, sided=signal.sided), signal.parts)
    # The bias at every place.
    still = layer(torch.zeros_like(signal.value))
    offset = torch.linalg.vector_norm(still.reshape(signal.parts, -1), dim=1) * (1 + DOUBLE.gamma(still.numel() + 8))
    size = signal.computed.times(absolute).plus(offset)
    lost = rounding_of_sums(arithmetic, terms, still.numel(), size, absolute)
    return replace(
        signal,
        value=still,
        lipschitz=inflate(signal.lipschitz * norm),
        norm=signal.norm.times(norm).plus(offset),
        error=signal.error.times(norm).plus(lost),
        peak=signal.peak.largest(size.plus(lost).times(2 / arithmetic.largest)),
        sided=False,
    )


def _by_part(norm_G: Tensor, parts: int) -> Tensor:
    """Take the largest norm of the matrices of each part: (G,) -> (P,), or (1,) where all parts share one."""
    return norm_G if len(norm_G) == 1 else norm_G.view(parts, -1).amax(1)

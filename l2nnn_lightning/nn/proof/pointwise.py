"""What lies between the weights: activations, pooling, shifts, and what only moves entries."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.activations import MaxMin, ScaledSigmoid, TwoSidedReLU
from l2nnn_lightning.nn.labelwise import CenterCrop2d, PerLabel, RepeatPerLabel
from l2nnn_lightning.nn.normalization import BoundedScaling, SubtractBatchMean, SubtractMean, SubtractSampleMean
from l2nnn_lightning.nn.pooling import NormPool2d, PixelUnshuffle
from l2nnn_lightning.nn.proof.arithmetic import DOUBLE, Affine, Arithmetic, inflate
from l2nnn_lightning.nn.proof.signal import Signal, UnprovableError, follow, keeps, loses, name_of, stage
from l2nnn_lightning.nn.recurrent import LastStep, RowsAsSteps
from l2nnn_lightning.nn.shift import Absolute, OnShare, Shift, Unshuffle

#: Entry by entry, 0 stays 0, and nothing is rounded.
SIMPLE = (nn.Identity, nn.ReLU, nn.Dropout)
# A library's sigmoid is taken to be off by this many units of the format, of 1, and its exponential of its result.
_LIBRARY = 16

stage(*SIMPLE)(keeps)


def _alone(module: nn.Module, signal: Signal) -> None:
    """Refuse what would mix the parts of a signal."""
    if signal.parts > 1:
        raise UnprovableError(f"{name_of(module)} joins what was split for each label")


@stage(CenterCrop2d, RowsAsSteps, nn.ZeroPad2d, Shift, Unshuffle, Absolute)
def _(module: nn.Module, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Entries are moved, left out or lose their sign, zeros are added."""
    _alone(module, signal)
    if getattr(module, "value", 0) != 0:
        raise UnprovableError(f"{name_of(module)} adds {module.value}")
    return keeps(module, signal, arithmetic)


@stage(LastStep)
def _(module: LastStep, signal: Signal, arithmetic: Arithmetic) -> Signal:
    _alone(module, signal)
    return replace(keeps(module, signal, arithmetic), overlaps=False)


@stage(PixelUnshuffle, nn.PixelUnshuffle)
def _(module: nn.Module, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Halves of the channels stay halves."""
    _alone(module, signal)
    return replace(keeps(module, signal, arithmetic), sided=signal.sided)


@stage(nn.Flatten, nn.Unflatten)
def _(module: nn.Flatten | nn.Unflatten, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Entries stay in their order; parts become a dimension of their own, or keep theirs."""
    value = module(signal.value)
    apart = signal.parts > 1 and value.dim() > 2 and value.shape[1] == signal.parts
    if signal.parts > 1 and not (apart or (value.shape[1] == signal.value.shape[1] and not signal.apart)):
        raise UnprovableError(f"{name_of(module)} joins what was split for each label")
    sided = signal.sided and signal.parts == 1 and value.dim() == 2  # halves of channels are halves of all entries
    return replace(keeps(module, signal, arithmetic), apart=apart, sided=sided)


@stage(RepeatPerLabel)
def _(module: RepeatPerLabel, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Each part is the whole signal."""
    _alone(module, signal)
    return replace(keeps(module, signal, arithmetic), parts=module.num_labels)


@stage(PerLabel)
def _(module: PerLabel, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Entry by entry, or a pair of channels at a time, within each part."""
    if module.num_labels != signal.parts or signal.apart or type(module.module) not in (*SIMPLE, MaxMin, TwoSidedReLU):
        raise UnprovableError(f"{name_of(module)} holds {name_of(module.module)}, or parts that are not the signal's")
    if getattr(module.module, "dim", 1) != 1:
        raise UnprovableError(f"{name_of(module.module)} joins what was split for each label")
    batch, channels, *sides = signal.value.shape
    own = signal.value.reshape(batch * signal.parts, channels // signal.parts, *sides)
    follow([module.module], replace(signal, value=own, parts=1, apart=False), arithmetic)  # it is as it should be
    return keeps(module, signal, arithmetic)


@stage(MaxMin, TwoSidedReLU)
def _(module: MaxMin | TwoSidedReLU, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Maxima, minima and differences from 0, or of equal numbers, are exact; norms stay, so 0 does."""
    if getattr(module, "f", torch.relu) is not torch.relu:
        raise UnprovableError(f"{name_of(module)} has another f")
    # Parts that are not apart would be mixed in dimension 1, those that are in it themselves.
    channels = 1 if signal.parts == 1 else 2
    if signal.parts > 1 and not (signal.apart and module.dim == 2):
        raise UnprovableError(f"{name_of(module)} joins what was split for each label")
    sided = type(module) is TwoSidedReLU and module.dim == channels
    return replace(keeps(module, signal, arithmetic), sided=sided)


@stage(OnShare)
def _(module: OnShare, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Entry by entry, or a pair of channels at a time, on some of them."""
    _alone(module, signal)
    kind, seen = type(module.module), signal.value.movedim(0, -1)[signal.value.shape[1] - module.channels :]
    if kind not in (*SIMPLE, Absolute, MaxMin, TwoSidedReLU):
        raise UnprovableError(f"{name_of(module)} holds {name_of(module.module)}")
    follow([module.module], replace(signal, value=seen), arithmetic)  # it is as it should be
    return keeps(module, signal, arithmetic)


@stage(nn.MaxPool2d)
def _(module: nn.MaxPool2d, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """``|max a - max b| <= max |a - b|``, if no entry falls into two windows."""
    kernel, stride, dilation = (_pair(size) for size in (module.kernel_size, module.stride, module.dilation))
    overlaps = any(k > s for k, s in zip(kernel, stride, strict=True))
    if overlaps or dilation != (1, 1) or module.return_indices or module.ceil_mode or signal.apart:
        raise UnprovableError(f"{name_of(module)} has windows that overlap, or are dilated")
    return keeps(module, signal, arithmetic)


@stage(NormPool2d)
def _(module: NormPool2d, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """``y = sqrt(max(sum x^2 / copies, tiny))``, nonexpansive.

    Of k squares >= 0 the mean is off by a factor ``1 + d``, ``|d| <= gamma_(k + 4)``, of which the root leaves half and
    adds its own; a result that underflows is off by its size at most, and a root by the root of that.
    """
    kernel = _pair(module.kernel_size)
    stride = _pair(module.stride)
    if module.copies < math.prod(-(-k // s) for k, s in zip(kernel, stride, strict=True)) or signal.apart:
        raise UnprovableError(f"{name_of(module)} counts too few copies")
    value, count = module(torch.zeros_like(signal.value)), math.prod(kernel)
    floor = arithmetic.tiny**0.5
    least = inflate(2 * (floor + (4 * (count + 2) * arithmetic.tiny) ** 0.5) * value.numel() ** 0.5)
    lost = signal.computed.times(arithmetic.gamma(count + 8)).plus(least)
    # The largest number is a sum of squares.
    peak = signal.computed.times(2 / arithmetic.largest**0.5)
    pooled = loses(signal, value, lost, peak=signal.peak.largest(peak))
    return replace(pooled, norm=pooled.norm.plus(least))


@stage(SubtractMean, SubtractBatchMean)
def _(module: SubtractMean | SubtractBatchMean, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """One subtraction an entry: off by u times its result."""
    _alone(module, signal)
    value = module(torch.zeros_like(signal.value))
    return _shifted(signal, value, arithmetic)


def _shifted(signal: Signal, still: Tensor, arithmetic: Arithmetic) -> Signal:
    """Add a constant to every entry."""
    shift = torch.linalg.vector_norm(still) * (1 + DOUBLE.gamma(still.numel() + 8))
    result = signal.computed.plus(shift)
    lost = result.times(arithmetic.gamma(1)).plus(arithmetic.tiny * still.numel() ** 0.5)
    shifted = loses(signal, still, lost, peak=signal.peak.largest(result.times(2 / arithmetic.largest)))
    return replace(shifted, norm=shifted.norm.plus(shift))


@stage(SubtractSampleMean)
def _(module: SubtractSampleMean, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """A projection: the mean of n is off by ``gamma_(n + 1)`` of the mean of absolute entries, then as any shift.

    By Cauchy and Schwarz a mean written to n entries is no longer than the n entries.
    """
    _alone(module, signal)
    gamma = arithmetic.gamma(signal.entries + 2) + 4 * arithmetic.unit
    tiny = 4 * arithmetic.tiny * (signal.entries + 2) * signal.entries**0.5
    lost = signal.computed.times(gamma).plus(tiny)
    peak = signal.peak.largest(signal.computed.times(4 * signal.entries**0.5 / arithmetic.largest))
    return loses(signal, module(signal.value), lost, peak=peak)


@stage(BoundedScaling)
def _(module: BoundedScaling, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """One product an entry, by stored factors."""
    _alone(module, signal)
    largest = module.factors().abs().amax().double().reshape(1)
    result = signal.computed.times(largest)
    scaled = replace(
        signal,
        value=module(signal.value),
        lipschitz=inflate(signal.lipschitz * largest),
        norm=signal.norm.times(largest),
        error=signal.error.times(largest),
        peak=signal.peak.largest(result.times(2 / arithmetic.largest)),
    )
    lost = result.times(arithmetic.gamma(1)).plus(4 * arithmetic.tiny * (1 + largest) * signal.entries**0.5)
    return loses(scaled, scaled.value, lost)


@stage(ScaledSigmoid)
def _(module: ScaledSigmoid, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """``t sigmoid(4 x / t)`` lies in (0, t); its slope is at most 1 in x, and in t by ``|p - v p (1 - p)| <= 1``.

    Its argument v is off by 3 u of itself, of which ``t |v| p (1 - p) <= t / 4`` is left; the library's sigmoid and
    exponential, which it is taken to compute to ``16`` units, and one product add to that.
    """
    _alone(module, signal)
    height = module.log_height.clamp(-80, 80).exp().amax() * (1 + 1e-14)
    entries = signal.entries**0.5
    if not bool(module.log_height.abs().amax() < math.log(arithmetic.largest) / 4):
        raise UnprovableError(f"{name_of(module)} has a height that is out of all proportion")
    lost = Affine.constant((4 * _LIBRARY * arithmetic.unit * height + 4 * arithmetic.tiny) * entries)
    argument = signal.computed.times(8 / arithmetic.largest / module.log_height.exp().amin())
    bent = loses(signal, module(signal.value), lost, peak=signal.peak.largest(argument))
    return replace(bent, norm=Affine.constant(height * entries))


def _pair(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)

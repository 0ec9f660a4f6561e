"""Shifts, projections along means, and stored factors (appendix A.5)."""

from dataclasses import replace

import torch
from torch import Tensor

from l2nnn_lightning.nn.normalization import (
    BatchScaling,
    BoundedScaling,
    SubtractBatchMean,
    SubtractMean,
    SubtractSampleMean,
    SubtractSubsetMeans,
)
from l2nnn_lightning.nn.proof.arithmetic import DOUBLE, Arithmetic, inflate
from l2nnn_lightning.nn.proof.signal import Signal, UnprovableError, alone, loses, name_of, stage


@stage(SubtractMean, SubtractBatchMean)
def _(module: SubtractMean | SubtractBatchMean, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """One subtraction an entry: off by u times its result."""
    alone(module, signal)
    value = module(torch.zeros_like(signal.value))
    return _shifted(signal, value, arithmetic)


def _shifted(signal: Signal, still: Tensor, arithmetic: Arithmetic) -> Signal:
    """Add a constant to every entry."""
    shift = torch.linalg.vector_norm(still) * (1 + DOUBLE.gamma(still.numel() + 8))
    result = signal.computed.plus(shift)
    lost = result.times(arithmetic.gamma(1)).plus(arithmetic.tiny * still.numel() ** 0.5)
    shifted = loses(signal, still, lost, peak=signal.peak.largest(result.times(2 / arithmetic.largest)))
    return replace(shifted, norm=shifted.norm.plus(shift))


@stage(SubtractSubsetMeans)
def _(module: SubtractSubsetMeans, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """As of a sample: means of places, then of channels, are one sum in two parts; times 0 and 1 is exact."""
    member_GC = module.member
    is_set = bool(((member_GC == 0) | (member_GC == 1)).all() & (member_GC.sum(0) <= 1).all())
    if not is_set or not bool((member_GC.sum(1) >= 1).all()):
        raise UnprovableError(f"{name_of(module)} has subsets that overlap, or are empty")
    return _projected(module, signal, arithmetic)


@stage(SubtractSampleMean)
def _projected(module: SubtractSampleMean | SubtractSubsetMeans, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """A projection: the mean of n is off by ``gamma_(n + 4)`` of the mean of absolute entries, then as any shift.

    By Cauchy and Schwarz a mean written to n entries is no longer than the n entries.
    """
    alone(module, signal)
    gamma = arithmetic.gamma(signal.entries + signal.value.shape[1] + 4) + 4 * arithmetic.unit
    tiny = 4 * arithmetic.tiny * (signal.entries + 2) * signal.entries**0.5
    lost = signal.computed.times(gamma).plus(tiny)
    peak = signal.peak.largest(signal.computed.times(4 * signal.entries**0.5 / arithmetic.largest))
    return loses(signal, module(signal.value), lost, peak=peak)


@stage(BoundedScaling, BatchScaling)
def _(module: BoundedScaling | BatchScaling, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """One product an entry, by stored factors."""
    alone(module, signal)
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

"""Norms of windows, and their maxima."""

import math
from dataclasses import replace

import torch
from torch import nn

from l2nnn_lightning.nn.pooling import LpPool2d, NormPool2d
from l2nnn_lightning.nn.proof.arithmetic import Affine, Arithmetic, inflate
from l2nnn_lightning.nn.proof.signal import Signal, UnprovableError, keeps, loses, name_of, stage


@stage(nn.MaxPool2d)
def _(module: nn.MaxPool2d, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """``|max a - max b| <= max |a - b|``, if no entry falls into two windows."""
    sizes = (module.kernel_size, module.stride, module.dilation)
    kernel, stride, dilation = (tuple(torch.as_tensor(size).expand(2).tolist()) for size in sizes)
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
    _look_at_windows(module, signal)
    value, count = module(torch.zeros_like(signal.value)), math.prod(module.kernel_size)
    floor = arithmetic.tiny**0.5
    least = inflate(2 * (floor + (4 * (count + 2) * arithmetic.tiny) ** 0.5) * value.numel() ** 0.5)
    lost = signal.computed.times(arithmetic.gamma(count + 8)).plus(least)
    # The largest number is a sum of squares.
    peak = signal.computed.times(2 / arithmetic.largest**0.5)
    pooled = loses(signal, value, lost, peak=signal.peak.largest(peak))
    return replace(pooled, norm=pooled.norm.plus(least))


@stage(LpPool2d)
def _(module: LpPool2d, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """``y = m (sum (x / m)^p)^(1 / p) / divisor``, m the largest of a window's n absolute entries, nonexpansive.

    A quotient is off by u, hence its power by p u, by what the library's power loses, taken to be at most ``16 u``, and
    by ``v^p |ln v^p| u <= u / e`` where p itself is rounded; the sum, which is at least 1, by a factor of
    ``gamma_n`` more, so by ``(p + n + 17) u`` and ``n u / e``, of which the root leaves a p-th; its own exponent is
    rounded too, which costs ``ln n u``, and another power, two products and the divisor add to that: altogether at most
    ``gamma_(4 n + 64)`` of y. A window whose largest entry is no normal number is off by its size.
    """
    _look_at_windows(module, signal)
    count = math.prod(module.kernel_size)
    least = math.sqrt(module.copies) * max(1.0, count ** (1 / module.p - 0.5))
    if not (module.p >= 1 and module.divisor >= least * (1 - 1e-14)):
        raise UnprovableError(f"{name_of(module)} divides by less than its windows' constant")
    if module.p != math.inf and module.p * arithmetic.unit > 2.0**-6:
        raise UnprovableError(f"{name_of(module)} takes a power that loses all digits, {module.p:g}")
    value = module(torch.zeros_like(signal.value))
    flushed = Affine.constant(8 * count * arithmetic.tiny * value.numel() ** 0.5)
    lost = signal.computed.times(arithmetic.gamma(4 * count + 64)).plus(flushed)
    peak = signal.peak.largest(signal.computed.times(4 * count / arithmetic.largest))
    pooled = loses(signal, value, lost, lipschitz=inflate(signal.lipschitz * (1 + 1e-13)), peak=peak)
    outward = 1 + 1e-13  # the divisor is a float64 number
    return replace(pooled, norm=signal.norm.times(outward).plus(flushed), error=pooled.error.times(outward))


def _look_at_windows(module: NormPool2d | LpPool2d, signal: Signal) -> None:
    """Refuse a pooling that counts an entry's windows wrongly, or pools over the parts of a signal."""
    sides = zip(module.kernel_size, module.stride, strict=True)
    if signal.apart or module.copies < math.prod(-(-kernel // stride) for kernel, stride in sides):
        raise UnprovableError(f"{name_of(module)} counts too few copies")

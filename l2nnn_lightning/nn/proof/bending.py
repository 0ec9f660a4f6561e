"""Nonlinearities that a library computes: of their accuracy something has to be assumed, and is said here."""

import math
from dataclasses import replace

import torch

from l2nnn_lightning.nn.activations import ScaledSigmoid, TwoSided
from l2nnn_lightning.nn.nonlinearities import INCREASING, NONLINEARITIES, UnitSlope
from l2nnn_lightning.nn.proof.arithmetic import Affine, Arithmetic
from l2nnn_lightning.nn.proof.signal import Signal, UnprovableError, follow, loses, name_of, stage

__all__ = ["BENDING", "afresh"]

# Units of the format that a library's elementary function is taken to be off by, at most: of its result for tanh and
# exp, of 1 for a sigmoid. This is assumed, and not proven.
_LIBRARY = 16
#: Entry by entry, nonexpansive, 0 stays 0 (but for a sigmoid that is not centred).
BENDING = (ScaledSigmoid, TwoSided, UnitSlope)
_SLOPES = dict(NONLINEARITIES.values())
_INCREASING = {NONLINEARITIES[name][0] for name in INCREASING}


def afresh(signal: Signal, size: Affine, **changes: object) -> Signal:
    """Take what is computed, of at most this size, for the exact input: the error that results is a module's own."""
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    return replace(signal, lipschitz=one, norm=size, error=Affine(zero, zero), **changes)  # type: ignore[arg-type]


@stage(ScaledSigmoid)
def _(module: ScaledSigmoid, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """``t sigmoid(4 x / t)`` lies in (0, t); its slope is at most 1 in x, and in t by ``|p - v p (1 - p)| <= 1``.

    Its argument v is off by 3 u of itself, of which ``t |v| p (1 - p) <= t / 4`` is left; the library's sigmoid and
    exponential, which it is taken to compute to ``16`` units, and one product add to that: ``64 u t`` at most.
    Centred, ``t / 2 tanh(2 x / t)``, both ``|y|`` and what a relative change of v or t leaves are at most ``|x|``
    times it: ``64 u |x|``.
    """
    if not bool(module.log_height.abs().amax() < math.log(arithmetic.largest) / 4):
        raise UnprovableError(f"{name_of(module)} has a height that is out of all proportion")
    height = module.log_height.clamp(-80, 80).exp() * (1 + 1e-14)
    entries = signal.entries**0.5
    flushed = Affine.constant(8 * arithmetic.tiny * (1 + height.amax()) * entries)
    unit = 4 * _LIBRARY * arithmetic.unit
    lost = signal.computed.times(unit) if module.centred else Affine.constant(unit * height.amax() * entries)
    argument = signal.computed.plus(height.amax()).times(8 / arithmetic.largest / height.amin().clamp_max(1))
    bent = loses(signal, module(signal.value), lost.plus(flushed), peak=signal.peak.largest(argument))
    return bent if module.centred else replace(bent, norm=Affine.constant(height.amax() * entries))


@stage(UnitSlope)
def _(module: UnitSlope, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """``f(x) / slope`` for the functions that are known by name, with their slopes; ``|f(x)| <= slope |x|``.

    However a library computes them, by way of ``1 + erf`` or ``e^x - 1``, it is taken to be off by at most
    ``16 u (1 + |x|)`` an entry, the cancellation included; the quotient adds 4 u of the result, with a rounded slope or
    its reciprocal.
    """
    if module.f not in _SLOPES:
        raise UnprovableError(f"{name_of(module)} holds a function of whose rounding nothing is known")
    if not module.slope >= _SLOPES[module.f]:
        raise UnprovableError(f"{name_of(module)} divides by less than the largest slope of its function")
    gamma = arithmetic.gamma(_LIBRARY + 8)
    lost = signal.computed.times(gamma).plus(gamma * signal.entries**0.5)
    peak = signal.peak.largest(signal.computed.plus(1.0).times(8 / arithmetic.largest))
    return loses(signal, module(signal.value), lost, peak=peak)


@stage(TwoSided)
def _(module: TwoSided, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """``(f(x), f(x) - x)`` (Lemma 4): what f is off by counts in both halves, and the difference is rounded once.

    Its norm is at most ``|x|``, and ``sqrt(2) |f(0)|`` more.
    """
    if signal.parts > 1 and not (signal.apart and module.dim >= 2):
        raise UnprovableError(f"{name_of(module)} joins what was split for each label")
    f = module.f if type(module.f) in (ScaledSigmoid, UnitSlope) else UnitSlope(module.f, 1.0).eval()
    if type(f) is not ScaledSigmoid and not (type(f) is UnitSlope and f.f in _INCREASING):
        raise UnprovableError(f"{name_of(module)} holds a function that is not known to increase with a slope of 1")
    bent = follow([f], afresh(signal, signal.computed), arithmetic)
    still = torch.linalg.vector_norm(f(torch.zeros_like(signal.value))) * 1.5
    sizes = bent.computed.plus(signal.computed)
    flushed = 2 * arithmetic.tiny * signal.entries**0.5
    lost = bent.error.times(1.5).plus(sizes.times(arithmetic.gamma(1))).plus(flushed)
    peak = signal.peak.largest(bent.peak).largest(sizes.times(2 / arithmetic.largest))
    doubled = loses(signal, module(signal.value), lost, peak=peak)
    return replace(doubled, norm=doubled.norm.plus(still))

"""Modules that hold other modules: residual blocks (A.3) and recurrent layers (A.4)."""

from dataclasses import replace

import torch
from torch import Tensor

from l2nnn_lightning.nn.activations import MaxMin, TwoSidedReLU
from l2nnn_lightning.nn.layouts import layout_of
from l2nnn_lightning.nn.proof.arithmetic import DOUBLE, Affine, Arithmetic, inflate
from l2nnn_lightning.nn.proof.bending import BENDING, afresh
from l2nnn_lightning.nn.proof.norms import absolute_norms, operator_norms
from l2nnn_lightning.nn.proof.pointwise import SIMPLE
from l2nnn_lightning.nn.proof.signal import Signal, UnprovableError, follow, name_of, stage
from l2nnn_lightning.nn.proof.weights import rounding_of_sums
from l2nnn_lightning.nn.recurrent import Recurrent
from l2nnn_lightning.nn.residual import Residual

__all__ = ["within"]

# Of a state, beside which what an activation is off by at 0 is small.
_FLOOR = 2.0**-6


def within(signal: Signal, value: Tensor, scale: Tensor | float, arithmetic: Arithmetic) -> Signal:
    """Begin a block anew: with ``scale`` times what the program computed as its exact input, off by one product.

    An error that was made before is multiplied by the block's own constant, whatever is within it.
    """
    one = torch.ones(1, dtype=torch.float64)
    norm = signal.computed.times(scale)
    error = norm.times(arithmetic.gamma(1)).plus(4 * arithmetic.tiny * value.numel() ** 0.5)
    return Signal(value, one, norm, error, signal.peak)


@stage(Residual)
def _(block: Residual, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """``y = s (t x) + s' f(t' x)`` with stored factors.

    With L the constant of f: ``|dy|^2 <= max(s^2 + s'^2) max(t^2 + L^2 t'^2) |dx|^2``, entry by entry, as in (9) and
    (10). What is computed at some x' differs from what is exact there by the branch's own error times ``|s'|``, and by
    two roundings of each product and one of their sum.
    """
    if signal.parts > 1:
        raise UnprovableError(f"{name_of(block)} joins what was split for each label")
    (t, t_rest), (s, s_rest) = ([factor.detach().abs() for factor in split()] for split in (block.split, block.merge))
    value = signal.value if block.channels is None else signal.value[:, slice(*block.channels)]
    branch = follow([block.branch], within(signal, value, t_rest.amax(), arithmetic), arithmetic)
    merged, given_by, kept_by = inflate((s.square() + s_rest.square()).amax()), s_rest.amax(), s.amax() * t.amax()
    if block.added is not None:  # what does not meet passes as it is
        merged, given_by, kept_by = merged.clamp_min(1), given_by.clamp_min(1), s.amax().clamp_min(1) * t.amax()
    split = inflate((t.square() + (branch.lipschitz * t_rest).square()).amax())
    constant = inflate((merged * split).sqrt())
    kept, given = signal.computed.times(inflate(kept_by)), branch.computed.times(given_by)
    sums = kept.plus(given)
    own = branch.error.times(given_by).plus(sums.times(arithmetic.gamma(4)))
    own = own.plus(8 * arithmetic.tiny * signal.entries**0.5)
    if block.channels is not None:  # the others pass unchanged
        constant, sums = constant.clamp_min(1), sums.plus(signal.computed)
    return replace(
        signal,
        value=block(signal.value),
        lipschitz=inflate(signal.lipschitz * constant),
        # At 0 a block gives what its branch does.
        norm=signal.norm.times(constant).plus(Affine.constant(branch.norm.offset).times(given_by)),
        error=signal.error.times(constant).plus(own),
        peak=signal.peak.largest(branch.peak).largest(sums.times(2 / arithmetic.largest)),
        sided=False,
    )


@stage(Recurrent)
def _(layer: Recurrent, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """``h_k = f(M (r_(k-1), x_k) + b)``, f nonexpansive with ``f(0) = 0``.

    With ``N >= |M|`` and ``N >= 1``, and the split's factors of squares at most ``q >= 1`` in sum, K steps are
    Lipschitz with ``G = (N sqrt(q))^K``, all together or, without a split, each. A disturbance ``d_k`` of what f
    receives, such as the bias or a rounding, or of what f gives, by its own rounding, moves what follows by
    ``G |d_k|``, so that K of them move it by ``G K max |d_k|``.
    """
    received = torch.zeros(1, layer.linear.out_features, dtype=torch.float64)
    if signal.parts > 1 or type(layer.activation) not in (*SIMPLE, *BENDING, MaxMin, TwoSidedReLU):
        raise UnprovableError(f"{name_of(layer)} has an activation of which nothing is known")
    if bool(layer.activation(received).any()):
        raise UnprovableError(f"{name_of(layer)} has an activation that is not 0 at 0")
    value = layer(signal.value)
    steps, weight, layout = signal.value.shape[1], layer.linear.weight, layout_of(layer.linear)
    squares, recurs = torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    if layer.split is not None:
        recurring, giving = (factor.detach() for factor in layer.split())
        squares, recurs = inflate((recurring.square() + giving.square()).amax().clamp_min(1)), recurring.abs().amax()
    norm, absolute = operator_norms(weight, layout), absolute_norms(weight, layout)
    growth = inflate(inflate(norm.clamp_min(1) * squares.sqrt()) ** steps * (1 + DOUBLE.gamma(8 * steps)))
    bias = layer.linear.bias
    offset = torch.zeros(1).double() if bias is None else torch.linalg.vector_norm(bias.detach())[None] * (1 + 1e-12)
    # More than twice what states can be, while roundings disturb them less than that; which is seen to below.
    state = signal.computed.plus(offset * steps).times(2 * growth).plus(_FLOOR)
    size = signal.computed.plus(state.times(recurs)).times(absolute).plus(offset)
    step = rounding_of_sums(arithmetic, weight.shape[1] + 3, weight.shape[0], size, absolute)
    step = step.plus(state.times(arithmetic.gamma(3))).plus(4 * arithmetic.tiny * value.numel() ** 0.5)
    bent = follow([layer.activation], afresh(signal, size.plus(step), value=received, sided=False), arithmetic)
    step = step.plus(bent.error)
    own = step.times(growth * (steps + 1))
    if not bool((own.slope <= state.slope / 4).all() & (own.offset <= state.offset / 4).all()):
        raise UnprovableError(f"{name_of(layer)} rounds more than it computes")
    return replace(
        signal,
        value=value,
        lipschitz=inflate(signal.lipschitz * growth),
        norm=signal.norm.times(growth).plus(growth * steps * offset),
        error=signal.error.times(growth).plus(own),
        peak=bent.peak.largest(size.plus(state).times(2 / arithmetic.largest)),
        sided=False,
        overlaps=layer.split is None,
    )

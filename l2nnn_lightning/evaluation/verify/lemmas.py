"""What each module of a program does to a signal, in fractions, by the lemmas of docs/guarantees.md."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import nn

from l2nnn_lightning.evaluation.verify.exact import (
    FloatArray,
    absolute_square,
    gram_square,
    matrix_square,
    root_up,
    row_distances,
    up,
)

__all__ = ["Known", "NotVerifiedError", "Step", "Verified", "verify_program"]

#: Modules that move no distance, keep 0 and round nothing, and why.
_EXACT = {
    "Identity": "identity",
    "Dropout": "identity in evaluation",
    "Flatten": "order of entries",
    "Unflatten": "order of entries",
    "PixelUnshuffle": "order of entries",
    "CenterCrop2d": "entries left out",
    "ReLU": "slope in [0, 1]",
    "TwoSidedReLU": "two-sided ReLU (Lemma 4)",
    "MaxMin": "MaxMin sorts pairs",
    "Absolute": "slopes of 1 and -1",
    "Shift": "order of entries, or entries left out",
    "Unshuffle": "order of entries",
    "OnShare": "an activation on some channels",
    "RepeatPerLabel": "split that does not meet again (A.3)",
    "PerLabel": "label by label",
}
_CONVOLUTIONS = ("Conv2d", "PatchConv2d")
_AFFINE = ("Linear", "LabelwiseLinear", "BlockedLinear", "Mixer", *_CONVOLUTIONS)


class NotVerifiedError(ValueError):
    """There is no lemma here for a module."""


@dataclass(frozen=True)
class Known:
    """Bounds of a signal at any image x: norm and error as ``(slope, offset)`` in ``|x|``, and its constants.

    These are one for each label, or one for all; the others hold for every label's part.
    """

    lipschitz: list[Fraction]
    norm: tuple[Fraction, Fraction]
    error: tuple[Fraction, Fraction]
    labelled: bool = False

    def computed(self) -> tuple[Fraction, Fraction]:
        """Bound what the program computes."""
        return _add(self.norm, self.error)


@dataclass(frozen=True)
class Step:
    """What is proved of a module: its own norm, and by which lemma; and how far the signal behind it can be off."""

    module: str
    lemma: str
    norm: Fraction
    error: tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Verified:
    """What is proved of a program: its steps, and of each pair of labels constant, slope and offset."""

    steps: list[Step] = field(default_factory=list)
    constant: list[list[Fraction]] = field(default_factory=list)
    slope: list[list[Fraction]] = field(default_factory=list)
    offset: list[list[Fraction]] = field(default_factory=list)


def verify_program(program: nn.Module, image_shape: Iterable[int], unit: Fraction, tiny: Fraction) -> Verified:
    """Prove what the logits of a program do: a trunk, and a head of rows or of a stack for each label.

    Args:
        program: folded and frozen.
        image_shape: (C, H, W).
        unit: the unit roundoff of its format.
        tiny: the smallest normal number of it.

    Raises:
        NotVerifiedError: if there is no lemma for a module.
    """
    one = Fraction(1)
    value = torch.zeros(1, *image_shape, dtype=next(program.parameters()).dtype)
    known = Known([one], (one, 0 * one), (unit, tiny * 2**20))
    steps: list[Step] = []
    trunk: Any = program.trunk
    head: Any = program.head
    kind = type(head).__name__
    if kind not in ("MultiHead", "SingleHead"):
        raise NotVerifiedError(f"there is no lemma here for the head {kind}")
    layers = list(head.layers())
    rows = head.rows()
    for name, module in _flat("trunk", trunk):
        known, value = _step(name, module, known, value, unit, tiny, steps)
    if known.labelled or rows is None:
        for index, module in enumerate(layers):
            known, value = _step(f"head.{index}", module, known, value, unit, tiny, steps)
        labels = value.shape[1]
        own = known.lipschitz * (labels if len(known.lipschitz) == 1 else 1)
        twice = ([[2 * part] * labels] * labels for part in known.error)
        return Verified(steps, [[one + other for other in own] for one in own], *twice)
    weights = _floats(rows)
    apart = row_distances(weights)
    bias = np.zeros(len(weights)) if layers[0].bias is None else _floats(layers[0].bias).reshape(-1)
    lost = []
    for row, shift in zip(weights, bias, strict=True):
        size = _add(_times(known.computed(), root_up(_square(row))), (Fraction(0), abs(Fraction(shift))))
        lost.append(_lost(size, weights.shape[1], 1, Fraction(1), unit, tiny))
    every = range(len(weights))
    steps.append(Step("head", "one row a label: |w_i - w_j|", max(max(part) for part in apart), known.error))
    parts = [
        [[up(apart[i][j] * known.error[k] + lost[i][k] + lost[j][k]) for j in every] for i in every] for k in (0, 1)
    ]
    return Verified(steps, [[up(apart[i][j] * known.lipschitz[0]) for j in every] for i in every], *parts)


def _flat(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if type(module) is nn.Sequential:
        for key, child in module.named_children():
            yield from _flat(f"{name}.{key}", child)
    else:
        yield name, module


def _step(
    name: str, module: Any, known: Known, value: torch.Tensor, unit: Fraction, tiny: Fraction, steps: list[Step]
) -> tuple[Known, torch.Tensor]:
    """Follow a signal through a module, and write down by which lemma."""
    kind = type(module).__name__
    with torch.no_grad():
        still = module(torch.zeros_like(value))
    entries = still.numel()
    inner = type(getattr(module, "module", nn.Identity())).__name__
    if inner not in _EXACT:
        raise NotVerifiedError(f"there is no lemma here for {name}, {kind} of {inner}")
    if kind in _EXACT:
        after, norm, lemma = replace(known, error=_add(known.error, (0, tiny * 2**20))), Fraction(1), _EXACT[kind]
        after = replace(after, labelled=known.labelled or kind == "RepeatPerLabel")
        if known.labelled and kind == "Flatten" and module.start_dim < 2:
            raise NotVerifiedError(f"{name} joins what was split for each label")
    elif kind == "MaxPool2d" and module.kernel_size == module.stride and module.dilation == 1:
        after, norm, lemma = known, Fraction(1), "maxima of windows that do not overlap"
    elif kind == "NormPool2d":
        count = math.prod(module.kernel_size)
        floor = root_up(tiny * (count + 3) * 16) * 2 * math.isqrt(entries * 4)
        off = _add(_times(known.computed(), _gamma(count + 8, unit)), (0, floor))
        after = Known(known.lipschitz, _add(known.norm, (0, floor)), _add(known.error, off), known.labelled)
        norm, lemma = Fraction(1), "norm-pooling (Lemma 5)"
    elif kind == "SubtractMean":
        shift = root_up(_square(_floats(still)))
        size = _add(known.computed(), (0, shift))
        off = _add(_times(size, _gamma(1, unit)), (0, tiny * 2**20))
        after = Known(known.lipschitz, _add(known.norm, (0, shift)), _add(known.error, off), known.labelled)
        norm, lemma = Fraction(1), "a shift"
    elif kind in _AFFINE:
        after, norm, lemma = _affine(name, module, known, still, unit, tiny)
    else:
        raise NotVerifiedError(f"there is no lemma here for {name}, {kind}")
    steps.append(Step(f"{name} {kind}", lemma, norm, after.error))
    return after, still


def _affine(
    name: str, module: Any, known: Known, still: torch.Tensor, unit: Fraction, tiny: Fraction
) -> tuple[Known, Fraction, str]:
    """Prove the norm of a layer's weight, and of its absolute entries; then ``gamma_(n + 1) (|W| |x'| + |b|)``."""
    kind = type(module).__name__
    weight = _floats(module.matrix() if kind == "BlockedLinear" else module.weight)
    if kind in _CONVOLUTIONS:
        if module.padding_mode != "zeros" or (module.groups > 1) != known.labelled:
            raise NotVerifiedError(f"there is no lemma here for {name}: padding or groups")
        norms, absolute, lemma = _convolution(module, weight)
        terms = weight[0].size
    else:
        matrices = weight if weight.ndim == 3 else weight[None]
        norms = [root_up(matrix_square(matrix)) for matrix in matrices]
        absolute = max(root_up(absolute_square(matrix)) for matrix in matrices)
        terms = module.depth if kind == "BlockedLinear" else weight.shape[-1]
        lemma = "rho(W W^T) <= t: t I - W W^T is a square plus a dominant diagonal"
        if known.labelled and weight.ndim != 3:
            raise NotVerifiedError(f"{name} joins what was split for each label")
    norm, before = max(norms), known.lipschitz
    length = max(len(norms), len(before))
    own = [up(before[i % len(before)] * norms[i % len(norms)]) for i in range(length)]
    bias = root_up(_square(_floats(still)))
    size = _add(_times(known.computed(), absolute), (0, bias))
    error = _add(_times(known.error, norm), _lost(size, terms, still.numel(), 1 + absolute, unit, tiny))
    after = Known(
        own,
        _add(_times(known.norm, norm), (0, bias)),
        error,
        known.labelled or kind == "LabelwiseLinear",
    )
    return after, norm, lemma


def _convolution(module: Any, weight: FloatArray) -> tuple[list[Fraction], Fraction, str]:
    """Bound a convolution: by patches, (2), or by its Gram operators, whichever is smaller; stride 1 is the worst."""
    copies = 1
    for taps, step, spread in zip(module.kernel_size, module.stride, module.dilation, strict=True):
        copies *= -(-taps * math.gcd(spread, step) // step)
    found = []
    for part in weight.reshape(module.groups, -1, *weight.shape[1:]):
        patches, operator = copies * matrix_square(part.reshape(len(part), -1)), gram_square(part)
        found.append(min((patches, "patches, (2)"), (operator, "Gram operator of the convolution")))
    lemma = max(found)[1]
    sums = [np.abs(part).sum((2, 3)) * (1 + 1e-12) for part in weight.reshape(module.groups, -1, *weight.shape[1:])]
    return [root_up(square) for square, _ in found], max(root_up(absolute_square(part)) for part in sums), lemma


def _lost(
    size: tuple[Fraction, Fraction], terms: int, outputs: int, weight: Fraction, unit: Fraction, tiny: Fraction
) -> tuple[Fraction, Fraction]:
    """Bound what sums of products lose, in any order, and what underflows."""
    flushed = 4 * tiny * (terms + 2) * (math.isqrt(outputs) + 1)
    lost = _add(_times(size, _gamma(terms + 1, unit)), (0, (1 + weight) * flushed))
    return _add(lost, _times(size, flushed))


def _gamma(count: int, unit: Fraction) -> Fraction:
    if count * unit >= Fraction(1, 2):
        raise NotVerifiedError(f"sums of {count} terms are too long for this format")
    return count * unit / (1 - count * unit)


def _add(one: tuple[Any, Any], other: tuple[Any, Any]) -> tuple[Fraction, Fraction]:
    return up(Fraction(one[0] + other[0])), up(Fraction(one[1] + other[1]))


def _times(one: tuple[Fraction, Fraction], factor: Fraction) -> tuple[Fraction, Fraction]:
    return up(one[0] * factor), up(one[1] * factor)


def _square(values: FloatArray) -> Fraction:
    return sum((Fraction(float(value)) ** 2 for value in values.flat if value), Fraction(0))


def _floats(tensor: torch.Tensor) -> FloatArray:
    array: FloatArray = tensor.detach().cpu().double().numpy()
    return array

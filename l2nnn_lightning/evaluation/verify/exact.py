"""Norms of stored weights in exact integers: every float is one times a power of two, so nothing here is rounded.

Floating point only guesses (an eigenvector, a factor); what it guessed is then checked in integers.
"""

from fractions import Fraction
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Integers", "absolute_square", "gram_square", "matrix_square", "root_up", "row_distances", "up"]

FloatArray = npt.NDArray[np.float64]
ObjectArray = npt.NDArray[np.object_]

# Products of two limbs, and sums of 4096 of these, are integers that float64 holds.
_LIMB, _TERMS = 20, 4096
# Bits of a guessed factor, and of a bound that is kept.
_GUESS, _KEPT = 44, 80


class Integers(NamedTuple):
    """An array of whole numbers, each to be divided by ``2^shift``."""

    values: ObjectArray
    shift: int

    @classmethod
    def of(cls, array: FloatArray) -> "Integers":
        """Write floats exactly; a ValueError if one is not finite."""
        if not np.isfinite(array).all():
            raise ValueError("a number is not finite")
        mantissa, exponent = np.frexp(array)
        whole = np.ldexp(mantissa, 53).astype(np.int64)
        low = np.where(whole == 0, 0, exponent - 53)
        least = int(low.min(initial=0))
        return cls(whole.astype(object) * np.power(2, (low - least).astype(object)) * (whole != 0), -least)

    def limbs(self) -> list[FloatArray]:
        """Split into digits of 20 bits with the number's sign, the lowest first."""
        size, sign, parts = np.abs(self.values), np.where(self.values < 0, -1.0, 1.0), []
        while size.any():
            parts.append((size & (2**_LIMB - 1)).astype(np.float64) * sign)
            size = size >> _LIMB
        return parts or [np.zeros(self.values.shape)]

    def times_transposed(self, other: "Integers") -> "Integers":
        """Multiply a matrix by the transpose of another, exactly."""
        total: Any = np.zeros((self.values.shape[0], other.values.shape[0]), dtype=object)
        theirs = other.limbs()
        for i, left in enumerate(self.limbs()):
            for j, right in enumerate(theirs):
                for first in range(0, left.shape[1], _TERMS):
                    part = left[:, first : first + _TERMS] @ right[:, first : first + _TERMS].T
                    total = total + part.astype(np.int64).astype(object) * 2 ** (_LIMB * (i + j))
        return Integers(total, self.shift + other.shift)

    def floats(self) -> FloatArray:
        """Round to float64."""
        rounded: FloatArray = (self.values / 2**self.shift).astype(np.float64)
        return rounded


def up(value: Fraction) -> Fraction:
    """Round a number >= 0 up to some 80 bits, so that fractions stay short."""
    if value == 0:
        return value
    shift = _KEPT - (value.numerator.bit_length() - value.denominator.bit_length())
    scaled = value * Fraction(2) ** shift
    return Fraction(-(-scaled.numerator // scaled.denominator)) / Fraction(2) ** shift


def root_up(value: Fraction) -> Fraction:
    """Bound a square root from above, to some 40 digits' worth of bits."""
    if value == 0:
        return value
    shift = 2 * _KEPT + 2 * max(0, value.denominator.bit_length() - value.numerator.bit_length())
    scaled = value * 2**shift
    return up(Fraction(isqrt(-(-scaled.numerator // scaled.denominator)) + 1, 2 ** (shift // 2)))


def matrix_square(matrix: FloatArray) -> Fraction:
    """Prove a bound of the squared largest singular value of a matrix."""
    whole = Integers.of(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T)
    return _largest_eigenvalue(whole.times_transposed(whole))


def _largest_eigenvalue(gram: Integers) -> Fraction:
    """Prove ``G <= t``: for a guessed R, ``t I - G - R R^T`` has a diagonal that outweighs its rows.

    Such a matrix is positive semidefinite (Gershgorin), so t I - G is a sum of two that are. If no guess holds, t is
    the largest absolute row sum.
    """
    rows = len(gram.values)
    row_sums = np.abs(gram.values).sum(1)
    simple = Fraction(int(max(row_sums)), 2**gram.shift)
    if simple == 0:
        return simple
    floats = gram.floats()
    found = float(np.linalg.eigvalsh(floats)[-1])
    digits = _GUESS - int(np.floor(np.log2(found) / 2))
    for margin in (1e-9, 1e-7, 1e-5):
        try:
            factor = np.linalg.cholesky(found * (1 + margin) * np.eye(rows) - floats)
        except np.linalg.LinAlgError:
            continue
        guess = Integers(np.vectorize(int, otypes=[object])(np.rint(np.ldexp(factor, digits))), digits)
        product = guess.times_transposed(guess)
        bound = Fraction(found * (1 + 2 * margin))
        shift = max(gram.shift, product.shift, bound.denominator.bit_length() - 1)
        left: Any = -(gram.values * 2 ** (shift - gram.shift)) - product.values * 2 ** (shift - product.shift)
        left[np.diag_indices(rows)] += int(bound * 2**shift)
        diagonal = left.diagonal()
        if all(2 * d >= total for d, total in zip(diagonal, np.abs(left).sum(1), strict=True)):
            return min(bound, simple)
    return simple


def _perron(matrix: Integers) -> Fraction:
    """Prove a bound of the spectral radius of a matrix without negative entries: ``max (A v)_i / v_i``, v > 0."""
    floats = matrix.floats()
    vector = np.ones(len(floats))
    for _ in range(40):
        image = floats @ vector
        vector = vector / vector.max() + image / max(image.max(), 1e-300)
    whole = [max(1, int(value)) for value in vector / vector.max() * 2**40]
    image = matrix.values @ np.array(whole, dtype=object)
    return max(Fraction(int(a), b * 2**matrix.shift) for a, b in zip(image, whole, strict=True))


def absolute_square(matrix: FloatArray) -> Fraction:
    """Prove a bound of the squared norm of a matrix's absolute entries."""
    smaller = np.abs(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T)
    whole = Integers.of(smaller)
    return _perron(whole.times_transposed(whole))


def gram_square(kernel: FloatArray) -> Fraction:
    """Prove a bound of a convolution's squared norm, (O, I, H, W), whatever its stride: by its Gram operators.

    ``T^T T`` is a convolution by the autocorrelation R; weighted by v, a row of it sums to
    ``sum_i' sum_d |R[i, i', d]| v_i' / v_i`` at most. The smaller one of both sides.
    """
    return min(_perron(_autocorrelation(kernel)), _perron(_autocorrelation(kernel.transpose(1, 0, 2, 3))))


def _autocorrelation(kernel: FloatArray) -> Integers:
    """Sum ``|R[i, i', d]|`` over all shifts d, exactly: (O, I, H, W) -> (I, I)."""
    whole = Integers.of(kernel)
    _, inputs, height, width = kernel.shape
    total: Any = np.zeros((inputs, inputs), dtype=object)

    def window(rows: slice, columns: slice) -> Integers:
        part = whole.values[:, :, rows, columns].transpose(1, 0, 2, 3)
        return Integers(part.reshape(inputs, -1), whole.shift)

    for down in range(1 - height, height):
        for right in range(1 - width, width):
            rows = slice(max(0, -down), height - max(0, down)), slice(max(0, down), height - max(0, -down))
            columns = slice(max(0, -right), width - max(0, right)), slice(max(0, right), width - max(0, -right))
            product = window(rows[0], columns[0]).times_transposed(window(rows[1], columns[1]))
            total = total + np.abs(product.values)
    return Integers(total, 2 * whole.shift)


def row_distances(rows: FloatArray) -> list[list[Fraction]]:
    """Bound the distances between rows from above."""
    whole = Integers.of(rows)
    return [
        [root_up(Fraction(int(((one - other) ** 2).sum()), 4**whole.shift)) for other in whole.values]
        for one in whole.values
    ]

"""From a whole program to what each difference of two logits is: how far it moves, and how far off it is."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

import l2nnn_lightning.nn.proof.blocks
import l2nnn_lightning.nn.proof.normalization
import l2nnn_lightning.nn.proof.pooling  # noqa: F401 (register their stages)
from l2nnn_lightning.nn.heads import MultiHead, SingleHead
from l2nnn_lightning.nn.proof.arithmetic import DOUBLE, Affine, Arithmetic, inflate
from l2nnn_lightning.nn.proof.signal import Signal, UnprovableError, first_signal, follow, name_of
from l2nnn_lightning.nn.proof.weights import rounding_of_sums

__all__ = ["PairBounds", "bound_features", "bound_pairs"]


class PairBounds(NamedTuple):
    """What is proved of each difference of two logits, float64 (K, K), for images x of one shape.

    Attributes:
        image_shape: (C, H, W).
        constant: how much the exact difference moves per unit of x, at most.
        slope, offset: what the program computes is within ``slope |x| + offset`` of the exact difference.
        peak: ``(slope, offset)``: no number in the program exceeds ``slope |x| + offset`` times the largest finite one.
        program: the format that the program computes in.
    """

    image_shape: tuple[int, ...]
    constant: Tensor
    slope: Tensor
    offset: Tensor
    peak: tuple[float, float]
    program: torch.dtype

    def largest_constant(self) -> float:
        """Bound the constants of all pairs of two labels."""
        apart = ~torch.eye(len(self.constant), dtype=torch.bool)
        return float(self.constant[apart].max())


def bound_features(trunk: Iterable[nn.Module], image_shape: Sequence[int], arithmetic: Arithmetic) -> Signal:
    """Follow an image through a trunk, folded and frozen, in evaluation mode, in float64 on the CPU.

    Raises:
        UnprovableError: if nothing is known of one of its modules.
    """
    return follow(trunk, first_signal(image_shape, arithmetic), arithmetic)


@torch.no_grad()
def bound_pairs(features: Signal, head: nn.Module, image_shape: Sequence[int], arithmetic: Arithmetic) -> PairBounds:
    """Bound the differences of the logits that a head gives of features.

    - One row a label on features that all share: the exact difference is ``(w_i - w_j) . z``, so it moves
      ``|w_i - w_j|`` per unit of z; an error of z counts as much, and both sums are rounded, each by
      ``gamma_(n + 1) (|w_i| |z'| + |b_i|)``.
    - A stack a label, or features of its own: constants and errors of both add up.

    Raises:
        UnprovableError: as :func:`bound_features`, or if the head is of another kind.
    """
    kind = type(head)
    if kind not in (MultiHead, SingleHead) or any(callable(getattr(kind, name, None)) for name in vars(head)):
        raise UnprovableError(f"nothing is known of the head {name_of(head)}")
    layers = list(head.layers())  # type: ignore[operator]
    rows_KF = head.rows() if features.parts == 1 else None  # type: ignore[operator]
    if rows_KF is None:
        logits = follow(layers, features, arithmetic)
        labels, peak = logits.parts, logits.peak
        if logits.value.shape[1:] != (labels, 1):
            raise UnprovableError(f"{name_of(head)} gives {tuple(logits.value.shape)}")
        bounds = [part.expand(labels) for part in (logits.lipschitz, *logits.error)]
        constant, slope, offset = (inflate(part[:, None] + part) for part in bounds)
    else:
        follow(layers, features, arithmetic)  # refuses what is not as it should be
        lead_KK, sums = _of_rows(rows_KF.detach(), layers[0].bias, features, arithmetic)
        constant = inflate(lead_KK * features.lipschitz)
        slope, offset = (
            inflate(inflate(lead_KK * off) + own[:, None] + own)
            for off, own in zip(features.error, sums[0], strict=True)
        )
        peak = features.peak.largest(sums[1].times(2 / arithmetic.largest))
    shape = tuple(image_shape)
    return PairBounds(shape, constant, slope, offset, (float(peak.slope), float(peak.offset)), arithmetic.dtype)


def _of_rows(
    rows_KF: Tensor, bias: Tensor | None, features: Signal, arithmetic: Arithmetic
) -> tuple[Tensor, tuple[Affine, Affine]]:
    """Bound the distances between rows, (K, K), each row's rounding and its size, (K,)."""
    count = rows_KF.shape[1]
    outward = 1 + DOUBLE.gamma(count + 16)
    lead_KK = torch.stack([torch.linalg.vector_norm(rows_KF - row_F, dim=1) for row_F in rows_KF]) * outward
    absolute_KF = (
        torch.maximum(*rows_KF.abs().chunk(2, 1)) if features.sided and features.reads_channels else rows_KF.abs()
    )
    length_K = torch.linalg.vector_norm(absolute_KF, dim=1) * outward
    size = features.computed.times(length_K)
    if bias is not None:
        size = size.plus(bias.detach().abs().flatten())
    # One sum at a time.
    return lead_KK, (rounding_of_sums(arithmetic, absolute_KF.shape[1], 1, size, length_K), size)

"""From logits to what they prove: label, confidence gap, certified radius (Lemmas 1 and 6), and the pairwise radius."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.precision import to_double
from l2nnn_lightning.nn.proof.heads import PairBounds
from l2nnn_lightning.nn.proof.radius import proven_radius

__all__ = [
    "Certificate",
    "GapRule",
    "NothingProved",
    "PairRule",
    "Rule",
    "SignedRadius",
    "certify_logits",
    "certify_pairs",
]
__all__ += ["confidence_gap", "no_certificate", "round_down"]

# Logits of float32 networks carry rounding errors of a few ulp of the largest of them, and of the signals before them.
_ULPS = 8


class Certificate(NamedTuple):
    """What a network says of each image of a batch, and what is proved.

    Attributes:
        label: the predicted label, int64 (B,).
        gap: the largest logit minus the second largest, (B,), >= 0.
        radius: no image nearer than this L2 distance (pixels in [0, 1]) gets another label, (B,); 0 proves nothing.
    """

    label: Tensor
    gap: Tensor
    radius: Tensor


class SignedRadius(NamedTuple):
    """A radius to train on, and the logits that come with it.

    Attributes:
        radius: certified radius of the true label, negative where another one wins; differentiable, (B,).
        logits: (B, K).
    """

    radius: Tensor
    logits: Tensor


class Rule(nn.Module):
    """What logits prove of their images, for the weights as they were when it was made; a part of an exported graph.

    Attributes:
        name: what the radius follows from, in a few words, for reports.
        is_graph: whether it is a formula that a graph can hold, such as ONNX.
        reason: why it proves nothing, in one line; else empty.
    """

    name: str
    is_graph = True
    reason = ""

    @abstractmethod
    def forward(self, logits_BK: Tensor, image: Tensor) -> Certificate:
        """Say what these logits, float32 or float64, of these images, (B, C, H, W) in [0, 1], prove."""

    def in_box(self, logits_BK: Tensor, image: Tensor) -> tuple[Certificate, Tensor | None]:
        """Prove radii in the whole space, and for images that stay in [0, 1], (B,), never below; None where unknown."""
        return self(logits_BK, image), None


class NothingProved(Rule):
    """The rule of ordinary networks, of soft ones, and of those that cannot be proved: every radius is 0.

    Args:
        reason: why, in one line.
    """

    name = "none"

    def __init__(self, reason: str = "") -> None:
        super().__init__()
        self.reason = reason

    def forward(self, logits_BK: Tensor, image: Tensor) -> Certificate:  # noqa: ARG002 (as Rule)
        """See :func:`no_certificate`."""
        return no_certificate(logits_BK)


class GapRule(Rule):
    """The paper's rule: half the gap (Lemma 6), or the gap over sqrt(2) for a single L2NNN (Lemma 1).

    Args:
        gap_lipschitz: how much a difference of two logits moves per unit of input, at most: 2 or sqrt(2).
        bounds: how much it moves, and is off, in the program that computes the logits; None for real arithmetic, with
            an allowance for rounding as it usually occurs.
    """

    def __init__(self, gap_lipschitz: float, bounds: PairBounds | None = None) -> None:
        super().__init__()
        self.gap_lipschitz, self.bounds = gap_lipschitz, bounds
        # The norms of rounded weights may exceed 1 by their last digits.
        self._constant = gap_lipschitz if bounds is None else max(gap_lipschitz, bounds.largest_constant())
        self.name = "gap/2" if gap_lipschitz == 2 else "gap/sqrt(2)"

    def forward(self, logits_BK: Tensor, image: Tensor) -> Certificate:
        """Divide the gap, see :func:`proven_radius` and :func:`certify_logits`."""
        if self.bounds is None:
            return certify_logits(logits_BK, self.gap_lipschitz, _norm(image))
        return _certificate(logits_BK, proven_radius(logits_BK, image, self.bounds, self._constant))


class PairRule(Rule):
    """One constant for each pair of labels, see :func:`certify_pairs`.

    Args:
        constant_KK: how much each difference of two logits moves per unit of input, at most; float64.
        bounds: how much each is off in the program that computes the logits; None as for :class:`GapRule`.
    """

    name = "pairwise"

    def __init__(self, constant_KK: Tensor, bounds: PairBounds | None = None) -> None:
        super().__init__()
        # No buffers: a module's cast to float32 would round them, up or down.
        self.constant_KK, self.bounds = constant_KK, bounds

    def forward(self, logits_BK: Tensor, image: Tensor) -> Certificate:
        """Take the minimum over the other labels, see :func:`proven_radius`."""
        if self.bounds is None:
            return certify_pairs(logits_BK, self.constant_KK, _norm(image))
        return _certificate(logits_BK, proven_radius(logits_BK, image, self.bounds))


def confidence_gap(logits_BK: Tensor) -> Tensor:
    """Subtract the second largest logit from the largest: (B, K) -> (B,)."""
    top_B2 = logits_BK.topk(2, dim=1).values
    return top_B2[:, 0] - top_B2[:, 1]


def certify_logits(logits_BK: Tensor, gap_lipschitz: float, signal_B: Tensor | None = None) -> Certificate:
    """Turn the logits of a hard network into certificates.

    If a difference of two logits moves at most c per unit of input, the answer holds within ``gap / c``: c = 2 for K
    overlapping L2NNNs (Lemma 6), ``sqrt(2)`` for one jointly nonexpansive network (Lemma 1). A tie, or a logit that
    is not finite, proves nothing.

    Rounding. Nothing in a nonexpansive network amplifies an error, so the errors of its layers add up to a few ulp of
    its largest signals: of the logits, and of what comes before them, which may be larger and cancel out. The gap is
    therefore reduced by 8 ulp of the largest logit and of ``signal_B`` before it is divided.

    Args:
        logits_BK: outputs of a network whose layers are all hard.
        gap_lipschitz: the constant c, > 0.
        signal_B: the size of the signals within the network, such as the norm of the image; 0 by default.

    Shape:
        (B, K) -> three tensors (B,).

    Example:
        >>> certify_logits(torch.tensor([[3.0, 1.0, 0.0]]), 2.0).radius
        tensor([1.0000])
    """
    gap_B = confidence_gap(logits_BK)
    radius_B = (gap_B - _rounding(logits_BK, signal_B).to(gap_B)).clamp_min(0) / gap_lipschitz
    proved_B = logits_BK.isfinite().all(1) & gap_B.isfinite()  # the gap of finite logits may overflow
    return Certificate(logits_BK.argmax(1), gap_B, torch.where(proved_B & radius_B.isfinite(), radius_B, 0))


def certify_pairs(
    logits_BK: Tensor, constant_KK: Tensor, signal_B: Tensor | None = None, signal_growth: float = 1.0
) -> Certificate:
    """Turn logits into certificates, one pair of labels at a time.

    If ``y_i - y_j`` moves at most ``c_ij`` per unit of input, label i holds within the minimum over **all** other j of
    ``(y_i - y_j) / c_ij``; the runner-up need not be the nearest. On a shared nonexpansive trunk with one row per
    label ``c_ij = |w_i - w_j| <= 2``, so the result is never below half the gap, up to rounding.

    Rounding is as in :func:`certify_logits`, at the image and once more at an attacked one at distance r, whose signals
    are larger by up to ``signal_growth r``: 8 ulp of that growth are added to each ``c_ij`` for each of the two logits.
    That also decides what equal rows prove: their difference is a constant in exact arithmetic, but not in float32. The
    result is computed in float64 and rounded down.

    Args:
        logits_BK: the network's outputs.
        constant_KK: upper bounds ``c_ij`` >= 0, float64; the diagonal is not used.
        signal_B: the size of the signals within the network, such as the norm of the image; 0 by default.
        signal_growth: how much that grows per unit of input, at most: 1 for a network whose layers are all hard.

    Shape:
        (B, K), (K, K) -> three tensors (B,).

    Example:
        >>> constants = torch.tensor([[0.0, 0.5, 2.0], [0.5, 0.0, 2.0], [2.0, 2.0, 0.0]], dtype=torch.float64)
        >>> certify_pairs(torch.tensor([[3.0, 2.0, 0.0]]), constants).radius  # 2 for the runner-up, 1.5 for the last
        tensor([1.5000])
    """
    exact_BK = to_double(logits_BK)
    label_B = logits_BK.argmax(1)
    index_B1 = label_B[:, None].to(exact_BK.device)
    lead_BK = exact_BK.gather(1, index_B1) - exact_BK - 2 * _rounding(logits_BK, signal_B).to(exact_BK)[:, None]
    growth = 2 * _ULPS * torch.finfo(logits_BK.dtype).eps * signal_growth
    radius_BK = lead_BK.clamp_min(0) / (constant_KK.to(exact_BK)[index_B1[:, 0]] + growth)
    radius_B = radius_BK.scatter(1, index_B1, torch.inf).amin(1)
    proved_B = exact_BK.isfinite().all(1)
    gap_B = confidence_gap(logits_BK)
    radius_B = round_down(torch.where(proved_B, radius_B, 0), logits_BK.dtype).to(logits_BK.device)
    return Certificate(label_B, gap_B, radius_B)


def no_certificate(logits_BK: Tensor) -> Certificate:
    """Give label and gap of a network that proves nothing: radius 0 everywhere."""
    gap_B = confidence_gap(logits_BK)
    return Certificate(logits_BK.argmax(1), gap_B, torch.zeros_like(gap_B))


def round_down(radius_B: Tensor, dtype: torch.dtype) -> Tensor:
    """Write radii >= 0 in another precision, never larger than they are.

    Example:
        >>> round_down(torch.tensor([0.7], dtype=torch.float64), torch.float32).double() <= 0.7
        tensor([True])
    """
    rounded_B = radius_B.clamp_max(torch.finfo(dtype).max).to(dtype)
    below_B = torch.nextafter(rounded_B, torch.zeros_like(rounded_B))
    return torch.where(rounded_B.to(radius_B.dtype) > radius_B, below_B, rounded_B)


def _certificate(logits_BK: Tensor, radius_B: Tensor) -> Certificate:
    radius_B = round_down(radius_B, logits_BK.dtype).to(logits_BK.device)
    return Certificate(logits_BK.argmax(1), confidence_gap(logits_BK), radius_B)


def _norm(image: Tensor) -> Tensor:
    norm_B: Tensor = torch.linalg.vector_norm(image.flatten(1), dim=1)
    return norm_B


def _rounding(logits_BK: Tensor, signal_B: Tensor | None) -> Tensor:
    """Bound the rounding error of a difference of two logits: 8 ulp of the largest signals, (B,)."""
    size_B = logits_BK.abs().amax(1)
    if signal_B is not None:
        size_B = size_B + signal_B.to(size_B)
    return _ULPS * torch.finfo(logits_BK.dtype).eps * size_B

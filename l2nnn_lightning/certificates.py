"""From logits to what they prove: label, confidence gap, certified radius (Lemmas 1 and 6)."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Certificate", "certify_logits", "confidence_gap", "no_certificate"]

# Logits of float32 networks carry rounding errors of a few ulp of the largest of them.
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


def confidence_gap(logits_BK: Tensor) -> Tensor:
    """Subtract the second largest logit from the largest: (B, K) -> (B,)."""
    top_B2 = logits_BK.topk(2, dim=1).values
    return top_B2[:, 0] - top_B2[:, 1]


def certify_logits(logits_BK: Tensor, gap_lipschitz: float) -> Certificate:
    """Turn the logits of a hard network into certificates.

    If a difference of two logits moves at most c per unit of input, the answer holds within ``gap / c``: c = 2 for K
    overlapping L2NNNs (Lemma 6), ``sqrt(2)`` for one jointly nonexpansive network (Lemma 1). A tie, or a logit that
    is not finite, proves nothing. Before the division the gap is reduced by 8 ulp of the largest logit, for rounding.

    Args:
        logits_BK: outputs of a network whose layers are all hard.
        gap_lipschitz: the constant c, > 0.

    Shape:
        (B, K) -> three tensors (B,).

    Example:
        >>> certify_logits(torch.tensor([[3.0, 1.0, 0.0]]), 2.0).radius
        tensor([1.0000])
    """
    gap_B = confidence_gap(logits_BK)
    slack_B = _ULPS * torch.finfo(logits_BK.dtype).eps * logits_BK.abs().amax(1)
    radius_B = (gap_B - slack_B).clamp_min(0) / gap_lipschitz
    proved_B = logits_BK.isfinite().all(1) & gap_B.isfinite()  # the gap of finite logits may overflow
    return Certificate(logits_BK.argmax(1), gap_B, torch.where(proved_B, radius_B, 0))


def no_certificate(logits_BK: Tensor) -> Certificate:
    """Give label and gap of a network that proves nothing: radius 0 everywhere."""
    gap_B = confidence_gap(logits_BK)
    return Certificate(logits_BK.argmax(1), gap_B, torch.zeros_like(gap_B))

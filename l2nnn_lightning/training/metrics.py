"""Metrics of a certified classifier, summed exactly over batches and over processes.

In training their radii come from the quick rule: estimates of what an evaluation proves.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from l2nnn_lightning.nn.certificates import Certificate

__all__ = ["CertifiedAccuracy", "EvaluationMetrics", "radius_key"]


def radius_key(radius: float) -> str:
    """Write a radius as text that a metric's name may contain: six significant digits, an underscore for the dot.

    Raises:
        ValueError: if ``radius`` is negative or not finite.

    Example:
        >>> radius_key(1.58), radius_key(3), radius_key(36 / 255)
        ('1_58', '3', '0_141176')
    """
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"a radius must be finite and >= 0, got {radius}")
    return f"{radius:g}".replace(".", "_")


class CertifiedAccuracy(Metric):
    """Measure the fraction of samples that are correct and proven to stay so within each radius.

    ``mean_n [prediction_n = label_n and radius_n >= r and radius_n > 0]`` for every ``r`` of ``radii``.
    A sample with radius 0 is not certified at any ``r``, not even at 0, because its neighbours may have
    another label.

    Args:
        radii: L2 radii in pixel units, finite, >= 0, all different.

    Shape:
        - ``update(prediction, label, radius)``: integer (B,), integer (B,), floating (B,)
        - ``compute()``: (R,), one fraction per radius in the given order, or () of a single one; nan before any sample

    Raises:
        ValueError: if ``radii`` is empty, repeats a value, or holds a negative or infinite one.

    Example:
        >>> metric = CertifiedAccuracy([0.5, 1.58])
        >>> metric.update(torch.tensor([7, 2]), torch.tensor([7, 2]), torch.tensor([2.0, 1.0]))
        >>> metric.compute()
        tensor([1.0000, 0.5000])
    """

    full_state_update = False
    thresholds: Tensor
    certified: Tensor
    certified_count: Tensor

    def __init__(self, radii: Sequence[float]) -> None:
        super().__init__()
        keys = [radius_key(r) for r in radii]
        if not keys or len(set(keys)) < len(keys):
            raise ValueError(f"radii must hold one or more different values, got {list(radii)}")
        self.radii = tuple(float(r) for r in radii)
        # A state, and not a buffer, so that compute groups see that metrics of different radii differ.
        self.add_state("thresholds", torch.tensor([_round_up(r) for r in self.radii]), dist_reduce_fx="max")
        self.add_state("certified", torch.zeros(len(keys), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("certified_count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor, radius: Tensor) -> None:
        """Add a batch of predictions, true labels and certified radii."""
        shapes = [tuple(value.shape) for value in (prediction, label, radius)]
        if shapes != [(label.numel(),)] * 3:
            raise ValueError(f"a metric's inputs must be vectors of one length, got shapes {shapes}")
        proven = (prediction == label) & (radius > 0)
        self.certified += (proven[:, None] & (radius[:, None] >= self.thresholds)).sum(0)
        self.certified_count += label.numel()

    def compute(self) -> Tensor:
        """Return the certified accuracy at each radius."""
        return self.certified / self.certified_count


class EvaluationMetrics(nn.Module):
    """What validation and test measure of an epoch, summed over batches and processes."""

    def __init__(self, num_labels: int, radii: Sequence[float]) -> None:
        super().__init__()
        self.accuracy = MulticlassAccuracy(num_labels, average="micro")
        self.certified = CertifiedAccuracy(radii)
        self.loss, self.gap_mean, self.radius_mean, self.hard = (MeanMetric() for _ in range(4))

    def update(self, logits_BK: Tensor, label_B: Tensor, certificate: Certificate, loss: Tensor, is_hard: bool) -> None:
        """Add a batch; a radius counts as 0 where the prediction is wrong."""
        self.accuracy.update(logits_BK, label_B)
        self.certified.update(certificate.label, label_B, certificate.radius)
        self.loss.update(loss, len(label_B))
        self.gap_mean.update(certificate.gap)
        self.radius_mean.update(torch.where(certificate.label == label_B, certificate.radius, 0))
        # Noted with the batch, since averaged weights may have been put back by the end of the epoch.
        self.hard.update(float(is_hard))

    def compute(self) -> dict[str, Tensor]:
        """Return every number by its name."""
        names = ("loss", "accuracy", "gap_mean", "radius_mean", "hard")
        values: dict[str, Tensor] = {name: getattr(self, name).compute() for name in names}
        # torchmetrics makes a number of a vector of one.
        certified = zip(self.certified.radii, self.certified.compute().reshape(-1), strict=True)
        return values | {f"certified_{radius_key(radius)}": value for radius, value in certified}

    def reset(self) -> None:
        """Begin another epoch."""
        for metric in (self.loss, self.accuracy, self.gap_mean, self.radius_mean, self.hard, self.certified):
            metric.reset()


def _round_up(radius: float) -> float:
    """Return the smallest float32 that is not below ``radius``, so that rounding never certifies a sample."""
    nearest = np.float32(radius)
    return float(nearest if float(nearest) >= radius else np.nextafter(nearest, np.float32(np.inf)))

"""Metrics of a certified classifier, summed exactly over batches and over processes."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["CertifiedAccuracy", "ConfidenceGap", "MeanRadius", "radius_key"]


def radius_key(radius: float) -> str:
    """Write a radius as text that a metric's name may contain: no dots.

    Args:
        radius: an L2 radius in pixel units, finite and >= 0.

    Returns:
        The radius with six significant digits, its dot replaced by an underscore.

    Raises:
        ValueError: if ``radius`` is negative or not finite.

    Example:
        >>> radius_key(1.58), radius_key(3), radius_key(36 / 255)
        ('1_58', '3', '0_141176')
    """
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"a radius must be finite and >= 0, got {radius}")
    return f"{radius:g}".replace(".", "_")


class ConfidenceGap(Metric):
    """Average the confidence gap, section 2.3: largest logit minus second largest.

    ``mean_n g(x_n)``, over all samples, right or wrong.

    Shape:
        - ``update(gap)``: floating (B,)
        - ``compute()``: scalar; nan before any sample

    Example:
        >>> metric = ConfidenceGap()
        >>> metric.update(torch.tensor([1.0, 2.5, 1.0]))
        >>> metric.compute()
        tensor(1.5000)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    gap_sum: Tensor
    gap_count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("gap_sum", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("gap_count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, gap: Tensor) -> None:
        """Add a batch of gaps."""
        _check_vectors(gap=gap)
        self.gap_sum += gap.detach().float().sum()
        self.gap_count += gap.numel()

    def compute(self) -> Tensor:
        """Return the mean gap."""
        return self.gap_sum / self.gap_count


class CertifiedAccuracy(Metric):
    """Measure the fraction of samples that are correct and proven to stay so within each radius.

    ``mean_n [prediction_n = label_n and radius_n >= r and radius_n > 0]`` for every ``r`` of ``radii``.
    A sample with radius 0 is not certified at any ``r``, not even at 0, because its neighbours may have
    another label.

    One metric covers all radii: a collection of one metric per radius may be merged by its compute groups.

    Args:
        radii: L2 radii in pixel units, finite, >= 0, all different.

    Shape:
        - ``update(prediction, label, radius)``: integer (B,), integer (B,), floating (B,)
        - ``compute()``: (R,), one fraction per radius in the given order; nan before any sample

    Raises:
        ValueError: if ``radii`` is empty, repeats a value, or holds a negative or infinite one.

    Example:
        >>> metric = CertifiedAccuracy([0.5, 1.58])
        >>> metric.update(torch.tensor([7, 2]), torch.tensor([7, 2]), torch.tensor([2.0, 1.0]))
        >>> metric.compute()
        tensor([1.0000, 0.5000])
    """

    is_differentiable = False
    higher_is_better = True
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
        _check_vectors(prediction=prediction, label=label, radius=radius)
        proven = (prediction == label) & (radius > 0)
        self.certified += (proven[:, None] & (radius[:, None] >= self.thresholds)).sum(0)
        self.certified_count += label.numel()

    def compute(self) -> Tensor:
        """Return the certified accuracy at each radius."""
        return self.certified / self.certified_count


class MeanRadius(Metric):
    """Average the certified radius, counting it only where the prediction is correct.

    ``mean_n (radius_n if prediction_n = label_n else 0)``: the area under the curve of certified accuracy
    against radius.

    Shape:
        - ``update(prediction, label, radius)``: integer (B,), integer (B,), floating (B,)
        - ``compute()``: scalar; nan before any sample

    Example:
        >>> metric = MeanRadius()
        >>> metric.update(torch.tensor([7, 2]), torch.tensor([7, 3]), torch.tensor([2.0, 1.0]))
        >>> metric.compute()
        tensor(1.)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    radius_sum: Tensor
    radius_count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("radius_sum", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("radius_count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor, radius: Tensor) -> None:
        """Add a batch of predictions, true labels and certified radii."""
        _check_vectors(prediction=prediction, label=label, radius=radius)
        self.radius_sum += radius.detach().float()[prediction == label].sum()
        self.radius_count += label.numel()

    def compute(self) -> Tensor:
        """Return the mean radius."""
        return self.radius_sum / self.radius_count


def _round_up(radius: float) -> float:
    """Return the smallest float32 that is not below ``radius``, so that rounding never certifies a sample."""
    nearest = np.float32(radius)
    return float(nearest if float(nearest) >= radius else np.nextafter(nearest, np.float32(np.inf)))


def _check_vectors(**values: Tensor) -> None:
    """Refuse anything but vectors of one length."""
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
        raise ValueError(f"a metric's inputs must be vectors of one length, got shapes {shapes}")

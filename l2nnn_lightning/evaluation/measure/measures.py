"""The measures there are, in the order of their rows."""

from l2nnn_lightning.evaluation.measure.base import Measure
from l2nnn_lightning.evaluation.measure.hybrid import Hybrid
from l2nnn_lightning.evaluation.measure.jacobian import Jacobian
from l2nnn_lightning.evaluation.measure.noisy import NoisyLabels

__all__ = ["MEASURES"]

MEASURES: tuple[type[Measure], ...] = (
    Jacobian,
    Hybrid,
    NoisyLabels,
)

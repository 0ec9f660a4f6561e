"""Weights & Biases, a run for a run folder, and a workspace across runs; TensorBoard."""

from l2nnn_lightning.evaluation.tracking.dashboard import WandbDashboard
from l2nnn_lightning.evaluation.tracking.tensorboard import TensorBoard

__all__ = ["TensorBoard", "WandbDashboard"]

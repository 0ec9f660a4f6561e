"""Weights & Biases: the run of a run folder, what training and evaluation put into it, a workspace across runs."""

from l2nnn_lightning.evaluation.tracking.wandb_dashboard import WandbDashboard

__all__ = ["WandbDashboard"]

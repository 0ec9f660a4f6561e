"""Callbacks: the switch to hard scaling, checkpoints, reproducible randomness."""

from l2nnn_lightning.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from l2nnn_lightning.callbacks.hard_scaling import HardScalingSwitch
from l2nnn_lightning.callbacks.noisy_labels import NoisyLabelMonitor
from l2nnn_lightning.callbacks.parseval import ParsevalRetraction
from l2nnn_lightning.callbacks.progress import EpochLines
from l2nnn_lightning.callbacks.reproducible import EpochSeed
from l2nnn_lightning.callbacks.wandb_dashboard import WandbDashboard

__all__ = [
    "BestCheckpoint",
    "EpochLines",
    "EpochSeed",
    "HardScalingSwitch",
    "LastCheckpoint",
    "NoisyLabelMonitor",
    "ParsevalRetraction",
    "WandbDashboard",
]

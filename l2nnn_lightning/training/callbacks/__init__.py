"""Callbacks: the switch to hard scaling, checkpoints, reproducible randomness, fine-tuning."""

from l2nnn_lightning.training.callbacks.best import BestCheckpoint, best_metrics
from l2nnn_lightning.training.callbacks.display import Banner, EpochBar, EpochLines
from l2nnn_lightning.training.callbacks.epochs import (
    EpochSeed,
    FiniteLoss,
    LastCheckpoint,
    NoisyLabelMonitor,
    ParsevalRetraction,
)
from l2nnn_lightning.training.callbacks.hard_scaling import HardScalingSwitch
from l2nnn_lightning.training.callbacks.start_from import StartFrom

__all__ = [
    "Banner",
    "BestCheckpoint",
    "EpochBar",
    "EpochLines",
    "EpochSeed",
    "FiniteLoss",
    "HardScalingSwitch",
    "LastCheckpoint",
    "NoisyLabelMonitor",
    "ParsevalRetraction",
    "StartFrom",
    "best_metrics",
]

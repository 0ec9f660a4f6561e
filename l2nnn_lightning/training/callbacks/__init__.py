"""Callbacks: the switch to hard scaling, checkpoints, reproducible randomness."""

from l2nnn_lightning.training.callbacks.best import BestCheckpoint, best_metrics
from l2nnn_lightning.training.callbacks.epochs import (
    EpochLines,
    EpochSeed,
    LastCheckpoint,
    NoisyLabelMonitor,
    ParsevalRetraction,
)
from l2nnn_lightning.training.callbacks.hard_scaling import HardScalingSwitch

__all__ = [
    "BestCheckpoint",
    "EpochLines",
    "EpochSeed",
    "HardScalingSwitch",
    "LastCheckpoint",
    "NoisyLabelMonitor",
    "ParsevalRetraction",
    "best_metrics",
]

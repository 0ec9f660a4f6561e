"""Callbacks: the switch to hard scaling, checkpoints, reproducible randomness."""

from l2nnn_lightning.training.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from l2nnn_lightning.training.callbacks.hard_scaling import HardScalingSwitch
from l2nnn_lightning.training.callbacks.noisy_labels import NoisyLabelMonitor
from l2nnn_lightning.training.callbacks.parseval import ParsevalRetraction
from l2nnn_lightning.training.callbacks.progress import EpochLines
from l2nnn_lightning.training.callbacks.reproducible import EpochSeed

__all__ = [
    "BestCheckpoint",
    "EpochLines",
    "EpochSeed",
    "HardScalingSwitch",
    "LastCheckpoint",
    "NoisyLabelMonitor",
    "ParsevalRetraction",
]

"""Callbacks: the switch to hard scaling, checkpoints, reproducible randomness."""

from l2nnn_lightning.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from l2nnn_lightning.callbacks.hard_scaling import HardScalingSwitch
from l2nnn_lightning.callbacks.progress import EpochLines
from l2nnn_lightning.callbacks.reproducible import EpochSeed

__all__ = ["BestCheckpoint", "EpochLines", "EpochSeed", "HardScalingSwitch", "LastCheckpoint"]

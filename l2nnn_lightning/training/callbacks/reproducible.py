"""Random numbers as a function of seed, epoch and process, so that a resumed run repeats an uninterrupted one."""

import pytorch_lightning as pl
import torch

__all__ = ["EpochSeed"]


class EpochSeed(pl.Callback):
    """Seed torch at the start of every training epoch.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Seed the CPU's and the devices' generators."""
        # A large odd stride keeps the streams of neighbouring seeds, epochs and processes apart.
        torch.manual_seed((self.seed * 1_000_003 + trainer.current_epoch) * 1_000_003 + trainer.global_rank)

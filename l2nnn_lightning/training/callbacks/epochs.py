"""What happens at every epoch: seeds, the loss, the last checkpoint, the Parseval update, a look at noisy labels."""

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from l2nnn_lightning.data import ImageSet, to_float
from l2nnn_lightning.data.errors import FailedWorkError, UserError
from l2nnn_lightning.nn.retraction import retract_
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["EpochSeed", "FiniteLoss", "LastCheckpoint", "NoisyLabelMonitor", "ParsevalRetraction"]


class EpochSeed(pl.Callback):
    """Make random numbers a function of seed, epoch and process, so that a resumed run repeats an uninterrupted one.

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


class FiniteLoss(pl.Callback):
    """End a training whose loss is no longer finite, before its last good checkpoint is overwritten."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Look at the epoch's mean loss; a FailedWorkError if it is no number."""
        loss = float(trainer.callback_metrics.get("train/loss", 0.0))
        if not math.isfinite(loss):
            rate = trainer.optimizers[0].param_groups[0].get("initial_lr", trainer.optimizers[0].param_groups[0]["lr"])
            kept = "; last.ckpt is of the epoch before" if trainer.current_epoch else ""
            raise FailedWorkError(
                f"the training has diverged in epoch {trainer.current_epoch + 1}, its loss is {loss}: "
                f"lower model.optimizer.lr (now {rate:g}){kept}"
            )


class ParsevalRetraction(pl.Callback):
    """Keep the filters of a network orthonormal while it trains, see :func:`retract_`.

    Args:
        beta: how far each retraction goes, in (0, 1/2].
        steps: retractions after each step of the optimizer, >= 1.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, beta: float = 0.5, steps: int = 2) -> None:
        super().__init__()
        if not 0 < beta <= 0.5:
            raise ValueError(f"beta must be in (0, 0.5], got {beta}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.beta, self.steps = beta, steps

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:  # noqa: ARG002
        """Retract every layer."""
        retract_(pl_module, self.beta, self.steps)


class NoisyLabelMonitor(pl.Callback):
    """Log what the network makes of noisy training labels, after every epoch, to all loggers.

    On a sample of the training images: ``noisy/clean_accuracy``, on labels that are as they were;
    ``noisy/memorised``, how often a changed label is repeated; ``noisy/corrected``, how often the original label is
    answered instead; and ``noisy/gap_mean``. It looks at original labels, so nothing may be chosen by it.

    Args:
        images: size of the sample, the first training images, >= 1.
        batch_size: images at once, >= 1.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, images: int = 2000, batch_size: int = 500) -> None:
        super().__init__()
        for name, value in (("images", images), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.images, self.batch_size = images, batch_size

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Measure and log; every process measures the same sample."""
        train: ImageSet | None = getattr(getattr(trainer, "datamodule", None), "train_set", None)
        if train is None:
            raise UserError("NoisyLabelMonitor needs one of this package's DataModules")
        given, clean = train.labels[: self.images].cpu(), train.clean_labels[: self.images].cpu()
        certified = pl_module.certified()
        parts = [
            certified(to_float(batch, pl_module.device))
            for batch in torch.split(train.images[: self.images], self.batch_size)
        ]
        label, gap, _ = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
        changed = given != clean
        values = {"noisy/gap_mean": float(gap.double().mean())}
        if not bool(changed.all()):
            values["noisy/clean_accuracy"] = float((label == given)[~changed].double().mean())
        if bool(changed.any()):
            values["noisy/memorised"] = float((label == given)[changed].double().mean())
            values["noisy/corrected"] = float((label == clean)[changed].double().mean())
        pl_module.log_dict(values, rank_zero_only=True)


class LastCheckpoint(ModelCheckpoint):
    """Keep ``last.ckpt`` of the latest epoch, after everything else the epoch's end has done.

    Args:
        dirpath: the folder of the checkpoints.
    """

    def __init__(self, dirpath: str | Path) -> None:
        super().__init__(dirpath, "last", enable_version_counter=False, save_on_train_epoch_end=True)

"""Panels for W&B: the path through the gap-against-accuracy plane, the certified curve, the learning rates."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger

from l2nnn_lightning.evaluation.tracking.gap_plane import PlanePoint, plot_gap_plane
from l2nnn_lightning.evaluation.tracking.wandb_run import write_run_file
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.metrics import radius_key

__all__ = ["WandbDashboard"]


class WandbDashboard(pl.Callback):
    """Log to W&B what plain curves of metrics do not show; train.py adds it wherever there is a WandbLogger.

    - every epoch: the learning rate of each group of parameters, and whether the epoch was trained hard;
    - every few epochs and at the end: ``gap_against_accuracy`` (a picture: training and validation, coloured by epoch,
      the switch to hard scaling ringed), ``gap_against_accuracy_points`` (the same numbers as a scatter and a table)
      and ``certified_curve`` (certified accuracy at the radii of validation).

    Without a WandbLogger it does nothing.

    Args:
        run_folder: where to keep the run's id, so that resuming and evaluating go on with the same run.
        every_n_epochs: the epochs between two drawings, >= 1.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, run_folder: str | Path | None = None, every_n_epochs: int = 10) -> None:
        super().__init__()
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}")
        self.run_folder = None if run_folder is None else Path(run_folder)
        self.every_n_epochs = every_n_epochs
        self.points: list[PlanePoint] = []
        self._trains_hard = False
        self._drawn = 0

    def state_dict(self) -> dict[str, Any]:
        """The points so far, as plain values, so that a resumed run draws the whole path."""
        return {"points": [list(point) for point in self.points]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.points = [PlanePoint(*point) for point in state_dict["points"]]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Keep the run's id."""
        logger = _wandb_logger(trainer)
        if logger is not None and self.run_folder is not None and trainer.is_global_zero:
            write_run_file(self.run_folder, logger.experiment)

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        """Note the mode once an epoch: the switch at the epoch's end belongs to the next one."""
        if batch_idx == 0 and _wandb_logger(trainer) is not None:
            self._trains_hard = bool(pl_module.is_hard)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Note where validation found the network."""
        metrics = trainer.callback_metrics
        if trainer.sanity_checking or _wandb_logger(trainer) is None or "val/accuracy" not in metrics:
            return
        accuracy, gap, hard = (float(metrics[f"val/{name}"]) for name in ("accuracy", "gap_mean", "hard"))
        self.points.append(PlanePoint(trainer.current_epoch, "val", bool(hard), accuracy, gap))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note where training found it; log the learning rates; draw when it is time."""
        logger = _wandb_logger(trainer)
        if logger is None or not isinstance(pl_module, Classifier):
            return
        # On every process, since these add up over all of them.
        accuracy, gap = float(pl_module.train_accuracy.compute()), float(pl_module.train_gap.compute())
        self.points.append(PlanePoint(trainer.current_epoch, "train", self._trains_hard, accuracy, gap))
        groups = trainer.optimizers[0].param_groups
        values: dict[str, float] = {f"learning_rate/{i}": group["lr"] for i, group in enumerate(groups)}
        values |= {"train/hard": float(self._trains_hard), "epoch": trainer.current_epoch}
        logger.log_metrics(values, step=trainer.global_step - 1)
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._draw(trainer, pl_module, logger)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw where training ended, if that is not drawn yet."""
        logger = _wandb_logger(trainer)
        if logger is not None and len(self.points) > self._drawn and isinstance(pl_module, Classifier):
            self._draw(trainer, pl_module, logger)

    def _draw(self, trainer: pl.Trainer, pl_module: Classifier, logger: WandbLogger) -> None:
        self._drawn = len(self.points)
        if not trainer.is_global_zero:
            return
        import wandb

        table = wandb.Table(columns=list(PlanePoint._fields), data=[list(point) for point in self.points])
        panels: dict[str, Any] = {
            "gap_against_accuracy": wandb.Image(plot_gap_plane(sorted(self.points))),
            "gap_against_accuracy_points": wandb.plot.scatter(
                table, "accuracy", "gap_mean", title="mean confidence gap against accuracy, a point per epoch and stage"
            ),
        }
        certified = [
            [radius, float(value)]
            for radius in sorted(pl_module.radii)
            if (value := trainer.callback_metrics.get(f"val/certified_{radius_key(radius)}")) is not None
        ]
        if certified:
            panels["certified_curve"] = wandb.plot.line(
                wandb.Table(columns=["radius", "certified accuracy"], data=certified),
                "radius",
                "certified accuracy",
                title="certified accuracy of validation images",
            )
        logger.log_metrics(panels, step=trainer.global_step - 1)


def _wandb_logger(trainer: pl.Trainer) -> WandbLogger | None:
    return next((logger for logger in trainer.loggers if isinstance(logger, WandbLogger)), None)

"""The two checkpoints of a run: the last epoch, to resume from, and the best one that proves anything."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from l2nnn_lightning.training.classifier import Classifier

__all__ = ["BestCheckpoint", "LastCheckpoint"]


class BestCheckpoint(ModelCheckpoint):
    """Keep ``best.ckpt``, by a metric of the validation images. An L2NNN in penalty mode is never best.

    Args:
        dirpath: the folder of the checkpoints.
        monitor: the metric.
        mode: whether it should rise (``"max"``) or fall (``"min"``).
    """

    def __init__(self, dirpath: str | Path, monitor: str, mode: str = "max") -> None:
        super().__init__(
            dirpath, "best", monitor, mode=mode, enable_version_counter=False, save_on_train_epoch_end=False
        )

    def check_monitor_top_k(self, trainer: pl.Trainer, current: Tensor | None = None) -> bool:
        """Refuse every checkpoint of a network that proves nothing yet."""
        module: Classifier = trainer.lightning_module  # type: ignore[assignment]
        # What was validated, and is saved, may be an average of weights that is not hard yet.
        was_hard = bool(trainer.callback_metrics.get("val/hard", True))
        if module.is_soft or (module.network.can_prove and not was_hard):
            return False
        return super().check_monitor_top_k(trainer, current)


class LastCheckpoint(ModelCheckpoint):
    """Keep ``last.ckpt`` of the latest epoch, after everything else the epoch's end has done.

    Args:
        dirpath: the folder of the checkpoints.
    """

    def __init__(self, dirpath: str | Path) -> None:
        super().__init__(dirpath, "last", enable_version_counter=False, save_on_train_epoch_end=True)

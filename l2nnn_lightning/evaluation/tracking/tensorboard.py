"""TensorBoard, in the run folder."""

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from l2nnn_lightning.data.errors import need

__all__ = ["TensorBoard"]


class TensorBoard(pl.Callback):
    """Log to TensorBoard what ``metrics.csv`` holds: add it by ``--config logger/tensorboard``.

    Its files are in ``tensorboard/`` in the run folder, so that ``tensorboard --logdir runs`` shows all runs by their
    names, and a resumed run goes on with its own.

    Raises:
        ValueError: if tensorboard is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        need("tensorboard", "tensorboard")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Add the logger."""
        if not any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
            folder = trainer.default_root_dir
            trainer.loggers = [*trainer.loggers, TensorBoardLogger(folder, name="", version="tensorboard")]

"""Fine-tuning: a training that starts from the weights of another one."""

from pathlib import Path
from typing import cast

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.checkpoints import Checkpoint
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["StartFrom"]


class StartFrom(pl.Callback):
    """Start from the network of a checkpoint, in its mode, soft or hard; all else begins anew.

    Optimizer, schedule, epochs and what the objective trains are the config's. Where a training is resumed, its own
    weights count.

    Args:
        checkpoint: a ``.ckpt`` file, a ``.safetensors`` file, or the name of a pretrained classifier.

    Raises:
        UserError: when training starts, if it cannot be read or its network is another one than the config's.
    """

    def __init__(self, checkpoint: str | Path) -> None:
        super().__init__()
        self.checkpoint = str(checkpoint)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the weights, on every process alike."""
        if trainer.ckpt_path is not None:
            return
        other = Checkpoint.read(self.checkpoint).classifier()
        try:
            cast(Classifier, pl_module).network.load_state_dict(other.network.state_dict())
        except RuntimeError as error:
            raise UserError(
                f"{self.checkpoint} holds another network than the config: start from one with the same options"
            ) from error
        rank_zero_info(f"started from the network of {self.checkpoint}")

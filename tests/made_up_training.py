"""A tiny classifier and a quiet trainer for the images of ``made_up_images``."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from made_up_images import SHAPE

from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.models import ConvL2NNN, NetworkFactory
from l2nnn_lightning.training.objectives import ObjectiveFactory
from l2nnn_lightning.training.optimizers import ScaledAdam
from l2nnn_lightning.training.paper_loss import PaperLoss
from l2nnn_lightning.training.schedule import CosineAfterSwitch

#: What test modules that train leave out of the warnings.
QUIET_TRAINING = [
    # Lightning asks for worker processes, of which batches from memory have no need.
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    # Lightning 2.6 calls torch by a name that it has deprecated since.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
    # val_size: 0 asks for it.
    pytest.mark.filterwarnings("ignore:Total length of .list. across ranks is zero"),
]
# The classifier's own arguments.
_OWN = ("optimizer", "scheduler", "image_shape", "num_labels", "radii", "penalty_weight")


def make_classifier(
    network: NetworkFactory | None = None, objective: ObjectiveFactory = PaperLoss, lr: float = 0.01, **options: Any
) -> L2NNNClassifier:
    """A classifier of the images of ``made_up_images``.

    ``options`` are its own or, where no network is given, those of a dense network of one layer.
    """
    own: dict[str, Any] = {
        "optimizer": partial(ScaledAdam, lr=lr),
        "scheduler": partial(CosineAfterSwitch, warmup_steps=0),
        "image_shape": SHAPE,
        "num_labels": 3,
        **{name: options.pop(name) for name in _OWN if name in options},
    }
    assert network is None or not options, options
    return L2NNNClassifier(network or partial(ConvL2NNN, **{"channels": [], "dense": [6], **options}), objective, **own)


def make_trainer(folder: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    settings: dict[str, Any] = {
        "max_epochs": 4,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, pl.callbacks.ModelCheckpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **(settings | options))


class Scripted(pl.Callback):
    """Put a metric of the test's choice where the switch looks, and note what each epoch was trained with."""

    def __init__(self, values: list[float] | None = None, name: str = "val/scripted") -> None:
        self.values, self.name = values, name
        self.hard: list[bool] = []
        self.rates: list[float] = []
        self.penalties: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[-1]["lr"])
        if batch_idx == 0:
            self.hard.append(pl_module.is_hard)
            self.penalties.append(pl_module.penalty_weight * pl_module.penalty_scale)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.values is not None:
            pl_module.log(self.name, self.values[trainer.current_epoch])

"""What is kept of a run: the last epoch always, the best one only if it proves anything."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from made_up_images import SHAPE, StripesDataModule
from made_up_training import QUIET_TRAINING, make_classifier, make_trainer

from l2nnn_lightning import L2NNNClassifier, OrdinaryClassifier
from l2nnn_lightning.models import PlainTwin
from l2nnn_lightning.training.callbacks import BestCheckpoint, HardScalingSwitch, LastCheckpoint

pytestmark = QUIET_TRAINING


class Scores(pl.Callback):
    """Log a score of the test's choice, and note which files there are after each epoch."""

    def __init__(self, folder: Path, scores: list[float]) -> None:
        self.folder, self.scores = folder, scores
        self.best_epochs: list[int | None] = []
        self.last_epochs: list[int | None] = []

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("val/score", self.scores[trainer.current_epoch])

    def note(self) -> None:
        for name, epochs in (("best", self.best_epochs), ("last", self.last_epochs)):
            path = self.folder / f"{name}.ckpt"
            epochs.append(torch.load(path, weights_only=True)["epoch"] if path.exists() else None)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.note()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.note()


ORDINARY = partial(OrdinaryClassifier, partial(PlainTwin, channels=[2], dense=[4]), image_shape=SHAPE, num_labels=3)


@pytest.mark.parametrize(
    ("make", "switch_epoch", "mode", "scores", "best_epochs"),
    [
        # The scores in penalty mode, far above all that follow, come from a network that proves nothing.
        (make_classifier, 2, "max", [9.0, 8.0, 0.1, 0.3, 0.2], [None, None, None, 2, 3, 3]),
        (make_classifier, 9, "max", [0.1, 0.2], [None] * 3),
        (partial(make_classifier, hard=True), 9, "max", [0.1, 0.3, 0.2], [None, 0, 1, 1]),
        (partial(make_classifier, hard=True), 9, "min", [0.3, 0.1, 0.2], [None, 0, 1, 1]),
        (ORDINARY, 9, "max", [0.1, 0.3, 0.2], [None, 0, 1, 1]),
    ],
)
def test_best_is_the_best_that_proves_and_last_the_latest(
    tmp_path: Path, make: Any, switch_epoch: int, mode: str, scores: list[float], best_epochs: list[int | None]
) -> None:
    seen = Scores(tmp_path, scores)
    callbacks = (BestCheckpoint(tmp_path, "val/score", mode), LastCheckpoint(tmp_path))
    trainer = make_trainer(
        tmp_path, seen, *callbacks, HardScalingSwitch(switch_epoch=switch_epoch), max_epochs=len(scores)
    )
    trainer.fit(make(), StripesDataModule(batch_size=10, val_size=10))
    assert seen.best_epochs == best_epochs
    assert seen.last_epochs == [None, *range(len(scores))]
    assert {path.name for path in tmp_path.glob("*.ckpt")} <= {"best.ckpt", "last.ckpt"}
    if best_epochs[-1] is not None and make is not ORDINARY:
        assert L2NNNClassifier.load_from_checkpoint(tmp_path / "best.ckpt").is_hard


def test_last_holds_what_the_switch_did_in_its_epoch(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, LastCheckpoint(tmp_path), HardScalingSwitch(switch_epoch=2), max_epochs=2)
    trainer.fit(make_classifier(), StripesDataModule(batch_size=10, val_size=10))
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["callbacks"]["HardScalingSwitch"]["switched_at"] == 1
    assert all(bool(value) for key, value in checkpoint["state_dict"].items() if key.endswith(".hard"))
    assert checkpoint["lr_schedulers"][0]["start"] == 10

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


@pytest.fixture
def data() -> StripesDataModule:
    return StripesDataModule(batch_size=10, val_size=10)


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


def run(folder: Path, data: StripesDataModule, model: Any, scores: list[float], *more: pl.Callback) -> Scores:
    seen = Scores(folder, scores)
    best = BestCheckpoint(folder, "val/score")
    trainer = make_trainer(folder, seen, best, LastCheckpoint(folder), *more, max_epochs=len(scores))
    trainer.fit(model, data)
    return seen


def test_penalty_mode_is_never_best(data: StripesDataModule, tmp_path: Path) -> None:
    """Its score, far above all that follow, comes from a network that proves nothing."""
    seen = run(tmp_path, data, make_classifier(), [9.0, 8.0, 0.1, 0.3, 0.2], HardScalingSwitch(switch_epoch=2))
    assert seen.best_epochs == [None, None, None, 2, 3, 3]
    assert L2NNNClassifier.load_from_checkpoint(tmp_path / "best.ckpt").is_hard


def test_without_a_switch_there_is_no_best(data: StripesDataModule, tmp_path: Path) -> None:
    assert run(tmp_path, data, make_classifier(), [0.1, 0.2]).best_epochs == [None] * 3


def test_hard_from_the_start_keeps_the_best(data: StripesDataModule, tmp_path: Path) -> None:
    seen = run(tmp_path, data, make_classifier(hard=True), [0.1, 0.3, 0.2])
    assert seen.best_epochs == [None, 0, 1, 1]


def test_ordinary_classifier_has_a_best_too(data: StripesDataModule, tmp_path: Path) -> None:
    model = OrdinaryClassifier(partial(PlainTwin, channels=[2], dense=[4]), image_shape=SHAPE, num_labels=3)
    assert run(tmp_path, data, model, [0.1, 0.3, 0.2]).best_epochs == [None, 0, 1, 1]


def test_last_is_written_after_every_epoch(data: StripesDataModule, tmp_path: Path) -> None:
    seen = run(tmp_path, data, make_classifier(), [0.3, 0.2, 0.1], HardScalingSwitch(switch_epoch=2))
    assert seen.last_epochs == [None, 0, 1, 2]
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]


def test_last_holds_what_the_switch_did_in_its_epoch(data: StripesDataModule, tmp_path: Path) -> None:
    run(tmp_path, data, make_classifier(), [0.3, 0.2], HardScalingSwitch(switch_epoch=2))
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["callbacks"]["HardScalingSwitch"]["switched_at"] == 1
    assert all(bool(value) for key, value in checkpoint["state_dict"].items() if key.endswith(".hard"))
    assert checkpoint["lr_schedulers"][0]["start"] == 10


def test_minimum_may_be_best(data: StripesDataModule, tmp_path: Path) -> None:
    seen = Scores(tmp_path, [0.3, 0.1, 0.2])
    best = BestCheckpoint(tmp_path, "val/score", mode="min")
    make_trainer(tmp_path, seen, best, max_epochs=3).fit(make_classifier(hard=True), data)
    assert seen.best_epochs[-1] == 1

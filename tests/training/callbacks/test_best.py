"""Which epoch is best: what is certified decides, a network that has learnt nothing never wins, metrics never mix."""

from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_images import SHAPE, StripesDataModule
from made_up_training import QUIET_TRAINING, make_classifier, make_trainer
from torch import Tensor

from l2nnn_lightning import L2NNNClassifier, OrdinaryClassifier
from l2nnn_lightning.models import PlainTwin
from l2nnn_lightning.training.callbacks import BestCheckpoint, best_metrics
from l2nnn_lightning.training.metrics import EvaluationMetrics

pytestmark = QUIET_TRAINING


def told(monkeypatch: pytest.MonkeyPatch, *epochs: dict[str, float]) -> None:
    """Let validation find what a test wants, epoch by epoch."""
    left = iter(epochs)

    def compute(_: EvaluationMetrics) -> dict[str, Tensor]:
        return {name: torch.tensor(value) for name, value in next(left).items()}

    monkeypatch.setattr(EvaluationMetrics, "compute", compute)


def found(accuracy: float, certified: float, radius_mean: float = 0.0, hard: float = 1.0) -> dict[str, float]:
    return {"accuracy": accuracy, "certified_0_5": certified, "radius_mean": radius_mean, "hard": hard}


def fit(folder: Path, best: BestCheckpoint, epochs: int, *, resume: str | None = None) -> None:
    trainer = make_trainer(folder, best, max_epochs=epochs)
    model, data = make_classifier(hard=True, radii=[0.5]), StripesDataModule(batch_size=10, val_size=10)
    trainer.fit(model, data, ckpt_path=resume, weights_only=True)


def best_of(folder: Path) -> BestCheckpoint:
    monitor, *ties = best_metrics(make_classifier(hard=True, radii=[1.0, 0.5]))
    return BestCheckpoint(folder, monitor, ties=ties)


def epoch_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["epoch"])


def test_best_is_what_is_certified_at_the_smallest_radius_and_accuracy_of_ordinary_ones() -> None:
    assert best_metrics(make_classifier(radii=[1.0, 0.25])) == ["val/certified_0_25", "val/accuracy", "val/radius_mean"]
    assert best_metrics(OrdinaryClassifier(PlainTwin, image_shape=SHAPE, num_labels=3)) == ["val/accuracy"]


@pytest.mark.parametrize(
    ("epochs", "best", "line"),
    [
        # It was the third epoch, at chance but with large radii, that won over the last by its mean radius.
        ([found(0.3, 0.3, 9.0), found(0.7, 0.6, 0.7)], 1, "best epoch 2: accuracy 70.0%, certified@0.5 60.0%"),
        # One label for all, with a radius that nothing comes near to, is certified more often than what has learnt.
        ([found(0.4, 0.4, 9.0), found(0.8, 0.2, 0.3)], 1, "best epoch 2: accuracy 80.0%, certified@0.5 20.0%"),
        ([found(0.8, 0.2, 0.3), found(0.4, 0.4, 9.0)], 0, "best epoch 1: accuracy 80.0%, certified@0.5 20.0%"),
        ([found(0.6, 0.5), found(0.8, 0.5), found(0.7, 0.5)], 1, "best epoch 2: accuracy 80.0%, certified@0.5 50.0%"),
        ([found(1.0, 1.0, 0.7), found(1.0, 1.0, 0.9)], 1, "best epoch 2: accuracy 100.0%, certified@0.5 100.0%"),
        ([found(0.8, 0.5, 0.7), found(0.8, 0.5, 0.7)], 0, "best epoch 1: accuracy 80.0%, certified@0.5 50.0%"),
        ([found(0.9, 0.5), found(0.9, float("nan"))], 0, "best epoch 1: accuracy 90.0%, certified@0.5 50.0%"),
        ([found(0.3, 0.1), found(0.2, 0.05)], 0, "best epoch 1: accuracy 30.0%, certified@0.5 10.0%"),
        ([found(0.9, 0.8, hard=0.0), found(0.8, 0.5)], 1, "best epoch 2: accuracy 80.0%, certified@0.5 50.0%"),
    ],
)
def test_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: list[dict[str, float]], best: int, line: str
) -> None:
    told(monkeypatch, *epochs)
    callback = best_of(tmp_path)
    fit(tmp_path, callback, len(epochs))
    assert epoch_of(tmp_path / "best.ckpt") == best
    assert callback.describe() == line


def test_a_metric_of_the_users_own_decides_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, found(0.3, 0.3, 9.0), found(0.7, 0.6, 0.7))
    callback = BestCheckpoint(tmp_path, "val/radius_mean")
    assert callback.describe() is None
    fit(tmp_path, callback, 2)
    assert callback.describe() == "best epoch 1: accuracy 30.0%, val/radius_mean 9"


@pytest.mark.parametrize("moved", [False, True])
def test_resumed_run_keeps_its_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: bool) -> None:
    told(monkeypatch, found(0.8, 0.7), found(0.6, 0.5), found(0.9, 0.6))
    folder = tmp_path / "run"
    callback = best_of(folder)
    trainer = make_trainer(tmp_path, callback, max_epochs=2)
    trainer.fit(make_classifier(hard=True, radii=[0.5]), StripesDataModule(batch_size=10, val_size=10))
    trainer.save_checkpoint(folder / "end.ckpt")
    if moved:
        folder = folder.rename(tmp_path / "elsewhere")
    resumed = best_of(folder)
    fit(tmp_path, resumed, 3, resume=str(folder / "end.ckpt"))
    assert epoch_of(folder / "best.ckpt") == 0
    assert resumed.describe() == "best epoch 1: accuracy 80.0%, certified@0.5 70.0%"


def test_training_goes_on_from_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was written in the middle of its epoch, whose end was then repeated without any batch."""
    told(monkeypatch, found(0.6, 0.5), found(0.8, 0.7), found(0.7, 0.6), found(0.7, 0.6))
    fit(tmp_path, best_of(tmp_path), 3)
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["global_step"] == 10
    fit(tmp_path, best_of(tmp_path), 3, resume=str(tmp_path / "best.ckpt"))  # one epoch is left


@pytest.mark.filterwarnings("ignore:.*add the following callbacks")
def test_another_metric_keeps_the_earlier_best_checkpoint_under_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Scores of two metrics were never comparable; what the first has chosen is not lost either."""
    told(monkeypatch, found(0.3, 0.3, 9.0), found(0.7, 0.2, 0.7))
    fit(tmp_path, BestCheckpoint(tmp_path, "val/radius_mean"), 1)
    old: dict[str, Any] = torch.load(tmp_path / "best.ckpt", weights_only=True)
    for state in old["callbacks"].values():  # as earlier versions wrote it
        for name in ("rank", "epoch", "metrics"):
            state.pop(name, None)
    torch.save(old, tmp_path / "last.ckpt")
    fit(tmp_path, best_of(tmp_path), 2, resume=str(tmp_path / "last.ckpt"))
    assert epoch_of(tmp_path / "best.ckpt") == 1
    assert epoch_of(tmp_path / "best_val_radius_mean.ckpt") == 0
    said = "best.ckpt is best in val/certified_0_5 from here on; what was best in val/radius_mean is best_val_radius"
    assert said in caplog.text
    assert L2NNNClassifier.load_from_checkpoint(tmp_path / "best_val_radius_mean.ckpt").is_hard


def test_score_of_an_earlier_version_counts_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, found(0.9, 0.3), found(0.7, 0.2))
    fit(tmp_path, BestCheckpoint(tmp_path, "val/accuracy"), 1)
    old: dict[str, Any] = torch.load(tmp_path / "best.ckpt", weights_only=True)
    for state in old["callbacks"].values():
        for name in ("rank", "epoch", "metrics"):
            state.pop(name, None)
    torch.save(old, tmp_path / "last.ckpt")
    resumed = BestCheckpoint(tmp_path, "val/accuracy")
    fit(tmp_path, resumed, 2, resume=str(tmp_path / "last.ckpt"))
    assert epoch_of(tmp_path / "best.ckpt") == 0
    assert resumed.describe() is None  # its metrics were not kept

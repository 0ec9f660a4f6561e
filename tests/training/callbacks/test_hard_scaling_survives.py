"""What the switch to hard scaling survives: a resume, weights alone, averaged weights."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from made_up_images import StripesDataModule
from made_up_training import QUIET_TRAINING, Scripted, make_classifier, make_trainer

from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.training.callbacks import BestCheckpoint, EpochSeed, HardScalingSwitch, LastCheckpoint

pytestmark = QUIET_TRAINING


@pytest.fixture
def data() -> StripesDataModule:
    """Five steps an epoch."""
    return StripesDataModule(batch_size=10, val_size=10)


def fit(tmp_path: Path, epochs: int, values: list[float], checkpoint: Path | None = None) -> tuple[Any, Any, Any]:
    torch.manual_seed(1)
    model, switch = make_classifier(), HardScalingSwitch("val/scripted", patience=2, latest=1.0, lr_factor=0.5)
    seen = Scripted(values)
    last = LastCheckpoint(tmp_path)
    trainer = make_trainer(tmp_path, EpochSeed(0), seen, switch, last, max_epochs=6, limit_train_batches=5)
    if checkpoint is None and epochs < 6:

        class Stop(pl.Callback):
            def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
                trainer.should_stop = trainer.current_epoch + 1 >= epochs

        trainer.callbacks.insert(0, Stop())  # type: ignore[attr-defined]
    data = StripesDataModule(batch_size=10, val_size=10)
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    return model, switch, seen


@pytest.mark.parametrize("epochs", [2, 3, 4])
def test_state_survives_a_resume(tmp_path: Path, epochs: int) -> None:
    """Before the wait, in the middle of it, and after the switch."""
    values = [0.5, 0.4, 0.6, 0.6, 0.5, 0.5]
    whole, switch, seen = fit(tmp_path / "whole", 6, values)
    fit(tmp_path / "torn", epochs, values)
    rest, resumed, seen_rest = fit(tmp_path / "torn", 6, values, tmp_path / "torn" / "last.ckpt")
    assert seen.hard == [False] * 4 + [True] * 2
    assert seen_rest.hard == seen.hard[epochs:]
    assert resumed.state_dict() == switch.state_dict() == {"best": pytest.approx(0.4), "waited": 2, "switched_at": 3}
    assert seen_rest.rates == seen.rates[epochs * 5 :]
    state, expected = rest.state_dict(), whole.state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_mode_survives_loading_weights_alone(data: StripesDataModule, tmp_path: Path) -> None:
    model = make_classifier()
    trainer = make_trainer(tmp_path, HardScalingSwitch(switch_epoch=1), max_epochs=1)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    loaded = L2NNNClassifier.load_from_checkpoint(tmp_path / "weights.ckpt")
    assert loaded.is_hard
    assert bool((loaded.certify(torch.rand(4, 1, 6, 6)).radius > 0).any())


@pytest.mark.parametrize("use_buffers", [True, False])
def test_switch_survives_averaged_weights(data: StripesDataModule, tmp_path: Path, use_buffers: bool) -> None:
    average = pl.callbacks.EMAWeightAveraging(decay=0.9, use_buffers=use_buffers)
    model = make_classifier()
    best = BestCheckpoint(tmp_path, "val/accuracy")
    trainer = make_trainer(tmp_path, HardScalingSwitch(switch_epoch=2), average, best, LastCheckpoint(tmp_path))
    trainer.fit(model, data)
    assert model.is_hard  # now the average
    for name in ("best.ckpt", "last.ckpt"):
        loaded = L2NNNClassifier.load_from_checkpoint(tmp_path / name).double().eval()
        assert loaded.is_hard, name
        rows = torch.autograd.functional.jacobian(
            lambda x, loaded=loaded: loaded(x[None])[0], torch.rand(1, 6, 6, dtype=torch.float64)
        )
        assert float(rows.flatten(1).norm(dim=1).max()) <= 1 + 1e-6


def test_average_that_is_still_soft_is_never_best(data: StripesDataModule, tmp_path: Path) -> None:
    """With rare updates the network is hard while the average, which is validated and saved, is not."""
    average = pl.callbacks.EMAWeightAveraging(update_every_n_steps=1000, update_starting_at_step=0)
    best = BestCheckpoint(tmp_path, "val/accuracy")
    trainer = make_trainer(tmp_path, HardScalingSwitch(switch_epoch=1), average, best)
    trainer.fit(make_classifier(), data)
    assert best.best_model_path == ""
    assert not (tmp_path / "best.ckpt").exists()

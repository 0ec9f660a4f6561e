"""The switch from penalty to hard scaling: when it comes, what it changes, and that it survives."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from made_up_images import StripesDataModule
from made_up_training import QUIET_TRAINING, Scripted, make_classifier, make_trainer
from torch import Tensor
from torch.nn import functional as F

from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.models import L2NNN, ConvL2NNN, SeparateL2NNNs
from l2nnn_lightning.nn import is_hard
from l2nnn_lightning.training import PaperLoss
from l2nnn_lightning.training.callbacks import BestCheckpoint, EpochSeed, HardScalingSwitch, LastCheckpoint
from l2nnn_lightning.training.schedule import CosineAfterSwitch

pytestmark = QUIET_TRAINING


@pytest.fixture
def data() -> StripesDataModule:
    """Five steps an epoch."""
    return StripesDataModule(batch_size=10, val_size=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "least"}, "mode must be 'min' or 'max', got 'least'"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"min_delta": -0.1}, "min_delta must be at least 0, got -0.1"),
        ({"min_delta": math.nan}, "min_delta must be at least 0, got nan"),
        ({"switch_epoch": -1}, "switch_epoch must be at least 0, got -1"),
        ({"latest": 0.0}, r"latest must be in \(0, 1\], got 0.0"),
        ({"latest": 1.5}, r"latest must be in \(0, 1\], got 1.5"),
        ({"lr_factor": 0.0}, "lr_factor must be positive, got 0.0"),
        ({"penalty_factor": 0.5}, "penalty_factor must be at least 1, got 0.5"),
        ({"penalty_epochs": 0}, "penalty_epochs must be at least 1, got 0"),
    ],
)
def test_bad_argument_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HardScalingSwitch(**options)


FALLING = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]


@pytest.mark.parametrize(
    ("options", "values", "first_hard"),
    [
        ({"switch_epoch": 0}, FALLING, 0),
        ({"switch_epoch": 3}, FALLING, 3),
        ({}, [1.0, 0.9, 0.95, 0.95, 0.5, 0.4], 4),
        ({}, [1.0, 0.9, 0.95, 0.85, 0.8, 0.9], 6),  # an improvement in between starts the wait again
        ({"min_delta": 0.1}, [1.0, 0.99, 0.98, 0.5, 0.4, 0.3], 3),  # too small to count
        ({"mode": "max", "patience": 1}, [0.1, 0.2, 0.2, 0.3, 0.3, 0.3], 3),
        ({}, [math.nan, math.nan, 0.5, 0.5, 0.5, 0.5], 2),  # a metric that is not a number never improves
        ({"latest": 0.5}, FALLING, 3),
        ({"latest": 0.3}, FALLING, 2),
        ({"latest": 0.1}, FALLING, 1),
        ({"monitor": "train/loss"}, FALLING, 6),  # at the latest after the last epoch, so that the run ends with proofs
    ],
)
def test_switches_in_its_time(
    data: StripesDataModule, tmp_path: Path, options: dict[str, Any], values: list[float], first_hard: int
) -> None:
    seen, model = Scripted(values), make_classifier()
    switch = HardScalingSwitch(**({"monitor": "val/scripted", "patience": 2, "latest": 1.0} | options))
    make_trainer(tmp_path, seen, switch, max_epochs=6).fit(model, data)
    assert seen.hard == [epoch >= first_hard for epoch in range(6)]
    assert model.is_hard


def test_penalty_weight_grows_geometrically(data: StripesDataModule, tmp_path: Path) -> None:
    seen = Scripted()
    switch = HardScalingSwitch(switch_epoch=5, penalty_factor=16.0, penalty_epochs=2)
    make_trainer(tmp_path, switch, seen).fit(make_classifier(penalty_weight=0.1), data)
    assert seen.penalties == pytest.approx([0.1, 0.4, 1.6, 1.6])


def test_missing_metric_is_one_clear_error_that_lists_the_others(data: StripesDataModule, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no metric 'val/los' to monitor") as caught:
        make_trainer(tmp_path, HardScalingSwitch("val/los")).fit(make_classifier(), data)
    message = str(caught.value)
    assert "\n" not in message
    for known in ("train/loss", "val/loss", "val/accuracy", "val/gap_mean"):
        assert known in message


def test_says_so_when_the_weights_run_away(data: StripesDataModule, tmp_path: Path) -> None:
    model = make_classifier(penalty_weight=0.0, init="orthogonal")
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(20)
    trainer = make_trainer(tmp_path, HardScalingSwitch(switch_epoch=2), max_epochs=1)
    with pytest.warns(UserWarning, match="the weights run away .* raise model.penalty_weight"):
        trainer.fit(model, data)


def test_learning_rate_is_lowered_and_its_schedule_restarted(data: StripesDataModule, tmp_path: Path) -> None:
    seen = Scripted()
    model = make_classifier(
        optimizer=partial(torch.optim.Adam, lr=0.01), scheduler=partial(CosineAfterSwitch, final=0.1, warmup_steps=1)
    )
    make_trainer(tmp_path, seen, HardScalingSwitch(switch_epoch=2, lr_factor=0.5)).fit(model, data)
    expected = [0.005] + [0.01] * 9  # a step of warm-up, then constant: the end of this part is not known
    for since in range(10):
        rise = 0.5 if since == 0 else 1.0
        expected.append(0.005 * rise * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * since / 10))))
    assert seen.rates == pytest.approx(expected)


def terms_of_a(model: L2NNNClassifier, images: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model.objective.attacked(model(images)), labels)


@pytest.mark.parametrize(
    "network",
    [
        partial(ConvL2NNN, channels=[], dense=[6]),
        partial(ConvL2NNN, channels=[], dense=[6], head_hidden=[4]),
        partial(ConvL2NNN, channels=[2, 3], kernel_size=3, dense=[5], head="single"),
        partial(SeparateL2NNNs, crop=6, channels=[2, 2], head_hidden=[3]),
    ],
    ids=["dense", "stacks", "convolutions", "separate"],
)
def test_logits_change_by_one_factor_a_label_and_l_a_not_at_all(network: Any) -> None:
    model = make_classifier(network, partial(PaperLoss, u=3.0)).eval()
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    images, labels = torch.rand(32, 1, 6, 6), torch.arange(32) % 3
    with torch.no_grad():
        before, loss_before = model(images), terms_of_a(model, images, labels)
        model.harden()
        after, loss_after = model(images), terms_of_a(model, images, labels)
    assert is_hard(model.network)
    ratio = before / after
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=2e-3, atol=0)
    assert bool((ratio > 1.5).all())  # it was expansive
    torch.testing.assert_close(loss_after, loss_before, rtol=1e-4, atol=1e-5)


# --- what is reset ---


class Watch(pl.Callback):
    """Note the state of other callbacks after each epoch of training."""

    def __init__(self, *watched: Any) -> None:
        self.watched = watched
        self.best: list[list[Any]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        names = ("best_score", "wait_count", "best_model_score", "best_model_path")
        self.best.append([getattr(one, name) for one in self.watched for name in names if hasattr(one, name)])


@pytest.mark.parametrize("at_train_end", [True, False])
def test_early_stopping_begins_anew(data: StripesDataModule, tmp_path: Path, at_train_end: bool) -> None:
    """The loss of a hard network starts above that of a soft one: stopping must not compare the two."""
    stopping = pl.callbacks.EarlyStopping("val/scripted", patience=2, check_on_train_epoch_end=at_train_end)
    watch = Watch(stopping)
    seen = Scripted([0.1, 0.2, 1.0, 0.9, 0.8, 0.7])
    model = make_classifier()
    trainer = make_trainer(tmp_path, seen, stopping, HardScalingSwitch(switch_epoch=2), watch, max_epochs=6)
    trainer.fit(model, data)
    assert len(seen.hard) == 6
    assert [float(values[0]) for values in watch.best[:3]] == pytest.approx([math.inf, 0.1, math.inf])
    assert watch.best[2][1] == 0
    assert float(watch.best[3][0]) == 1.0


@pytest.mark.parametrize("at_train_end", [True, False])
def test_early_stopping_that_ends_together_with_the_penalty_lets_training_go_on(
    data: StripesDataModule, tmp_path: Path, at_train_end: bool
) -> None:
    """Both watched one metric with one patience: training ended at the switch, before a hard step was taken."""
    seen = Scripted([0.1, 0.2, 0.3, 0.9, 0.8, 0.7])
    stopping = pl.callbacks.EarlyStopping("val/scripted", patience=2, check_on_train_epoch_end=at_train_end)
    switch = HardScalingSwitch("val/scripted", patience=2, latest=1.0)
    make_trainer(tmp_path, seen, stopping, switch, max_epochs=6).fit(make_classifier(), data)
    assert seen.hard == [False] * 3 + [True] * 3


def test_other_reasons_to_stop_are_respected(data: StripesDataModule, tmp_path: Path) -> None:
    seen = Scripted([0.1, 0.2, math.inf, 0.2, 0.2, 0.2])
    stopping = pl.callbacks.EarlyStopping("val/scripted", patience=9)  # stops at a metric that is not finite
    make_trainer(tmp_path, seen, stopping, HardScalingSwitch(switch_epoch=3), max_epochs=6).fit(make_classifier(), data)
    assert len(seen.hard) == 3


def test_best_checkpoint_of_the_users_begins_anew(data: StripesDataModule, tmp_path: Path) -> None:
    mine = pl.callbacks.ModelCheckpoint(tmp_path, "mine-{epoch}", monitor="val/scripted", mode="max")
    seen = Scripted([0.9, 0.8, 0.1, 0.2])
    make_trainer(tmp_path, seen, mine, HardScalingSwitch(switch_epoch=2)).fit(make_classifier(), data)
    assert mine.best_model_path.endswith("mine-epoch=3.ckpt")
    assert mine.best_model_score is not None
    assert float(mine.best_model_score) == pytest.approx(0.2)


def test_network_that_is_no_plain_chain_switches_too() -> None:
    """Biases cannot be kept in scale there, but the proof holds."""
    model = make_classifier(activation="relu")
    assert isinstance(model.network, L2NNN)
    model.network.trunk.append(torch.nn.Sigmoid())
    scale = model.objective.log_u.clone()
    model.harden()
    assert model.is_hard
    assert torch.equal(model.objective.log_u, scale)


# --- what it survives: a resume, averaged weights ---


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
    trainer.fit(model, StripesDataModule(batch_size=10, val_size=10), ckpt_path=checkpoint, weights_only=True)
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

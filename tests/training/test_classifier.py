"""The LightningModules: what they claim, what they refuse, and what their checkpoints hold."""

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_images import StripesDataModule
from made_up_training import QUIET_TRAINING, make_classifier, make_trainer
from torch import Tensor

from l2nnn_lightning import L2NNNClassifier
from l2nnn_lightning.data import Batch
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.nn import penalty, soften
from l2nnn_lightning.nn.certificates import Certificate
from l2nnn_lightning.training import OffsetCrossEntropy, PaperLoss, RadiusHinge, RadiusSigmoid
from l2nnn_lightning.training.callbacks import HardScalingSwitch
from l2nnn_lightning.training.optimizers import ScaledAdam
from l2nnn_lightning.training.schedule import CosineAfterSwitch

pytestmark = QUIET_TRAINING


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[L2NNNClassifier, Path]:
    """A classifier trained a bit, hard, and its checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    model = make_classifier(objective=partial(PaperLoss, omega=1.0, u=3.0, v=2.0))
    trainer = make_trainer(folder, HardScalingSwitch(switch_epoch=2), max_epochs=12)
    trainer.fit(model, StripesDataModule(batch_size=10, val_size=0))
    trainer.save_checkpoint(folder / "model.ckpt")
    return model, folder / "model.ckpt"


def held_out() -> tuple[Tensor, Tensor]:
    pixels, labels = StripesDataModule().load_images(train=False)
    return pixels.float() / 255, labels


# --- certify ---


def test_certificate_is_half_the_gap_when_hard(trained: tuple[L2NNNClassifier, Path]) -> None:
    model = trained[0].eval()
    images, labels = held_out()
    with torch.no_grad():
        logits = model(images)
    certificate = model.certify(images)
    assert certificate._fields == ("label", "gap", "radius")
    assert all(part.shape == (len(images),) for part in certificate)
    top = logits.sort(dim=1, descending=True).values
    torch.testing.assert_close(certificate.gap, top[:, 0] - top[:, 1])
    torch.testing.assert_close(certificate.radius, certificate.gap / 2, rtol=0, atol=1e-5)
    assert bool((certificate.radius <= certificate.gap / 2).all())
    assert torch.equal(certificate.label, logits.argmax(1))
    assert float((certificate.label == labels).float().mean()) > 0.9
    assert float(certificate.radius.min()) > 0


def test_one_soft_layer_is_enough_to_prove_nothing(trained: tuple[L2NNNClassifier, Path]) -> None:
    partly = copy.deepcopy(trained[0])
    soften(partly.network.head)  # type: ignore[arg-type]
    certificate = partly.certify(held_out()[0])
    assert (partly.is_hard, trained[0].is_hard) == (False, True)  # the copy is its own
    assert not certificate.radius.any()
    assert float(certificate.gap.max()) > 0


@pytest.mark.parametrize("training", [True, False])
def test_certify_restores_the_mode_and_keeps_no_graph(training: bool) -> None:
    model = make_classifier(hard=True).train(training)
    certificate = model.certify(held_out()[0].requires_grad_())
    assert model.training == training
    assert not certificate.radius.requires_grad
    with pytest.raises(UserError):
        model.certify(torch.rand(1, 1, 5, 5))
    assert model.training == training


def test_certify_ignores_autocast_and_follows_the_weights_precision(trained: tuple[L2NNNClassifier, Path]) -> None:
    model, images = trained[0], held_out()[0]
    expected = model.certify(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = model.certify(images)
    assert torch.equal(inside.radius, expected.radius)
    assert model.certify(images.double()).radius.dtype == torch.float32
    double = copy.deepcopy(model).double().certify(images)
    assert double.radius.dtype == torch.float64
    torch.testing.assert_close(double.radius.float(), expected.radius, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 1, 5, 6), (2, 3, 6, 6), (1, 6, 6), (2, 36)])
def test_images_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"takes images of shape \(batch, 1, 6, 6\), got"):
        make_classifier().certify(torch.rand(shape))


# --- checkpoints ---


def test_checkpoint_round_trip(trained: tuple[L2NNNClassifier, Path]) -> None:
    model, path = trained
    loaded = L2NNNClassifier.load_from_checkpoint(path)
    images, _ = held_out()
    for ours, theirs in zip(loaded.certify(images), model.certify(images), strict=True):
        assert torch.equal(ours, theirs)
    assert loaded.is_hard
    assert loaded.hparams == model.hparams


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(entry) for key, entry in value.items())
    if isinstance(value, list | tuple):
        return all(is_plain(entry) for entry in value)
    return value is None or type(value) in (bool, int, float, str)


def test_checkpoint_holds_plain_values_and_tensors_alone(trained: tuple[L2NNNClassifier, Path]) -> None:
    checkpoint = torch.load(trained[1], weights_only=True)
    assert is_plain(dict(checkpoint["hyper_parameters"]))
    assert checkpoint["hyper_parameters"]["objective"] == {
        "class_path": "l2nnn_lightning.training.PaperLoss",
        "init_args": {"omega": 1.0, "u": 3.0, "v": 2.0},
    }
    assert (checkpoint["lr_schedulers"][0]["start"], checkpoint["lr_schedulers"][0]["last_epoch"]) == (12, 72)
    ours = checkpoint["l2nnn_lightning"]
    assert ours["classifier"] == "L2NNNClassifier"
    assert ours["data"]["name"] == "made_up_images.StripesDataModule"
    assert is_plain(ours)


def test_scales_of_the_loss_are_no_part_of_the_classifier(trained: tuple[L2NNNClassifier, Path]) -> None:
    model, images = copy.deepcopy(trained[0]).eval(), held_out()[0]
    before = model(images)
    with torch.no_grad():
        model.objective.log_u += 1
        model.objective.log_v += 1
    assert torch.equal(model(images), before)
    assert not torch.equal(model.attack_logits(images), trained[0].attack_logits(images))


# --- training ---


@torch.no_grad()
def step(model: L2NNNClassifier, batch: Batch, number: int = 0) -> dict[str, float]:
    """What a training step logs; its loss is what the step returns."""
    logged: dict[str, Any] = {}
    model.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign,assignment]
    assert model.training_step(batch, number) == logged["train/loss"]
    return {name.removeprefix("train/"): float(value) for name, value in logged.items()}


def test_penalty_is_part_of_the_loss_only_while_soft() -> None:
    model = make_classifier(penalty_weight=0.5, head_hidden=[3])
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(2)
    batch = Batch(*held_out())
    soft = step(model, batch)
    assert soft["penalty"] == pytest.approx(float(penalty(model.network).detach()))
    parts = soft["loss_a"] + soft["loss_b"] + 0.5 * soft["loss_c"] + 0.5 * soft["penalty"]
    assert soft["loss"] == pytest.approx(parts)
    model.penalty_scale = 3.0
    assert step(model, batch)["loss"] == pytest.approx(parts + soft["penalty"])
    model.harden()
    for number in (1, 0):  # in the middle of an epoch, and in the next one
        hard = step(model, batch, number)
        assert "penalty" not in hard
        assert hard["loss"] == pytest.approx(hard["loss_a"] + hard["loss_b"] + 0.5 * hard["loss_c"])


@pytest.mark.parametrize("optimizer", [ScaledAdam, torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_every_parameter_is_optimized_once(tmp_path: Path, optimizer: Any) -> None:
    model = make_classifier(optimizer=partial(optimizer, lr=0.01), hard=True)
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, StripesDataModule(batch_size=30, val_size=0))
    groups = trainer.optimizers[0].param_groups
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())
    # 36 and 12 columns
    scales = [16 / 6, 16 / math.sqrt(12), 1] if optimizer is ScaledAdam else [1] * 3
    assert [group["initial_lr"] for group in groups] == pytest.approx([0.01 * scale for scale in scales])


def test_validation_reports_what_is_proved(trained: tuple[L2NNNClassifier, Path], tmp_path: Path) -> None:
    model = copy.deepcopy(trained[0])
    model.trainer = None  # type: ignore[assignment]
    data = StripesDataModule(eval_batch_size=7)
    (metrics,) = make_trainer(tmp_path).test(model, data, verbose=False)
    images, labels = held_out()
    label, gap, radius = model.certify(images)
    right = label == labels
    assert metrics["test/accuracy"] == pytest.approx(float(right.float().mean()))
    assert metrics["test/gap_mean"] == pytest.approx(float(gap.mean()), rel=1e-5)
    assert metrics["test/radius_mean"] == pytest.approx(float((radius * right).mean()), rel=1e-4)
    assert metrics["test/certified_0_5"] == pytest.approx(float((right & (radius >= 0.5)).float().mean()))
    assert metrics["test/hard"] == 1
    (soft,) = make_trainer(tmp_path).test(make_classifier(), data, verbose=False)
    assert soft["test/certified_0_5"] == soft["test/radius_mean"] == soft["test/hard"] == 0


def test_trainer_predicts_certificates(trained: tuple[L2NNNClassifier, Path], tmp_path: Path) -> None:
    model = copy.deepcopy(trained[0])
    model.trainer = None  # type: ignore[assignment]
    parts = make_trainer(tmp_path).predict(model, datamodule=StripesDataModule(eval_batch_size=7))
    assert [type(part) for part in parts] == [Certificate] * 3  # type: ignore[union-attr]
    for name, expected in model.certify(held_out()[0])._asdict().items():
        torch.testing.assert_close(torch.cat([getattr(part, name) for part in parts]), expected)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty_weight": math.nan}, "penalty_weight must be at least 0, got nan"),
        ({"init": "gaussian"}, "init must be one of principal, orthogonal, got 'gaussian'"),
        ({"certificate": "exact"}, "certificate must be one of paper, pairwise, got 'exact'"),
        ({"radii": [0.5, -1.0]}, "a radius must be finite and >= 0"),
        ({"objective": partial(PaperLoss, gamma=-1.0)}, "gamma must be at least 0, got -1.0"),
        ({"objective": partial(PaperLoss, omega=math.nan)}, "omega must be at least 0, got nan"),
        ({"objective": partial(PaperLoss, omega_late=-1.0)}, "omega_late must be at least 0, got -1.0"),
        ({"objective": partial(PaperLoss, late=1.5)}, r"late must be in \[0, 1\], got 1.5"),
        ({"objective": partial(PaperLoss, z=0.0)}, "z must be positive and finite, got 0.0"),
        ({"objective": partial(PaperLoss, u=-2.0)}, "u must be positive"),
        ({"objective": partial(PaperLoss, v=0.0)}, "v must be positive"),
        ({"objective": partial(PaperLoss, adversarial_terms="c")}, "adversarial_terms must be 'a' or 'ab', got 'c'"),
        ({"objective": partial(OffsetCrossEntropy, offset=-1.0)}, "offset must be finite and at least 0, got -1.0"),
        ({"objective": partial(OffsetCrossEntropy, temperature=0.0)}, "temperature must be positive"),
        ({"objective": partial(RadiusHinge, margin=math.inf)}, "margin must be positive and finite, got inf"),
        ({"objective": partial(RadiusSigmoid, margin=0.0)}, "margin must be positive and finite, got 0.0"),
        (
            {"objective": partial(RadiusSigmoid, temperature=math.nan)},
            "temperature must be positive and finite, got nan",
        ),
        ({"num_labels": 1}, "num_labels must be at least 2"),
        ({"image_shape": (28, 28)}, r"image_shape must be \(channels, height, width\), got \(28, 28\)"),
        ({"objective": lambda _: PaperLoss(3)}, "cannot be kept in a checkpoint: give a class or functools.partial"),
        ({"optimizer": partial(ScaledAdam, lr=math.nan)}, "lr must be positive, got nan"),
        ({"optimizer": partial(ScaledAdam, weight_decay=-0.1)}, "Invalid weight_decay value: -0.1"),
        ({"scheduler": partial(CosineAfterSwitch, final=1.5)}, r"final must be in \[0, 1\], got 1.5"),
        ({"scheduler": partial(CosineAfterSwitch, shape="linear")}, "must be 'cosine' or 'constant', got 'linear'"),
    ],
)
def test_bad_argument_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_classifier(**options)

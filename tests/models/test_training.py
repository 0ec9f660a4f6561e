"""What every network must survive: training through the switch to hard scaling, and a checkpoint."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_images import SHAPE, StripesDataModule
from made_up_training import QUIET_TRAINING, make_trainer
from small_networks import L2NNNS, PLAIN, SMALL
from torch import Tensor, nn

from l2nnn_lightning import L2NNNClassifier, OrdinaryClassifier
from l2nnn_lightning.models import NETWORKS, ConvexAggregation
from l2nnn_lightning.nn import nonexpansive
from l2nnn_lightning.nn.parametrization import nonexpansive_layers, raw_weight
from l2nnn_lightning.nn.retraction import retract_
from l2nnn_lightning.training.callbacks import HardScalingSwitch, ParsevalRetraction
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.objectives import RadiusHinge
from l2nnn_lightning.training.optimizers import ScaledAdam
from l2nnn_lightning.training.paper_loss import PaperLoss
from l2nnn_lightning.training.schedule import CosineAfterSwitch

pytestmark = QUIET_TRAINING

CASES: list[tuple[type[Classifier], str, dict[str, Any], dict[str, Any]]] = [
    *((L2NNNClassifier, name, {"init": init}, {}) for name in L2NNNS for init in ("orthogonal", "principal")),
    (L2NNNClassifier, "templates", {}, {"objective": partial(RadiusHinge, margin=0.8, in_box=True)}),
    (L2NNNClassifier, "templates", {"trunk": "conv", "channels": 4}, {"objective": RadiusHinge}),
    *((OrdinaryClassifier, name, {}, {}) for name in PLAIN),
]


def make(kind: type[Classifier], name: str, options: dict[str, Any], **more: Any) -> Classifier:
    settings: dict[str, Any] = {
        "network": partial(NETWORKS[name], **SMALL[name] | options),
        "optimizer": partial(ScaledAdam, lr=0.01),
        "scheduler": partial(CosineAfterSwitch, warmup_steps=0),
        "image_shape": SHAPE,
        "num_labels": 3,
    }
    return kind(**settings | more)


@pytest.mark.parametrize(("kind", "name", "options", "more"), CASES)
def test_network_trains_through_the_switch_and_certifies(
    kind: type[Classifier], name: str, options: dict[str, Any], more: dict[str, Any], tmp_path: Path
) -> None:
    classifier = make(kind, name, options, **more)
    before = {key: value.clone() for key, value in classifier.network.named_parameters()}
    trainer = make_trainer(tmp_path, HardScalingSwitch(switch_epoch=1), max_epochs=2, limit_train_batches=2)
    trainer.fit(classifier, datamodule=StripesDataModule(batch_size=10, val_size=10))
    moved = {key for key, value in classifier.network.named_parameters() if not torch.equal(before[key], value)}
    assert any("bias" in key for key in moved) or name == "templates"
    assert all(key in moved for key in before if "phase" in key)  # the t of residual and recurrent layers
    assert classifier.is_hard == classifier.network.can_prove == (name not in PLAIN)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    loaded = kind.load_from_checkpoint(path)
    images = torch.rand(4, *SHAPE)
    torch.testing.assert_close(loaded.eval()(images), classifier.eval()(images))
    certificate = loaded.certify(images)
    assert bool(certificate.radius.any()) == (name not in PLAIN)
    # Lemma 6 at least, up to what rounding is allowed for.
    assert bool((certificate.radius >= 0.5 * certificate.gap - 1e-5).all()) or name not in L2NNNS


def distance_from_orthonormal(matrix: Tensor) -> float:
    """How far the singular values are from 1, by a decomposition that the retraction does not use."""
    return float((torch.linalg.svdvals(matrix.double()) - 1).abs().max())


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (7, 7)])
def test_retraction_finds_the_nearest_orthonormal_matrix(shape: tuple[int, int]) -> None:
    layer = nonexpansive(nn.Linear(shape[1], shape[0]))
    raw = raw_weight(layer)
    with torch.no_grad():
        nn.init.orthogonal_(raw)
        raw += 0.03 * torch.randn_like(raw)
    u, _, v = torch.linalg.svd(raw.detach(), full_matrices=False)
    before = distance_from_orthonormal(raw.detach())
    retract_(layer, steps=1)
    # Newton's step maps s to 1.5 s - 0.5 s^3, so an error e becomes at most 1.5 e^2 + 0.5 e^3.
    assert distance_from_orthonormal(raw.detach()) <= 1.5 * before**2 + 0.5 * before**3 + 1e-5
    retract_(layer, steps=4)
    assert torch.allclose(raw.detach(), u @ v, atol=1e-5)


def test_small_beta_goes_a_part_of_the_way() -> None:
    layer = nonexpansive(nn.Linear(1, 1))
    raw_weight(layer).data.fill_(1.2)
    retract_(layer, beta=0.1, steps=1)
    assert raw_weight(layer).item() == pytest.approx(1.1 * 1.2 - 0.1 * 1.2**3)


def test_aggregation_is_a_convex_combination() -> None:
    layer = ConvexAggregation(nn.ReLU())
    layer.logit.data.fill_(torch.logit(torch.tensor(0.25)))
    assert torch.allclose(layer(torch.tensor([-4.0, 4.0])), torch.tensor([-1.0, 4.0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"beta": 0.7}, r"beta must be in \(0, 0.5\]"), ({"steps": 0}, "steps must be at least 1")],
)
def test_bad_retraction_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParsevalRetraction(**options)


def test_training_keeps_filters_orthonormal_and_the_certificate(tmp_path: Path) -> None:
    def trained(*callbacks: ParsevalRetraction) -> list[float]:
        torch.manual_seed(0)
        objective = partial(PaperLoss, omega=0.0, gamma=0.0)
        options = {"channels": [3, 4], "hard": True, "init": "orthogonal"}
        model = make(L2NNNClassifier, "parseval_mnist", options, objective=objective)
        make_trainer(tmp_path, *callbacks, max_epochs=2).fit(model, StripesDataModule(batch_size=10, val_size=6))
        assert model.network.rule().name == "gap/sqrt(2)"
        _, gap, radius = model.certify(torch.rand(5, *SHAPE))
        assert torch.allclose(radius, gap / 2**0.5, atol=1e-5)
        assert bool((radius > 0).any())
        raws = [raw_weight(layer).detach().flatten(1) for layer, _ in nonexpansive_layers(model.network)]
        return [distance_from_orthonormal(raw) for raw in raws]

    assert max(trained(ParsevalRetraction())) < 1e-3
    assert max(trained()) > 1e-2

"""The objectives beside the paper's loss, and the certificate chosen by config."""

import math
from typing import Any

import pytest
import torch
from made_up_images import SHAPE, StripesDataModule
from made_up_training import make_classifier, make_trainer

from l2nnn_lightning.data import Batch
from l2nnn_lightning.training.losses import OffsetCrossEntropy, RadiusHinge, RadiusSigmoid

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:Total length of .list. across ranks is zero"),
]


def test_offset_cross_entropy_by_hand() -> None:
    loss = OffsetCrossEntropy(offset=0.5, temperature=3.0)
    value = loss(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1]))["loss"]
    lowered = [6.0, 1.5, 0.0]
    assert float(value) == pytest.approx((math.log(sum(map(math.exp, lowered))) - 1.5) / 3)


def test_radius_hinge_by_hand_and_its_gradient() -> None:
    radius = torch.tensor([2.5, 1.0, -2.0], requires_grad=True)
    loss = RadiusHinge(2.0)(radius)["loss"]
    assert loss.item() == pytest.approx((0 + 1 + 4) / 3)
    loss.backward()
    assert radius.grad is not None
    torch.testing.assert_close(radius.grad, torch.tensor([0.0, -1 / 3, -1 / 3]))


def test_radius_sigmoid_by_hand_and_its_limits() -> None:
    radius = torch.tensor([2.5, 1.0, -2.0], requires_grad=True)
    loss = RadiusSigmoid(2.0, 3.0)(radius)["loss"]
    missed = [1 / (1 + math.exp(-3 * (2 - r))) for r in (2.5, 1.0, -2.0)]
    assert loss.item() == pytest.approx(sum(missed) / 3 / 3)
    loss.backward()
    assert radius.grad is not None
    torch.testing.assert_close(radius.grad, torch.tensor([-p * (1 - p) / 3 for p in missed]))
    # A sharp one counts what is not certified; a blunt one weighs every radius alike, like the hinge below its margin.
    sharp = RadiusSigmoid(2.0, 1e4)(radius)["loss"] * 1e4
    assert sharp.item() == pytest.approx(2 / 3)
    blunt = torch.autograd.grad(RadiusSigmoid(2.0, 1e-4)(radius)["loss"], radius)[0]
    torch.testing.assert_close(blunt, torch.full((3,), -1 / 12))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "offset_cross_entropy", "offset": -1.0}, "offset must be finite and at least 0, got -1.0"),
        ({"objective": "offset_cross_entropy", "temperature": 0.0}, "temperature must be positive"),
        ({"objective": "radius_hinge", "margin": math.inf}, "margin must be positive and finite, got inf"),
        ({"objective": "radius_sigmoid", "margin": 0.0}, "margin must be positive and finite, got 0.0"),
        ({"objective": "radius_sigmoid", "temperature": math.nan}, "temperature must be positive and finite, got nan"),
        ({"objective": "hinge"}, "'offset_cross_entropy', 'radius_hinge' or 'radius_sigmoid', got 'hinge'"),
        ({"certificate": "exact"}, "certificate must be 'paper' or 'pairwise', got 'exact'"),
        ({"margin_in_box": True}, "margin_in_box needs templates on raw pixels"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_classifier(**options)


@pytest.mark.parametrize("certificate", ["paper", "pairwise"])
def test_hinge_on_one_row_per_label_sees_the_certified_radius(certificate: Any) -> None:
    model = make_classifier(objective="radius_hinge", margin=9.0, certificate=certificate, start_hard=True)
    model.eval()
    image = torch.rand(12, *SHAPE)
    logits = model(image)
    label = logits.argmax(1)
    loss = model.loss_terms(Batch(image, label), logits)["loss"]
    assert loss.item() == pytest.approx(9 - float(model.certify(image).radius.mean()), abs=1e-4)
    loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    wrong = model.loss_terms(Batch(image, (label + 1) % 3), logits)["loss"]
    assert wrong.item() > 9


@pytest.mark.parametrize("objective", ["offset_cross_entropy", "radius_hinge", "radius_sigmoid"])
def test_training_with_each_objective_learns_and_proves(objective: Any, tmp_path: Any) -> None:
    torch.manual_seed(0)
    model = make_classifier(objective=objective, certificate="pairwise", margin=0.5, offset=0.5, start_hard=True)
    data = StripesDataModule(batch_size=10, val_size=6)
    trainer = make_trainer(tmp_path, max_epochs=6)
    trainer.fit(model, data)
    assert float(trainer.callback_metrics["val/accuracy"]) > 0.9
    assert float(trainer.callback_metrics["val/radius_mean"]) > 0.1
    assert model.radius_kind == "pairwise"


def test_pairwise_radius_is_at_least_the_papers_on_the_same_weights() -> None:
    image = torch.rand(20, *SHAPE)
    for options in ({"dense": [6]}, {"dense": [6], "head_hidden": [4]}, {"dense": [6], "head": "single"}):
        paper = make_classifier(network_args=options, start_hard=True)
        pairs = make_classifier(network_args=options, start_hard=True, certificate="pairwise")
        pairs.load_state_dict(paper.state_dict())
        assert bool((pairs.certify(image).radius >= paper.certify(image).radius * (1 - 1e-4) - 1e-5).all())
        assert torch.equal(pairs.certify(image).gap, paper.certify(image).gap)

"""The objectives: the paper's loss against numbers by hand and NumPy in double precision, and the others."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_images import SHAPE, StripesDataModule
from made_up_training import QUIET_TRAINING, make_classifier, make_trainer
from torch import Tensor, nn

from l2nnn_lightning.data import Batch
from l2nnn_lightning.models import PlainTwin, TemplateNet
from l2nnn_lightning.training.objectives import (
    CrossEntropy,
    Objective,
    OffsetCrossEntropy,
    RadiusHinge,
    RadiusSigmoid,
)
from l2nnn_lightning.training.paper_loss import PaperLoss, confidence_gap_loss, log1m_softmax

pytestmark = QUIET_TRAINING


def terms(loss: Objective, logits: Tensor, label: Tensor, attacked: Tensor | None = None) -> dict[str, Tensor]:
    """The terms of a network whose images are its logits."""
    seen, found = loss(nn.Identity(), Batch(logits, label, attacked))  # type: ignore[arg-type]
    assert torch.equal(seen, logits)
    return found


def reference(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """log of the sum of the other labels' probabilities, from shifted exponentials in long double."""
    rows = []
    for y, k in zip(logits.astype(np.longdouble), label, strict=True):
        shifted = np.exp(y - y.max())
        others = np.delete(y, k)
        top = others.max()
        rows.append(top + np.log(np.exp(others - top).sum()) - (y.max() + np.log(shifted.sum())))
    return np.array(rows, dtype=np.float64)


def cross_entropy(logits: np.ndarray, label: np.ndarray) -> float:
    top = logits.max(1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    return float(-log_p[np.arange(len(label)), label].mean())


def test_log1m_softmax_by_hand() -> None:
    # p = 3/4 and p = 1/2 of two labels; p = 1/3 of three equal ones.
    two = torch.tensor([[math.log(3.0), 0.0], [5.0, 5.0]])
    torch.testing.assert_close(log1m_softmax(two, torch.tensor([0, 1])), torch.tensor([0.25, 0.5]).log())
    three = torch.full((1, 3), -7.0)
    torch.testing.assert_close(log1m_softmax(three, torch.tensor([2])), torch.tensor([2 / 3]).log())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e3])
def test_log1m_softmax_agrees_with_long_double(scale: float) -> None:
    logits = scale * torch.randn(200, 10, dtype=torch.float64)
    label = torch.randint(10, (200,))
    expected = reference(logits.numpy(), label.numpy())
    np.testing.assert_allclose(log1m_softmax(logits, label).numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gap", [100.0, 1e4, 1e-6, -100.0])
def test_log1m_softmax_survives_any_gap_in_float32(gap: float) -> None:
    logits = torch.tensor([[gap, 0.0, -300.0]], requires_grad=True)
    value = log1m_softmax(logits, torch.tensor([0]))
    expected = -np.logaddexp(0.0, gap)
    np.testing.assert_allclose(value.detach().numpy(), [expected], rtol=1e-5, atol=1e-30)
    assert bool(torch.autograd.grad(value.sum(), logits)[0].isfinite().all())


def test_gap_loss_tends_to_minus_the_mean_gap_of_correct_predictions() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.5], [4.0, 0.0, 1.0]], dtype=torch.float64)
    label = torch.tensor([0, 1, 2])  # gaps 2 and 0.5; the last one is wrong and costs nothing
    limit = -(2.0 + 0.5) / 3
    errors = [abs(float(confidence_gap_loss(logits, label, z)) - limit) for z in (1.0, 10.0, 100.0, 1e4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


def test_loss_and_its_terms_by_numpy() -> None:
    logits, label = torch.randn(16, 5, dtype=torch.float64), torch.randint(5, (16,))
    loss = PaperLoss(5, gamma=0.7, omega=0.3, z=4.0, u=2.0, v=0.5).double()
    with torch.no_grad():
        loss.log_u += torch.arange(5) / 10
    found = {name: float(value.detach()) for name, value in terms(loss, logits, label).items()}
    y, k = logits.numpy(), label.numpy()
    # The scales start in float32, hence six digits.
    u = 2.0 * np.exp(np.arange(5) / 10)
    assert found["loss_a"] == pytest.approx(cross_entropy(y * u, k), rel=1e-6)
    assert found["loss_b"] == pytest.approx(cross_entropy(y * 0.5, k), rel=1e-6)
    assert found["loss_c"] == pytest.approx(reference(4.0 * y, k).mean() / 4.0, rel=1e-9)
    assert found["loss"] == pytest.approx(found["loss_a"] + 0.7 * found["loss_b"] + 0.3 * found["loss_c"], rel=1e-9)


@pytest.mark.parametrize("size", [0.0, 1.0, 100.0, 1e4])
def test_gradients_are_finite_for_any_gap(size: float) -> None:
    logits = (size * torch.eye(4)[[0, 1, 2, 3, 0]]).requires_grad_()
    loss = PaperLoss(4, z=10.0)
    terms(loss, logits, torch.tensor([0, 1, 2, 0, 3]))["loss"].backward()
    for tensor in (logits, loss.log_u, loss.log_v):
        assert tensor.grad is not None
        assert bool(tensor.grad.isfinite().all())
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) > 0


def test_v_is_trained_or_fixed_and_u_is_always_trained() -> None:
    logits, label = torch.randn(8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    for train_v in (True, False):
        loss = PaperLoss(3, v=2.0, train_v=train_v)
        terms(loss, logits, label)["loss"].backward()
        assert loss.log_u.grad is not None
        assert (loss.log_v.grad is not None) == train_v
        assert "log_v" in loss.state_dict()
        assert float(loss.log_v.detach().exp()) == pytest.approx(2.0)


def test_u_has_one_scale_per_label() -> None:
    loss = PaperLoss(3, u=4.0)
    loss.follow_scaling(torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(loss.attacked(torch.ones(1, 3)), torch.tensor([[4.0, 8.0, 2.0]]))
    loss.follow_scaling(torch.tensor([2.0]))
    torch.testing.assert_close(loss.attacked(torch.ones(1, 3)), torch.tensor([[8.0, 16.0, 4.0]]))


def test_only_the_chosen_terms_see_adversarial_images() -> None:
    logits, attacked, label = torch.randn(6, 3), torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    plain = terms(PaperLoss(3), logits, label)
    swapped = terms(PaperLoss(3), attacked, label)
    a = terms(PaperLoss(3, adversarial_terms="a"), logits, label, attacked)
    ab = terms(PaperLoss(3, adversarial_terms="ab"), logits, label, attacked)
    assert a["loss_a"] == ab["loss_a"] == swapped["loss_a"] != plain["loss_a"]
    assert a["loss_b"] == plain["loss_b"]
    assert ab["loss_b"] == swapped["loss_b"] != plain["loss_b"]
    assert a["loss_c"] == ab["loss_c"] == plain["loss_c"]
    # The other objectives see these instead of the images.
    for kind in (CrossEntropy, OffsetCrossEntropy):
        assert terms(kind(3), logits, label, attacked)["loss"] == terms(kind(3), attacked, label)["loss"]


@pytest.mark.parametrize(
    ("omega_late", "late", "expected"), [(0.25, 0.5, [1, 1, 0.25]), (0.0, 0.3, [1, 0, 0]), (None, 0.5, [1, 1, 1])]
)
def test_omega_changes_for_the_late_part_of_the_training(
    tmp_path: Path, omega_late: float | None, late: float, expected: list[float]
) -> None:
    seen: list[float] = []

    class Watched(PaperLoss):
        def begin_epoch(self, done: float) -> None:
            super().begin_epoch(done)
            seen.append(self.omega_now)

    model = make_classifier(objective=partial(Watched, omega=1.0, omega_late=omega_late, late=late), hard=True)
    make_trainer(tmp_path, max_epochs=3).fit(model, StripesDataModule(batch_size=16))
    assert seen == expected
    losses = terms(model.objective, torch.eye(3), torch.arange(3))
    torch.testing.assert_close(losses["loss"], losses["loss_a"] + losses["loss_b"] + expected[-1] * losses["loss_c"])


# --- the others ---


def test_offset_cross_entropy_by_hand() -> None:
    loss = OffsetCrossEntropy(3, offset=0.5, temperature=3.0)
    value = terms(loss, torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1]))["loss"]
    lowered = [6.0, 1.5, 0.0]
    assert float(value) == pytest.approx((math.log(sum(map(math.exp, lowered))) - 1.5) / 3)


def test_radius_hinge_by_hand_and_its_gradient() -> None:
    radius = torch.tensor([2.5, 1.0, -2.0], requires_grad=True)
    loss = RadiusHinge(3, 2.0).of_radius(radius)["loss"]
    assert loss.item() == pytest.approx((0 + 1 + 4) / 3)
    torch.testing.assert_close(torch.autograd.grad(loss, radius)[0], torch.tensor([0.0, -1 / 3, -1 / 3]))


def test_radius_sigmoid_by_hand_and_its_limits() -> None:
    radius = torch.tensor([2.5, 1.0, -2.0], requires_grad=True)
    loss = RadiusSigmoid(3, 2.0, 3.0).of_radius(radius)["loss"]
    missed = [1 / (1 + math.exp(-3 * (2 - r))) for r in (2.5, 1.0, -2.0)]
    assert loss.item() == pytest.approx(sum(missed) / 3 / 3)
    expected = torch.tensor([-p * (1 - p) / 3 for p in missed])
    torch.testing.assert_close(torch.autograd.grad(loss, radius)[0], expected)
    # A sharp one counts what is not certified; a blunt one weighs every radius alike, like the hinge below its margin.
    sharp = RadiusSigmoid(3, 2.0, 1e4).of_radius(radius)["loss"] * 1e4
    assert sharp.item() == pytest.approx(2 / 3)
    blunt = torch.autograd.grad(RadiusSigmoid(3, 2.0, 1e-4).of_radius(radius)["loss"], radius)[0]
    torch.testing.assert_close(blunt, torch.full((3,), -1 / 12))


@pytest.mark.parametrize("objective", [RadiusHinge, RadiusSigmoid])
def test_objective_refuses_networks_that_it_does_not_fit(objective: Any) -> None:
    for network in (None, partial(TemplateNet, trunk="conv")):
        with pytest.raises(ValueError, match="in_box needs templates on raw pixels"):
            make_classifier(network, partial(objective, in_box=True))
    with pytest.raises(ValueError, match="PlainTwin proves no radius to train on"):
        make_classifier(PlainTwin, objective)


@pytest.mark.parametrize("certificate", ["paper", "pairwise"])
def test_hinge_on_one_row_per_label_sees_the_certified_radius(certificate: Any) -> None:
    model = make_classifier(objective=partial(RadiusHinge, margin=9.0), certificate=certificate, hard=True)
    model.eval()
    image = torch.rand(12, *SHAPE)
    logits = model(image)
    label = logits.argmax(1)
    loss = model.objective(model.network, Batch(image, label), logits)[1]["loss"]
    assert loss.item() == pytest.approx(9 - float(model.certify(image).radius.mean()), abs=1e-4)
    loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    wrong = model.objective(model.network, Batch(image, (label + 1) % 3))[1]["loss"]
    assert wrong.item() > 9


@pytest.mark.parametrize(
    "objective",
    [partial(OffsetCrossEntropy, offset=0.5), partial(RadiusHinge, margin=0.5), partial(RadiusSigmoid, margin=0.5)],
    ids=lambda objective: objective.func.__name__,
)
def test_training_with_each_objective_learns_and_proves(objective: Any, tmp_path: Path) -> None:
    model = make_classifier(objective=objective, certificate="pairwise", hard=True)
    trainer = make_trainer(tmp_path, max_epochs=6)
    trainer.fit(model, StripesDataModule(batch_size=10, val_size=6))
    assert float(trainer.callback_metrics["val/accuracy"]) > 0.9
    assert float(trainer.callback_metrics["val/radius_mean"]) > 0.1
    assert model.network.rule().name == "pairwise"


def test_pairwise_radius_is_at_least_the_papers_on_the_same_weights() -> None:
    image = torch.rand(20, *SHAPE)
    cases: list[dict[str, Any]] = [{}, {"head_hidden": [4]}, {"head": "single"}]
    for options in cases:
        paper = make_classifier(**options, hard=True)
        pairs = make_classifier(**options, hard=True, certificate="pairwise")
        pairs.load_state_dict(paper.state_dict())
        assert bool((pairs.certify(image).radius >= paper.certify(image).radius * (1 - 1e-4) - 1e-5).all())
        assert torch.equal(pairs.certify(image).gap, paper.certify(image).gap)

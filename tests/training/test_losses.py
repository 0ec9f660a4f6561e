"""The loss against numbers by hand and NumPy in double precision."""

import math

import numpy as np
import pytest
import torch

from l2nnn_lightning.training.losses import L2NNNLoss, confidence_gap_loss, log1m_softmax


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
    value.sum().backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_gap_loss_tends_to_minus_the_mean_gap_of_correct_predictions() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.5], [4.0, 0.0, 1.0]], dtype=torch.float64)
    label = torch.tensor([0, 1, 2])  # gaps 2 and 0.5; the last one is wrong and costs nothing
    limit = -(2.0 + 0.5) / 3
    errors = [abs(float(confidence_gap_loss(logits, label, z)) - limit) for z in (1.0, 10.0, 100.0, 1e4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


def test_loss_and_its_terms_by_numpy() -> None:
    logits, label = torch.randn(16, 5, dtype=torch.float64), torch.randint(5, (16,))
    loss = L2NNNLoss(5, gamma=0.7, omega=0.3, z=4.0, u=2.0, v=0.5).double()
    with torch.no_grad():
        loss.log_u += torch.arange(5) / 10
    terms = {name: float(value.detach()) for name, value in loss(logits, label).items()}
    y, k = logits.numpy(), label.numpy()
    # The scales start in float32, hence six digits.
    u = 2.0 * np.exp(np.arange(5) / 10)
    assert terms["loss_a"] == pytest.approx(cross_entropy(y * u, k), rel=1e-6)
    assert terms["loss_b"] == pytest.approx(cross_entropy(y * 0.5, k), rel=1e-6)
    assert terms["loss_c"] == pytest.approx(reference(4.0 * y, k).mean() / 4.0, rel=1e-9)
    assert terms["loss"] == pytest.approx(terms["loss_a"] + 0.7 * terms["loss_b"] + 0.3 * terms["loss_c"], rel=1e-9)


@pytest.mark.parametrize("size", [0.0, 1.0, 100.0, 1e4])
def test_gradients_are_finite_for_any_gap(size: float) -> None:
    logits = (size * torch.eye(4)[[0, 1, 2, 3, 0]]).requires_grad_()
    loss = L2NNNLoss(4, z=10.0)
    loss(logits, torch.tensor([0, 1, 2, 0, 3]))["loss"].backward()
    for tensor in (logits, loss.log_u, loss.log_v):
        assert tensor.grad is not None
        assert bool(tensor.grad.isfinite().all())
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) > 0


def test_v_is_trained_or_fixed_and_u_is_always_trained() -> None:
    logits, label = torch.randn(8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    for train_v in (True, False):
        loss = L2NNNLoss(3, v=2.0, train_v=train_v)
        loss(logits, label)["loss"].backward()
        assert loss.log_u.grad is not None
        assert (loss.log_v.grad is not None) == train_v
        assert "log_v" in loss.state_dict()
        assert float(loss.log_v.detach().exp()) == pytest.approx(2.0)


def test_u_has_one_scale_per_label() -> None:
    loss = L2NNNLoss(3, u=4.0)
    loss.follow_scaling(torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(loss.scaled(torch.ones(1, 3)), torch.tensor([[4.0, 8.0, 2.0]]))
    loss.follow_scaling(torch.tensor([2.0]))
    torch.testing.assert_close(loss.scaled(torch.ones(1, 3)), torch.tensor([[8.0, 16.0, 4.0]]))


def test_only_the_chosen_terms_see_adversarial_images() -> None:
    logits, attacked, label = torch.randn(6, 3), torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    plain = L2NNNLoss(3)(logits, label)
    swapped = L2NNNLoss(3)(attacked, label)
    a = L2NNNLoss(3, adversarial_terms="a")(logits, label, attacked)
    ab = L2NNNLoss(3, adversarial_terms="ab")(logits, label, attacked)
    assert a["loss_a"] == ab["loss_a"] == swapped["loss_a"] != plain["loss_a"]
    assert a["loss_b"] == plain["loss_b"]
    assert ab["loss_b"] == swapped["loss_b"] != plain["loss_b"]
    assert a["loss_c"] == ab["loss_c"] == plain["loss_c"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gamma", -1.0, "gamma must be at least 0, got -1.0"),
        ("omega", float("nan"), "omega must be at least 0, got nan"),
        ("z", 0.0, "z must be positive, got 0.0"),
        ("u", -2.0, "u must be positive"),
        ("v", 0.0, "v must be positive"),
        ("adversarial_terms", "c", "adversarial_terms must be 'a' or 'ab', got 'c'"),
    ],
)
def test_bad_argument_is_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        L2NNNLoss(3, **{name: value})  # type: ignore[arg-type]

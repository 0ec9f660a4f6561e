import math

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from l2nnn_lightning.nn.certificates import Certificate
from l2nnn_lightning.training.metrics import CertifiedAccuracy, EvaluationMetrics

RADII = [0.5, 1.0, 1.58, 3.0]


def made_up(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 10, n)
    prediction = np.where(rng.random(n) < 0.8, label, (label + 1) % 10)
    gap = rng.exponential(2.0, n).astype(np.float32)
    return torch.tensor(prediction), torch.tensor(label), torch.tensor(gap), torch.tensor(gap / 2)


def test_metrics_agree_with_numpy_over_uneven_batches() -> None:
    prediction, label, gap, radius = made_up(1003, seed=0)
    logits, loss = torch.eye(10)[prediction], torch.rand(1003, dtype=torch.float64)
    metrics = EvaluationMetrics(10, RADII)
    for _ in range(2):  # the second epoch knows nothing of the first
        metrics.reset()
        for part in torch.arange(1003).split(100):
            certificate = Certificate(prediction[part], gap[part], radius[part])
            metrics.update(logits[part], label[part], certificate, loss[part].mean(), is_hard=part[0] < 500)
    values = metrics.compute()

    right = (prediction == label).numpy()
    for r, key in zip(RADII, ("0_5", "1", "1_58", "3"), strict=True):
        assert values.pop(f"certified_{key}").item() == pytest.approx(np.mean(right & (radius.numpy() >= r)), abs=1e-6)
    assert {name: value.item() for name, value in values.items()} == pytest.approx(
        {
            "loss": loss.mean().item(),
            "accuracy": right.mean(),
            "gap_mean": gap.numpy().astype(np.float64).mean(),
            "radius_mean": np.where(right, radius.numpy(), 0).mean(),
            "hard": 5 / 11,
        },
        rel=1e-6,
    )


def test_certified_accuracy_never_counts_radius_zero_or_a_wrong_label() -> None:
    metric = CertifiedAccuracy([0.0, 1.0])
    metric.update(torch.tensor([1, 1, 1]), torch.tensor([1, 2, 1]), torch.tensor([0.0, 9.0, 1.0]))
    assert metric.compute().tolist() == pytest.approx([1 / 3, 1 / 3])


@pytest.mark.parametrize("threshold", [0.7, 1.58, 0.1, 36 / 255])
def test_certified_accuracy_does_not_round_a_radius_up(threshold: float) -> None:
    # float32(0.7) lies below 0.7: it must not count as certified at 0.7, the next float32 must.
    candidates = np.array([np.float32(threshold)] * 3)
    candidates[0] = np.nextafter(candidates[1], np.float32(0))
    candidates[2] = np.nextafter(candidates[1], np.float32(9))
    metric = CertifiedAccuracy([threshold])
    metric.update(torch.zeros(3), torch.zeros(3), torch.tensor(candidates))
    assert metric.compute().item() == pytest.approx(np.mean(candidates.astype(np.float64) >= threshold))


def test_collections_do_not_merge_metrics_of_different_radii() -> None:
    # The first batch gives both the same counts, which is when torchmetrics would merge them.
    metrics = MetricCollection({"near": CertifiedAccuracy([0.5]), "far": CertifiedAccuracy([2.0])})
    for radius in (3.0, 1.0):
        metrics.update(prediction=torch.tensor([4]), label=torch.tensor([4]), radius=torch.tensor([radius]))
    values = metrics.compute()
    assert (values["near"].item(), values["far"].item()) == (1.0, 0.5)


@pytest.mark.parametrize("radii", [[], [1.0, 1.0], [-1.0], [math.inf], [math.nan]])
def test_certified_accuracy_refuses_bad_radii(radii: list[float]) -> None:
    with pytest.raises(ValueError, match="radi"):
        CertifiedAccuracy(radii)


def test_certified_accuracy_refuses_mismatched_shapes() -> None:
    with pytest.raises(ValueError, match="vectors of one length"):
        CertifiedAccuracy(RADII).update(torch.zeros(3), torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="vectors of one length"):
        CertifiedAccuracy(RADII).update(torch.zeros(3, 1), torch.zeros(3, 1), torch.zeros(3, 1))


def test_one_radius_is_measured_like_several() -> None:
    """Validation ended in a TypeError: the metric gives a number, not a vector, where there is one radius."""
    metrics = EvaluationMetrics(2, [0.5])
    label = torch.tensor([0, 1])
    certificate = Certificate(label, torch.tensor([2.0, 2.0]), torch.tensor([1.0, 0.2]))
    metrics.update(torch.eye(2), label, certificate, torch.tensor(0.0), is_hard=True)
    assert float(metrics.compute()["certified_0_5"]) == 0.5

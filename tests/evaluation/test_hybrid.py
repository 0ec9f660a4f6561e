"""The hybrid: its accuracies by hand, and a certificate that counts delegation, held against moved images."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_up_images import SHAPE, made_up_pixels
from made_up_training import make_classifier

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.measure.hybrid import (
    Hybrid,
    HybridRecords,
    hybrid_records,
    measure_hybrid,
    plot_hybrid,
)
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.models import ConvL2NNN, MadryNet, NetworkFactory, TemplateNet
from l2nnn_lightning.models.base import Certified
from l2nnn_lightning.training.checkpoints import Checkpoint
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.objectives import CrossEntropy


def ordinary(num_labels: int = 3) -> Certified:
    return Certified(MadryNet(SHAPE, num_labels, channels=(2, 2), dense=4))


def by_hand() -> HybridRecords:
    return HybridRecords(
        gap=np.array([4.0, 3.0, 1.0, 0.5]),
        correct=np.array([True, False, True, False]),
        fallback_correct=np.array([False, True, False, True]),
        radius=lambda threshold: np.maximum(np.array([4.0, 3.0, 1.0, 0.5]) - threshold, 0) / 2,
    )


def test_numbers_are_those_counted_by_hand() -> None:
    found = measure_hybrid(by_hand(), 1.0, [0.5, 1.5, 1.6])
    assert found["delegated"] == 0.25
    assert found["accuracy"] == 0.75  # right, wrong, right; the last is delegated and right
    assert found["kept_accuracy"] == pytest.approx(2 / 3)
    # Radii of the kept: 1.5 (right), 1.0 (wrong), and 0, since the third image sits on the threshold.
    assert found["certified"] == {"0.5": 0.25, "1.5": 0.25, "1.6": 0.0}
    assert found["certified_kept"]["1.5"] == pytest.approx(1 / 3)
    assert found["l2nnn_accuracy"] == found["fallback_accuracy"] == 0.5
    assert found["curve"][0]["threshold"] == 0.0
    assert found["curve"][0]["delegated"] == 0.0
    assert [point["delegated"] for point in found["curve"]] == sorted(point["delegated"] for point in found["curve"])


def test_delegating_everything_leaves_the_fallback() -> None:
    found = measure_hybrid(by_hand(), 9.0, [0.0])
    assert found["accuracy"] == found["fallback_accuracy"]
    assert found["kept_accuracy"] is None
    assert found["certified"] == {"0": 0.0}


@pytest.mark.parametrize("rule", ["paper", "pairwise"])
def test_no_image_within_the_radius_is_delegated_or_relabelled(rule: str) -> None:
    certified = make_classifier(hard=True, init="orthogonal", certificate=rule).double().certified()
    images = torch.from_numpy(made_up_pixels(30, seed=1)[0])
    labels = certified(images.double() / 255).label
    records = hybrid_records(certified, ordinary(), images, labels, 7)
    threshold = float(np.median(records.gap))
    radius = records.radius(threshold)
    # Never below the paper's, up to rounding.
    assert (radius >= np.maximum(records.gap - threshold, 0) / 2 - 1e-9).all()
    assert (radius[records.gap >= threshold] > 0).sum() >= 14
    assert (radius[records.gap < threshold] == 0).all()
    generator = torch.Generator().manual_seed(0)
    image = images.double() / 255
    for _ in range(50):
        # Towards a smaller gap at the start, then at random.
        direction = torch.randn(image.shape, generator=generator, dtype=torch.float64)
        if _ < 25:
            x = (image + 1e-3 * direction).requires_grad_()
            top = certified.network(x).topk(2, dim=1).values
            direction = -torch.autograd.grad((top[:, 0] - top[:, 1]).sum(), x)[0]
        step = direction / direction.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
        moved = certified(image + 0.999 * torch.tensor(radius)[:, None, None, None] * step)
        kept = torch.tensor(radius > 0)
        assert bool((moved.gap[kept] >= threshold).all())
        assert torch.equal(moved.label[kept], labels[kept])


def test_soft_network_certifies_nothing_but_still_delegates() -> None:
    images = torch.from_numpy(made_up_pixels(6, seed=1)[0])
    records = hybrid_records(make_classifier().certified(), ordinary(), images, torch.zeros(6, dtype=torch.int64), 4)
    found = measure_hybrid(records, 0.0, [0.0])
    assert found["delegated"] == 0
    assert found["certified"] == {"0": 0.0}


@pytest.mark.parametrize(
    ("network", "labels", "message"),
    [(MadryNet, 3, "needs an L2NNN"), (TemplateNet, 3, "needs an L2NNN"), (ConvL2NNN, 4, "--fallback was trained for")],
)
def test_networks_that_do_not_fit_are_refused(
    network: NetworkFactory, labels: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Classifier(network, CrossEntropy, image_shape=(1, 8, 8), num_labels=3)
    other = Classifier(MadryNet, CrossEntropy, image_shape=(1, 8, 8), num_labels=labels)
    monkeypatch.setattr(Checkpoint, "read", lambda _: SimpleNamespace(classifier=lambda: other))
    subject: Any = SimpleNamespace(classifier=classifier, certified=classifier.certified())
    with pytest.raises(UserError, match=message):
        Hybrid.asked(EvaluateOptions("ours.ckpt", fallback="other.ckpt"), subject)


def test_figure_draws_the_curve_and_the_threshold() -> None:
    found = measure_hybrid(by_hand(), 1.0, [0.5, 1.5])
    natural, proved = plot_hybrid(found).axes
    assert natural.lines[0].get_ydata().tolist() == [100 * point["accuracy"] for point in found["curve"]]
    assert natural.lines[1].get_xdata() == [25.0]
    assert len(proved.lines) == 2

"""What is measured on request: the Jacobian, noisy labels, the hybrid; numbers counted by hand, and their figures."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_images import SHAPE, StripesDataModule, made_up_pixels
from made_up_training import make_classifier, make_trainer
from pytorch_lightning.loggers import CSVLogger
from torch import nn

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.measure.hybrid import (
    Hybrid,
    HybridRecords,
    hybrid_records,
    measure_hybrid,
)
from l2nnn_lightning.evaluation.measure.jacobian import jacobian_norms
from l2nnn_lightning.evaluation.measure.noisy import NoisyLabels, measure_part
from l2nnn_lightning.evaluation.measure.records import Records
from l2nnn_lightning.evaluation.measure.subject import Subject
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.evaluation.report.plane import read_history
from l2nnn_lightning.models import ConvL2NNN, MadryNet, NetworkFactory, TemplateNet
from l2nnn_lightning.models.base import Certified
from l2nnn_lightning.nn import harden
from l2nnn_lightning.training.callbacks import NoisyLabelMonitor
from l2nnn_lightning.training.checkpoints import Checkpoint
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.objectives import CrossEntropy


def ordinary():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3)
    )


def l2nnn():
    return harden(ConvL2NNN((2, 6, 6), 4, channels=[], dense=[8]))


@pytest.mark.parametrize("build", [ordinary, l2nnn])
def test_norms_are_those_of_torchs_jacobian(build):
    torch.manual_seed(2)
    network, images = build(), torch.rand(5, 2, 6, 6)
    network.train()
    norms = jacobian_norms(network, images)
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    network.eval()
    for image, norm in zip(images, norms, strict=True):
        whole = torch.autograd.functional.jacobian(network, image[None])
        assert norm.item() == pytest.approx(
            torch.linalg.matrix_norm(whole.reshape(-1, 72).double(), 2).item(), rel=1e-5
        )
    assert norms.std() > 0


def test_logits_of_an_l2nnn_are_nonexpansive_one_by_one():
    torch.manual_seed(3)
    norms = jacobian_norms(l2nnn(), torch.rand(20, 2, 6, 6))
    assert (norms <= 4**0.5).all()
    assert norms.mean() > 0.1


def test_parts_are_counted_by_hand() -> None:
    prediction, gap, given = torch.tensor([1, 0, 0, 0]), torch.tensor([1.0, 2.0, 3.0, 6.0]), torch.tensor([1, 1, 2, 0])
    records = Records.from_tensors(index=torch.arange(4), label=given, prediction=prediction, gap=gap, radius=gap)
    original = np.array([1, 0, 2, 2])
    is_changed = given.numpy() != original
    expected = {"n": 2, "accuracy": 0.5, "accuracy_clean": 0.5}
    assert measure_part(records, original, is_changed) == {**expected, "gap_mean": 4.0}
    assert measure_part(records, original, ~is_changed) == {**expected, "gap_mean": 2.0}
    assert measure_part(records, original, np.zeros(4, bool)) is None


def measure(classifier: Classifier, datamodule: StripesDataModule, batch_size: int) -> dict[str, Any]:
    empty = torch.zeros(0)
    return NoisyLabels().whole(Subject(classifier, classifier.certified(), datamodule, empty, empty, batch_size))


def test_parts_of_a_training_set_add_up() -> None:
    datamodule = StripesDataModule(label_noise=0.6, val_size=12)
    found = measure(make_classifier(hard=True), datamodule, 7)
    assert datamodule.train_set is not None
    assert found["changed"] == pytest.approx(float(datamodule.train_set.is_mislabeled.float().mean()))
    train, clean, changed = (found[name] for name in ("train", "train_clean", "train_changed"))
    assert (train["n"], clean["n"] + changed["n"], found["val"]["n"]) == (48, 48, 12)
    for key in ("accuracy", "accuracy_clean", "gap_mean"):
        assert 48 * train[key] == pytest.approx(clean["n"] * clean[key] + changed["n"] * changed[key])
    assert clean["accuracy"] == clean["accuracy_clean"]


def test_clean_labels_leave_no_changed_part() -> None:
    found = measure(make_classifier(), StripesDataModule(val_size=0), 50)
    assert found["train_changed"] is None
    assert found["val"] is None
    assert found["train"] == found["train_clean"]


def test_monitor_logs_memorisation_for_the_figure(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = make_classifier(hard=True, lr=0.02)
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = make_trainer(tmp_path, NoisyLabelMonitor(images=30, batch_size=8), max_epochs=3, logger=logger)
    datamodule = StripesDataModule(label_noise=0.5, batch_size=10, val_size=6)
    trainer.fit(model, datamodule)
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["noisy/memorised"]]
    assert len(rows) == 3
    # The sample by hand, with the trained model.
    train = datamodule.train_set
    assert train is not None
    label = model.certify(train.images[:30].float() / 255).label
    wrong = train.is_mislabeled[:30]
    assert float(rows[-1]["noisy/memorised"]) == pytest.approx(
        float((label == train.labels[:30])[wrong].float().mean())
    )
    assert float(rows[-1]["noisy/corrected"]) == pytest.approx(
        float((label == train.clean_labels[:30])[wrong].float().mean())
    )
    figure = NoisyLabels.figure({}, read_history(tmp_path / "metrics.csv"))
    assert figure is not None
    by_epoch, plane = figure.axes
    assert by_epoch.lines[1].get_ydata()[-1] == pytest.approx(100 * float(rows[-1]["noisy/memorised"]))
    assert len(plane.lines[0].get_xdata()) == 3


def test_unwatched_run_has_no_figure() -> None:
    assert NoisyLabels.figure({}, pd.DataFrame({"train/accuracy": [0.5], "train/gap_mean": [1.0]})) is None


@pytest.mark.parametrize("option", ["images", "batch_size"])
def test_bad_sample_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be at least 1, got 0"):
        NoisyLabelMonitor(**{option: 0})


def fallback() -> Certified:
    return Certified(MadryNet(SHAPE, 3, channels=(2, 2), dense=4))


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
    records = hybrid_records(certified, fallback(), images, labels, 7)
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
    records = hybrid_records(make_classifier().certified(), fallback(), images, torch.zeros(6, dtype=torch.int64), 4)
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
    monkeypatch.setattr(Checkpoint, "read", lambda _: SimpleNamespace(classifier=lambda: other, recorded_names=None))
    subject: Any = SimpleNamespace(classifier=classifier, certified=classifier.certified(), label_names=None)
    with pytest.raises(UserError, match=message):
        Hybrid.asked(EvaluateOptions("ours.ckpt", fallback="other.ckpt"), subject)


def test_figure_draws_the_curve_and_the_threshold() -> None:
    found = measure_hybrid(by_hand(), 1.0, [0.5, 1.5])
    natural, proved = Hybrid.figure(found, pd.DataFrame()).axes
    assert natural.lines[0].get_ydata().tolist() == [100 * point["accuracy"] for point in found["curve"]]
    assert natural.lines[1].get_xdata() == [25.0]
    assert len(proved.lines) == 2

"""Noisy labels: accuracies on the clean and the changed part, counted by hand; the callback; the figure."""

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from made_up_images import StripesDataModule
from made_up_training import make_classifier, make_trainer
from pytorch_lightning.loggers import CSVLogger

from l2nnn_lightning.data import ImageSet
from l2nnn_lightning.evaluation.measure.noisy import NoisyLabels, measure_part, plot_noisy
from l2nnn_lightning.evaluation.measure.subject import Subject
from l2nnn_lightning.evaluation.report.history import read_history
from l2nnn_lightning.training.callbacks import NoisyLabelMonitor
from l2nnn_lightning.training.classifier import Classifier


def test_parts_are_counted_by_hand() -> None:
    images = ImageSet(
        torch.zeros(4, 1, 1, 1, dtype=torch.uint8), torch.tensor([1, 1, 2, 0]), torch.tensor([1, 0, 2, 2])
    )
    prediction, gap = torch.tensor([1, 0, 0, 0]), torch.tensor([1.0, 2.0, 3.0, 6.0])
    changed = measure_part(images, prediction, gap, images.is_mislabeled)
    assert changed == {"n": 2, "accuracy": 0.5, "accuracy_clean": 0.5, "gap_mean": 4.0}
    clean = measure_part(images, prediction, gap, ~images.is_mislabeled)
    assert clean == {"n": 2, "accuracy": 0.5, "accuracy_clean": 0.5, "gap_mean": 2.0}
    assert measure_part(images, prediction, gap, torch.zeros(4, dtype=torch.bool)) is None


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
    figure = plot_noisy(read_history(tmp_path / "metrics.csv"))
    assert figure is not None
    by_epoch, plane = figure.axes
    assert by_epoch.lines[1].get_ydata()[-1] == pytest.approx(100 * float(rows[-1]["noisy/memorised"]))
    assert len(plane.lines[0].get_xdata()) == 3


def test_unwatched_run_has_no_figure() -> None:
    assert plot_noisy(pd.DataFrame({"train/accuracy": [0.5], "train/gap_mean": [1.0]})) is None


@pytest.mark.parametrize("option", ["images", "batch_size"])
def test_bad_sample_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be at least 1, got 0"):
        NoisyLabelMonitor(**{option: 0})

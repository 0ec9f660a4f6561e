"""What a classifier made of noisy labels: on all of its training set, its clean and its changed part (section 3.3)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from l2nnn_lightning.data import ImageDataModule, ImageSet
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["measure_noisy", "measure_part"]


def measure_noisy(classifier: Classifier, datamodule: ImageDataModule, batch_size: int) -> dict[str, Any]:
    """Measure accuracy and mean gap on the images that the classifier was trained and tuned on.

    Args:
        classifier: on its device.
        datamodule: the data of its training, with the same seed and label noise.
        batch_size: images at once.

    Returns:
        ``changed``, the fraction of training labels that the noise changed; then for ``train`` (all training images),
        ``train_clean`` (labels as they were), ``train_changed`` (labels that the noise changed) and ``val`` what
        :func:`measure_part` gives, None for a part without images.

    Raises:
        UserError: if the data set has no training images.
    """
    datamodule.setup("fit")
    train = datamodule.train_set
    if train is None:
        raise UserError(f"{datamodule.name} has no training images")
    prediction, gap = _predict(classifier, train, batch_size)
    changed = train.is_mislabeled.cpu()
    everything = torch.ones_like(changed)
    val: dict[str, Any] | None = None
    if datamodule.val_set is not None:
        val_prediction, val_gap = _predict(classifier, datamodule.val_set, batch_size)
        val = measure_part(
            datamodule.val_set, val_prediction, val_gap, torch.ones(len(datamodule.val_set), dtype=torch.bool)
        )
    return {
        "changed": float(changed.double().mean()),
        "train": measure_part(train, prediction, gap, everything),
        "train_clean": measure_part(train, prediction, gap, ~changed),
        "train_changed": measure_part(train, prediction, gap, changed),
        "val": val,
    }


def measure_part(images: ImageSet, prediction: Tensor, gap: Tensor, rows: Tensor) -> dict[str, Any] | None:
    """Measure one part of a split.

    Args:
        images: the split.
        prediction: int64 (N,).
        gap: (N,).
        rows: bool (N,), the part.

    Returns:
        ``n``; ``accuracy`` against the labels as given, noise included; ``accuracy_clean`` against the original ones;
        ``gap_mean``. None where no row is chosen.
    """
    if not bool(rows.any()):
        return None
    return {
        "n": int(rows.sum()),
        "accuracy": float((prediction == images.labels.cpu())[rows].double().mean()),
        "accuracy_clean": float((prediction == images.clean_labels.cpu())[rows].double().mean()),
        "gap_mean": float(np.mean(gap[rows].double().numpy())),
    }


def _predict(classifier: Classifier, images: ImageSet, batch_size: int) -> tuple[Tensor, Tensor]:
    """Return label and gap of every image."""
    labels, gaps = [], []
    for batch in torch.split(images.images, batch_size):
        certificate = classifier.certify(batch.to(classifier.device).float() / 255)
        labels.append(certificate.label.cpu())
        gaps.append(certificate.gap.cpu())
    return torch.cat(labels), torch.cat(gaps)

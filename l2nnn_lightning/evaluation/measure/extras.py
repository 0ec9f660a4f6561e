"""What an evaluation measures only when it is asked to: the hybrid model, and the noisy training labels."""

import argparse
from typing import Any

from torch import Tensor

from l2nnn_lightning.data import ImageDataModule
from l2nnn_lightning.evaluation.measure.hybrid import hybrid_records, measure_hybrid
from l2nnn_lightning.evaluation.measure.noisy import measure_noisy
from l2nnn_lightning.training.checkpoints import load_classifier
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["extra_measures"]


def extra_measures(
    options: argparse.Namespace,
    classifier: Classifier,
    datamodule: ImageDataModule,
    images: Tensor,
    labels: Tensor,
    batch_size: int,
) -> dict[str, Any]:
    """Measure what ``--fallback`` and ``--noisy`` ask for.

    Args:
        options: of ``evaluate.py``.
        classifier: on its device.
        datamodule: the data of its training.
        images: (N, C, H, W), uint8, the evaluated ones.
        labels: (N,).
        batch_size: images at once.

    Returns:
        ``hybrid`` and ``noisy`` for ``results.json``, as far as asked for.

    Raises:
        UserError: if the fallback cannot be read or does not fit.
    """
    found: dict[str, Any] = {}
    if options.fallback is not None:
        fallback, _ = load_classifier(options.fallback)
        fallback.to(classifier.device)
        records = hybrid_records(classifier, fallback, images, labels, batch_size)
        found["hybrid"] = {
            "fallback": str(options.fallback),
            **measure_hybrid(records, options.threshold, options.radii),
        }
    if options.noisy:
        found["noisy"] = measure_noisy(classifier, datamodule, batch_size)
    return found

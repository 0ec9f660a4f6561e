"""The hybrid model: an L2NNN where its gap is at least a threshold, another classifier elsewhere (section 3.2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.nn.certificates import confidence_gap
from l2nnn_lightning.nn.precision import full_precision
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["HybridRecords", "hybrid_radius", "hybrid_records", "measure_hybrid"]

# Thresholds of the curve: those that delegate about these fractions of the images.
_DELEGATED = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75)

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class HybridRecords:
    """What both classifiers say of each image.

    Args:
        gap: (N,) the L2NNN's confidence gap.
        correct: (N,) whether the L2NNN is right.
        fallback_correct: (N,) whether the other classifier is right.
        radius: from a threshold to (N,), see :func:`hybrid_radius`.
    """

    gap: FloatArray
    correct: BoolArray
    fallback_correct: BoolArray
    radius: Callable[[float], FloatArray]


def hybrid_radius(classifier: Classifier, images: Tensor, logits_BK: Tensor, threshold: float) -> Tensor:
    """Bound the distance within which the hybrid surely answers with the L2NNN's label.

    While every lead ``y_i - y_j`` stays above the threshold t, label i is given and the image is not delegated. That is
    what the classifier's own rule proves of logits of which the largest is lowered by t: with the paper's rule the
    radius is ``(gap - t) / 2``, since the gap falls by at most 2 per unit of distance.

    Args:
        classifier: the L2NNN, whose radii follow from its logits.
        images: (B, C, H, W) in [0, 1].
        logits_BK: its outputs for them.
        threshold: t, >= 0.

    Returns:
        (B,), 0 where nothing is proved.
    """
    label_B1 = logits_BK.argmax(1, keepdim=True)
    lowered_BK = logits_BK.scatter_add(1, label_B1, logits_BK.new_full(label_B1.shape, -threshold))
    certificate, _ = classifier.prove(images, lowered_BK)
    return torch.where(certificate.label == label_B1[:, 0], certificate.radius, 0)


def hybrid_records(
    classifier: Classifier, fallback: Classifier, images: Tensor, labels: Tensor, batch_size: int
) -> HybridRecords:
    """Ask both classifiers about every image.

    Args:
        classifier: the L2NNN, on its device.
        fallback: the other one, on its device.
        images: (N, C, H, W), uint8.
        labels: (N,).
        batch_size: images at once.

    Raises:
        UserError: if the first classifier's radii do not follow from its logits, or the two do not fit together.
    """
    if getattr(classifier.network, "gap_lipschitz", None) is None:
        raise UserError(
            "a hybrid needs an L2NNN whose confidence gap moves at a known rate: name its checkpoint with --ckpt_path"
        )
    for name in ("image_shape", "num_labels"):
        if getattr(fallback, name) != getattr(classifier, name):
            raise UserError(
                f"--fallback was trained for {name} {getattr(fallback, name)}, "
                f"--ckpt_path for {getattr(classifier, name)}: use checkpoints of one data set"
            )
    logits = _logits(classifier, images, batch_size)

    def radius(threshold: float) -> FloatArray:
        with torch.no_grad():
            parts = [
                hybrid_radius(classifier, _floats(classifier, some), outputs.to(classifier.device), threshold).cpu()
                for some, outputs in zip(torch.split(images, batch_size), torch.split(logits, batch_size), strict=True)
            ]
        return torch.cat(parts).double().numpy()

    labels = labels.cpu()
    fallback_label = _logits(fallback, images, batch_size).argmax(1)
    return HybridRecords(
        confidence_gap(logits).double().numpy(),
        (logits.argmax(1) == labels).numpy(),
        (fallback_label == labels).numpy(),
        radius,
    )


def measure_hybrid(records: HybridRecords, threshold: float, radii: Sequence[float]) -> dict[str, Any]:
    """Compute what ``results.json`` says of the hybrid: at the threshold, and along a curve of thresholds.

    Args:
        records: what both classifiers say.
        threshold: images with a smaller gap are delegated, >= 0.
        radii: L2 radii of certified accuracy.

    Returns:
        ``threshold``; ``accuracy`` of the whole, ``delegated`` fraction, ``kept_accuracy``; ``certified``, the share of
        all images that are kept, right, and provably stay both within each radius, and ``certified_kept``, the same as
        a share of the kept ones; the accuracies of each classifier alone; ``curve``, the same for other thresholds.
    """
    thresholds = sorted({0.0, *(float(q) for q in np.quantile(records.gap, _DELEGATED[1:]))})
    return {
        **_at(records, threshold, radii),
        "l2nnn_accuracy": float(records.correct.mean()),
        "fallback_accuracy": float(records.fallback_correct.mean()),
        "curve": [_at(records, other, radii) for other in thresholds],
    }


def _at(records: HybridRecords, threshold: float, radii: Sequence[float]) -> dict[str, Any]:
    kept = records.gap >= threshold
    radius = records.radius(threshold)
    proved = kept & records.correct & (radius > 0)
    certified = {f"{r:g}": float((proved & (radius >= r)).mean()) for r in radii}
    share = float(kept.mean())
    return {
        "threshold": threshold,
        "accuracy": float(np.where(kept, records.correct, records.fallback_correct).mean()),
        "delegated": 1 - share,
        "kept_accuracy": float(records.correct[kept].mean()) if kept.any() else None,
        "certified": certified,
        "certified_kept": {key: value / share for key, value in certified.items()} if kept.any() else None,
    }


@torch.no_grad()
def _logits(classifier: Classifier, images: Tensor, batch_size: int) -> Tensor:
    classifier.eval()
    with parametrize.cached(), full_precision(classifier.device):
        return torch.cat([classifier(_floats(classifier, some)).cpu() for some in torch.split(images, batch_size)])


def _floats(classifier: Classifier, images: Tensor) -> Tensor:
    return images.to(classifier.device).to(next(classifier.parameters()).dtype) / 255

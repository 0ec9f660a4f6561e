"""What a classifier made of noisy labels: on all of its training set, its clean and its changed part (section 3.3)."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.measure.base import Measure
from l2nnn_lightning.evaluation.measure.records import BoolArray, IntArray, Records
from l2nnn_lightning.evaluation.measure.subject import Subject, certify_images
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.evaluation.report import style
from l2nnn_lightning.evaluation.report.plane import History, draw_plane, stage_points
from l2nnn_lightning.evaluation.report.tables import Row, percent

__all__ = ["NoisyLabels", "measure_part"]

_PARTS = {
    "train": "training images",
    "train_clean": "training images, clean labels",
    "train_changed": "training images, changed labels",
    "val": "held-out images",
}
_CURVES = (
    ("noisy/clean_accuracy", "clean labels", style.BLUE, "o"),
    ("noisy/memorised", "changed labels, repeated", style.ATTACK_COLOURS[0], "s"),
    ("noisy/corrected", "changed labels, original answered", style.ATTACK_COLOURS[1], "D"),
)


class NoisyLabels(Measure):
    """``--noisy``: accuracy and mean gap on the images that the classifier was trained and tuned on."""

    name = "noisy"
    caption = "Training on noisy labels: whether the changed labels were memorised, and gap against accuracy."

    @classmethod
    def asked(cls, options: EvaluateOptions, subject: Subject) -> Self | None:  # noqa: ARG003
        """Build it for ``--noisy``."""
        return cls() if options.noisy else None

    def whole(self, subject: Subject) -> dict[str, Any]:
        """Measure, with the seed and the label noise of the training.

        Returns:
            ``changed``, the fraction of training labels that the noise changed; then for ``train`` (all training
            images), ``train_clean`` (labels as they were), ``train_changed`` (labels that the noise changed) and
            ``val`` what :func:`measure_part` gives, None for a part without images.

        Raises:
            UserError: if the data set has no training images.
        """
        datamodule = subject.datamodule
        datamodule.setup("fit")
        train, val = datamodule.train_set, datamodule.val_set
        if train is None:
            raise UserError(f"{datamodule.name} has no training images")
        changed = train.is_mislabeled.cpu()
        found: dict[str, Any] = {"changed": float(changed.double().mean()), "val": None}
        parts = {"train": torch.ones_like(changed), "train_clean": ~changed, "train_changed": changed}
        splits = [(train, parts)] if val is None else [(train, parts), (val, {"val": torch.ones(len(val)).bool()})]
        for images, rows in splits:
            pixels, labels, size = images.images, images.labels, subject.batch_size
            records = certify_images(subject.certified, pixels, labels, size, in_box=False)
            clean = images.clean_labels.cpu().numpy()
            found |= {name: measure_part(records, clean, part.numpy()) for name, part in rows.items()}
        return found

    @staticmethod
    def rows(numbers: Mapping[str, Any]) -> list[Row]:
        """Return the rows of each part that has images."""
        rows: list[Row] = []
        for part, name in _PARTS.items():
            values = numbers[part]
            if values is None:
                continue
            rows.append((f"{name}: accuracy on the labels given", percent(values["accuracy"])))
            if part == "train_changed":
                rows.append((f"{name}: accuracy on the original labels", percent(values["accuracy_clean"])))
            rows.append((f"{name}: mean confidence gap", f"{values['gap_mean']:.3f}"))
        return rows

    @staticmethod
    def figure(numbers: Mapping[str, Any], history: History) -> Figure | None:  # noqa: ARG004
        """Draw accuracy on clean and on changed training labels by epoch, and the mean gap against the noisy accuracy.

        None where the run was not watched by the callback ``NoisyLabelMonitor``.
        """
        curves = [(history[key].dropna(), *look) for key, *look in _CURVES if key in history]
        if not curves:
            return None
        figure = style.new_figure(8.6, 3.6)
        by_epoch, plane = figure.subplots(1, 2)
        for curve, name, colour, marker in curves:
            by_epoch.plot(curve.index, 100 * curve, color=colour, marker=marker, markersize=3.5, label=name)
        draw_plane(plane, [point._replace(hard=False) for point in stage_points(history, "train")])
        by_epoch.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.tidy(by_epoch, x="epoch", y="fraction of a sample of training images")
        plane.set_xlabel("accuracy on the noisy training labels")
        plane.set_title("large mark: last epoch", fontsize=style.SMALL, color=style.GREY)
        by_epoch.yaxis.set_major_formatter(style.PERCENT)
        style.legend_above(figure, by_epoch, columns=3)
        return figure


def measure_part(records: Records, clean_labels: IntArray, rows: BoolArray) -> dict[str, Any] | None:
    """Measure one part of a split, bool (N,), whose original labels are known, (N,).

    Returns:
        ``n``; ``accuracy`` against the labels as given, noise included; ``accuracy_clean`` against the original ones;
        ``gap_mean``. None where no row is chosen.
    """
    if not rows.any():
        return None
    return {
        "n": int(rows.sum()),
        "accuracy": float(records.correct[rows].mean()),
        "accuracy_clean": float((records.prediction == clean_labels)[rows].mean()),
        "gap_mean": float(records.gap[rows].mean(dtype=np.float64)),
    }

"""The names of a classifier's labels, as far as its checkpoint tells."""

from collections.abc import Mapping
from typing import Any

from l2nnn_lightning.data import build_datamodule
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["label_names"]


def label_names(classifier: Classifier, checkpoint: Mapping[str, Any]) -> list[str]:
    """Find the names in the checkpoint or ask the data set; else number the labels.

    Args:
        classifier: the classifier.
        checkpoint: its checkpoint, as from ``read_checkpoint``.
    """
    state = checkpoint["l2nnn_lightning"]
    names: list[str] = state.get("label_names") or []
    if not names and state.get("data") is not None:
        try:
            names = list(build_datamodule(**state["data"]).label_names)
        except (ValueError, OSError):  # another package's data set, or a folder of images that is not here
            names = []
    return names if len(names) == classifier.num_labels else [str(label) for label in range(classifier.num_labels)]

"""The names of the labels a network was trained on: only with the same names do its answers mean the same."""

from collections.abc import Mapping, Sequence
from typing import Any

from l2nnn_lightning.data import DATAMODULES, ImageDataModule
from l2nnn_lightning.data.errors import UserError

__all__ = ["compare_names", "match_labels", "recorded_names"]


def recorded_names(ours: Mapping[str, Any]) -> list[str] | None:
    """Find label names in what only we write into a checkpoint.

    Earlier versions recorded none; a data set whose class knows them, as those that are built in do, has them all the
    same. None where nothing is known.
    """
    known = getattr(DATAMODULES.get((ours.get("data") or {}).get("name", "")), "label_names", None)
    names = ours.get("label_names") or (known if isinstance(known, list) else None)
    return None if names is None else [str(name) for name in names]


def match_labels(datamodule: ImageDataModule, names: Sequence[str], checkpoint: str) -> None:
    """Number a data set's labels as in training.

    Raises:
        UserError: if they have other names, saying which and what to do.
    """
    own = datamodule.label_names
    if sorted(own) == sorted(names):
        datamodule.number_labels_as(names)
        return
    difference = compare_names(datamodule.name, own, checkpoint, names)
    raise UserError(
        f"the labels differ: {difference}: evaluate on data with the labels of the training, or take them by their "
        "order, whatever they are called, with --ignore_label_names true"
    )


def compare_names(one: str, ours: Sequence[str], other: str, theirs: Sequence[str]) -> str:
    """Say which label names each of two has alone, or that their order differs.

    Example:
        >>> compare_names("photos", ["cat", "dog"], "a.ckpt", ["cat", "cow"])
        'only photos has dog; only a.ckpt has cow'
    """
    parts = []
    for owner, names, others in ((one, ours, theirs), (other, theirs, ours)):
        if alone := [name for name in names if name not in others]:
            more = f" and {len(alone) - 5} more" if len(alone) > 5 else ""
            parts.append(f"only {owner} has {', '.join(alone[:5])}{more}")
    return "; ".join(parts) or f"{one} has them in another order than {other}"

"""Trained classifiers that come with the package, by name."""

from pathlib import Path
from typing import TYPE_CHECKING

from l2nnn_lightning.errors import UserError
from l2nnn_lightning.weights_file import SUFFIX

if TYPE_CHECKING:
    from l2nnn_lightning.classifier import Classifier

__all__ = ["load_pretrained", "pretrained_names", "pretrained_path"]


def pretrained_names() -> list[str]:
    """List the names."""
    return sorted(path.name.removesuffix(SUFFIX) for path in Path(__file__).parent.glob(f"*{SUFFIX}"))


def pretrained_path(name: str) -> Path | None:
    """Return the file of a pretrained classifier; None if there is none of this name."""
    return Path(__file__).parent / f"{name}{SUFFIX}" if name in pretrained_names() else None


def load_pretrained(name: str) -> "Classifier":
    """Load a pretrained classifier by name, in evaluation mode on the CPU.

    Args:
        name: one of :func:`pretrained_names`.

    Raises:
        UserError: if there is none of this name, or its file is damaged.
    """
    from l2nnn_lightning.checkpoints import load_classifier

    path = pretrained_path(name)
    if path is None:
        raise UserError(f"there is no pretrained classifier {name!r}: choose from {', '.join(pretrained_names())}")
    return load_classifier(path)[0]

"""Reading checkpoints: never executed, and every way of being broken said in one line."""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.classifier import Classifier, L2NNNClassifier, OrdinaryClassifier
from l2nnn_lightning.training.weights_file import SUFFIX, read_weights

__all__ = [
    "check_resumable",
    "load_classifier",
    "load_pretrained",
    "pretrained_names",
    "pretrained_path",
    "read_checkpoint",
    "run_folder_of",
]

#: The folder of the trained classifiers that come with the package.
PRETRAINED = Path(__file__).parents[1] / "pretrained"

_CLASSIFIERS: dict[str, type[Classifier]] = {kind.__name__: kind for kind in (L2NNNClassifier, OrdinaryClassifier)}


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of ours onto the CPU, with ``weights_only=True``: nothing in it is executed.

    Args:
        path: a ``.ckpt`` file, a ``.safetensors`` file of ``export``, or the name of a pretrained classifier.

    Returns:
        Its contents.

    Raises:
        UserError: if there is no such file, it is damaged, or it is something else.
    """
    path = (None if Path(path).exists() else pretrained_path(str(path))) or Path(path)
    if path.suffix == SUFFIX:
        return read_weights(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a checkpoint in it, such as {path / 'checkpoints' / 'best.ckpt'}")
    if not path.is_file():
        pretrained = "".join(f", or {name}" for name in pretrained_names())
        raise UserError(f"there is no checkpoint {path}: name a .ckpt file from the checkpoints of a run{pretrained}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # such a file is refused below
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} was not read: it holds more than weights and plain values, or is damaged") from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged or no checkpoint: use another one, such as last.ckpt") from error
    parts = ("state_dict", "hyper_parameters", "l2nnn_lightning")
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(part), dict) for part in parts):
        raise UserError(f"{path} is not a checkpoint of l2nnn_lightning: it was written by something else")
    return checkpoint


def check_resumable(classifier: Classifier, checkpoint: dict[str, Any], path: str | Path) -> None:
    """Refuse to resume from a checkpoint without the state of the training, or of another network.

    Args:
        classifier: what is about to be trained.
        checkpoint: as from :func:`read_checkpoint`.
        path: its file, for the message.

    Raises:
        UserError: if the checkpoint cannot be resumed from.
    """
    if not {"global_step", "optimizer_states", "loops"} <= set(checkpoint):
        raise UserError(f"{path} holds weights only: resume from a full checkpoint, such as last.ckpt")
    mine, saved = (
        {key: value.shape for key, value in part["state_dict"].items()}
        for part in ({"state_dict": classifier.state_dict()}, checkpoint)
    )
    if mine != saved:
        raise UserError(f"{path} was written by another network: resume with the config of its own run")


def load_classifier(path: str | Path) -> tuple[Classifier, dict[str, Any]]:
    """Build the classifier that a checkpoint holds, in evaluation mode on the CPU.

    Args:
        path: as for :func:`read_checkpoint`.

    Returns:
        The classifier and the checkpoint's contents.

    Raises:
        UserError: if the checkpoint cannot be read or does not fit its own description.
    """
    checkpoint = read_checkpoint(path)
    kind = _CLASSIFIERS.get(checkpoint["l2nnn_lightning"].get("classifier"))
    if kind is None:
        raise UserError(f"{path} holds an unknown kind of classifier: use the version that wrote it")
    try:
        classifier = kind(**checkpoint["hyper_parameters"])
        classifier.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not fit its network: {' '.join(str(error).split())[:200]}") from error
    classifier.on_load_checkpoint(checkpoint)
    return classifier.eval(), checkpoint


def run_folder_of(path: str | Path) -> Path | None:
    """Find the run folder of ``RUN/checkpoints/NAME.ckpt``; None for a checkpoint elsewhere."""
    folder = Path(path).resolve().parent
    return folder.parent if folder.name == "checkpoints" else None


def pretrained_names() -> list[str]:
    """List the names of the trained classifiers that come with the package."""
    return sorted(path.name.removesuffix(SUFFIX) for path in PRETRAINED.glob(f"*{SUFFIX}"))


def pretrained_path(name: str) -> Path | None:
    """Return the file of a pretrained classifier; None if there is none of this name."""
    return PRETRAINED / f"{name}{SUFFIX}" if name in pretrained_names() else None


def load_pretrained(name: str) -> Classifier:
    """Load a pretrained classifier by name, in evaluation mode on the CPU.

    Args:
        name: one of :func:`pretrained_names`.

    Raises:
        UserError: if there is none of this name, or its file is damaged.
    """
    path = pretrained_path(name)
    if path is None:
        raise UserError(f"there is no pretrained classifier {name!r}: choose from {', '.join(pretrained_names())}")
    return load_classifier(path)[0]

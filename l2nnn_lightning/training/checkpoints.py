"""What our checkpoints hold: read without executing anything, and every way of being broken said in one line."""

import pickle
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from l2nnn_lightning.data import ImageDataModule, build_datamodule
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.classifier import Classifier, L2NNNClassifier, OrdinaryClassifier
from l2nnn_lightning.training.factories import build, check_trusted
from l2nnn_lightning.training.weights_file import SUFFIX, read_weights

__all__ = ["Checkpoint", "load_pretrained", "pretrained_names", "pretrained_path", "run_folder_of"]

#: The folder of the trained classifiers that come with the package.
PRETRAINED = Path(__file__).parents[1] / "pretrained"

_CLASSIFIERS: dict[str, type[Classifier]] = {
    kind.__name__: kind for kind in (L2NNNClassifier, OrdinaryClassifier, Classifier)
}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of ours, on the CPU, and where it came from.

    Args:
        path: its file.
        contents: ``state_dict``, ``hyper_parameters`` and ``l2nnn_lightning``, and of a training the rest of its state.
    """

    path: Path
    contents: dict[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> "Checkpoint":
        """Read a checkpoint with ``weights_only=True``: nothing in it is executed.

        Args:
            path: a ``.ckpt`` file, a ``.safetensors`` file of ``export``, or the name of a pretrained classifier.

        Raises:
            UserError: if there is no such file, it is damaged, or it is something else.
        """
        path = (None if Path(path).exists() else pretrained_path(str(path))) or Path(path)
        if path.suffix == SUFFIX:
            return cls(path, read_weights(path))
        if path.is_dir():
            raise UserError(f"{path} is a folder: name a checkpoint in it, such as {path / 'checkpoints/best.ckpt'}")
        if not path.is_file():
            pretrained = "".join(f", or {name}" for name in pretrained_names())
            raise UserError(f"there is no checkpoint {path}: name a .ckpt file of a run{pretrained}")
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Detected pickle protocol")  # such a file is refused below
                contents = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"{path} was not read: it holds more than weights and plain values, or is damaged"
            ) from error
        except (RuntimeError, EOFError, OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is damaged or no checkpoint: use another one, such as last.ckpt") from error
        parts = ("state_dict", "hyper_parameters", "l2nnn_lightning")
        if not isinstance(contents, dict) or not all(isinstance(contents.get(part), dict) for part in parts):
            raise UserError(f"{path} is not a checkpoint of l2nnn_lightning: it was written by something else")
        return cls(path, contents)

    @property
    def run_folder(self) -> Path | None:
        """The run folder of ``RUN/checkpoints/NAME.ckpt``; None for a checkpoint elsewhere."""
        return run_folder_of(self.path)

    def classifier(self) -> Classifier:
        """Build the classifier, in evaluation mode on the CPU.

        Raises:
            UserError: if the checkpoint does not fit its own description.
        """
        name = str(self.contents["l2nnn_lightning"].get("classifier"))
        try:
            kind = _CLASSIFIERS.get(name) or build({"class_path": name}, Classifier).func  # type: ignore[attr-defined]
            return kind.from_contents(self.contents).eval()
        except (RuntimeError, TypeError, ValueError, KeyError) as error:
            raise UserError(f"{self.path} does not fit its network: {' '.join(str(error).split())[:250]}") from error

    def datamodule(self, name: str | None = None, root: str | Path | None = None) -> ImageDataModule:
        """Build the data set of the training, with the same split and label noise, or another one whose images fit.

        Args:
            name: the data set, if another.
            root: where it is, if not where it was in training.

        Raises:
            UserError: if it is not known, or does not fit the network.
        """
        described = self.contents["l2nnn_lightning"].get("data")
        if name is not None and (described is None or described["name"] != name):
            described = {"name": name, "init_args": {}}
        if described is None:
            raise UserError(f"{self.path} does not say what it was trained on: name the data set with --data")
        options = {**described["init_args"], **({} if root is None else {"root": str(root)})}
        try:
            if name is None and "." in described["name"]:
                check_trusted(described["name"])
            datamodule = build_datamodule(described["name"], options)
        except (ValueError, TypeError) as error:
            raise UserError(f"the data set of {self.path}: {error}") from error
        shape, labels = (self.contents["hyper_parameters"][key] for key in ("image_shape", "num_labels"))
        if tuple(datamodule.image_shape) != tuple(shape) or datamodule.num_labels != labels:
            raise UserError(
                f"{datamodule.name} has {datamodule.num_labels} labels and images of {tuple(datamodule.image_shape)}, "
                f"the checkpoint {labels} and {tuple(shape)}: use the data it was trained on"
            )
        return datamodule

    def label_names(self) -> list[str]:
        """Find the names of the labels in the checkpoint or ask the data set; else number them."""
        count: int = self.contents["hyper_parameters"]["num_labels"]
        names: list[str] = self.contents["l2nnn_lightning"].get("label_names") or []
        if not names:
            try:
                names = list(self.datamodule().label_names)
            except (ValueError, OSError):  # another package's data set, or a folder of images that is not here
                names = []
        return names if len(names) == count else [str(label) for label in range(count)]

    def check_resumable(self, classifier: Classifier) -> None:
        """Refuse to resume a training without its state, or of another network.

        Args:
            classifier: what is about to be trained.

        Raises:
            UserError: if the checkpoint cannot be resumed from.
        """
        if not {"global_step", "optimizer_states", "loops"} <= set(self.contents):
            raise UserError(f"{self.path} holds weights only: resume from a full checkpoint, such as last.ckpt")
        mine, saved = (
            {key: value.shape for key, value in state.items()}
            for state in (classifier.state_dict(), self.contents["state_dict"])
        )
        if mine != saved:
            raise UserError(f"{self.path} was written by another network: resume with the config of its own run")


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
    return Checkpoint.read(path).classifier()

"""What our checkpoints hold: read without executing anything, and every way of being broken said in one line."""

import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from l2nnn_lightning.data import ImageDataModule, build_datamodule, short_name
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.factories import build, check_trusted
from l2nnn_lightning.training.label_names import compare_names, match_labels, recorded_names

__all__ = [
    "SUFFIX",
    "Checkpoint",
    "card_path",
    "load_pretrained",
    "pretrained_names",
    "pretrained_path",
    "run_folder_of",
    "sha256",
    "write_weights",
]

#: Of a whole classifier in one safetensors file with a JSON card beside it.
SUFFIX = ".safetensors"
#: The entry with what only we write, in a checkpoint and in a safetensors file.
_OURS = "l2nnn_lightning"
#: The folder of the trained classifiers that come with the package.
PRETRAINED = Path(__file__).parents[1] / "pretrained"


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
            return cls(path, _read_weights(path))
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
        except Exception as error:  # whatever a reader stumbles over in bytes that anyone may have written
            raise UserError(f"{path} is damaged or no checkpoint: use another one, such as last.ckpt") from error
        parts = ("state_dict", "hyper_parameters", _OURS)
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
        name = str(self.contents[_OURS].get("classifier"))
        path = name if "." in name else f"{Classifier.__module__}.{name}"
        try:
            kind: type[Classifier] = build({"class_path": path}, Classifier).func  # type: ignore[attr-defined]
            return kind.from_contents(self.contents).eval()
        except (RuntimeError, TypeError, ValueError, KeyError) as error:
            raise UserError(f"{self.path} does not fit its network: {' '.join(str(error).split())[:250]}") from error

    def datamodule(
        self, name: str | None = None, root: str | Path | None = None, *, ignore_label_names: bool = False
    ) -> ImageDataModule:
        """Build the data set of the training, with the same split and label noise, or another one whose images fit.

        Its labels are numbered as in training, by their names.

        Args:
            name: the data set, if another.
            root: where it is, if not where it was in training.
            ignore_label_names: take its labels as they are numbered, whatever they are called.

        Raises:
            UserError: if it is not known, does not fit the network, or has other labels.
        """
        described = self.contents[_OURS].get("data")
        name = None if name is None else short_name(name)
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
        names = self.recorded_names
        if names is not None and not ignore_label_names:
            match_labels(datamodule, names, str(self.path))
        return datamodule

    @property
    def recorded_names(self) -> list[str] | None:
        """The labels' names in training; None for an earlier version's checkpoint, unless its data set is built in."""
        return recorded_names(self.contents[_OURS])

    def label_names(self) -> list[str]:
        """Find the names of the labels in the checkpoint or ask the data set; else number them."""
        count: int = self.contents["hyper_parameters"]["num_labels"]
        names: list[str] = self.recorded_names or []
        if not names:
            try:
                names = list(self.datamodule().label_names)
            except (ValueError, OSError):  # another package's data set, or a folder of images that is not here
                names = []
        return names if len(names) == count else [str(label) for label in range(count)]

    def check_resumable(self, classifier: Classifier, datamodule: ImageDataModule) -> int:
        """Return the step that a training of a classifier goes on from.

        Raises:
            UserError: if the checkpoint holds no state of a training or that of half an epoch's end, or another network
                or other labels.
        """
        if not {"global_step", "optimizer_states", "loops"} <= set(self.contents):
            raise UserError(f"{self.path} holds weights only: resume from a full checkpoint, such as last.ckpt")
        mine, saved = (
            {key: value.shape for key, value in state.items()}
            for state in (classifier.state_dict(), self.contents["state_dict"])
        )
        if mine != saved:
            raise UserError(f"{self.path} was written by another network: resume with the config of its own run")
        names, own = self.recorded_names, list(getattr(datamodule, "label_names", ()))
        if names is not None and own and names != own:
            difference = compare_names("the data set", own, str(self.path), names)
            raise UserError(f"the labels differ: {difference}: resume with the data of its own run")
        loop = self.contents["loops"]["fit_loop"]
        epoch, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]
        if batches["is_last_batch"] and epoch["processed"] < epoch["started"]:
            # Earlier versions wrote best.ckpt so.
            raise UserError(f"{self.path} was written before the end of its epoch: resume from last.ckpt")
        return int(self.contents["global_step"])


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


def load_pretrained(name: str | Path) -> Classifier:
    """Load one of :func:`pretrained_names`, or a file that ``export`` wrote, in evaluation mode on the CPU.

    Args:
        name: its name, or the path of a ``.safetensors`` file with its card beside it, or of a checkpoint.

    Raises:
        UserError: if there is none of this name, or its file is damaged.
    """
    path = pretrained_path(str(name))
    if path is None and not Path(name).suffix and not Path(name).exists():
        raise UserError(f"there is no pretrained classifier {name!r}: choose from {', '.join(pretrained_names())}")
    return Checkpoint.read(path or name).classifier()


def write_weights(path: Path, checkpoint: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Write what rebuilds a classifier: the raw weights, the hard flags and, in the header, the description.

    Raw weights are kept, not scaled ones: the bounds are computed anew from what was read, so certificates are exact
    for the weights in the file, whatever their rounding.

    Args:
        path: the file.
        checkpoint: the contents of a checkpoint.
        dtype: of raw weights, float16 to halve the file or float32; everything else stays as it is.

    Raises:
        UserError: if a weight is too large for ``dtype``.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in checkpoint["state_dict"].items():
        is_raw = tensor.is_floating_point() and tensor.dim() > 1
        tensors[name] = (tensor.to(dtype) if is_raw else tensor).detach().clone().contiguous()
        if is_raw and not torch.isfinite(tensors[name]).all():
            raise UserError(f"{name} holds numbers that are too large for {dtype}: use --weights float32")
    description = {part: checkpoint[part] for part in ("hyper_parameters", _OURS)}
    path.write_bytes(save(tensors, {_OURS: json.dumps(description, sort_keys=True)}))


def _read_weights(path: Path) -> dict[str, Any]:
    """Read a file of :func:`write_weights` as the contents of a checkpoint, once its card's sha256 has been checked."""
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if _read_card(path).get("sha256") != sha256(path):
        raise UserError(f"{path} is not the file that {card_path(path).name} describes (sha256): fetch it again")
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {})[_OURS])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged or holds no classifier of l2nnn_lightning") from error
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return {"state_dict": state, **description}


def _read_card(path: Path) -> dict[str, Any]:
    card = card_path(path)
    if not card.is_file():
        raise UserError(f"there is no card {card}: it comes with {path.name} and holds its sha256")
    try:
        return dict(json.loads(card.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{card} is damaged: fetch it again") from error


def card_path(path: Path) -> Path:
    """Return where the card of an exported file is: beside it, with ``.json`` added."""
    return path.with_name(path.name + ".json")


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

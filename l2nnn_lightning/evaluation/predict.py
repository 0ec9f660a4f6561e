"""The command ``python -m l2nnn_lightning predict``: what a classifier says of images, and what it proves."""

import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from l2nnn_lightning.data import to_float
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.data.image_folder import IMAGE_SUFFIXES, decode
from l2nnn_lightning.evaluation.options import predict_options
from l2nnn_lightning.evaluation.report.files import write_text
from l2nnn_lightning.models.base import ImageShape
from l2nnn_lightning.training.checkpoints import Checkpoint

__all__ = ["Prediction", "run_predict"]


class Prediction(NamedTuple):
    """What is said of one image file: the label's name; whether the certified L2 radius is below what was asked for."""

    image: Path
    label: str
    gap: float
    radius: float
    abstain: bool


def run_predict(args: Sequence[str]) -> list[Prediction]:
    """Predict images from files, in their order.

    Raises:
        UserError: for bad input, in one line. Images that can be read are predicted and written all the same.
        ArgumentError: for a bad command line.
    """
    options = predict_options(args)
    if options.output is not None and Path(options.output).is_dir():
        raise UserError(f"--output {options.output} is a folder: name a file")
    paths = [path for given in options.images for path in _files(Path(given))]
    checkpoint = Checkpoint.read(options.ckpt_path)
    classifier, names = checkpoint.classifier(), checkpoint.label_names()
    certified, (channels, height, width) = classifier.certified(), classifier.image_shape
    if channels not in (1, 3):
        raise UserError(f"image files have 1 or 3 channels, this network takes {channels}")
    if options.resize and height != width:
        raise UserError(f"--resize makes squares, this network takes images of {height}x{width}")
    errors: list[str] = []
    predictions: list[Prediction] = []
    for start in range(0, len(paths), options.batch_size):
        read: list[tuple[Path, Tensor]] = []
        for path in paths[start : start + options.batch_size]:
            try:
                read.append((path, _read(path, classifier.image_shape, options.resize)))
            except UserError as error:
                errors.append(str(error))
        if read:
            said = (part.tolist() for part in certified(to_float(torch.stack([image for _, image in read]))))
            for (path, _), k, gap, radius in zip(read, *said, strict=True):
                predictions.append(Prediction(path, names[k], gap, radius, radius < (options.abstain_below or 0.0)))
    if predictions:
        text = _table(predictions, options.output is None)
        if options.format == "csv":
            frame = pd.DataFrame(predictions).replace({"abstain": {True: "yes", False: "no"}})
            text = str(frame.to_csv(index=False, lineterminator="\n"))
        if options.output is not None:
            write_text(options.output, text)
        else:
            sys.stdout.write(text)
        reason = "it is not hard" if not classifier.is_hard else certified.rule.reason
        if reason:
            print(f"{options.ckpt_path} proves nothing ({reason}): every radius is 0", file=sys.stderr)
    if errors:
        summary = f"{len(errors)} of {len(paths)} images were left out; the first: " if len(errors) > 1 else ""
        raise UserError(summary + errors[0])
    return predictions


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not found:
        raise UserError(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def _read(path: Path, shape: ImageShape, resize: bool) -> Tensor:
    channels, height, width = shape
    image = torch.from_numpy(decode(path, channels, height if resize else None).copy())
    found = "x".join(map(str, image.shape[1:]))
    if image.shape != tuple(shape):
        raise UserError(f"{path} has {found} pixels, the network takes {height}x{width}: use --resize")
    return image


def _table(predictions: Sequence[Prediction], to_terminal: bool) -> str:
    table = Table()
    for name in Prediction._fields[:-1]:
        table.add_column(name, justify="left" if name in ("image", "label") else "right", overflow="fold")
    for p in predictions:
        # A radius is rounded down: what is shown is proved.
        radius = f"{math.floor(p.radius * 1e4) / 1e4:.4f}"
        table.add_row(str(p.image), "abstain" if p.abstain else p.label, f"{p.gap:.4f}", radius)
    text = io.StringIO()
    Console(file=text, width=None if to_terminal else 160).print(table)
    return text.getvalue()

"""The command ``python -m l2nnn_lightning predict``: what a classifier says of images, and what it proves."""

import io
import math
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.data.image_folder import IMAGE_SUFFIXES, decode
from l2nnn_lightning.evaluation.measure.certify import certify_all
from l2nnn_lightning.evaluation.options import PredictOptions, predict_options
from l2nnn_lightning.evaluation.report.files import write_text
from l2nnn_lightning.training.checkpoints import Checkpoint

__all__ = ["Prediction", "run_predict"]


class Prediction(NamedTuple):
    """What is said of one image.

    Attributes:
        image: its file.
        label: the name of the label.
        gap: the confidence gap.
        radius: the certified L2 radius; 0 proves nothing.
        abstain: whether the radius is below what was asked for.
    """

    image: Path
    label: str
    gap: float
    radius: float
    abstain: bool


def run_predict(args: Sequence[str]) -> list[Prediction]:
    """Predict images from files.

    Args:
        args: the command line, see ``--help``.

    Returns:
        The predictions, in the order of the files.

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
    read: list[Path] = []
    errors: list[str] = []
    predictions: list[Prediction] = []
    batches = _batches(classifier.image_shape, paths, options, read, errors)
    if (first := next(batches, None)) is not None:
        label, gap, radius = (part.tolist() for part in certify_all(classifier.certified(), chain([first], batches))[0])
        predictions = [
            Prediction(path, names[k], g, r, r < (options.abstain_below or 0.0))
            for path, k, g, r in zip(read, label, gap, radius, strict=True)
        ]
        text = _csv(predictions) if options.format == "csv" else _table(predictions, options.output is None)
        if options.output is not None:
            write_text(options.output, text)
        else:
            sys.stdout.write(text)
        if not classifier.is_hard:
            print(f"{options.ckpt_path} proves nothing (it is not hard): every radius is 0", file=sys.stderr)
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


def _batches(
    shape: tuple[int, int, int], paths: Sequence[Path], options: PredictOptions, read: list[Path], errors: list[str]
) -> Iterator[Tensor]:
    """Read images in batches, (B, C, H, W); what was read and what is wrong with the others is noted."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise UserError(f"image files have 1 or 3 channels, this network takes {channels}")
    if options.resize and height != width:
        raise UserError(f"--resize makes squares, this network takes images of {height}x{width}")
    for start in range(0, len(paths), options.batch_size):
        pixels = []
        for path in paths[start : start + options.batch_size]:
            try:
                image = decode(path, channels, height if options.resize else None)
                if image.shape[1:] != (height, width):
                    raise UserError(
                        f"{path} has {image.shape[1]}x{image.shape[2]} pixels, the network takes {height}x{width}: "
                        "use --resize"
                    )
            except UserError as error:
                errors.append(str(error))
                continue
            read.append(path)
            pixels.append(torch.from_numpy(image.copy()))
        if pixels:
            yield torch.stack(pixels)


def _csv(predictions: Sequence[Prediction]) -> str:
    frame = pd.DataFrame(predictions).replace({"abstain": {True: "yes", False: "no"}})
    return str(frame.to_csv(index=False, lineterminator="\n"))


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

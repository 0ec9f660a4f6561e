"""The command ``python -m l2nnn_lightning predict``: what a classifier says of images, and what it proves."""

import argparse
import csv
import io
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.utils import parametrize

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.data.image_files import IMAGE_SUFFIXES, decode
from l2nnn_lightning.evaluation.report.files import write_text
from l2nnn_lightning.training.checkpoints import load_classifier
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.label_names import label_names

__all__ = ["Prediction", "predict_images", "run_predict"]

_HEADER = ("image", "label", "gap", "radius", "abstain")


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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UserError(f"{message}; see python -m l2nnn_lightning predict --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m l2nnn_lightning predict",
        description="Say of each image its label, the confidence gap and the L2 radius (pixels in [0, 1]) within which "
        "the label is proven not to change.",
    )
    parser.add_argument("--ckpt_path", required=True, help="the checkpoint, or the name of a pretrained classifier")
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument("--abstain_below", type=float, help="give no label where the radius is below this")
    parser.add_argument("--resize", action="store_true", help="bring each image's centred square to the right size")
    parser.add_argument("--format", choices=("table", "csv"), default="table", help="what to write (default: table)")
    parser.add_argument("--output", help="the file to write (default: standard output)")
    parser.add_argument("--batch_size", type=int, default=100, help="images at once (default: 100)")
    return parser


def run_predict(args: Sequence[str]) -> list[Prediction]:
    """Predict images from files.

    Args:
        args: the command line, see ``--help``.

    Returns:
        The predictions, in the order of the files.

    Raises:
        ValueError: for bad input, in one line. Images that can be read are predicted and written all the same.
    """
    options = _parser().parse_args(args)
    if options.abstain_below is not None and not 0 <= options.abstain_below < math.inf:
        raise UserError(f"--abstain_below must be finite and not negative, got {options.abstain_below}")
    if options.batch_size < 1:
        raise UserError(f"--batch_size must be at least 1, got {options.batch_size}")
    if options.output is not None and Path(options.output).is_dir():
        raise UserError(f"--output {options.output} is a folder: name a file")
    paths = [path for given in options.images for path in _files(Path(given))]
    classifier, checkpoint = load_classifier(options.ckpt_path)
    names = label_names(classifier, checkpoint)
    predictions: list[Prediction] = []
    errors: list[str] = []
    threshold = options.abstain_below or 0.0
    for batch, images in _batches(classifier, paths, options.batch_size, options.resize, errors):
        predictions += predict_images(classifier, batch, images, names, threshold)
    if predictions:
        text = _csv(predictions) if options.format == "csv" else _table(predictions, options.output is None)
        if options.output is not None:
            write_text(options.output, text)
        else:
            sys.stdout.write(text)
        if not classifier.is_hard:
            print(f"{options.ckpt_path} proves nothing (it is not hard): every radius is 0", file=sys.stderr)
    if len(errors) > 1:
        raise UserError(f"{len(errors)} of {len(paths)} images were left out; the first: {errors[0]}")
    if errors:
        raise UserError(errors[0])
    return predictions


def predict_images(
    classifier: Classifier, paths: Sequence[Path], images: Tensor, names: Sequence[str], abstain_below: float
) -> list[Prediction]:
    """Predict a batch.

    Args:
        classifier: the classifier.
        paths: the file of each image.
        images: uint8 (B, C, H, W).
        names: the name of each label.
        abstain_below: the smallest radius that is enough.
    """
    with parametrize.cached():
        certificate = classifier.certify(images.to(classifier.device).float() / 255)
    label, gap, radius = (part.tolist() for part in certificate[:3])
    return [
        Prediction(path, names[k], g, r, r < abstain_below)
        for path, k, g, r in zip(paths, label, gap, radius, strict=True)
    ]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not found:
        raise UserError(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def _batches(
    classifier: Classifier, paths: Sequence[Path], size: int, resize: bool, errors: list[str]
) -> Iterator[tuple[list[Path], Tensor]]:
    """Read images in batches; what is wrong with the ones that cannot be read is added to ``errors``."""
    channels, height, width = classifier.image_shape
    if channels not in (1, 3):
        raise UserError(f"image files have 1 or 3 channels, this network takes {channels}")
    if resize and height != width:
        raise UserError(f"--resize makes squares, this network takes images of {height}x{width}")
    for start in range(0, len(paths), size):
        batch, pixels = [], []
        for path in paths[start : start + size]:
            try:
                image = decode(path, channels, height if resize else None)
                if image.shape[1:] != (height, width):
                    raise UserError(
                        f"{path} has {image.shape[1]}x{image.shape[2]} pixels, the network takes {height}x{width}: "
                        "use --resize"
                    )
            except UserError as error:
                errors.append(str(error))
                continue
            batch.append(path)
            pixels.append(torch.from_numpy(image.copy()))
        if batch:
            yield batch, torch.stack(pixels)


def _csv(predictions: Sequence[Prediction]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_HEADER)
    for p in predictions:
        writer.writerow([p.image, p.label, p.gap, p.radius, "yes" if p.abstain else "no"])
    return file.getvalue()


def _table(predictions: Sequence[Prediction], to_terminal: bool) -> str:
    table = Table()
    for name in _HEADER[:-1]:
        table.add_column(name, justify="left" if name in ("image", "label") else "right", overflow="fold")
    for p in predictions:
        # A radius is rounded down: what is shown is proved.
        radius = f"{math.floor(p.radius * 1e4) / 1e4:.4f}"
        table.add_row(str(p.image), "abstain" if p.abstain else p.label, f"{p.gap:.4f}", radius)
    console = Console(file=io.StringIO(), width=None if to_terminal else 160)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

"""The command ``python -m l2nnn_lightning export``."""

import argparse
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.export.card import describe, find_results
from l2nnn_lightning.evaluation.export.graph import CertifiedNetwork
from l2nnn_lightning.evaluation.export.onnx_format import run_onnx, write_onnx
from l2nnn_lightning.evaluation.export.parity import check_parity, random_images
from l2nnn_lightning.evaluation.export.torch_format import run_program, write_program
from l2nnn_lightning.evaluation.report.files import write_json
from l2nnn_lightning.training.checkpoints import load_classifier, run_folder_of
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.label_names import label_names
from l2nnn_lightning.training.weights_file import SUFFIX, card_path, sha256, write_weights

__all__ = ["run_export"]

_SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": SUFFIX}
_DTYPES = {"float32": torch.float32, "float16": torch.float16}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UserError(f"{message}; see python -m l2nnn_lightning export --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m l2nnn_lightning export",
        description="Write a checkpoint for use elsewhere, with a card beside it. ONNX and torch.export hold a plain "
        "network with logits, label, gap and radius as outputs; safetensors holds the whole classifier, to be loaded "
        "again by this package.",
    )
    parser.add_argument("--ckpt_path", required=True, help="the checkpoint, or the name of a pretrained classifier")
    parser.add_argument("--format", required=True, choices=sorted(_SUFFIXES), help="what to write")
    parser.add_argument("--output", help="the file (default: in export/ in the run folder)")
    parser.add_argument("--results", help="the results.json that the card quotes (default: that of the run folder)")
    parser.add_argument(
        "--weights",
        choices=sorted(_DTYPES),
        default="float32",
        help="safetensors: numbers of the raw weights in the file (default: float32)",
    )
    return parser


def run_export(args: Sequence[str]) -> Path:
    """Export a checkpoint and check that what was written agrees with it.

    Args:
        args: the command line, see ``--help``.

    Returns:
        The file.

    Raises:
        ValueError: for bad input, in one line.
        ParityError: if what was written says something else than the checkpoint; it is removed again.
    """
    options = _parser().parse_args(args)
    results = find_results(options.ckpt_path, options.results)
    classifier, checkpoint = load_classifier(options.ckpt_path)
    names = label_names(classifier, checkpoint)
    checkpoint = _portable(checkpoint, names)
    card = describe(classifier, checkpoint, options.ckpt_path, names, results)
    path = _output(options)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    try:
        if options.format == "safetensors":
            write_weights(part, checkpoint, _DTYPES[options.weights])
            difference = None
        else:
            difference = _write_graph(options.format, classifier, part)
        card |= {"format": options.format, "file": path.name, "sha256": sha256(part), "bytes": part.stat().st_size}
        if difference is not None:
            card["largest_differences"] = difference
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    write_json(card_path(path), card)
    if options.format == "safetensors":
        card["largest_differences"] = _reloaded_difference(classifier, path)
        write_json(card_path(path), card)
    if not classifier.is_hard:
        print(f"{options.ckpt_path} proves nothing (it is not hard): the exported radius is 0", file=sys.stderr)
    print(f"{options.format}: {path}\ncard: {card_path(path)}")
    return path


def _write_graph(form: str, classifier: Classifier, path: Path) -> dict[str, float]:
    network = CertifiedNetwork(classifier)
    image = random_images(classifier, 2, seed=0)
    write: Callable[[CertifiedNetwork, Tensor, Path], None] = write_onnx if form == "onnx" else write_program
    run: Callable[[Path, Tensor], tuple[Tensor, ...]] = run_onnx if form == "onnx" else run_program
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn of their own internals
        write(network, image, path)
    return check_parity(classifier, partial(run, path))


def _reloaded_difference(classifier: Classifier, path: Path) -> dict[str, float]:
    """Say by how much rounded weights change the answers: the file is a network of its own, with its own proof."""
    reloaded, _ = load_classifier(path)
    image = random_images(classifier, 64, seed=0)
    with torch.no_grad():
        logits = float((reloaded(image) - classifier(image)).abs().max())
    radius = float((reloaded.certify(image).radius - classifier.certify(image).radius).abs().max())
    return {"images": len(image), "logits": logits, "gap_and_radius": radius}


def _portable(checkpoint: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Leave out what belongs to the training: its state, and where the data were on that machine."""
    state = {**checkpoint["l2nnn_lightning"], "label_names": names}
    if state.get("data") is not None:
        state["data"] = {**state["data"], "init_args": {**state["data"]["init_args"], "root": None}}
    return {
        "state_dict": checkpoint["state_dict"],
        "hyper_parameters": dict(checkpoint["hyper_parameters"]),
        "l2nnn_lightning": state,
    }


def _output(options: argparse.Namespace) -> Path:
    suffix = _SUFFIXES[options.format]
    if options.output is not None:
        path = Path(options.output)
        if path.suffix != suffix:
            raise UserError(f"--output must end in {suffix} for --format {options.format}, got {path}")
        if path.is_dir() or any(folder.exists() and not folder.is_dir() for folder in path.parents):
            raise UserError(f"--output {path} cannot be written: choose another file")
        return path
    folder = run_folder_of(options.ckpt_path)
    if folder is None:
        raise UserError(f"{options.ckpt_path} is in no run folder: say where to write with --output")
    return folder / "export" / f"{Path(options.ckpt_path).stem}{suffix}"

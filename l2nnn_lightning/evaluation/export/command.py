"""The command ``python -m l2nnn_lightning export``."""

import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.export.card import describe, find_results
from l2nnn_lightning.evaluation.export.graph import CertifiedNetwork, run_program, write_program
from l2nnn_lightning.evaluation.export.onnx_format import run_onnx, write_onnx
from l2nnn_lightning.evaluation.export.parity import check_parity, random_images
from l2nnn_lightning.evaluation.options import ExportOptions, export_options
from l2nnn_lightning.evaluation.report.files import write_json
from l2nnn_lightning.training.checkpoints import (
    SUFFIX,
    Checkpoint,
    card_path,
    run_folder_of,
    sha256,
    write_weights,
)
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["run_export"]

_SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": SUFFIX}
_DTYPES = {"float32": torch.float32, "float16": torch.float16}


def run_export(args: Sequence[str]) -> Path:
    """Export a checkpoint and check that what was written agrees with it.

    Args:
        args: the command line, see ``--help``.

    Returns:
        The file.

    Raises:
        UserError: for bad input, in one line.
        ArgumentError: for a bad command line.
        ParityError: if what was written says something else than the checkpoint; it is removed again.
    """
    options = export_options(args)
    results = find_results(options.ckpt_path, options.results)
    checkpoint = Checkpoint.read(options.ckpt_path)
    classifier = checkpoint.classifier()
    contents = _portable(checkpoint)
    card = describe(classifier, contents, options.ckpt_path, results)
    path = _output(options)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    try:
        if options.format == "safetensors":
            write_weights(part, contents, _DTYPES[options.weights])
        else:
            card["largest_differences"] = _write_graph(options.format, classifier, part)
        card |= {"format": options.format, "file": path.name, "sha256": sha256(part), "bytes": part.stat().st_size}
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    write_json(card_path(path), card)
    if options.format == "safetensors":  # loaded again by its card
        card["largest_differences"] = _reloaded_difference(classifier, path)
        write_json(card_path(path), card)
    if not classifier.is_hard:
        print(f"{options.ckpt_path} proves nothing (it is not hard): the exported radius is 0", file=sys.stderr)
    print(f"{options.format}: {path}\ncard: {card_path(path)}")
    return path


def _write_graph(form: str, classifier: Classifier, path: Path) -> dict[str, float]:
    certified, shape = classifier.certified(), classifier.image_shape
    write, run = (write_onnx, run_onnx) if form == "onnx" else (write_program, run_program)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn of their own internals
        write(CertifiedNetwork(certified), random_images(shape, 2, seed=0), path)
    return check_parity(certified, shape, partial(run, path))


@torch.no_grad()
def _reloaded_difference(classifier: Classifier, path: Path) -> dict[str, float]:
    """Say by how much rounded weights change the answers: the file is a network of its own, with its own proof."""
    theirs, ours = Checkpoint.read(path).classifier().certified(), classifier.certified()
    image = random_images(classifier.image_shape, 64, seed=0)
    logits = float((theirs.network(image) - ours.network(image)).abs().max())
    radius = float((theirs(image).radius - ours(image).radius).abs().max())
    return {"images": len(image), "logits": logits, "gap_and_radius": radius}


def _portable(checkpoint: Checkpoint) -> dict[str, Any]:
    """Leave out what belongs to the training: its state, and where the data were on that machine."""
    contents = checkpoint.contents
    state = {**contents["l2nnn_lightning"], "label_names": checkpoint.label_names()}
    if state.get("data") is not None:
        state["data"] = {**state["data"], "init_args": {**state["data"]["init_args"], "root": None}}
    plain = {name: contents[name] for name in ("state_dict", "hyper_parameters")}
    return {**plain, "l2nnn_lightning": state}


def _output(options: ExportOptions) -> Path:
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

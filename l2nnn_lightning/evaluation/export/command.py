"""The command ``python -m l2nnn_lightning export``: a file for use elsewhere, and a card that says what it proves."""

import json
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.export import graph
from l2nnn_lightning.evaluation.measure.subject import in_run_folder
from l2nnn_lightning.evaluation.options import ExportOptions, export_options
from l2nnn_lightning.evaluation.report.files import versions, write_json
from l2nnn_lightning.training.checkpoints import SUFFIX, Checkpoint, card_path, run_folder_of, sha256, write_weights
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["run_export"]

_SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": SUFFIX}
_RULES = {
    "none": "nothing is proved: the radius is 0",
    "gap/2": "gap / 2: every logit is 1-Lipschitz (Lemma 6)",
    "gap/sqrt(2)": "gap / sqrt(2): the logits are jointly 1-Lipschitz (Lemma 1)",
    "pairwise": "min over other labels j of (y_i - y_j) / c_ij, c_ij a Lipschitz constant of that difference",
}
_PROGRAMS = {
    "float64": "label and logits of these weights computed in float64, with sums of products in any order",
    "float32": "this graph in float32, each sum of products in any order (any batch size, thread count, memory layout; "
    "fused multiply-add), and not by Winograd's or Fourier transforms, nor in TF32, bfloat16 or float16",
}
_RESULTS = ("dataset", "n", "accuracy", "gap_mean", "radius_mean", "certified", "attacks", "hard")


def run_export(args: Sequence[str]) -> Path:
    """Export a checkpoint to a file, which is returned, and check that what was written agrees with it.

    Raises:
        UserError: for bad input, in one line.
        ArgumentError: for a bad command line.
        ParityError: if what was written says something else than the checkpoint; it is removed again.
    """
    options = export_options(args)
    results = _results(options)
    checkpoint = Checkpoint.read(options.ckpt_path)
    classifier = checkpoint.classifier()
    contents = _portable(checkpoint)
    if results is not None and not _is_of(results, checkpoint):
        if options.results is not None:
            raise UserError(
                f"{options.results} holds the results of another checkpoint, {results.get('checkpoint')}: name those "
                f"of {options.ckpt_path}, or evaluate it again"
            )
        results = None
    card = _describe(classifier, contents, options, results)
    path = _output(options)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    try:
        if options.format == "safetensors":
            write_weights(part, contents, getattr(torch, options.weights))
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
    reason = "it is not hard" if not classifier.is_hard else classifier.certified().rule.reason
    if reason:
        print(f"{options.ckpt_path} proves nothing ({reason}): the exported radius is 0", file=sys.stderr)
    print(f"{options.format}: {path}\ncard: {card_path(path)}")
    return path


def _output(options: ExportOptions) -> Path:
    suffix = _SUFFIXES[options.format]
    if options.output is None:
        return in_run_folder(options.ckpt_path) / "export" / f"{Path(options.ckpt_path).stem}{suffix}"
    path = Path(options.output)
    if path.suffix != suffix:
        raise UserError(f"--output must end in {suffix} for --format {options.format}, got {path}")
    if path.is_dir() or any(folder.exists() and not folder.is_dir() for folder in path.parents):
        raise UserError(f"--output {path} cannot be written: choose another file")
    return path


def _write_graph(form: str, classifier: Classifier, path: Path) -> dict[str, float]:
    certified, shape = classifier.certified().as_shipped(), classifier.image_shape
    write, run = (graph.write_onnx, graph.run_onnx) if form == "onnx" else (graph.write_program, graph.run_program)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn of their own internals
        write(graph.CertifiedNetwork(certified), graph.random_images(shape, 2, seed=0), path)
    return graph.check_parity(certified, shape, partial(run, path))


@torch.no_grad()
def _reloaded_difference(classifier: Classifier, path: Path) -> dict[str, float]:
    """Say by how much rounded weights change the answers: the file is a network of its own, with its own proof."""
    theirs, ours = Checkpoint.read(path).classifier().certified(), classifier.certified()
    image = graph.random_images(classifier.image_shape, 64, seed=0)
    logits = float((theirs.logits(image) - ours.logits(image)).abs().max())
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


def _describe(
    classifier: Classifier, contents: Mapping[str, Any], options: ExportOptions, results: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Describe a classifier; of the results of its evaluation, if there are any, the summary alone."""
    certified = classifier.certified()
    rule, program = certified.rule.name, "float64"
    if options.format != "safetensors" and certified.rule.is_graph:
        certified, program = certified.as_shipped(), "float32"
    proven_for = _PROGRAMS[program] if not certified.rule.reason else f"nothing: {certified.rule.reason}"
    return {
        "classifier": type(classifier).__name__,
        "hyper_parameters": contents["hyper_parameters"],
        "hard": classifier.is_hard,
        "radius_rule": _RULES.get(rule, rule),
        "radius_proven_for": proven_for,
        "norm": "L2 over the whole image, pixels in [0, 1]",
        "input": {"name": "image", "dtype": "float32", "range": [0, 1], "shape": ["batch", *classifier.image_shape]},
        "outputs": list(graph.OUTPUTS),
        "labels": contents["l2nnn_lightning"]["label_names"],
        "data": contents["l2nnn_lightning"].get("data"),
        "results": None if results is None else {key: results[key] for key in _RESULTS if key in results},
        "checkpoint": options.ckpt_path,
        "commit": _commit(),
        "versions": versions(),
    }


def _results(options: ExportOptions) -> dict[str, Any] | None:
    """Read the results to quote: those given, or the evaluation of this checkpoint in its run folder."""
    folder = run_folder_of(options.ckpt_path)
    path = None if folder is None else folder / "evaluation" / "results.json"
    if options.results is not None:
        path = Path(options.results)
    elif path is None or not path.is_file():
        return None
    try:
        results: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is no results.json of evaluate.py: {error}") from error
    return results


def _is_of(results: Mapping[str, Any], checkpoint: Checkpoint) -> bool:
    """Tell whether results are a checkpoint's: by its file, or, where an earlier version wrote them, by its name."""
    evaluated = Path(results.get("checkpoint") or "")
    recorded = results.get("checkpoint_sha256") or (sha256(evaluated) if evaluated.is_file() else None)
    return evaluated.name == checkpoint.path.name if recorded is None else recorded == sha256(checkpoint.path)


def _commit() -> str | None:
    """Return the commit of the source that exports, where it is a checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()

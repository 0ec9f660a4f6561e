"""The command ``python -m l2nnn_lightning verify``: what is proved of a checkpoint, layer by layer, by which lemma."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.measure.subject import in_run_folder
from l2nnn_lightning.evaluation.options import verify_options
from l2nnn_lightning.evaluation.report.files import versions, write_json
from l2nnn_lightning.evaluation.verify.lemmas import NotVerifiedError, Verified, verify_program
from l2nnn_lightning.models.base import Certified
from l2nnn_lightning.training.checkpoints import Checkpoint, sha256

__all__ = ["run_verify"]

# A claimed constant may be below a verified one by this much, relatively: what both add on top of the exact one.
_AGREES = 1e-6
# A network whose rounding in float32 costs a radius of so much proves nothing that anyone would ship.
_MOST_LOST = 0.5


def run_verify(args: Sequence[str]) -> dict[str, Any]:
    """Verify a checkpoint, print what is proved, and write it to a file.

    Raises:
        UserError: for bad input; if there is no lemma for a part of the network; if a claim of ``certify`` is not what
            was found here; or if rounding could take away what the network claims.
        ArgumentError: for a bad command line.
    """
    options = verify_options(args)
    checkpoint = Checkpoint.read(options.ckpt_path)
    output = in_run_folder(options.ckpt_path) / "verification.json" if options.output is None else Path(options.output)
    if output.is_dir():
        raise UserError(f"--output {output} is a folder: name a file")
    classifier = checkpoint.classifier()
    if not classifier.is_hard:
        raise UserError(f"{options.ckpt_path} proves nothing: it is not hard")
    certified, shape = classifier.certified(), classifier.image_shape
    programs = {"float64": certified, "float32": certified.as_shipped()}
    largest = math.sqrt(math.prod(shape))
    found: dict[str, Any] = {}
    for name, part in programs.items():
        if part.rule.reason:
            raise UserError(f"{options.ckpt_path} proves nothing in {name}: {part.rule.reason}")
        found[name] = _compare(options.ckpt_path, name, part, _verify(options.ckpt_path, part, shape), largest)
    report = {
        "checkpoint": options.ckpt_path,
        "sha256": sha256(checkpoint.path),
        "rule": certified.rule.name,
        "image_shape": list(shape),
        "largest_image": largest,
        "programs": found,
        "versions": versions(),
    }
    lost = found["float32"]["radius_lost"]
    if not lost <= _MOST_LOST:
        raise UserError(
            f"{options.ckpt_path} is refused: rounding in float32 may cost a radius of {lost:.3g} at the largest "
            f"image, more than {_MOST_LOST:g}; its signals are out of proportion to its answers"
        )
    write_json(output, report)
    _print(report)
    print(f"verified: {output}")
    return report


def _verify(path: str, certified: Certified, shape: tuple[int, int, int]) -> Verified:
    form = torch.finfo(next(certified.program.parameters()).dtype)
    try:
        return verify_program(certified.program, shape, Fraction(form.eps) / 2, Fraction(form.tiny))
    except (NotVerifiedError, ValueError) as error:
        raise UserError(f"{path} was not verified: {error}") from error


def _compare(path: str, program: str, certified: Certified, verified: Verified, largest: float) -> dict[str, Any]:
    """Hold what ``certify`` divides by, and takes off, against what was found in exact arithmetic."""
    claimed = getattr(certified.rule, "bounds", None)
    if claimed is None:
        raise UserError(f"{path} was not verified: there is no lemma here for the rule {certified.rule.name!r}")
    least = getattr(certified.rule, "gap_lipschitz", 0.0)
    labels = range(len(verified.constant))
    pairs = [(i, j) for i in labels for j in labels if i != j]
    worst, lost = 0.0, 0.0
    for i, j in pairs:
        constant, slope, offset = (float(part[i][j]) for part in (verified.constant, verified.slope, verified.offset))
        ours = max(least, float(claimed.constant[i, j]))
        worst = max(worst, constant / ours - 1)
        lost = max(lost, 2 * (slope * largest + offset) / (max(constant, least) + slope))
    # A convolution's norm may be claimed by its symbol, which is irrational: it is checked in float64 alone.
    convolves = any("Conv" in step.module for step in verified.steps)
    if not (worst <= _AGREES or convolves):
        raise UserError(
            f"{path} was not verified in {program}: a difference of two logits is claimed to move {worst:.2g} less, "
            "relatively, than is proved here"
        )
    return {
        "layers": [
            {
                "layer": step.module,
                "lemma": step.lemma,
                "norm_at_most": _above(step.norm),
                "error_at_most": {"slope": _above(step.error[0]), "offset": _above(step.error[1])},
            }
            for step in verified.steps
        ],
        "largest_constant": max(_above(verified.constant[i][j]) for i, j in pairs),
        "claimed_constant": max(max(least, float(claimed.constant[i, j])) for i, j in pairs),
        "claim_confirmed": worst <= _AGREES,
        "radius_lost": lost,
    }


def _above(value: Fraction) -> float:
    return math.nextafter(float(value), math.inf) if value else 0.0


def _print(report: Mapping[str, Any]) -> None:
    table = Table(title=f"{report['checkpoint']}: what is proved, in exact arithmetic")
    for name in ("layer", "lemma", "norm <=", "error of float64 <=", "of float32 <="):
        table.add_column(name, overflow="fold")
    layers = [report["programs"][name]["layers"] for name in ("float64", "float32")]
    for exact, single in zip(*layers, strict=True):
        errors = [_error(part["error_at_most"], report["largest_image"]) for part in (exact, single)]
        table.add_row(single["layer"], exact["lemma"], f"{exact['norm_at_most']:.9f}", *errors)
    Console().print(table)
    for name, part in report["programs"].items():
        print(
            f"{name}: two logits differ by at most {part['largest_constant']:.9f} per unit of distance "
            f"(claimed: {part['claimed_constant']:.9f}); rounding costs a radius of {part['radius_lost']:.3g} at most"
        )
        if not part["claim_confirmed"]:
            print(f"{name}: the smaller constant that is claimed follows from the symbols of convolutions, in float64")


def _error(bound: Mapping[str, float], largest: float) -> str:
    return f"{bound['slope'] * largest + bound['offset']:.3g}"

"""The command ``evaluate.py``: a checkpoint, its data set, attacks; everything else follows from the records."""

import argparse
import math
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from l2nnn_lightning.attacks import ATTACKS
from l2nnn_lightning.checkpoints import load_classifier, run_folder_of
from l2nnn_lightning.classifier import Classifier
from l2nnn_lightning.data import DATAMODULES, ImageDataModule, build_datamodule
from l2nnn_lightning.errors import UserError
from l2nnn_lightning.evaluation.environment import hardware
from l2nnn_lightning.evaluation.loop import attack_images, certify_images
from l2nnn_lightning.evaluation.run import AttackInfo, RunInfo
from l2nnn_lightning.evaluation.tables import rich_table, summary_rows
from l2nnn_lightning.evaluation.write import write_evaluation

__all__ = ["evaluation_parser", "run_evaluation"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UserError(f"{message}; see evaluate.py --help")


def evaluation_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = _Parser(prog="evaluate.py", description="Measure what a checkpoint proves and what attacks leave of it.")
    parser.add_argument("--ckpt_path", required=True, help="the checkpoint")
    parser.add_argument("--data", choices=sorted(DATAMODULES), help="another data set than the checkpoint's own")
    parser.add_argument("--root", help="where the data set is, if not where it was in training")
    parser.add_argument("--split", choices=("test", "val", "train"), default="test", help="the images (default: test)")
    parser.add_argument("--limit", type=int, help="only the first N images")
    parser.add_argument("--radii", default="0.5,1,1.58,2,3", help="radii of certified accuracy (default: %(default)s)")
    parser.add_argument("--attacks", default="", help="names, separated by commas, such as cw,pgd_l2")
    parser.add_argument("--eps", type=float, default=1.58, help="the attacks' largest perturbation (default: 1.58)")
    parser.add_argument("--max_iter", type=int, help="the attacks' iterations (default: each attack's own)")
    parser.add_argument("--minimum_norm", action="store_true", help="cw: the nearest adversary, also beyond eps")
    parser.add_argument("--attack_proven", action="store_true", help="attack also what is proven safe within eps")
    parser.add_argument("--output", help="the folder to write (default: evaluation/ in the run folder)")
    parser.add_argument("--batch_size", type=int, default=500, help="images at once (default: 500)")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the attacks (default: 0)")
    return parser


def run_evaluation(args: Sequence[str]) -> dict[str, Any]:
    """Evaluate a checkpoint and write results.json, records.csv, report.md and figures.

    Args:
        args: the command line, see ``evaluate.py --help``.

    Returns:
        The contents of results.json.

    Raises:
        ValueError: for bad input, in one line; nothing has been written then.
    """
    options = evaluation_parser().parse_args(args)
    started = time.perf_counter()
    radii = _numbers("--radii", options.radii)
    for name, least in (("limit", 1), ("max_iter", 1), ("batch_size", 1), ("seed", 0)):
        if getattr(options, name) is not None and getattr(options, name) < least:
            raise UserError(f"--{name} must be at least {least}, got {getattr(options, name)}")
    if not 0 < options.eps < math.inf:
        raise UserError(f"--eps must be positive and finite, got {options.eps}")
    names = [name.strip() for name in options.attacks.split(",") if name.strip()]
    for name in names:
        if name not in ATTACKS:
            raise UserError(f"unknown attack {name!r}: --attacks takes {', '.join(ATTACKS)}")
    output = _output(options)
    console = Console(highlight=False)
    classifier, checkpoint = load_classifier(options.ckpt_path)
    datamodule = _datamodule(options, classifier, checkpoint["l2nnn_lightning"]["data"])
    device = _device(options.device)
    classifier.to(device)
    images, labels = _images(datamodule, options.split, options.limit)
    records = certify_images(classifier, images, labels, options.batch_size)
    attacks: list[AttackInfo] = []
    attacked: dict[str, Tensor] = {}
    for name in names:
        records, info, attacked[name] = attack_images(
            classifier,
            images,
            records,
            name,
            eps=options.eps,
            max_iter=options.max_iter,
            seed=options.seed,
            batch_size=options.batch_size,
            attack_proven=options.attack_proven,
            minimum_norm=options.minimum_norm,
        )
        attacks.append(info)
    run = RunInfo(
        dataset=datamodule.name if options.split == "test" else f"{datamodule.name} ({options.split})",
        checkpoint=str(options.ckpt_path),
        hard=classifier.is_hard,
        config={"classifier": type(classifier).__name__, **_plain(classifier.hparams)},
        seed=options.seed,
        seconds=time.perf_counter() - started,
        command=shlex.join(["python", "evaluate.py", *args]),
        radius_kind=classifier.radius_kind,
        hardware=hardware(device),
    )
    results = write_evaluation(
        output,
        records,
        images,
        run,
        radii=radii,
        attacks=attacks,
        attacked_images=attacked,
        label_names=datamodule.label_names,
        metrics_csv=_metrics_csv(options.ckpt_path),
    )
    console.print(rich_table(f"what {options.ckpt_path} proves", *summary_rows(results)))
    console.print(f"report: {output / 'report.md'}", soft_wrap=True)
    return results


def _numbers(option: str, text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option} must be numbers separated by commas, got {text!r}") from None
    if not all(0 <= number < math.inf for number in numbers):
        raise UserError(f"{option} must be finite and not negative, got {text!r}")
    return numbers


def _datamodule(
    options: argparse.Namespace, classifier: Classifier, described: dict[str, Any] | None
) -> ImageDataModule:
    """Build the data set of the checkpoint, or the one asked for, and see that its images fit."""
    if options.data is not None and (described is None or described["name"] != options.data):
        described = {"name": options.data, "init_args": {}}
    if described is None:
        raise UserError(f"{options.ckpt_path} does not say what it was trained on: name the data set with --data")
    init_args = dict(described["init_args"])
    if options.root is not None:
        init_args["root"] = options.root
    datamodule = build_datamodule(described["name"], init_args)
    if tuple(datamodule.image_shape) != classifier.image_shape or datamodule.num_labels != classifier.num_labels:
        raise UserError(
            f"{datamodule.name} has {datamodule.num_labels} labels and images of {tuple(datamodule.image_shape)}, "
            f"the checkpoint {classifier.num_labels} and {classifier.image_shape}: use the data it was trained on"
        )
    return datamodule


def _images(datamodule: ImageDataModule, split: str, limit: int | None) -> tuple[Tensor, Tensor]:
    datamodule.setup("test" if split == "test" else "fit")
    held = {"test": datamodule.test_set, "val": datamodule.val_set, "train": datamodule.train_set}[split]
    if held is None:
        raise UserError(f"there are no {split} images: the data set was set up without them (val_size)")
    return held.images[:limit], held.labels[:limit]


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).tolist()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} is not available here: use cpu") from error
    return device


def _output(options: argparse.Namespace) -> Path:
    if options.output is not None:
        output = Path(options.output)
        if any(path.exists() and not path.is_dir() for path in (output, *output.parents)):
            raise UserError(f"--output {output} is not a folder: choose another one")
        return output
    folder = run_folder_of(options.ckpt_path)
    if folder is None:
        raise UserError(f"{options.ckpt_path} is in no run folder: say where to write with --output")
    return folder / "evaluation"


def _metrics_csv(checkpoint: str) -> Path | None:
    folder = run_folder_of(checkpoint)
    path = folder / "metrics.csv" if folder is not None else None
    return path if path is not None and path.is_file() else None


def _plain(hparams: Any) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in dict(hparams).items()}

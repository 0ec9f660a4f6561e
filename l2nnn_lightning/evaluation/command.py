"""The command ``evaluate.py``: a checkpoint, its data set, attacks; everything else follows from the records."""

import argparse
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from l2nnn_lightning.data import ImageDataModule, build_datamodule
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.measure.environment import hardware
from l2nnn_lightning.evaluation.measure.extras import extra_measures
from l2nnn_lightning.evaluation.measure.loop import attack_images, certify_images, measure_jacobian
from l2nnn_lightning.evaluation.measure.processes import StartMethod, Team, launched_team, started_team
from l2nnn_lightning.evaluation.measure.records import Records
from l2nnn_lightning.evaluation.measure.run import AttackInfo, RunInfo
from l2nnn_lightning.evaluation.parser import parse_options
from l2nnn_lightning.evaluation.report.tables import rich_table, summary_rows
from l2nnn_lightning.evaluation.report.write import write_evaluation
from l2nnn_lightning.evaluation.tracking.panels import track_evaluation, tracked_folder
from l2nnn_lightning.training.checkpoints import load_classifier, run_folder_of
from l2nnn_lightning.training.classifier import Classifier, L2NNNClassifier

__all__ = ["run_evaluation"]


def run_evaluation(args: Sequence[str], *, start_method: StartMethod = "spawn") -> dict[str, Any]:
    """Evaluate a checkpoint and write results.json, records.csv, report.md and figures.

    Several processes, started by ``torchrun`` or with ``--processes``, share the images; the first of them writes.

    Args:
        args: the command line, see ``evaluate.py --help``.
        start_method: how ``--processes`` starts them; ``fork`` where this process has computed nothing yet.

    Returns:
        The contents of results.json; nothing in a process that does not write.

    Raises:
        ValueError: for bad input, in one line; nothing has been written then.
    """
    options = parse_options(args)
    started = time.perf_counter()
    output = _output(options)
    tracked = tracked_folder(options.ckpt_path) if options.wandb else None
    assist = partial(_assist, options)
    with launched_team() if options.processes == 1 else started_team(options.processes, assist, start_method) as team:
        # Not before the others have started: it computes.
        subject = _subject(options)
        extra = {} if team.rank > 0 else _extra(options, subject)
        parts = team.gather(partial(_measure, options, subject, team))
        if team.rank > 0:
            return {}
    records, attacks, attacked = _joined(parts)
    datamodule, classifier = subject.datamodule, subject.classifier
    run = RunInfo(
        dataset=datamodule.name if options.split == "test" else f"{datamodule.name} ({options.split})",
        checkpoint=str(options.ckpt_path),
        hard=classifier.is_hard,
        config={"classifier": type(classifier).__name__, **_plain(classifier.hparams)},
        seed=options.seed,
        seconds=time.perf_counter() - started,
        command=shlex.join(["python", "evaluate.py", *args]),
        radius_kind=classifier.radius_kind,
        hardware=hardware(classifier.device),
    )
    results = write_evaluation(
        output,
        records,
        subject.images,
        run,
        radii=options.radii,
        attacks=attacks,
        attacked_images=attacked,
        label_names=datamodule.label_names,
        metrics_csv=_metrics_csv(options.ckpt_path),
        extra=extra,
    )
    if tracked is not None:
        names = datamodule.label_names
        track_evaluation(tracked, results, records, subject.images, attacked_images=attacked, label_names=names)
    console = Console(highlight=False)
    console.print(rich_table(f"what {options.ckpt_path} proves", *summary_rows(results)))
    console.print(f"report: {output / 'report.md'}", soft_wrap=True)
    return results


@dataclass(frozen=True)
class _Subject:
    """What is evaluated, on which images and how many of them at once."""

    classifier: Classifier
    datamodule: ImageDataModule
    images: Tensor
    labels: Tensor
    batch_size: int


# A process's records, how its attacks were run, and the images they made; None for a process without images.
_Part = tuple[Records, list[AttackInfo], dict[str, Tensor]] | None


def _subject(options: argparse.Namespace) -> _Subject:
    """Load what is evaluated, and see that it fits together and to what is asked of it."""
    classifier, checkpoint = load_classifier(options.ckpt_path)
    if options.radii_given and isinstance(classifier, L2NNNClassifier) and not classifier.is_hard:
        raise UserError(
            f"{options.ckpt_path} is in penalty mode and proves nothing at any radius: leave out --radii, "
            "or use a checkpoint from after the switch to hard scaling"
        )
    datamodule = _datamodule(options, classifier, checkpoint["l2nnn_lightning"]["data"])
    classifier.to(_device(options))
    images, labels = _images(datamodule, options.split, options.limit)
    batch_size = options.batch_size or (100 if classifier.device.type == "cpu" else 500)
    return _Subject(classifier, datamodule, images, labels, batch_size)


def _extra(options: argparse.Namespace, subject: _Subject) -> dict[str, Any]:
    return extra_measures(
        options, subject.classifier, subject.datamodule, subject.images, subject.labels, subject.batch_size
    )


def _measure(options: argparse.Namespace, subject: _Subject, team: Team) -> _Part:
    """Certify and attack this process's images."""
    rows = team.rows(len(subject.images), subject.batch_size)
    if len(rows) == 0:
        return None
    classifier, images, size = subject.classifier, subject.images[rows], subject.batch_size
    shown = team.rank == 0
    records = certify_images(classifier, images, subject.labels[rows], size, index=rows, show_progress=shown)
    if options.jacobian is not None:
        records = measure_jacobian(classifier, images, records, options.jacobian, size, show_progress=shown)
    attacks: list[AttackInfo] = []
    attacked: dict[str, Tensor] = {}
    for name in options.attacks:
        earlier = None
        for max_iter in options.max_iter or [None]:
            record_name = name if len(options.max_iter) < 2 else f"{name}@{max_iter}"
            records, info, made = attack_images(
                classifier,
                images,
                records,
                name,
                eps=options.eps,
                max_iter=max_iter,
                seed=options.seed,
                batch_size=size,
                restarts=options.restarts,
                attack_proven=options.attack_proven,
                minimum_norm=options.minimum_norm,
                record_name=record_name,
                earlier=earlier,
                show_progress=shown,
            )
            attacks.append(info)
            attacked[record_name] = made
            earlier = (record_name, made)
    return records, attacks, attacked


def _assist(options: argparse.Namespace, team: Team) -> None:
    """Do the part of a process that ``--processes`` has started."""
    team.gather(lambda: _measure(options, _subject(options), team))


def _joined(parts: Sequence[_Part]) -> tuple[Records, list[AttackInfo], dict[str, Tensor]]:
    """Put the parts of all processes together, in the order of the data set."""
    found = [part for part in parts if part is not None]
    order = torch.cat([torch.from_numpy(records.index) for records, _, _ in found]).argsort()
    attacked = {name: torch.cat([images[name] for _, _, images in found])[order] for name in found[0][2]}
    return Records.concatenate([records for records, _, _ in found]), found[0][1], attacked


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


def _device(options: argparse.Namespace) -> torch.device:
    name = options.device
    if options.processes > 1:
        return torch.device("cpu")
    if name in (None, "cuda") and torch.cuda.is_available():
        # Of the processes on a machine, each takes a GPU of its own.
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        device = torch.device(name or "cpu")
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

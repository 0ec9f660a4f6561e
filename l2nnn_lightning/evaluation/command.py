"""The command ``evaluate.py``: a checkpoint, its data set, attacks; everything else follows from the records."""

import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from l2nnn_lightning.attacks import ATTACKS, find_attack
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.arguments import nearest
from l2nnn_lightning.evaluation.measure.base import Measure
from l2nnn_lightning.evaluation.measure.partial import PartialAttacks, fingerprint
from l2nnn_lightning.evaluation.measure.processes import StartMethod, Team, sharing_team
from l2nnn_lightning.evaluation.measure.records import AttackInfo, Records
from l2nnn_lightning.evaluation.measure.results import MEASURES, Evaluation
from l2nnn_lightning.evaluation.measure.subject import (
    Subject,
    attack_images,
    certify_images,
    device_of,
    in_run_folder,
    load_subject,
    usual_linf_eps,
)
from l2nnn_lightning.evaluation.options import EvaluateOptions, evaluate_options
from l2nnn_lightning.evaluation.report.files import hardware, versions
from l2nnn_lightning.evaluation.report.folder import check_output, whole_folder
from l2nnn_lightning.evaluation.report.report import summary_rows, write_evaluation
from l2nnn_lightning.evaluation.report.tables import rich_table
from l2nnn_lightning.evaluation.tracking.runs import track_evaluation, tracked_folder
from l2nnn_lightning.training.checkpoints import Checkpoint, run_folder_of

__all__ = ["run_evaluation"]


def run_evaluation(args: Sequence[str], *, start_method: StartMethod = "spawn") -> dict[str, Any]:
    """Evaluate a checkpoint and write results.json, records.csv, report.md and figures.

    An earlier evaluation in the same place is kept beside it. What attacks have found is on the disk batch by batch:
    the same command goes on where it was cut short. Several processes, started by ``torchrun`` or with ``--processes``,
    share the images; the first of them writes. They can be forked where this process has computed nothing yet.

    Returns:
        The contents of results.json; nothing in a process that does not write.

    Raises:
        UserError: for bad input, in one line; nothing has been written then.
        ArgumentError: likewise.
    """
    options = evaluate_options(args)
    for name in options.attack_names:
        try:
            find_attack(name)
        except ValueError as error:
            raise UserError(f"--attacks: {error}{nearest(name, ATTACKS)}") from error
    started = time.perf_counter()
    output = _output(options)
    tracked = tracked_folder(options.ckpt_path) if options.wandb else None
    with sharing_team(options.processes, partial(_assist, options), start_method) as team:
        # Not before the others have started: it computes.
        subject = load_subject(options)
        unproved = subject.certified.rule.reason if subject.certified.is_hard else ""
        for warning in (subject.warning, unproved and f"{options.ckpt_path} proves nothing: {unproved}"):
            if warning and team.rank == 0:
                print(warning, file=sys.stderr)
        measures = _asked(options, subject)
        whole = {m.name: m.whole(subject) for m in measures} if team.rank == 0 else {}
        parts = team.gather(partial(_measure, options, subject, measures, team))
        if team.rank > 0:
            return {}
    records, attacks, attacked = _joined(parts)
    datamodule, certified, folder = subject.datamodule, subject.certified, run_folder_of(options.ckpt_path)
    run = {
        "dataset": datamodule.name if options.split == "test" else f"{datamodule.name} ({options.split})",
        "checkpoint": options.ckpt_path,
        "checkpoint_sha256": subject.sha256,
        "hard": certified.is_hard,
        "config": {"classifier": type(subject.classifier).__name__, **subject.classifier.hparams},
        "seed": options.seed,
        "seconds": time.perf_counter() - started,
        "command": shlex.join(["python", "evaluate.py", *args]),
        "radius_kind": certified.rule.name,
        "program": options.program,
        "versions": versions(),
        "hardware": hardware(next(certified.parameters()).device),
    }
    metrics = None if folder is None else folder / "metrics.csv"
    evaluation = Evaluation(
        records,
        run,
        subject.images,
        options.radius_values,
        attacks,
        attacked,
        datamodule.numbered_names,
        whole,
        metrics,
    )
    try:
        with whole_folder(output) as place:
            results = write_evaluation(place, evaluation)
    except OSError as error:
        raise UserError(
            f"{output} cannot be written ({error.strerror or error}): make room, or name --output"
        ) from error
    if options.attack_names:
        _partial(options, subject).remove()
    if tracked is not None:
        track_evaluation(tracked, results, evaluation)
    console = Console(highlight=False)
    console.print(rich_table(f"what {options.ckpt_path} proves", *summary_rows(results)))
    console.print(f"report: {output / 'report.md'}, to look through: {output / 'report.html'}", soft_wrap=True)
    return results


# A process's records, how its attacks were run, and the images they made; None for a process without images.
_Part = tuple[Records, list[AttackInfo], dict[str, Tensor]] | None


def _asked(options: EvaluateOptions, subject: Subject) -> list[Measure]:
    return [found for measure in MEASURES if (found := measure.asked(options, subject)) is not None]


def _measure(options: EvaluateOptions, subject: Subject, measures: Sequence[Measure], team: Team) -> _Part:
    """Certify and attack this process's images."""
    rows = team.rows(len(subject.images), subject.batch_size)
    if len(rows) == 0:
        return None
    images, size = subject.images[rows], subject.batch_size
    records = certify_images(subject.certified, images, subject.labels[rows], size, index=rows)
    for measure in measures:
        records = records.with_columns(measure.columns(subject, images, rows))
    linf_eps = usual_linf_eps(subject.datamodule)
    partial = _partial(options, subject) if options.attack_names else None
    part = attack_images(subject.certified, images, records, options, size, linf_eps=linf_eps, partial=partial)
    if partial is not None and partial.taken_up:
        said = f"{partial.taken_up} batches were attacked before, by the same command: taken from {partial.folder}"
        print(said, file=sys.stderr)
    return part


def _partial(options: EvaluateOptions, subject: Subject) -> PartialAttacks:
    """Say where what the attacks find is kept until the evaluation is whole: beside it, by all that it depends on."""
    names = ("attacks", "eps", "max_iter", "restarts", "minimum_norm", "attack_proven", "seed")
    settings = {name: getattr(options, name) for name in names}
    settings |= {"batch_size": subject.batch_size, "device": device_of(subject.certified).type, **versions()}
    key = fingerprint(settings, subject.images, subject.labels, file=Checkpoint.read(options.ckpt_path).path)
    output = _output(options)
    return PartialAttacks(output.with_name(f"{output.name}.part") / key)


def _assist(options: EvaluateOptions, team: Team) -> None:
    """Do the part of a process that ``--processes`` has started."""

    def part() -> _Part:
        subject = load_subject(options)
        return _measure(options, subject, _asked(options, subject), team)

    team.gather(part)


def _joined(parts: Sequence[_Part]) -> tuple[Records, list[AttackInfo], dict[str, Tensor]]:
    """Put the parts of all processes together, in the order of the data set."""
    found = [part for part in parts if part is not None]
    order = torch.cat([torch.tensor(records.index) for records, _, _ in found]).argsort()
    attacked = {name: torch.cat([images[name] for _, _, images in found])[order] for name in found[0][2]}
    return Records.concatenate([records for records, _, _ in found]), found[0][1], attacked


def _output(options: EvaluateOptions) -> Path:
    if options.output is None:
        return in_run_folder(options.ckpt_path) / "evaluation"
    output = Path(options.output)
    check_output(output)
    return output

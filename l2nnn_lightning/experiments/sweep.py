"""``l2nnn study sweep``: every combination of some options' values, trained, evaluated and compared."""

import shutil
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from l2nnn_lightning.evaluation.arguments import parse_options
from l2nnn_lightning.training.arguments import check_arguments, program

if TYPE_CHECKING:
    from l2nnn_lightning.experiments.study.schedule import Task

__all__ = ["SweepOptions", "run_sweep", "split_values"]

_RADII = ("--model.radii", "--model.init_args.radii")
_PROGRAM = "import sys; from l2nnn_lightning.__main__ import {0}; sys.exit({0}())"


@dataclass(frozen=True)
class SweepOptions:
    """Train, evaluate and compare every combination of values.

    Whatever ``l2nnn train`` takes is given as there; an option with several values, separated by commas, is varied:
    ``--model.objective.omega 0.1,0.3,1``. Values with commas of their own stand in brackets.

    Args:
        jobs: how many runs at once; by default one a device, or without any one a core
        sweep: the folder of the runs; those that are there already are not repeated
        limit: evaluate only the first N images
    """

    jobs: int | None = None
    sweep: Path = Path("runs/sweep")
    limit: int | None = None


def run_sweep(args: Sequence[str]) -> None:
    """Run what is missing, one process a training, and compare all that is evaluated then.

    Raises:
        ArgumentError, UserError: for bad input, in one line, before anything runs.
        FailedWorkError: if a run failed; all others have been run then.
    """
    ours, theirs = _divide(args)
    options = parse_options(SweepOptions, ours, program("study sweep"))
    if options.jobs is not None and options.jobs < 1:
        raise ArgumentError(None, f"--jobs must be a whole number above 0, got {options.jobs}")
    check_arguments(theirs)
    fixed, varied = split_values(theirs)
    if not varied:
        raise ArgumentError(None, "nothing varies: give an option several values, --model.objective.omega 0.1,0.3,1")
    # Only now, since they need torch.
    from l2nnn_lightning.data.errors import FailedWorkError
    from l2nnn_lightning.experiments.compare import compare, read_run
    from l2nnn_lightning.experiments.study import schedule

    tasks: list[Task] = []
    folders = []
    for values in product(*varied.values()):
        chosen = dict(zip(varied, values, strict=True))
        short = (f"{key.rpartition('.')[2].lstrip('-')}={value}" for key, value in chosen.items())
        folder = options.sweep / ",".join(short)
        folders.append(folder)
        tasks += _tasks(folder, [*fixed, *(f"{key}={value}" for key, value in chosen.items())], options.limit)
    jobs = options.jobs or schedule.default_jobs()
    failed = schedule.run_tasks(tasks, jobs, partial(print, flush=True)) if tasks else []
    evaluated = [folder for folder in folders if (folder / "evaluation" / "results.json").is_file()]
    if evaluated:
        compare([read_run(folder)._replace(name=folder.name) for folder in evaluated], options.sweep)
    if failed:
        raise FailedWorkError(f"failed: {', '.join(failed)}; what they printed is in their logs, {options.sweep}/*.log")


def split_values(args: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Divide the options of a training into those with one value and those with several.

    Example:
        >>> split_values(["--config", "mnist5k", "--model.objective.omega=0.1,1", "--model.radii", "0.5,1"])
        (['--config', 'mnist5k', '--model.radii', '0.5,1'], {'--model.objective.omega': ['0.1', '1']})
    """
    fixed: list[str] = []
    varied: dict[str, list[str]] = {}
    left = list(args)
    while left:
        arg = left.pop(0)
        name, equals, value = arg.partition("=")
        follows = not equals and bool(left) and not left[0].startswith("--")
        value = left.pop(0) if follows else value
        if "," in value and value[:1] not in "[{'\"" and name not in _RADII:
            varied[name] = value.split(",")
        else:
            fixed += [arg, value] if follows else [arg]
    return fixed, varied


def _divide(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide the command line into the sweep's own options and those of the trainings."""
    own = {f"--{name}" for name in (*SweepOptions.__dataclass_fields__, "help")} | {"-h"}
    ours: list[str] = []
    theirs: list[str] = []
    place = theirs
    for arg in args:
        if arg.startswith("-"):
            place = ours if arg.partition("=")[0] in own else theirs
        place.append(arg)
    return ours, theirs


def _tasks(folder: Path, options: Sequence[str], limit: int | None) -> "list[Task]":
    """List what a run still takes; nothing where it is evaluated."""
    from l2nnn_lightning.experiments.study.schedule import Task

    if (folder / "evaluation" / "results.json").is_file():
        return []
    trained, name = folder / ".trained", folder.name
    evaluation = Task(
        f"evaluate {name}",
        partial(_evaluate, folder, limit),
        folder.with_name(f"{name}-evaluation.log"),
        lambda _: None,
        needs=frozenset({f"train {name}"}),
    )
    if trained.is_file():
        return [evaluation]
    log = folder.with_name(f"{name}.log")
    return [Task(f"train {name}", partial(_train, folder, options), log, lambda _: trained.touch()), evaluation]


def _train(folder: Path, options: Sequence[str]) -> list[str]:
    """Write the command of a training, which goes on where it was cut short."""
    command = [sys.executable, "-c", _PROGRAM.format("train"), *options, "--run_dir", str(folder)]
    if (last := folder / "checkpoints" / "last.ckpt").is_file():
        return [*command, "--ckpt_path", str(last)]
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut short in its first epoch
    return command


def _evaluate(folder: Path, limit: int | None) -> list[str]:
    best, last = (folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    command = [sys.executable, "-c", _PROGRAM.format("evaluate")]
    command += ["--ckpt_path", str(best if best.is_file() else last)]
    return command if limit is None else [*command, "--limit", str(limit)]

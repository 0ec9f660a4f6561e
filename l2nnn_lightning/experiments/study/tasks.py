"""The commands that a study still has to run: trainings, resumed where they stopped, then evaluations."""

import json
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from l2nnn_lightning.experiments.study.plan import Result, Training
from l2nnn_lightning.experiments.study.schedule import Task
from l2nnn_lightning.experiments.study.store import Store

__all__ = ["evaluation_command", "missing_tasks", "training_command"]

_PROGRAM = "import sys; from l2nnn_lightning.__main__ import {0}; sys.exit({0}())"


def missing_tasks(results: Sequence[Result], store: Store) -> list[Task]:
    """List what is left to do for these results, each evaluation right after its training.

    Args:
        results: the results that are wanted.
        store: what is there.
    """
    tasks: dict[str, Task] = {}
    for result in results:
        if store.read(result) is not None:
            continue
        untrained = [run for run in (result.training, *result.others.values()) if not store.trained(run).is_file()]
        for run in untrained:
            log = store.runs / f"{run.name}-{run.digest}.log"
            tasks[f"train {run.name}"] = Task(
                f"train {run.name}", partial(training_command, run, store), log, partial(store.finish, run), run.minutes
            )
        tasks[f"evaluate {result.name}"] = Task(
            f"evaluate {result.name}",
            partial(evaluation_command, result, store),
            store.runs / f"{result.name}-{result.digest}-evaluation.log",
            partial(_keep, store, result),
            result.minutes,
            frozenset(f"train {run.name}" for run in untrained),
        )
    return list(tasks.values())


def _keep(store: Store, result: Result, seconds: float) -> None:  # noqa: ARG001 (its results.json tells them)
    store.keep(result)


def training_command(training: Training, store: Store) -> list[str]:
    """Write the command of a training; one that was cut short goes on from its last checkpoint.

    A folder without a checkpoint is of a run that was cut short in its first epoch: it is removed.
    """
    folder = store.run_folder(training)
    command = [sys.executable, "-c", _PROGRAM.format("train")]
    for config in training.configs:
        command += ["--config", config]
    command += ["--run_dir", str(folder)]
    command += [f"--{key}={_text(value)}" for key, value in training.overrides.items()]
    last = store.checkpoint(training, "last")
    if last.is_file():
        return [*command, "--ckpt_path", str(last)]
    shutil.rmtree(folder, ignore_errors=True)
    return command


def evaluation_command(result: Result, store: Store) -> list[str]:
    """Write the command of an evaluation."""
    checkpoint = store.checkpoint(result.training, result.checkpoint)
    command = [sys.executable, "-c", _PROGRAM.format("evaluate"), "--ckpt_path", str(checkpoint)]
    command += ["--output", str(store.evaluation_folder(result))]
    for key, training in result.others.items():
        best = store.checkpoint(training, "best")  # on held-out images, where there were any
        command += [f"--{key}", str(best if best.is_file() else store.checkpoint(training, "last"))]
    for key, value in result.options.items():
        if value is True:
            command.append(f"--{key}")
        elif value is not False and value is not None:
            command += [f"--{key}", _text(value)]
    return command


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

"""The commands that a study still has to run: trainings, resumed where they stopped, then evaluations."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l2nnn_lightning.experiments.study.plan import Result, Training
from l2nnn_lightning.experiments.study.schedule import Task
from l2nnn_lightning.experiments.study.store import Store

__all__ = ["evaluation_command", "missing_tasks", "training_command"]

_TRAIN = "import sys; from l2nnn_lightning import cli; sys.exit(cli.train())"
_EVALUATE = "import sys; from l2nnn_lightning import cli; sys.exit(cli.evaluate())"


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
        needed = [result.training, *(value for value in result.options.values() if isinstance(value, Training))]
        untrained = [training for training in needed if not store.is_trained(training)]
        for training in untrained:
            name = f"train {training.name}"
            tasks[name] = Task(
                name,
                lambda training=training: training_command(training, store),  # type: ignore[misc]
                store.runs / f"{training.name}-{training.digest}.log",
                lambda training=training: store.mark_trained(training),  # type: ignore[misc]
            )
        name = f"evaluate {result.name}"
        tasks[name] = Task(
            name,
            lambda result=result: evaluation_command(result, store),  # type: ignore[misc]
            store.runs / f"{result.name}-{result.digest}-evaluation.log",
            lambda result=result: store.keep(result),  # type: ignore[misc]
            frozenset(f"train {training.name}" for training in untrained),
        )
    return list(tasks.values())


def training_command(training: Training, store: Store) -> list[str]:
    """Write the command of a training; one that was cut short goes on from its last checkpoint.

    A folder without a checkpoint is of a run that was cut short in its first epoch: it is removed.
    """
    folder = store.run_folder(training)
    command = [sys.executable, "-c", _TRAIN, "--config", training.config, "--run_dir", str(folder)]
    command += [f"--{key}={_text(value)}" for key, value in training.overrides.items()]
    last = store.checkpoint(training, "last")
    if last.is_file():
        return [*command, "--ckpt_path", str(last)]
    shutil.rmtree(folder, ignore_errors=True)
    return command


def evaluation_command(result: Result, store: Store) -> list[str]:
    """Write the command of an evaluation."""
    checkpoint = store.checkpoint(result.training, result.checkpoint)
    command = [sys.executable, "-c", _EVALUATE, "--ckpt_path", str(checkpoint)]
    command += ["--output", str(store.evaluation_folder(result))]
    for key, value in result.options.items():
        if isinstance(value, Training):
            value = store.checkpoint(value, _fallback_kind(store, value))
        if value is True:
            command.append(f"--{key}")
        elif value is not False and value is not None:
            command += [f"--{key}", _text(value)]
    return command


def _fallback_kind(store: Store, training: Training) -> str:
    """Prefer the checkpoint that was best on held-out images, where there were any."""
    return "best" if store.checkpoint(training, "best").is_file() else "last"


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value)
    return str(value) if not isinstance(value, Path) else value.as_posix()

"""Run commands side by side, each once what it needs is there."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

__all__ = ["Task", "default_jobs", "run_tasks"]


@dataclass(frozen=True)
class Task:
    """One command.

    Args:
        name: its name, unlike any other's.
        command: gives the command line when the task starts.
        log: the file for all that it prints.
        finish: called when it has ended well.
        needs: names of tasks that must have ended well before.
    """

    name: str
    command: Callable[[], Sequence[str]]
    log: Path
    finish: Callable[[], None]
    needs: frozenset[str] = field(default_factory=frozenset)


@dataclass
class _Running:
    task: Task
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    slot: int
    started: float


def default_jobs() -> int:
    """Count the devices, or without any the cores that this process may use."""
    import torch

    return torch.cuda.device_count() or _cores()


def run_tasks(tasks: Sequence[Task], jobs: int, say: Callable[[str], None], poll: float = 0.5) -> list[str]:
    """Run all tasks, up to ``jobs`` at once; one that fails takes along only those that need it.

    Each gets its share of the cores (``OMP_NUM_THREADS``, unless that is set) and, in turn, one of the devices.

    Args:
        tasks: in the order of preference; a need that is not among them counts as met.
        jobs: how many at once, >= 1.
        say: receives a line for everything that starts or ends.
        poll: seconds between two looks at the processes.

    Returns:
        The names of the tasks that failed or were not run because of that.
    """
    waiting = {task.name: task for task in tasks}
    running: list[_Running] = []
    done: set[str] = set()
    failed: list[str] = []
    try:
        while waiting or running:
            for task in list(waiting.values()):
                blocked = task.needs & set(failed)
                if blocked:
                    say(f"skipped {task.name}: {', '.join(sorted(blocked))} failed")
                    failed.append(waiting.pop(task.name).name)
                elif len(running) < jobs and not task.needs & (set(waiting) | {run.task.name for run in running}):
                    slot = min(set(range(jobs)) - {run.slot for run in running})
                    running.append(_start(waiting.pop(task.name), slot, jobs))
                    say(f"started {task.name}")
            for run in [run for run in running if run.process.poll() is not None]:
                running.remove(run)
                run.log.close()
                if run.process.returncode == 0:
                    run.task.finish()
                    done.add(run.task.name)
                    seconds = time.perf_counter() - run.started
                    say(f"done {run.task.name}, {seconds:.0f} s ({len(done)} of {len(tasks)})")
                else:
                    failed.append(run.task.name)
                    say(f"failed {run.task.name} with exit code {run.process.returncode}: see {run.task.log}")
            if running:
                time.sleep(poll)
    finally:
        for run in running:
            run.process.terminate()
        for run in running:
            run.process.wait()
            run.log.close()
    return failed


def _start(task: Task, slot: int, jobs: int) -> _Running:
    task.log.parent.mkdir(parents=True, exist_ok=True)
    log = task.log.open("wb")
    process = subprocess.Popen(
        list(task.command()),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=_environment(slot, jobs),
    )
    return _Running(task, process, log, slot, time.perf_counter())


def _environment(slot: int, jobs: int) -> Mapping[str, str]:
    import torch

    environment = {"OMP_NUM_THREADS": str(max(1, _cores() // jobs)), **os.environ}
    devices = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    devices = devices or [str(index) for index in range(torch.cuda.device_count())]
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
    return environment


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

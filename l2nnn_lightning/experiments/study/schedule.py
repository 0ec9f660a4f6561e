"""Run commands side by side, each once what it needs is there."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Task", "default_jobs", "run_tasks"]

_GRACE = 30.0  # seconds that an ended process has for its own clean-up


@dataclass(frozen=True)
class Task:
    """One command."""

    name: str  # its name, unlike any other's
    command: Callable[[], Sequence[str]]  # gives the command line when the task starts
    log: Path  # the file for all that it prints
    finish: Callable[[float], None]  # called when it has ended well, with the seconds that it took
    minutes: float | None = None  # about how long it takes on one core
    needs: frozenset[str] = frozenset()  # names of tasks that must have ended well before


def default_jobs() -> int:
    """Count the devices, or without any the cores that this process may use."""
    return len(_devices()) or _cores()


def run_tasks(tasks: Sequence[Task], jobs: int, say: Callable[[str], None]) -> list[str]:
    """Run all tasks, up to ``jobs`` at once; one that fails takes along only those that need it.

    Each gets its share of the cores (``OMP_NUM_THREADS``, unless that is set) and, in turn, one of the devices. Ctrl-C
    and SIGTERM end all of them before :class:`KeyboardInterrupt` is raised. To be called from the main thread.

    Args:
        tasks: in the order of preference, each after what it needs; a need that is not among them counts as met.
        jobs: how many at once, >= 1.
        say: receives a line for everything that starts or ends.

    Returns:
        The names of the tasks that failed or were not run because of that.
    """
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        return asyncio.run(_run_all(tasks, jobs, say))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, on_terminate)


async def _run_all(tasks: Sequence[Task], jobs: int, say: Callable[[str], None]) -> list[str]:
    everything = asyncio.current_task()
    assert everything is not None
    # As asyncio does on Ctrl-C, which is ignored where the shell has put the program in the background.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, everything.cancel)
    slots: asyncio.Queue[int] = asyncio.Queue()
    for slot in range(jobs):
        slots.put_nowait(slot)
    ended_well: dict[str, asyncio.Task[bool]] = {}

    async def run(task: Task) -> bool:
        blocked = [need for need in sorted(task.needs & ended_well.keys()) if not await ended_well[need]]
        if blocked:
            say(f"skipped {task.name}: {', '.join(blocked)} failed")
            return False
        slot = await slots.get()
        try:
            say(f"started {task.name}")
            started = time.perf_counter()
            code = await _run(task, _environment(slot, jobs))
        finally:
            slots.put_nowait(slot)
        if code != 0:
            say(f"failed {task.name} with exit code {code}: see {task.log}")
            return False
        seconds = time.perf_counter() - started
        task.finish(seconds)
        say(f"done {task.name}, {seconds:.0f} s")
        return True

    async with asyncio.TaskGroup() as group:
        for task in tasks:
            ended_well[task.name] = group.create_task(run(task))
    return [name for name, well in ended_well.items() if not well.result()]


async def _run(task: Task, environment: Mapping[str, str]) -> int:
    """Run a command to its end; end it if that is not waited for."""
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *task.command(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        try:
            return await process.wait()
        except asyncio.CancelledError:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _GRACE)
            except TimeoutError:
                process.kill()
                await process.wait()
            raise


def _end_with_parent() -> None:
    """Ask the kernel to end this process with the one that started it, also where that is killed without a word.

    Otherwise the study, started again, would train in a folder in which its orphan still trains.
    """
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _environment(slot: int, jobs: int) -> Mapping[str, str]:
    environment = {"OMP_NUM_THREADS": str(max(1, _cores() // jobs)), **os.environ}
    if devices := _devices():
        environment["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
    return environment


def _devices() -> list[str]:
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (named or [str(index) for index in range(torch.cuda.device_count())])[: torch.cuda.device_count()]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

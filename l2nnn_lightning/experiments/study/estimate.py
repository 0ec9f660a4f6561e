"""About how long what is left of a study takes here, said before it starts."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from l2nnn_lightning.experiments.study.schedule import Task

__all__ = ["core_speed", "estimate"]

#: Seconds of :func:`_work` on the core that the stated minutes were measured on.
_REFERENCE = 0.29


def estimate(tasks: Sequence[Task], jobs: int, speed: Callable[[], float] | None = None) -> str:
    """Say in one line how long tasks will take, by the minutes that the study's file states for one core.

    Args:
        tasks: what is left to do.
        jobs: how many at once.
        speed: measures how fast a core is here, in units of the one that the minutes are for; see :func:`core_speed`.

    Example:
        >>> from pathlib import Path
        >>> task = Task("train a", lambda: [], Path("log"), lambda _: None, 90.0)
        >>> estimate([task, task], 2, lambda: 1.5)
        '2 runs: about 1.0 hours, 2 at once'
    """
    stated = [task.minutes for task in tasks if task.minutes is not None]
    runs = f"{len(tasks)} run{'' if len(tasks) == 1 else 's'}"
    if not stated:
        return f"{runs}: its file states no times"
    core_minutes = sum(stated) / (speed or core_speed)()
    # The longest run is not shared.
    minutes = max(core_minutes / jobs, max(stated) / sum(stated) * core_minutes)
    length = f"{minutes / 60:.1f} hours" if minutes >= 60 else f"{minutes:.0f} minutes"
    unknown = len(tasks) - len(stated)
    without = f", without {unknown} of which its file states no time" if unknown else ""
    return f"{runs}: about {length}, {jobs} at once{without}"


def core_speed() -> float:
    """Measure one core on a fixed piece of training, by the processor's time, in units of the reference core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _work()  # warms up
        return _REFERENCE / min(_work(), _work())
    finally:
        torch.set_num_threads(threads)


def _work() -> float:
    """Do some steps of a small convolutional and a dense network; return the processor's seconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = torch.rand(128, 1, 28, 28)
        convolutions = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5))
        dense = nn.Sequential(nn.Flatten(), nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 512))
        started = time.process_time()
        for _ in range(4):
            torch.autograd.backward(F.relu(convolutions(images)).mean())
            for _ in range(4):
                torch.autograd.backward(dense(images).square().mean())
        return time.process_time() - started

"""Timing several tasks in turns, so that whatever else the machine does falls on all alike."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from l2nnn_lightning.experiments.benchmark.rows import Row

__all__ = ["compare", "time_together"]


def time_together(
    tasks: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, warm_ups: int = 2
) -> dict[str, list[float]]:
    """Time several tasks in turns.

    Args:
        tasks: by name.
        repeats: timed runs of each.
        device: waited for before each reading of the clock.
        warm_ups: runs of each beforehand, which are not timed.

    Returns:
        Seconds of each run, by name.
    """
    for task in tasks.values():
        for _ in range(warm_ups):
            task()
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            _wait(device)
            started = time.perf_counter()
            task()
            _wait(device)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def compare(
    part: str,
    subject: str,
    what: str,
    ours: Callable[[], object],
    other: Callable[[], object],
    *,
    repeats: int,
    device: torch.device,
    images: int | None = None,
    target: str | None = None,
    warm_ups: int = 2,
) -> Row:
    """Time two tasks in turns and summarize them by medians.

    The ratio of neighbouring runs is steadier than the ratio of two medians on a busy machine.

    Args:
        part: the part of the benchmark.
        subject: what is measured.
        what: the two sides, as ``"ours / other"``.
        ours: a task.
        other: the task that it is measured against.
        repeats: timed runs of each, at least 2.
        device: where they run.
        images: if given, how many images a task handles; the row then holds images a second.
        target: what is asked of the ratio.
        warm_ups: runs of each beforehand.
    """
    seconds = time_together({"ours": ours, "other": other}, repeats, device, warm_ups)
    unit = "s"
    if images is not None:
        seconds, unit = {name: [images / run for run in runs] for name, runs in seconds.items()}, "images/s"
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["other"], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Row(
        part=part,
        subject=subject,
        what=what,
        ours=statistics.median(seconds["ours"]),
        other=statistics.median(seconds["other"]),
        unit=unit,
        ratio=statistics.median(ratios),
        quartiles=(low, high),
        target=target,
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

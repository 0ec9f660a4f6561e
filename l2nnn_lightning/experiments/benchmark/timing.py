"""Comparisons, measured in turns so that whatever else the machine does falls on all alike, and their table."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.table import Table

from l2nnn_lightning.data.errors import UserError

__all__ = ["HEADER", "Row", "cells", "compare", "seconds_of", "table", "usable_device"]

HEADER = ("part", "subject", "what", "ours", "other", "ratio", "quartiles", "target")
"""What :func:`cells` gives."""


@dataclass(frozen=True)
class Row:
    """One comparison: ours, what it is measured against, and their ratio."""

    part: str  # the part of the benchmark, such as ``"step"``
    subject: str  # what is measured, such as a network's name
    what: str  # the two sides, as ``"ours / other"``
    ours: float  # median of ours, in ``unit``
    other: float | None  # median of the other side; None where there is no other side, only an amount
    unit: str  # ``"s"``, ``"images/s"``, ``"MiB"``, ``"L2"`` (a norm), or ``"fraction"``
    ratio: float | None = None  # median of ``ours / other`` over neighbouring runs; None without another side
    quartiles: tuple[float, float] | None = None  # the first and third quartile of that ratio
    # what is asked of the ratio (or of the amount, without another side), such as ``"<= 1.05"``
    target: str | None = None


def cells(row: Row) -> tuple[str, ...]:
    """Write a comparison as the cells of a table, see :data:`HEADER`."""
    return (
        *(row.part, row.subject, row.what, _amount(row.ours, row.unit)),
        "" if row.other is None else _amount(row.other, row.unit),
        "" if row.ratio is None else f"{row.ratio:.3f}",
        "" if row.quartiles is None else f"{row.quartiles[0]:.3f} to {row.quartiles[1]:.3f}",
        row.target or "",
    )


def table(rows: Sequence[Row], title: str) -> Table:
    """Build the table for the terminal."""
    result = Table(*HEADER, title=title)
    for row in rows:
        result.add_row(*cells(row))
    return result


def _amount(value: float, unit: str) -> str:
    if unit == "s":
        return f"{1e3 * value:.1f} ms" if value < 10 else f"{value:.1f} s"
    shown = {"fraction": f"{100 * value:.1f}%", "L2": f"{value:.4f}"}
    return shown.get(unit, f"{value:,.0f} {unit}")


def usable_device(name: str | None) -> torch.device:
    """Return a device that works; by default a GPU where there is one.

    Raises:
        UserError: if it does not work.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device).tolist()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} is not available here: use cpu") from error
    return device


def seconds_of(task: Callable[[], object], device: torch.device) -> float:
    """Run a task and tell its seconds; what a GPU still has to do is waited for before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    task()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def compare(
    part: str,
    subject: str,
    what: str,
    *tasks: Callable[[], object],
    repeats: int,
    device: torch.device,
    images: int | None = None,
    target: str | None = None,
    warm_ups: int = 2,
) -> Row:
    """Time ours and another task in turns and summarize them by medians, see :class:`Row`.

    The ratio of neighbouring runs is steadier than the ratio of two medians on a busy machine.

    Args:
        part: of the row, as ``subject``, ``what`` and ``target``.
        subject: see there.
        what: see there.
        tasks: ours and the one that it is measured against.
        repeats: timed runs of each, at least 2.
        device: where they run.
        images: if given, how many images a task handles; the row then holds images a second.
        target: see there.
        warm_ups: runs of each beforehand.
    """
    for task in tasks:
        for _ in range(warm_ups):
            task()
    turns = [[seconds_of(task, device) for task in tasks] for _ in range(repeats)]
    if images is not None:
        turns = [[images / seconds for seconds in turn] for turn in turns]
    ratios = [ours / other for ours, other in turns]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    ours, other = (statistics.median(runs) for runs in zip(*turns, strict=True))
    unit = "s" if images is None else "images/s"
    return Row(part, subject, what, ours, other, unit, statistics.median(ratios), (low, high), target)

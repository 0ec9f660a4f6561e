"""The training behind a checkpoint, from its metrics.csv: gap against accuracy."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l2nnn_lightning.evaluation.report.style import (
    BLUE,
    GREY,
    PERCENT,
    SMALL,
    VERMILLION,
    legend_above,
    new_figure,
    tidy,
)

__all__ = ["plot_history", "read_history"]

STAGES = (("train", "training", BLUE, "o"), ("val", "validation", VERMILLION, "s"))

History = Mapping[int, Mapping[str, float]]


def read_history(path: Path | str) -> History:
    """Read the last value of every column in every epoch from a Lightning ``metrics.csv``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a table of numbers with a column ``epoch``.
    """
    history: dict[int, dict[str, float]] = {}
    with Path(path).open(newline="", encoding="utf-8") as file:
        try:
            for row in csv.DictReader(file):
                values = {name: float(text) for name, text in row.items() if text}
                history.setdefault(int(values["epoch"]), {}).update(values)
        except (ValueError, TypeError, KeyError, csv.Error) as error:
            raise ValueError(f"{path} is not a table of metrics by epoch: {error}") from error
    return dict(sorted(history.items()))


def plot_history(history: History) -> Figure | None:
    """Draw accuracy and mean gap by epoch and against each other, with the switch to hard scaling marked.

    Args:
        history: for every epoch the columns ``train/accuracy``, ``train/gap_mean``, ``val/accuracy`` and
            ``val/gap_mean`` (accuracies as fractions), as far as they are there, and ``val/hard``, 1 from the
            switch on.

    Returns:
        The figure, or None where neither stage has both accuracy and gap.
    """
    figure = new_figure(9.6, 3.4)
    by_epoch, gaps, plane = figure.subplots(1, 3)
    switch = next((epoch for epoch, values in history.items() if values.get("val/hard", 0) > 0), None)
    drawn = False
    for stage, name, colour, marker in STAGES:
        keys = (f"{stage}/accuracy", f"{stage}/gap_mean")
        points = [
            (epoch, *(values[key] for key in keys)) for epoch, values in history.items() if set(keys) <= set(values)
        ]
        if not points:
            continue
        drawn = True
        epoch, accuracy, gap = np.array(points).T
        look = {"color": colour, "marker": marker, "markersize": 3.5, "linewidth": 1.4}
        by_epoch.plot(epoch, 100 * accuracy, label=name, **look)
        gaps.plot(epoch, gap, **look)
        plane.plot(100 * accuracy, gap, **look)
        plane.plot(100 * accuracy[-1], gap[-1], marker, markersize=8, color=colour)
        if switch is not None and switch in epoch:
            at = int(np.flatnonzero(epoch == switch)[0])
            plane.plot(100 * accuracy[at], gap[at], "o", markersize=10, fillstyle="none", color=GREY)
    if not drawn:
        return None
    for axes in (by_epoch, gaps):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if switch is not None and switch > min(history):
            label = f"switch to hard scaling (epoch {switch})" if axes is by_epoch else None
            axes.axvline(switch - 0.5, color=GREY, linestyle="--", linewidth=1.2, label=label)
    tidy(by_epoch, x="epoch", y="accuracy")
    tidy(gaps, x="epoch", y="mean confidence gap")
    tidy(plane, x="accuracy", y="mean confidence gap")
    plane.set_title("ring: first hard epoch; large mark: last epoch", fontsize=SMALL, color=GREY)
    by_epoch.yaxis.set_major_formatter(PERCENT)
    plane.xaxis.set_major_formatter(PERCENT)
    legend_above(figure, by_epoch, columns=3)
    return figure

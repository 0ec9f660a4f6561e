"""The plane in which L2NNNs are compared, confidence gap against accuracy; a training's path through it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l2nnn_lightning.evaluation.report import style

__all__ = ["History", "PlanePoint", "draw_plane", "plot_gap_plane", "plot_history", "read_history", "stage_points"]

_STAGES = (("train", "training", style.BLUE, "o"), ("val", "validation", style.VERMILLION, "s"))

History: TypeAlias = pd.DataFrame
"""A row per epoch, with its last value of every metric, nan where there is none."""


class PlanePoint(NamedTuple):
    """Where a network was after an epoch, from 0, on images of a stage; and whether it was hard by then."""

    epoch: int
    stage: str
    hard: bool
    accuracy: float
    gap_mean: float


def read_history(path: Path | str | None) -> History:
    """Read a Lightning ``metrics.csv``; a missing or damaged one costs its figures, not the hours of the attacks."""
    try:
        history = History() if path is None else pd.read_csv(path).astype(float).groupby("epoch").last()
        return history.set_index(history.index.astype(int))
    except (FileNotFoundError, ValueError, KeyError):
        return History()


def stage_points(history: History, stage: str) -> list[PlanePoint]:
    """Return where a stage, ``train`` or ``val``, was after each epoch for which accuracy and gap are known."""
    known = history.reindex(columns=[f"{stage}/accuracy", f"{stage}/gap_mean"]).dropna()
    hard = history.reindex(columns=["val/hard"])["val/hard"][known.index] > 0
    return [
        PlanePoint(int(epoch), stage, bool(is_hard), float(accuracy), float(gap))
        for epoch, is_hard, (accuracy, gap) in zip(known.index, hard, known.to_numpy(), strict=True)
    ]


def plot_history(history: History) -> Figure | None:
    """Draw accuracy and mean gap by epoch and against each other, with the switch to hard scaling marked.

    None where neither stage has both accuracy and gap.
    """
    points = {stage: stage_points(history, stage) for stage, *_ in _STAGES}
    if not any(points.values()):
        return None
    figure = style.new_figure(9.6, 3.4)
    by_epoch, gaps, plane = figure.subplots(1, 3)
    for stage, name, colour, marker in _STAGES:
        look = {"color": colour, "marker": marker, "markersize": 3.5, "linewidth": 1.4}
        epoch = [point.epoch for point in points[stage]]
        if epoch:
            by_epoch.plot(epoch, [100 * point.accuracy for point in points[stage]], label=name, **look)
            gaps.plot(epoch, [point.gap_mean for point in points[stage]], **look)
    hard = history.index[history["val/hard"] > 0] if "val/hard" in history else []
    for axes in (by_epoch, gaps):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(hard) and hard[0] > history.index[0]:
            label = f"switch to hard scaling (epoch {hard[0]})" if axes is by_epoch else None
            axes.axvline(hard[0] - 0.5, color=style.GREY, linestyle="--", linewidth=1.2, label=label)
    draw_plane(plane, [*points["train"], *points["val"]])
    style.tidy(by_epoch, x="epoch", y="accuracy")
    style.tidy(gaps, x="epoch", y="mean confidence gap")
    plane.set_title("ring: first hard epoch; large mark: last epoch", fontsize=style.SMALL, color=style.GREY)
    by_epoch.yaxis.set_major_formatter(style.PERCENT)
    style.legend_above(figure, by_epoch, columns=3)
    return figure


def draw_plane(axes: Axes, points: Sequence[PlanePoint], *, by_epoch: bool = False) -> PathCollection | None:
    """Draw the path of each stage, with a ring around its first hard epoch and a large mark at its last.

    Each stage has its own colour, or points are coloured by their epoch; then what a colour bar needs is returned.
    """
    epochs = [point.epoch for point in points] or [0]
    scale: dict[str, Any] = {"cmap": "viridis", "vmin": min(epochs), "vmax": max(max(epochs), min(epochs) + 1)}
    drawn = None
    for stage, name, colour, marker in _STAGES:
        path = [point for point in points if point.stage == stage]
        if not path:
            continue
        accuracy, gap = [100 * point.accuracy for point in path], [point.gap_mean for point in path]
        if by_epoch:
            axes.plot(accuracy, gap, color=style.GREY, linewidth=0.7, zorder=1)
            drawn = axes.scatter(accuracy, gap, c=[p.epoch for p in path], marker=marker, s=22, label=name, **scale)
        else:
            axes.plot(accuracy, gap, color=colour, marker=marker, markersize=3.5, linewidth=1.4, label=name)
            axes.plot(accuracy[-1], gap[-1], marker, markersize=8, color=colour)
        for i in [i for i, point in enumerate(path) if point.hard][:1]:
            label = None if "first hard epoch" in axes.get_legend_handles_labels()[1] else "first hard epoch"
            axes.plot(accuracy[i], gap[i], "o", markersize=10, fillstyle="none", color=style.GREY, label=label)
    style.tidy(axes, x="accuracy", y="mean confidence gap")
    axes.xaxis.set_major_formatter(style.PERCENT)
    return drawn


def plot_gap_plane(points: Sequence[PlanePoint]) -> Figure:
    """Draw the path of a training, at least one point, coloured by epoch, with the switch marked by a ring."""
    figure = style.new_figure(5.6, 4.2)
    axes = figure.subplots()
    drawn = draw_plane(axes, points, by_epoch=True)
    assert drawn is not None
    bar = figure.colorbar(drawn, ax=axes, ticks=MaxNLocator(integer=True))
    bar.set_label("epoch", fontsize=style.SMALL + 1)
    bar.ax.tick_params(labelsize=style.SMALL)
    style.legend_above(figure, axes, columns=3)
    return figure

"""The plane in which L2NNNs are compared: confidence gap against accuracy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l2nnn_lightning.evaluation.report import style

__all__ = ["STAGES", "PlanePoint", "draw_plane", "plot_gap_plane"]

STAGES = (("train", "training", style.BLUE, "o"), ("val", "validation", style.VERMILLION, "s"))


class PlanePoint(NamedTuple):
    """Where a network was after an epoch.

    Attributes:
        epoch: the epoch, from 0.
        stage: ``"train"`` or ``"val"``.
        hard: whether its layers were hard, so that the gap proves something.
        accuracy: a fraction in [0, 1].
        gap_mean: the mean confidence gap.
    """

    epoch: int
    stage: str
    hard: bool
    accuracy: float
    gap_mean: float


def draw_plane(axes: Axes, points: Sequence[PlanePoint], *, by_epoch: bool = False) -> PathCollection | None:
    """Draw the path of each stage, with a ring around its first hard epoch and a large mark at its last.

    Args:
        axes: where.
        points: in the order of the epochs.
        by_epoch: colour the points by their epoch, instead of each stage in its own colour.

    Returns:
        What a colour bar needs, where points are coloured by epoch.
    """
    epochs = [point.epoch for point in points] or [0]
    scale: dict[str, Any] = {"cmap": "viridis", "vmin": min(epochs), "vmax": max(max(epochs), min(epochs) + 1)}
    drawn = None
    for stage, name, colour, marker in STAGES:
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
    """Draw the path of a training: a point per epoch and stage, coloured by epoch, the switch marked by a ring.

    Args:
        points: at least one, in the order of the epochs.
    """
    figure = style.new_figure(5.6, 4.2)
    axes = figure.subplots()
    drawn = draw_plane(axes, points, by_epoch=True)
    assert drawn is not None
    bar = figure.colorbar(drawn, ax=axes, ticks=MaxNLocator(integer=True))
    bar.set_label("epoch", fontsize=style.SMALL + 1)
    bar.ax.tick_params(labelsize=style.SMALL)
    style.legend_above(figure, axes, columns=3)
    return figure

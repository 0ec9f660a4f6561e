"""The plane in which L2NNNs are compared: confidence gap against accuracy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PlanePoint", "plot_gap_plane"]


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


def plot_gap_plane(points: Sequence[PlanePoint]) -> "Figure":
    """Draw the path of a training: a point per epoch and stage, coloured by epoch, the switch marked by a ring.

    Args:
        points: at least one, in the order of the epochs.
    """
    # Drawing takes a second to import, which a training without W&B is spared.
    from matplotlib.ticker import MaxNLocator

    from l2nnn_lightning.evaluation.report.style import BLACK, GREY, PERCENT, SMALL, legend_above, new_figure, tidy

    figure = new_figure(5.6, 4.2)
    axes = figure.subplots()
    epochs = [point.epoch for point in points]
    colours: dict[str, Any] = {"cmap": "viridis", "vmin": min(epochs), "vmax": max(max(epochs), min(epochs) + 1)}
    for stage, name, marker in (("train", "training", "o"), ("val", "validation", "s")):
        path = [point for point in points if point.stage == stage]
        if not path:
            continue
        accuracy, gap = [100 * point.accuracy for point in path], [point.gap_mean for point in path]
        axes.plot(accuracy, gap, color=GREY, linewidth=0.7, zorder=1)
        drawn = axes.scatter(accuracy, gap, c=[p.epoch for p in path], marker=marker, s=22, label=name, **colours)
        first_hard = next((i for i, point in enumerate(path) if point.hard), None)
        if first_hard is not None:
            label = "first hard epoch" if "first hard epoch" not in axes.get_legend_handles_labels()[1] else None
            ring: dict[str, Any] = {"facecolors": "none", "edgecolors": BLACK, "s": 110, "linewidths": 1.2}
            axes.scatter(accuracy[first_hard], gap[first_hard], label=label, **ring)
    bar = figure.colorbar(drawn, ax=axes, ticks=MaxNLocator(integer=True))
    bar.set_label("epoch", fontsize=SMALL + 1)
    bar.ax.tick_params(labelsize=SMALL)
    tidy(axes, x="accuracy", y="mean confidence gap")
    axes.xaxis.set_major_formatter(PERCENT)
    legend_above(figure, axes, columns=3)
    return figure

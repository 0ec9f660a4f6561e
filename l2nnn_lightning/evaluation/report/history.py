"""The training behind a checkpoint, from its metrics.csv: gap against accuracy."""

from pathlib import Path
from typing import TypeAlias

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l2nnn_lightning.evaluation.report import style
from l2nnn_lightning.evaluation.report.plane import STAGES, PlanePoint, draw_plane

__all__ = ["History", "plot_history", "read_history", "stage_points"]

History: TypeAlias = pd.DataFrame
"""A row per epoch, with its last value of every metric, nan where there is none."""


def read_history(path: Path | str) -> History:
    """Read a Lightning ``metrics.csv``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a table of numbers with a column ``epoch``.
    """
    try:
        history = pd.read_csv(path).astype(float).groupby("epoch").last()
        return history.set_index(history.index.astype(int))
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a table of metrics by epoch: {error}") from error


def stage_points(history: History, stage: str) -> list[PlanePoint]:
    """Return where a stage was after each epoch for which accuracy and gap are known.

    Args:
        history: with the columns ``STAGE/accuracy`` (fractions) and ``STAGE/gap_mean``, and ``val/hard``, 1 from the
            switch on, as far as they are there.
        stage: ``"train"`` or ``"val"``.
    """
    known = history.reindex(columns=[f"{stage}/accuracy", f"{stage}/gap_mean"]).dropna()
    hard = history.reindex(columns=["val/hard"])["val/hard"][known.index] > 0
    return [
        PlanePoint(int(epoch), stage, bool(is_hard), float(accuracy), float(gap))
        for epoch, is_hard, (accuracy, gap) in zip(known.index, hard, known.to_numpy(), strict=True)
    ]


def plot_history(history: History) -> Figure | None:
    """Draw accuracy and mean gap by epoch and against each other, with the switch to hard scaling marked.

    Args:
        history: see :func:`stage_points`.

    Returns:
        The figure, or None where neither stage has both accuracy and gap.
    """
    points = {stage: stage_points(history, stage) for stage, *_ in STAGES}
    if not any(points.values()):
        return None
    figure = style.new_figure(9.6, 3.4)
    by_epoch, gaps, plane = figure.subplots(1, 3)
    for stage, name, colour, marker in STAGES:
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

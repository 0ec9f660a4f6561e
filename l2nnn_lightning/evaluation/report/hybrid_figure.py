"""The hybrid's curve over thresholds."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from l2nnn_lightning.evaluation.report.style import (
    ATTACK_COLOURS,
    BLUE,
    GREY,
    PERCENT,
    VERMILLION,
    legend_above,
    new_figure,
    tidy,
)

__all__ = ["plot_hybrid"]


def plot_hybrid(hybrid: Mapping[str, Any]) -> Figure:
    """Draw natural and certified accuracy against the fraction of images that are delegated.

    Args:
        hybrid: as from :func:`l2nnn_lightning.evaluation.measure.hybrid.measure_hybrid`.
    """
    figure = new_figure(8.6, 3.6)
    natural, proved = figure.subplots(1, 2)
    curve = sorted(hybrid["curve"], key=lambda point: float(point["delegated"]))
    delegated = [100 * point["delegated"] for point in curve]
    natural.plot(
        delegated, [100 * point["accuracy"] for point in curve], "o-", color=BLUE, markersize=3, label="hybrid"
    )
    natural.plot(
        100 * hybrid["delegated"],
        100 * hybrid["accuracy"],
        "s",
        color=VERMILLION,
        label=f"threshold {hybrid['threshold']:g}",
    )
    natural.axhline(100 * hybrid["l2nnn_accuracy"], color=GREY, linestyle=":", label="L2NNN alone")
    natural.axhline(100 * hybrid["fallback_accuracy"], color=GREY, linestyle="--", label="fallback alone")
    for radius, colour in zip(hybrid["certified"], (BLUE, *ATTACK_COLOURS), strict=False):
        values = [100 * point["certified"][radius] for point in curve]
        proved.plot(delegated, values, "o-", color=colour, markersize=3)
        proved.annotate(
            f"{radius}", (delegated[0], values[0]), xytext=(-14, -2), textcoords="offset points", fontsize=7
        )
    proved.margins(x=0.09)
    proved.set_title("by L2 radius, of all images", fontsize=8, color=GREY)
    tidy(natural, x="delegated", y="natural accuracy")
    tidy(proved, x="delegated", y="certified accuracy of the kept part")
    for axes in (natural, proved):
        axes.xaxis.set_major_formatter(PERCENT)
        axes.yaxis.set_major_formatter(PERCENT)
    legend_above(figure, natural, columns=4)
    return figure

"""The look of every figure: colours that colour-blind readers can tell apart, quiet axes, the legend off the data."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette.
BLACK, BLUE, VERMILLION, GREY = "#000000", "#0072B2", "#D55E00", "#777777"
ATTACK_COLOURS = (VERMILLION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", BLACK)
SIZE, SMALL = 9.0, 7.5  # points
PERCENT = "{x:g}%"


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of a size in inches. It belongs to no window, so it works on any machine."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def tidy(axes: Axes, *, x: str, y: str) -> None:
    """Label the axes, thin them out and put a light grid behind the data."""
    axes.set_xlabel(x, fontsize=SIZE)
    axes.set_ylabel(y, fontsize=SIZE)
    axes.tick_params(labelsize=SMALL + 0.5, color=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(True, color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)


def percent_axis(axes: Axes) -> None:
    """Let the vertical axis run from 0 to 100 percent."""
    axes.set_ylim(0, 103)
    axes.set_yticks(range(0, 101, 20))
    axes.yaxis.set_major_formatter(PERCENT)


def legend_above(figure: Figure, axes: Axes, columns: int) -> None:
    """Put the legend above the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    where: dict[str, Any] = {"loc": "outside upper center", "ncols": min(columns, len(labels))}
    figure.legend(handles, labels, frameon=False, fontsize=SMALL + 0.5, **where)

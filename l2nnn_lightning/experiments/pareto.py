"""Runs in the planes of accuracy against mean gap and against certified accuracy, with the front of each."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from l2nnn_lightning.evaluation.report.style import BLUE, GREY, PERCENT, SMALL, new_figure, tidy

__all__ = ["front", "plot_pareto"]


def front(values: Sequence[tuple[float, float]]) -> list[int]:
    """Find those that no other beats: at least as good in both, and better in one.

    Example:
        >>> front([(0.9, 1.0), (0.8, 2.0), (0.8, 1.5), (0.7, 0.5)])
        [0, 1]
    """
    beaten = [any(a >= x and b >= y and (a, b) != (x, y) for a, b in values) for x, y in values]
    return [position for position, is_beaten in enumerate(beaten) if not is_beaten]


def plot_pareto(names: Sequence[str], points: Sequence[tuple[float, float, float]], radius: str) -> Figure:
    """Draw the runs by their accuracy, mean gap and certified accuracy at a radius; joined are those on the front."""
    figure = new_figure(9.6, 4.4)
    for axes, place, label in zip(figure.subplots(1, 2), (1, 2), ("mean gap", f"certified @{radius}"), strict=True):
        scale = 1 if place == 1 else 100
        values = [(100 * point[0], scale * point[place]) for point in points]
        best = front(values)
        line = sorted(values[i] for i in best)
        axes.plot([x for x, _ in line], [y for _, y in line], "-", color=BLUE, linewidth=1)
        for i, (x, y) in enumerate(values):
            axes.plot([x], [y], "o", color=BLUE if i in best else GREY, markersize=5)
            text = {"fontsize": SMALL, "color": BLUE if i in best else GREY, "textcoords": "offset points"}
            axes.annotate(names[i], (x, y), xytext=(4, 4), **text)
        tidy(axes, x="accuracy", y=label)
        axes.xaxis.set_major_formatter(PERCENT)
        if place == 2:
            axes.yaxis.set_major_formatter(PERCENT)
        axes.margins(0.18)
    return figure

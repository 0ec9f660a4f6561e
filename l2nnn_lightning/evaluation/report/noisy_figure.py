"""Training on noisy labels: memorisation by epoch, and gap against accuracy."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l2nnn_lightning.evaluation.report.history import History
from l2nnn_lightning.evaluation.report.style import (
    ATTACK_COLOURS,
    BLUE,
    GREY,
    PERCENT,
    SMALL,
    legend_above,
    new_figure,
    tidy,
)

__all__ = ["plot_noisy"]

CURVES = (
    ("noisy/clean_accuracy", "clean labels", BLUE, "o"),
    ("noisy/memorised", "changed labels, repeated", ATTACK_COLOURS[0], "s"),
    ("noisy/corrected", "changed labels, original answered", ATTACK_COLOURS[1], "D"),
)


def plot_noisy(history: History) -> Figure | None:
    """Draw accuracy on clean and on changed training labels by epoch, and the mean gap against the noisy accuracy.

    Args:
        history: for every epoch the columns that :class:`NoisyLabelMonitor` logs, as far as they are there, with
            ``train/accuracy`` and ``train/gap_mean``.

    Returns:
        The figure, or None where the run was not watched by that callback.
    """
    figure = new_figure(8.6, 3.6)
    by_epoch, plane = figure.subplots(1, 2)
    drawn = False
    for key, name, colour, marker in CURVES:
        points = [(epoch, 100 * values[key]) for epoch, values in history.items() if key in values]
        if points:
            drawn = True
            by_epoch.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=3.5, label=name)
    if not drawn:
        return None
    keys = ("train/accuracy", "train/gap_mean")
    path = [(100 * values[keys[0]], values[keys[1]]) for values in history.values() if set(keys) <= set(values)]
    if path:
        plane.plot(*zip(*path, strict=True), color=BLUE, marker="o", markersize=3.5)
        plane.plot(*path[-1], "o", markersize=8, color=BLUE)
    by_epoch.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(by_epoch, x="epoch", y="fraction of a sample of training images")
    tidy(plane, x="accuracy on the noisy training labels", y="mean confidence gap")
    plane.set_title("large mark: last epoch", fontsize=SMALL, color=GREY)
    by_epoch.yaxis.set_major_formatter(PERCENT)
    plane.xaxis.set_major_formatter(PERCENT)
    legend_above(figure, by_epoch, columns=3)
    return figure

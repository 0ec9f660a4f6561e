"""The same images attacked with more and more iterations, side by side (figures 1 and 5)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from l2nnn_lightning.evaluation.measure.records import IntArray, Records
from l2nnn_lightning.evaluation.measure.run import AttackInfo
from l2nnn_lightning.evaluation.report.gallery import (
    CAPTION,
    MARGIN,
    ROWS,
    TITLE,
    Images,
    label_name,
    show_image,
    verdict,
)
from l2nnn_lightning.evaluation.report.style import BLACK, GREY, SIZE, SMALL, VERMILLION

__all__ = ["choose_budgets", "plot_iterations"]

SIDE = 0.86  # inches


def choose_budgets(attacks: Sequence[AttackInfo], attacked: Mapping[str, Images]) -> list[AttackInfo]:
    """Return the runs of the first attack that was run with several numbers of iterations, fewest first, or none."""
    for first in attacks:
        runs = [info for info in attacks if info.attack == first.attack and info.name in attacked]
        if len(runs) > 1:
            return sorted(runs, key=lambda info: info.max_iter)
    return []


def plot_iterations(
    records: Records,
    images: Images,
    attacks: Sequence[AttackInfo],
    attacked: Mapping[str, Images],
    *,
    label_names: Sequence[str] | None = None,
) -> Figure:
    """Draw the first image of each label that the network gets right, and what each attack makes of it.

    Against a defence that only slows attacks down, more iterations find closer images; against one that is constant
    they find the same.

    Args:
        records: the records, at least one.
        images: (N, C, H, W) in the order of the records, uint8 in [0, 255] or floating in [0, 1].
        attacks: the attacks, one column each.
        attacked: by an attack's name the images it made.
        label_names: names of the labels, in their order; by default their numbers.
    """
    rows = _first_of_each_label(records)
    names = {int(i): label_name(int(i), label_names) for i in np.unique(np.r_[records.label, records.prediction])}
    head = 0.2 + 0.075 * max(len(name) for name in names.values())
    cell = SIDE + 2 * MARGIN
    width = max(head + (1 + len(attacks)) * cell, 4.6)
    height = TITLE + len(rows) * (SIDE + CAPTION + MARGIN)
    figure = Figure(figsize=(width, height), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    title = f"The same images under {attacks[0].attack}, longer and longer"
    axes.text(head, 0.2, title, fontsize=SIZE, weight="bold", va="center")
    for x, title in enumerate(["original", *(f"{info.max_iter:,} iterations" for info in attacks)]):
        axes.text(head + x * cell + SIDE / 2, 0.45, title, fontsize=SMALL, ha="center", va="center", color=GREY)
    for y, i in zip(TITLE + np.arange(len(rows)) * (SIDE + CAPTION + MARGIN), rows, strict=True):
        axes.text(head - 0.12, y + SIDE / 2, names[int(records.label[i])], fontsize=SIZE, ha="right", va="center")
        show_image(axes, images[i], head, y, SIDE, f"r {records.radius[i]:.2f}", BLACK)
        for x, info in enumerate(attacks, start=1):
            text, broken = verdict(records, info, int(i), names)
            colour = VERMILLION if broken else GREY
            show_image(axes, attacked[info.name][i], head + x * cell, y, SIDE, text, colour)
    return figure


def _first_of_each_label(records: Records) -> IntArray:
    right = np.flatnonzero(records.correct)
    rows = right if len(right) > 0 else np.arange(records.n)
    _, first = np.unique(records.label[rows], return_index=True)
    chosen: IntArray = rows[first][:ROWS]
    return chosen

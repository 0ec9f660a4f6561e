"""Curves and bars drawn from the records."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from l2nnn_lightning.evaluation.measure.records import AttackInfo, Records
from l2nnn_lightning.evaluation.measure.results import Evaluation, certified_accuracy, robust_accuracy
from l2nnn_lightning.evaluation.report import style

__all__ = ["plot_accuracy_by_gap", "plot_accuracy_by_radius", "plot_gap_histogram"]

_MARKERS = "sD^vP*"


def plot_accuracy_by_radius(evaluation: Evaluation) -> Figure:
    """Draw certified accuracy against the L2 radius, and what L2 attacks leave.

    A minimum-norm attack gives a curve, which ends at its eps where it left samples unbroken; any other gives a
    point at its eps. An L-infinity attack has no place here.
    """
    records, radii = evaluation.records, evaluation.radii
    euclidean = [attack for attack in evaluation.attacks if attack.norm == "L2"]
    grid = np.linspace(0, _largest_radius(records, radii, euclidean), 401)
    # Certified accuracy jumps at 0, where samples without a proof drop out: the curve starts right of it.
    right_of_0 = np.maximum(grid, 1e-9)
    figure = style.new_figure(6.2, 4.2)
    axes = figure.subplots()
    axes.axhline(100 * records.correct.mean(), color=style.GREY, linestyle=":", linewidth=1.2, label="natural accuracy")
    certified = [100 * certified_accuracy(records, r) for r in right_of_0]
    axes.fill_between(grid, certified, color=style.BLUE, alpha=0.12, linewidth=0)
    axes.plot(grid, certified, color=style.BLUE, linewidth=2, label="certified: no attack can do better")
    if records.radius_box is not None:
        boxed = [100 * certified_accuracy(records, r, "radius_box") for r in right_of_0]
        axes.plot(grid, boxed, color=style.BLUE, linewidth=1.4, linestyle="--", label="certified, pixels in [0, 1]")
    for radius in radii:
        value = 100 * certified_accuracy(records, radius)
        axes.plot(radius, value, "o", color=style.BLUE, markersize=4, clip_on=False)
        offset, ha, va = ((-4, -4), "right", "top") if value >= 10 else ((3, 3), "left", "bottom")
        look: dict[str, Any] = {"ha": ha, "va": va, "fontsize": style.SMALL, "color": style.BLUE}
        axes.annotate(f"{value:.1f}", (radius, value), xytext=offset, textcoords="offset points", **look)
    for attack, colour, marker in zip(euclidean, cycle(style.ATTACK_COLOURS), cycle(_MARKERS), strict=False):
        if attack.minimum_norm:
            known = grid[grid <= _known_until(records, attack)]
            curve = [100 * robust_accuracy(records, attack.name, r) for r in known]
            label = f"robust under {attack.name} ({attack.max_iter} iterations)"
            axes.plot(known, curve, color=colour, linewidth=1.8, label=label)
        else:
            value = 100 * robust_accuracy(records, attack.name, attack.eps)
            label = f"robust under {attack.name} (eps {attack.eps:g})"
            axes.plot(attack.eps, value, marker, color=colour, markersize=6, linestyle="none", label=label)
    style.tidy(axes, x="L2 radius (pixel values in [0, 1])", y="accuracy")
    style.percent_axis(axes)
    axes.set_xlim(0, grid[-1])
    style.legend_above(figure, axes, columns=2)
    return figure


def plot_gap_histogram(records: Records) -> Figure:
    """Draw how the gaps of correct and of wrong samples are spread, each as shares of its own group."""
    edges = np.linspace(0, max(float(records.gap.max()), 1e-3), 41)
    figure = style.new_figure(6.2, 3.6)
    axes = figure.subplots()
    for is_correct, name, colour in ((True, "correct", style.BLUE), (False, "wrong", style.VERMILLION)):
        gaps = records.gap[records.correct == is_correct]
        if gaps.size == 0:
            continue
        share = 100 * np.histogram(gaps, edges)[0] / gaps.size
        label = f"{name} (n = {gaps.size}, mean gap {gaps.mean():.2f})"
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.25, linewidth=0)
        axes.stairs(share, edges, color=colour, linewidth=1.6, label=label)
    style.tidy(axes, x="confidence gap (largest minus second largest logit)", y="share of the group")
    axes.yaxis.set_major_formatter(style.PERCENT)
    axes.set_xlim(0, edges[-1])
    axes.set_ylim(bottom=0)
    style.legend_above(figure, axes, columns=2)
    return figure


def plot_accuracy_by_gap(bins: pd.DataFrame, radius: float) -> Figure:
    """Draw accuracy, certified share at a radius and accuracy under attack for each part of :func:`gap_bins`."""
    position = np.arange(1, len(bins) + 1)
    figure = style.new_figure(6.8, 4.0)
    axes = figure.subplots()
    certified = f"certified at L2 radius {radius:g}"
    axes.bar(position, 100 * bins["certified"], width=0.62, color=style.BLUE, alpha=0.3, label=certified)
    look: dict[str, Any] = {"color": style.BLACK, "linewidth": 1.6, "markersize": 7, "markerfacecolor": "white"}
    axes.plot(position, 100 * bins["accuracy"], "o-", label="natural", **look)
    for name, colour, marker in zip(bins.columns[5:], cycle(style.ATTACK_COLOURS), cycle(_MARKERS), strict=False):
        look = {"color": colour, "linewidth": 1.6, "markersize": 5}
        axes.plot(position, 100 * bins[name], f"{marker}-", label=f"under {name}", **look)
    style.tidy(axes, x="samples sorted by gap, in equal parts: number, and gaps from largest to smallest", y="accuracy")
    axes.grid(False, axis="x")
    digits = 1 if bins["gap_max"][0] >= 2 else 2
    gaps = zip(position, bins["gap_max"], bins["gap_min"], strict=True)
    axes.set_xticks(position, [f"{i}\n{largest:.{digits}f} to\n{least:.{digits}f}" for i, largest, least in gaps])
    style.percent_axis(axes)
    axes.set_xlim(0.4, len(bins) + 0.6)
    style.legend_above(figure, axes, columns=3)
    return figure


def _largest_radius(records: Records, radii: Sequence[float], attacks: Sequence[AttackInfo]) -> float:
    """Choose where the horizontal axis ends: past the asked radii, and where the curves have come down."""
    ends = [1.05 * radius for radius in radii] + [1.05 * attack.eps for attack in attacks]
    ends.append(float(records.proved.max()))
    for attack in attacks:
        norm = records.attacks[attack.name].norm
        if attack.minimum_norm and np.isfinite(norm).any():
            ends.append(float(np.quantile(norm[np.isfinite(norm)], 0.99)))
    return max(ends) or 1.0


def _known_until(records: Records, attack: AttackInfo) -> float:
    """Return the norm up to which an attack's norms tell the robust accuracy.

    Samples proven safe at eps may not have been attacked at all, so nothing is known past it, unless all were broken.
    """
    complete = bool((records.attacks[attack.name].broken | ~records.correct).all())
    return np.inf if complete else attack.eps

"""A study's curves."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from matplotlib.figure import Figure

from l2nnn_lightning.evaluation.report.style import ATTACK_COLOURS, BLUE, PERCENT, legend_above, new_figure, tidy
from l2nnn_lightning.experiments.study.plan import Plan
from l2nnn_lightning.experiments.study.store import Store
from l2nnn_lightning.experiments.study.table import cell_numbers

__all__ = ["draw_bins", "draw_curves"]


def draw_curves(plan: Plan, store: Store) -> Figure | None:
    """Draw one column against another through each group's rows, ours and the paper's; None if the study has none."""
    study = plan.study
    if study.figure is None:
        return None
    names = (study.figure["x"], study.figure["y"])
    places = [list(study.columns).index(name) for name in names]
    figure = new_figure(5.6, 4.2)
    axes = figure.subplots()
    groups = dict.fromkeys(study.rows[row].group for row in plan.rows)
    for group, colour in zip(groups, (BLUE, *ATTACK_COLOURS), strict=False):
        members = [row for row in plan.rows if study.rows[row].group == group]
        ours = np.array([[_mean(plan, store, row, name) for name in names] for row in members])
        printed = [[study.paper[row][place] for place in places] for row in members if row in study.paper]
        theirs = np.array(printed, dtype=float).reshape(-1, 2)
        axes.plot(*ours.T, "o-", color=colour, markersize=4, label=f"{group}, ours".lstrip(", "))
        if np.isfinite(theirs).any():
            axes.plot(*theirs.T, "s--", color=colour, alpha=0.5, markersize=3, label=f"{group}, paper".lstrip(", "))
    tidy(axes, x=names[0], y=names[1])
    for name, axis in zip(names, (axes.xaxis, axes.yaxis), strict=True):
        if study.columns[name].percent:
            axis.set_major_formatter(PERCENT)
    legend_above(figure, axes, columns=3)
    return figure


def draw_bins(plan: Plan, store: Store) -> Figure | None:
    """Draw accuracy by gap, natural and under attack, of several columns (figure 2); None if there is nothing to draw.

    The first seed is shown. Each column's images are sorted by its own gaps into ten equal parts, largest first.
    """
    if plan.study.bins is None:
        return None
    row, columns = plan.study.bins["row"], plan.study.bins["columns"]
    value = cast("Mapping[str, Any]", plan.study.rows[row].value)
    stored = {column: results for column in columns if (results := _first(plan, store, row, column)) is not None}
    if not stored:
        return None
    figure = new_figure(6.2, 4.0)
    axes = figure.subplots()
    for (column, results), colour in zip(stored.items(), (BLUE, *ATTACK_COLOURS), strict=False):
        bins = results["by_gap"]["bins"]
        name = next(name for name in (f"{value['attack']}@{value.get('max_iter')}", value["attack"]) if name in bins[0])
        place = np.arange(1, len(bins) + 1)
        for key, line, label in (("accuracy", "o--", "natural"), (name, "s-", f"under {value['attack']}")):
            shares = [100 * part[key] for part in bins]
            axes.plot(place, shares, line, color=colour, markersize=4, label=f"{column}, {label}")
    tidy(axes, x="images sorted by gap, in equal parts, largest gaps first", y="accuracy")
    axes.yaxis.set_major_formatter(PERCENT)
    legend_above(figure, axes, columns=2)
    return figure


def _first(plan: Plan, store: Store, row: str, column: str) -> Mapping[str, Any] | None:
    """Read what is stored of a cell's first seed and variant; None where it is missing or holds no bins."""
    seeds = plan.cells.get((row, column), {})
    results = store.read(next(iter(seeds.values()))[0]) if seeds else None
    return results if results is not None and "by_gap" in results else None


def _mean(plan: Plan, store: Store, row: str, name: str) -> float:
    """Average a cell over its seeds; nan, which is not drawn, while one of them is missing."""
    numbers = np.array(cell_numbers(plan, store, row, name) or [None], dtype=float)
    return float(numbers.mean()) * (100 if plan.study.columns[name].percent else 1)

"""A study's table and curves as PNG."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from l2nnn_lightning.evaluation.report.style import ATTACK_COLOURS, BLUE, PERCENT, legend_above, new_figure, tidy
from l2nnn_lightning.experiments.study.plan import Plan
from l2nnn_lightning.experiments.study.store import Store
from l2nnn_lightning.experiments.study.table import cell_numbers, table_rows

__all__ = ["draw_curves", "draw_table", "write_figures"]

_INCHES_A_LETTER = 0.075  # of a title of 9 points, on average


def draw_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Figure:
    """Draw a table, first column to the left."""
    widths = [max(len(line[i]) for line in (header, *rows)) + 2 for i in range(len(header))]
    inches = max(4.0, 0.085 * sum(widths))
    lines = textwrap.wrap(title, int(inches / _INCHES_A_LETTER))
    figure = new_figure(inches, 0.26 * (len(rows) + 1) + 0.28 + 0.17 * len(lines))
    axes = figure.subplots()
    axes.axis("off")
    axes.set_title("\n".join(lines), fontsize=9, loc="left")
    shares = [width / sum(widths) for width in widths]
    texts = [list(header), *map(list, rows)]
    table = axes.table(cellText=texts, colWidths=shares, cellLoc="right", bbox=Bbox.unit())
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    for (row, column), cell in table.get_celld().items():
        cell.set(linewidth=0.4, edgecolor="#CCCCCC")
        if row == 0:
            cell.set_facecolor("#EEF3F7")
        if column == 0:
            cell.set_text_props(ha="left")
    return figure


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


def write_figures(plan: Plan, store: Store) -> list[Path]:
    """Write the table and the curves beside the study's results; returns the files."""
    figures = {"table": draw_table(plan.study.title, *table_rows(plan, store)), "curves": draw_curves(plan, store)}
    written = {store.folder.with_name(f"{plan.tier}_{name}.png"): figure for name, figure in figures.items() if figure}
    for path, figure in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return list(written)


def _mean(plan: Plan, store: Store, row: str, name: str) -> float:
    """Average a cell over its seeds; nan, which is not drawn, while one of them is missing."""
    numbers = np.array(cell_numbers(plan, store, row, name) or [None], dtype=float)
    return float(numbers.mean()) * (100 if plan.study.columns[name].percent else 1)

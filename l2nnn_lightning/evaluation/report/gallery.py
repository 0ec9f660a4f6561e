"""Pictures: the samples the network is surest and least sure of (figures 3 and 4), and longer and longer attacks."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from torch import Tensor

from l2nnn_lightning.evaluation.measure.records import AttackInfo, IntArray, Records
from l2nnn_lightning.evaluation.measure.results import Evaluation
from l2nnn_lightning.evaluation.report import style

__all__ = ["choose_runs", "plot_gallery", "plot_iterations", "to_pixels"]

_ROWS = 10
# Inches: under a picture (two lines), between pictures, above the first row, a picture's side.
_CAPTION, _MARGIN, _TITLE, _SIDE = 0.34, 0.12, 0.58, 0.86


class _Picture(NamedTuple):
    """A picture, where it stands right of the names (inches), and what is written under it."""

    image: Any
    x: float
    text: str
    colour: str


def plot_gallery(evaluation: Evaluation, which: Literal["largest", "smallest"]) -> Figure:
    """Draw, one row per label, the images with the largest or smallest gap; with what the first attack made of them."""
    records = evaluation.records
    attack = next(reversed(choose_runs(evaluation)), None)
    side, cell = (_SIDE, _SIDE + _MARGIN) if attack is None else (0.82, 2 * 0.82 + 0.3)
    rows = _choose(records, which, columns=8 if attack is None else 3)
    title = f"{which.capitalize()} gaps of each label"
    key = "row: true label; as: the network's label; r: certified L2 radius"
    if attack is not None:
        title += f", and the same images after {attack.name}"
        key += f"; {_symbol(attack)}: norm of the distortion"
    pictures: list[list[_Picture]] = []
    for row in rows:
        pictures.append([])
        for x, i in zip(np.arange(len(row)) * cell, row, strict=True):
            gap, radius = f"gap {records.gap[i]:.2f}", f"r {records.radius[i]:.2f}"
            text = f"as {evaluation.name(records.prediction[i])}\n{gap}, {radius}"
            colour = style.BLACK if records.correct[i] else style.VERMILLION
            pictures[-1].append(_Picture(evaluation.images[i], x, text, colour))
            if attack is not None:
                made = evaluation.attacked[attack.name][i]
                pictures[-1].append(_Picture(made, x + side + 0.06, *_verdict(evaluation, attack, i)))
    labels = records.label[[row[0] for row in rows]]
    figure, head = _sheet(evaluation, title, labels, pictures, side, max(len(row) for row in rows) * cell)
    figure.axes[0].text(head, 0.4, key, fontsize=style.SMALL - 1, va="center", color=style.GREY)
    return figure


def plot_iterations(evaluation: Evaluation) -> Figure | None:
    """Draw the first image of each label that the network gets right, and what longer and longer attacks make of it.

    Against a defence that only slows attacks down, more iterations find closer images; against one that is constant
    they find the same (figures 1 and 5). None where no attack was run with several numbers of iterations.
    """
    records, attacks = evaluation.records, choose_runs(evaluation)
    if len(attacks) < 2:
        return None
    right = np.flatnonzero(records.correct)
    rows = right if len(right) > 0 else np.arange(records.n)
    chosen = rows[np.unique(records.label[rows], return_index=True)[1]][:_ROWS]
    cell = _SIDE + 2 * _MARGIN
    pictures = [[_Picture(evaluation.images[i], 0.0, f"r {records.radius[i]:.2f}", style.BLACK)] for i in chosen]
    for x, info in enumerate(attacks, start=1):
        for i, row in zip(chosen, pictures, strict=True):
            row.append(_Picture(evaluation.attacked[info.name][i], x * cell, *_verdict(evaluation, info, i)))
    title = f"The same images under {attacks[0].attack}, longer and longer"
    figure, head = _sheet(evaluation, title, records.label[chosen], pictures, _SIDE, (1 + len(attacks)) * cell)
    for x, text in enumerate(["original", *(f"{info.max_iter:,} iterations" for info in attacks)]):
        at = head + x * cell + _SIDE / 2
        figure.axes[0].text(at, 0.45, text, fontsize=style.SMALL, ha="center", va="center", color=style.GREY)
    return figure


def choose_runs(evaluation: Evaluation) -> list[AttackInfo]:
    """Return the runs of the first attack that has several, else the first attack's; fewest iterations first."""
    shown = [info for info in evaluation.attacks if info.name in evaluation.attacked]
    runs = [[other for other in shown if other.attack == info.attack] for info in shown]
    first = next((group for group in runs if len(group) > 1), runs[0] if runs else [])
    return sorted(first, key=lambda info: info.max_iter)


def _sheet(
    evaluation: Evaluation, title: str, labels: IntArray, rows: Sequence[Sequence[_Picture]], side: float, width: float
) -> tuple[Figure, float]:
    """Draw rows of pictures, one for each label; return the figure, in inches, and where the pictures begin."""
    known = np.unique(np.r_[evaluation.records.label, evaluation.records.prediction])
    head = 0.2 + 0.075 * max(len(evaluation.name(label)) for label in known)
    width, step = max(head + width, 4.6), side + _CAPTION + _MARGIN
    limits: dict[str, Any] = {"xlim": (0, width), "ylim": (_TITLE + len(rows) * step, 0)}
    figure = Figure(figsize=(width, _TITLE + len(rows) * step), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.text(head, 0.2, title, fontsize=style.SIZE, va="center", weight="bold")
    for y, label, row in zip(_TITLE + np.arange(len(rows)) * step, labels, rows, strict=True):
        look: dict[str, Any] = {"fontsize": style.SIZE, "ha": "right", "va": "center"}
        axes.text(head - 0.12, y + side / 2, evaluation.name(label), **look)
        for image, offset, text, colour in row:
            x = head + offset
            look = {"cmap": "gray", "vmin": 0, "vmax": 1, "aspect": "auto", "interpolation": "nearest"}
            axes.imshow(to_pixels(image), extent=(x, x + side, y + side, y), **look)
            look = {"fontsize": style.SMALL - 1, "color": colour, "ha": "center", "va": "top"}
            axes.text(x + side / 2, y + side + 0.03, text, **look)
    axes.set(**limits)
    return figure, head


def to_pixels(image: Tensor | npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Turn an image (C, H, W), uint8 in [0, 255] or floating in [0, 1], into (H, W) or (H, W, 3) in [0, 1]."""
    pixels = np.asarray(image.detach().cpu().float() if isinstance(image, Tensor) else image, np.float32)
    pixels = np.clip(pixels / (255 if image.dtype.itemsize == 1 else 1), 0, 1)
    return np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels.mean(0)


def _choose(records: Records, which: Literal["largest", "smallest"], columns: int) -> list[IntArray]:
    """Return the rows of pictures: for each of at most ten labels, the samples with the most extreme gaps."""
    order = np.argsort(-records.gap if which == "largest" else records.gap, kind="stable")
    # Of many labels, take those that hold the most extreme samples.
    _, first = np.unique(records.label[order], return_index=True)
    labels = np.sort(records.label[order[np.sort(first)[:_ROWS]]])
    return [order[records.label[order] == label][:columns] for label in labels]


def _verdict(evaluation: Evaluation, attack: AttackInfo, i: int) -> tuple[str, str]:
    """Say what became of an attacked sample, and in which colour."""
    record = evaluation.records.attacks[attack.name]
    if not record.broken[i]:
        return "not broken", style.GREY
    if not evaluation.records.correct[i]:
        return "wrong from\nthe start", style.GREY
    distortion = f"{_symbol(attack)} {record.norm[i]:.2f}"
    label = "" if record.prediction is None else f"as {evaluation.name(record.prediction[i])}\n"
    return label + distortion, style.VERMILLION


def _symbol(attack: AttackInfo) -> str:
    return "L∞" if attack.norm == "Linf" else "L2"

"""Pictures of the samples the network is surest and least sure of (figures 3 and 4)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from l2nnn_lightning.evaluation.measure.records import IntArray, Records
from l2nnn_lightning.evaluation.measure.run import AttackInfo
from l2nnn_lightning.evaluation.report.style import BLACK, GREY, SIZE, SMALL, VERMILLION

__all__ = ["Images", "label_name", "plot_gallery", "show_image", "verdict"]

Images = Tensor | npt.NDArray[np.uint8] | npt.NDArray[np.floating]

ROWS = 10
CAPTION = 0.34  # inches under a picture: two lines
MARGIN = 0.12  # inches between pictures
TITLE = 0.58  # inches above the first row


def plot_gallery(
    records: Records,
    images: Images,
    which: Literal["largest", "smallest"],
    *,
    attack: AttackInfo | None = None,
    attacked: Images | None = None,
    label_names: Sequence[str] | None = None,
) -> Figure:
    """Draw, one row per label, the images with the largest or smallest gap, with their attacked versions if given.

    Args:
        records: the records, at least one.
        images: (N, C, H, W) in the order of the records, uint8 in [0, 255] or floating in [0, 1].
        which: the largest or the smallest gaps.
        attack: the attack that made ``attacked``.
        attacked: (N, C, H, W), the attacked images; the original where the attack failed.
        label_names: names of the labels, in their order; by default their numbers.

    Raises:
        ValueError: if there are not as many images as records.
    """
    for given in (images, attacked):
        if given is not None and (given.ndim != 4 or given.shape[0] != records.n):
            raise ValueError(f"images must be ({records.n}, C, H, W) as the records are, got {tuple(given.shape)}")
    pairs = attack is not None and attacked is not None
    columns = 3 if pairs else 8
    rows = _choose(records, which, columns)
    columns = max(len(row) for row in rows)

    names = {int(i): label_name(i, label_names) for i in np.unique(np.r_[records.label, records.prediction])}
    head = 0.2 + 0.075 * max(len(name) for name in names.values())
    side, cell = (0.82, 2 * 0.82 + 0.3) if pairs else (0.86, 0.86 + MARGIN)
    width, height = max(head + columns * cell, 4.6), TITLE + len(rows) * (side + CAPTION + MARGIN)
    figure = Figure(figsize=(width, height), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    title = f"{which.capitalize()} gaps of each label"
    if attack is not None and pairs:
        title += f", and the same images after {attack.name}"
    axes.text(head, 0.2, title, fontsize=SIZE, va="center", weight="bold")
    key = "row: true label; as: the network's label; r: certified L2 radius"
    if attack is not None and pairs:
        key += f"; {_symbol(attack)}: norm of the distortion"
    axes.text(head, 0.4, key, fontsize=SMALL - 1, va="center", color=GREY)

    for y, row in zip(TITLE + np.arange(len(rows)) * (side + CAPTION + MARGIN), rows, strict=True):
        axes.text(head - 0.12, y + side / 2, names[int(records.label[row[0]])], fontsize=SIZE, ha="right", va="center")
        for x, i in zip(head + np.arange(len(row)) * cell, row, strict=True):
            right = bool(records.correct[i])
            text = f"as {names[int(records.prediction[i])]}\ngap {records.gap[i]:.2f}, r {records.radius[i]:.2f}"
            show_image(axes, images[i], x, y, side, text, BLACK if right else VERMILLION)
            if attack is not None and attacked is not None:
                text, broken = verdict(records, attack, int(i), names)
                show_image(axes, attacked[i], x + side + 0.06, y, side, text, VERMILLION if broken else GREY)
    return figure


def _choose(records: Records, which: Literal["largest", "smallest"], columns: int) -> list[IntArray]:
    """Return the rows of pictures: for each of at most ten labels, the samples with the most extreme gaps."""
    order = np.argsort(-records.gap if which == "largest" else records.gap, kind="stable")
    # Of many labels, take those that hold the most extreme samples.
    _, first = np.unique(records.label[order], return_index=True)
    labels = np.sort(records.label[order[np.sort(first)[:ROWS]]])
    return [order[records.label[order] == label][:columns] for label in labels]


def verdict(records: Records, attack: AttackInfo, i: int, names: dict[int, str]) -> tuple[str, bool]:
    """Say what became of an attacked sample."""
    record = records.attacks[attack.name]
    if not record.broken[i]:
        return "not broken", False
    if not records.correct[i]:
        return "wrong from\nthe start", False
    distortion = f"{_symbol(attack)} {record.norm[i]:.2f}"
    if record.prediction is None:
        return distortion, True
    label = int(record.prediction[i])
    return f"as {names.get(label, str(label))}\n{distortion}", True


def show_image(axes: Axes, image: Images, x: float, y: float, side: float, caption: str, colour: str) -> None:
    """Place one picture with its caption; x and y are its upper left corner in inches."""
    pixels = image.detach().cpu().float().numpy() if isinstance(image, Tensor) else np.asarray(image, np.float32)
    if image.dtype.itemsize == 1:
        pixels = pixels / 255
    pixels = np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels.mean(0)
    extent = (x, x + side, y + side, y)
    axes.imshow(
        np.clip(pixels, 0, 1), cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto", interpolation="nearest"
    )
    axes.text(x + side / 2, y + side + 0.03, caption, fontsize=SMALL - 1, color=colour, ha="center", va="top")
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())


def _symbol(attack: AttackInfo) -> str:
    return "L∞" if attack.norm == "Linf" else "L2"


def label_name(label: int, names: Sequence[str] | None) -> str:
    """Return a label's name, or its number where it has none."""
    return names[label] if names is not None and label < len(names) else str(label)

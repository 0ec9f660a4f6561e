from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_records import ATTACKS, made_up_evaluation, made_up_images, made_up_records, made_up_run
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from l2nnn_lightning.evaluation.measure.records import AttackInfo
from l2nnn_lightning.evaluation.measure.results import gap_bins
from l2nnn_lightning.evaluation.report.figures import plot_accuracy_by_gap, plot_accuracy_by_radius, plot_gap_histogram
from l2nnn_lightning.evaluation.report.gallery import plot_gallery
from l2nnn_lightning.evaluation.report.plane import plot_history, read_history

RADII = (0.5, 1.0, 1.58, 2.0, 3.0)


def visible_texts(figure: Figure) -> list[Text]:
    """List what is written, without the ticks beyond an axis's limits, which matplotlib keeps but does not draw."""
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        texts += [*axes.texts, axes.title]
        if not axes.axison:
            continue
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = zip(axis.get_major_ticks(), axis.get_majorticklocs(), strict=True)
            texts += [axis.label, *(tick.label1 for tick, at in ticks if low <= at <= high)]
    return [text for text in texts if text.get_text()]


def assert_no_text_overlaps(figure: Figure) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer).padded(-1)) for text in visible_texts(figure)]
    assert boxes
    for (left, a), (right, b) in combinations(boxes, 2):
        assert not a.overlaps(b), f"{left!r} covers {right!r}"
    width, height = canvas.get_width_height()
    for text, box in boxes:
        assert box.x0 >= 0, f"{text!r} is cut off"
        assert box.y0 >= 0, f"{text!r} is cut off"
        assert box.x1 <= width, f"{text!r} is cut off"
        assert box.y1 <= height, f"{text!r} is cut off"


def curve(figure: Figure, label: str) -> tuple[np.ndarray, np.ndarray]:
    (line,) = [line for line in figure.axes[0].lines if str(line.get_label()).startswith(label)]
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def test_radius_figure_draws_the_records() -> None:
    records = made_up_records(400, attacked=True, box=True)
    figure = plot_accuracy_by_radius(made_up_evaluation(records, radii=RADII))
    x, certified = curve(figure, "certified: ")
    at_1 = int(np.searchsorted(x, 1.0))
    expected = 100 * np.mean(records.correct & (records.radius >= x[at_1]))
    assert certified[at_1] == pytest.approx(expected)
    assert certified[0] == pytest.approx(100 * np.mean(records.correct & (records.radius > 0)))
    _, robust = curve(figure, "robust under cw")
    assert (robust >= certified).all()
    point_x, point_y = curve(figure, "robust under pgd_l2")
    assert point_x.item() == 1.58
    assert 0 < point_y.item() < 100
    assert not [line for line in figure.axes[0].lines if "linf" in str(line.get_label())]
    assert_no_text_overlaps(figure)


def test_a_curve_ends_at_eps_where_samples_were_not_attacked_further() -> None:
    records = made_up_records(100, attacked=True)
    left = torch.tensor(records.radius >= 1.0)
    norm = torch.tensor(records.attacks["cw"].norm)
    records = records.with_columns({"cw_broken": ~left, "cw_norm": torch.where(left, torch.inf, norm)})
    attacks = [AttackInfo("cw", "L2", 1.0, 100, minimum_norm=True), *ATTACKS[1:]]
    figure = plot_accuracy_by_radius(made_up_evaluation(records, radii=RADII, attacks=attacks))
    x, _ = curve(figure, "robust under cw")
    assert 0.95 < x.max() <= 1.0


def test_gap_histogram_shares_sum_to_all_of_each_group() -> None:
    figure = plot_gap_histogram(made_up_records(300))
    outlines = [p for p in figure.axes[0].patches if not p.get_fill()]
    assert len(outlines) == 2
    for patch in outlines:
        assert patch.get_data().values.sum() == pytest.approx(100)  # type: ignore[attr-defined]
    assert_no_text_overlaps(figure)


@pytest.mark.parametrize("scale", [1.0, 0.05, 30.0])
def test_gap_bins_figure_fits_its_tick_labels(scale: float) -> None:
    records = made_up_records(200, attacked=True)
    records = records.with_columns({"gap": torch.tensor(records.gap * scale)})
    bins = gap_bins(made_up_evaluation(records), 1.0)
    figure = plot_accuracy_by_gap(bins, 1.0)
    _, natural = curve(figure, "natural")
    assert natural.tolist() == pytest.approx((100 * bins["accuracy"]).tolist())
    assert_no_text_overlaps(figure)


def captions(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("which", ["largest", "smallest"])
def test_gallery_shows_the_extreme_gaps_of_each_label(which: str) -> None:
    records = made_up_records(200, labels=4)
    figure = plot_gallery(made_up_evaluation(records), which)  # type: ignore[arg-type]
    shown = captions(figure)
    assert len(figure.axes[0].images) == 4 * 8
    for label in range(4):
        of_label = np.sort(records.gap[records.label == label])
        extreme = of_label[-1] if which == "largest" else of_label[0]
        assert any(f"gap {extreme:.2f}," in caption for caption in shown)
    assert_no_text_overlaps(figure)


def test_gallery_pairs_originals_with_what_the_attack_made() -> None:
    records = made_up_records(200, attacked=True)
    originals = made_up_images(200, channels=3)
    names = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot"]
    attacked = {"cw": (255 - originals).float() / 255}
    evaluation = made_up_evaluation(records, images=originals, attacked=attacked, label_names=names)
    figure = plot_gallery(evaluation, "smallest")
    pictures = [np.asarray(image.get_array()) for image in figure.axes[0].images]
    assert len(pictures) == 10 * 3 * 2
    np.testing.assert_allclose(pictures[0] + pictures[1], 1, atol=1e-6)
    shown = captions(figure)
    assert any("L2 " in caption and "as " in caption for caption in shown)
    assert any(caption.startswith("wrong from") for caption in shown)
    assert_no_text_overlaps(figure)


def test_gallery_of_many_labels_keeps_ten_rows() -> None:
    records = made_up_records(80, labels=60)
    figure = plot_gallery(made_up_evaluation(records), "largest")
    heads = [caption for caption in captions(figure) if caption.isdigit()]
    assert len(heads) == 10
    assert str(records.label[records.gap.argmax()]) in heads


@pytest.mark.parametrize(("count", "hard"), [(1, True), (1, False), (2, True)])
def test_figures_of_very_few_samples_can_be_drawn(count: int, hard: bool) -> None:
    few = made_up_evaluation(made_up_records(count, labels=2, hard=hard), run=made_up_run(hard=hard))
    bins = plot_accuracy_by_gap(gap_bins(few, 1.0), 1.0)
    for figure in (plot_accuracy_by_radius(few), plot_gap_histogram(few.records), bins, plot_gallery(few, "largest")):
        assert_no_text_overlaps(figure)


def metrics_csv(path: Path, rows: Sequence[str]) -> Path:
    path.write_text("\n".join(["epoch,step,train/accuracy,train/gap_mean,val/accuracy,val/gap_mean,val/hard", *rows]))
    return path


def test_history_merges_the_rows_of_an_epoch_and_marks_the_switch(tmp_path: Path) -> None:
    path = metrics_csv(
        tmp_path / "metrics.csv",
        ["0,9,,,0.5,2.0,0.0", "0,9,0.4,2.1,,,", "1,19,,,0.8,1.0,1.0", "1,19,0.7,1.1,,,", "2,29,,,0.9,1.5,1.0"],
    )
    history = read_history(path)
    assert history.loc[1].tolist() == [19, 0.7, 1.1, 0.8, 1.0, 1.0]
    figure = plot_history(history)
    assert figure is not None
    x, validation = curve(figure, "validation")
    assert x.tolist() == [0, 1, 2]
    assert validation.tolist() == pytest.approx([50, 80, 90])
    switch, _ = curve(figure, "switch to hard scaling (epoch 1)")
    assert switch[0] == 0.5
    assert_no_text_overlaps(figure)


def test_history_without_accuracy_and_gap_draws_nothing() -> None:
    assert plot_history(pd.DataFrame()) is None
    assert plot_history(pd.DataFrame({"train/loss": [1.0]})) is None


def test_a_damaged_or_missing_history_is_empty(tmp_path: Path) -> None:
    path = metrics_csv(tmp_path / "metrics.csv", ["0,9,zero"])
    assert all(read_history(file).empty for file in (path, tmp_path / "none.csv", None))

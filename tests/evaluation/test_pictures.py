"""The figures of images, of longer and longer attacks, and of the plane of gap against accuracy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from made_up_records import made_up_evaluation, made_up_images, made_up_records
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from l2nnn_lightning.evaluation.measure.records import AttackInfo, Records
from l2nnn_lightning.evaluation.measure.results import Evaluation
from l2nnn_lightning.evaluation.report.gallery import choose_runs, plot_iterations
from l2nnn_lightning.evaluation.report.plane import PlanePoint, plot_gap_plane

SHORT = AttackInfo("cw@100", "L2", eps=3.0, max_iter=100)
LONG = AttackInfo("cw@1000", "L2", eps=3.0, max_iter=1000)
OTHER = AttackInfo("pgd_l2", "L2", eps=3.0, max_iter=5000)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def attacked(n: int, attacks: Sequence[AttackInfo], prediction: torch.Tensor | None = None, **parts: Any) -> Evaluation:
    """Records of attacks of which only those with a thousand iterations break anything."""
    records = made_up_records(n, attacked=True)
    cw = records.attacks["cw"]
    plain = Records(records.frame[[name for name in records.frame if not name.startswith(("cw", "pgd"))]])
    columns = {} if prediction is None else {"prediction": prediction}
    for info in attacks:
        broken = torch.tensor(cw.broken) & (info is not SHORT)
        norm = torch.where(broken, torch.tensor(cw.norm), torch.inf)
        verdicts = {"broken": broken, "norm": norm, "prediction": torch.tensor(cw.prediction)}
        columns |= {f"{info.name}_{what}": column for what, column in verdicts.items()}
    return made_up_evaluation(plain.with_columns(columns), attacks=attacks, **parts)


def test_runs_are_those_of_one_attack_from_short_to_long() -> None:
    images = made_up_images(5)
    for attacks, shown, expected in (
        ([OTHER, LONG, SHORT], [OTHER, LONG, SHORT], [SHORT, LONG]),
        ([OTHER, LONG], [OTHER, LONG], [OTHER]),
        ([LONG, SHORT], [LONG], [LONG]),
        ([LONG, SHORT], [], []),
    ):
        evaluation = attacked(5, attacks, attacked={info.name: images for info in shown})
        assert choose_runs(evaluation) == expected
        assert (plot_iterations(evaluation) is None) == (len(expected) < 2)
    assert (LONG.attack, OTHER.attack) == ("cw", "pgd_l2")


@pytest.mark.parametrize("channels", [1, 3])
def test_each_label_shows_its_first_right_image_and_what_became_of_it(channels: int) -> None:
    images = made_up_images(60, channels)
    made = {"cw@100": images, "cw@1000": images.flip(0).float() / 255}
    evaluation = attacked(60, [SHORT, LONG], images=images, attacked=made)
    records, broken = evaluation.records, evaluation.records.attacks["cw@1000"]
    figure = plot_iterations(evaluation)
    assert figure is not None
    labels = sorted({int(label) for label in records.label[records.correct]})
    found = words(figure)
    assert found.count("not broken") == len(labels)
    assert {"original", "100 iterations", "1,000 iterations"} <= set(found)
    pictures = figure.axes[0].get_images()
    assert len(pictures) == 3 * len(labels)
    for place, label in enumerate(labels):
        first = next(i for i in range(60) if records.label[i] == label and records.correct[i])
        shown = [torch.as_tensor(picture.get_array()) for picture in pictures[3 * place : 3 * place + 3]]
        for picture, source in zip(shown, (images, images, images.flip(0)), strict=True):
            expected = source[first].float().div(255)
            expected = expected.movedim(0, -1) if channels == 3 else expected[0]
            assert torch.allclose(picture.float(), expected)
        assert f"as {broken.prediction[first]}\nL2 {broken.norm[first]:.2f}" in found


def test_a_network_that_is_always_wrong_can_be_drawn() -> None:
    images = made_up_images(12)
    wrong = torch.tensor((made_up_records(12, attacked=True).label + 1) % 10)
    made = {"cw@100": images, "cw@1000": images}
    figure = plot_iterations(attacked(12, [SHORT, LONG], wrong, images=images, attacked=made))
    assert figure is not None
    assert "wrong from\nthe start" in words(figure)


PATH = [
    PlanePoint(0, "train", False, 0.5, 3.0),
    PlanePoint(0, "val", False, 0.4, 2.0),
    PlanePoint(1, "train", False, 0.75, 4.0),
    PlanePoint(1, "val", True, 0.6, 1.0),
    PlanePoint(2, "train", True, 0.8, 1.5),
    PlanePoint(2, "val", True, 0.7, 1.25),
]


def clouds(points: list[PlanePoint]) -> list[PathCollection]:
    return [drawn for drawn in plot_gap_plane(points).axes[0].collections if isinstance(drawn, PathCollection)]


def rings(points: list[PlanePoint]) -> list[Any]:
    return [line.get_xydata()[0].tolist() for line in plot_gap_plane(points).axes[0].lines if line.get_marker() == "o"]


def test_points_are_where_they_belong_and_coloured_by_epoch() -> None:
    train, val = clouds(PATH)
    assert np.allclose(train.get_offsets(), [[50, 3], [75, 4], [80, 1.5]])
    assert np.allclose(val.get_offsets(), [[40, 2], [60, 1], [70, 1.25]])
    for cloud in (train, val):
        assert cloud.get_array().tolist() == [0, 1, 2]
        assert cloud.get_clim() == (0, 2)


def test_first_hard_epoch_of_each_stage_is_ringed() -> None:
    assert rings(PATH) == [[80, 1.5], [60, 1]]
    labels = plot_gap_plane(PATH).axes[0].get_legend_handles_labels()[1]
    assert sorted(labels) == ["first hard epoch", "training", "validation"]


def test_soft_training_has_no_ring_and_one_epoch_is_enough() -> None:
    assert rings(PATH[:2]) == []
    (alone,) = clouds(PATH[1:2])
    assert np.allclose(alone.get_offsets(), [[40, 2]])

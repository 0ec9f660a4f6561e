"""The figure of gap against accuracy: where its points are, how they are coloured, what is ringed."""

from typing import Any

import numpy as np
from matplotlib.collections import PathCollection

from l2nnn_lightning.evaluation.report.plane import PlanePoint, plot_gap_plane

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

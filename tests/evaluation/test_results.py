import math

import numpy as np
import pytest
import torch
from made_up_records import made_up_evaluation, made_up_records, made_up_run
from results_contract import RESULT_KEYS

from l2nnn_lightning.evaluation.measure.records import AttackInfo, Records
from l2nnn_lightning.evaluation.measure.results import (
    certified_accuracy,
    gap_bins,
    robust_accuracy,
    summarize,
)

RADII = (0.5, 1.0, 1.58, 2.0, 3.0)


def by_hand() -> Records:
    """Four samples: right and proven, right with a tie, wrong but with a radius, right and weakly proven."""
    columns = {
        "index": [0, 1, 2, 3],
        "label": [5, 5, 5, 5],
        "prediction": [5, 5, 4, 5],
        "gap": [4, 0, 2, 1],
        "radius": [2, 0, 1, 0.5],
        "cw_broken": [1, 1, 1, 0],
        "cw_norm": [2.5, 0, 0, math.inf],
    }
    return Records.from_tensors(**{name: torch.tensor(column) for name, column in columns.items()})


def test_summary_by_hand() -> None:
    attack = AttackInfo("cw", "L2", eps=1.0, max_iter=10, minimum_norm=True)
    results = summarize(made_up_evaluation(by_hand(), radii=(0.5, 1, 36 / 255), attacks=[attack]))
    assert results["n"] == 4
    assert results["accuracy"] == 0.75
    assert results["gap_mean"] == 7 / 4
    assert results["radius_mean"] == 2.5 / 4
    assert results["certified"] == {"0.5": 0.5, "1": 0.25, "0.141176": 0.5}
    kept = {"name": "cw", "norm": "L2", "eps": 1.0, "max_iter": 10, "restarts": 1, "record": "cw"}
    assert results["attacks"] == [{**kept, "n": 4, "accuracy": 0.5}]
    assert results["radius_kind"] == "g/2"
    assert set(results) >= RESULT_KEYS


def test_a_tie_is_not_certified_at_radius_0() -> None:
    assert certified_accuracy(by_hand(), 0.0) == 0.5


@pytest.mark.parametrize(("eps", "accuracy"), [(0.5, 0.5), (2.49, 0.5), (2.5, 0.25), (9.0, 0.25)])
def test_robust_accuracy_counts_broken_within_eps(eps: float, accuracy: float) -> None:
    # Sample 1 is broken at norm 0 and sample 2 wrong from the start.
    assert robust_accuracy(by_hand(), "cw", eps) == accuracy


def test_a_projected_perturbation_that_rounds_past_eps_counts_as_broken() -> None:
    # float32(0.3) is above 0.3: without slack every sample that PGD pushed to the border would pass as robust.
    records = by_hand().with_columns({"pgd_linf_broken": torch.ones(4), "pgd_linf_norm": torch.full((4,), 0.3)})
    assert robust_accuracy(records, "pgd_linf", 0.3) == 0.0
    assert robust_accuracy(records, "pgd_linf", 0.2999) == 0.75


def test_a_radius_below_the_threshold_in_float64_does_not_count() -> None:
    # float32(0.7) is below 0.7, and both compare as equal in float32.
    records = by_hand().with_columns({"radius": torch.full((4,), 0.7)})
    assert certified_accuracy(records, 0.7) == 0.0
    assert certified_accuracy(records, 0.69) == 0.75


def test_curves_agree_with_a_loop_over_samples_and_never_cross() -> None:
    records = made_up_records(150, attacked=True, box=True)
    grid = np.linspace(0.01, 4, 60)
    certified = np.array([certified_accuracy(records, r) for r in grid])
    boxed = np.array([certified_accuracy(records, r, "radius_box") for r in grid])
    robust = np.array([robust_accuracy(records, "cw", r) for r in grid])
    for i, r in enumerate(grid.tolist()):
        proven = survived = 0
        for k in range(150):
            if records.label[k] == records.prediction[k]:
                proven += float(records.radius[k]) >= r
                survived += float(records.attacks["cw"].norm[k]) > r
        assert certified[i] == pytest.approx(proven / 150)
        assert robust[i] == pytest.approx(survived / 150)
    assert (np.diff(certified) <= 0).all()
    assert (certified <= boxed).all()
    assert (boxed <= robust).all()
    assert certified[0] > 0.8 > 0.1 > certified[-1]


def test_summary_holds_both_kinds_of_radius() -> None:
    results = summarize(made_up_evaluation(made_up_records(100, box=True), radii=RADII))
    assert results["radius_box_mean"] == pytest.approx(1.15 * results["radius_mean"], rel=1e-6)
    assert all(results["certified_box"][key] >= value for key, value in results["certified"].items())
    assert list(results["certified"]) == ["0.5", "1", "1.58", "2", "3"]


def test_gap_bins_agree_with_sorting_by_hand() -> None:
    records = made_up_records(103, attacked=True)
    bins = gap_bins(made_up_evaluation(records), 1.0)
    samples = sorted(range(103), key=lambda k: -records.gap[k])
    assert list(bins["n"]) == [11] * 3 + [10] * 7
    start = 0
    for part in bins.to_dict("records"):
        rows = samples[start : start + part["n"]]
        right = [k for k in rows if records.label[k] == records.prediction[k]]
        assert part["gap_max"] == records.gap[rows[0]]
        assert part["gap_min"] == records.gap[rows[-1]]
        assert part["accuracy"] == pytest.approx(len(right) / part["n"])
        assert part["certified"] == pytest.approx(sum(records.radius[k] >= 1 for k in right) / part["n"])
        assert part["cw"] == pytest.approx(sum(records.attacks["cw"].norm[k] > 3 for k in right) / part["n"])
        start += part["n"]
    assert bins["accuracy"][0] > bins["accuracy"][9]


def test_fewer_samples_than_bins_give_one_bin_a_sample() -> None:
    assert list(gap_bins(made_up_evaluation(made_up_records(3)), 1.0)["n"]) == [1, 1, 1]


def test_radii_of_a_network_in_penalty_mode_are_refused() -> None:
    with pytest.raises(ValueError, match="penalty mode proves nothing"):
        made_up_evaluation(run=made_up_run(hard=False))


def test_radius_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="finite and >= 0"):
        summarize(made_up_evaluation(radii=(-1.0,)))

"""Certificates from logits: never more than the gap allows, and nothing where nothing is proved."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from l2nnn_lightning.nn.certificates import (
    certify_logits,
    certify_pairs,
    confidence_gap,
    no_certificate,
    round_down,
)


def test_radius_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [-5.0, -1.0, -2.0]], dtype=torch.float64)
    for constant in (2.0, math.sqrt(2)):
        label, gap, radius = certify_logits(logits, constant)
        assert label.tolist() == [0, 1]
        assert gap.tolist() == [2.0, 1.0]
        torch.testing.assert_close(radius, torch.tensor([2.0, 1.0], dtype=torch.float64) / constant)


@pytest.mark.parametrize("value", [0.0, 1.0, -1e30, 1e-40])
def test_tie_proves_nothing(value: float) -> None:
    certificate = certify_logits(torch.full((1, 3), value), 2.0)
    assert certificate.gap.item() == 0
    assert certificate.radius.item() == 0


def test_gap_below_rounding_proves_nothing() -> None:
    logits = torch.tensor([[1000.0, 1000.0]])
    logits[0, 0] = torch.nextafter(logits[0, 0], torch.tensor(math.inf))
    certificate = certify_logits(logits, 2.0)
    assert certificate.gap.item() > 0
    assert certificate.radius.item() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_logit_that_is_not_finite_proves_nothing(bad: float, place: int) -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
    logits[0, place] = bad
    radius = certify_logits(logits, 2.0).radius
    assert radius[0] == 0
    assert radius[1] > 0.9


@given(
    st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([2.0, math.sqrt(2)]),
)
def test_radius_never_exceeds_the_gap_over_the_constant(rows: list[list[float]], constant: float) -> None:
    label, _, radius = certify_logits(torch.tensor(rows), constant)
    for row, best, proved in zip(rows, label.tolist(), radius.tolist(), strict=True):
        others = [value for k, value in enumerate(row) if k != best]
        assert row[best] == max(row)
        assert proved >= 0
        # In double precision: what was taken off for rounding pays for the rounding of the division.
        assert proved <= (row[best] - max(others)) / constant


def test_float32_extremes_do_not_overflow_into_a_proof() -> None:
    top = torch.finfo(torch.float32).max
    radius = certify_logits(torch.tensor([[top, -top], [top, top], [-top, -top], [1e-45, 0.0]]), 2.0).radius
    assert bool(radius[1:].eq(0).logical_or(radius[1:] <= 1e-45).all())
    assert bool(radius.isfinite().all())
    assert float(radius[0]) <= top  # the gap, twice as much, is no float32


def test_no_certificate_gives_label_and_gap_alone() -> None:
    logits = torch.tensor([[1.0, 4.0], [2.0, 0.0]])
    label, gap, radius = no_certificate(logits)
    assert (label.tolist(), gap.tolist(), radius.tolist()) == ([1, 0], [3.0, 2.0], [0.0, 0.0])
    assert confidence_gap(logits).tolist() == [3.0, 2.0]


# --- pair by pair ---


def made_up_rows(seed: int, labels: int = 4, features: int = 3) -> torch.Tensor:
    rows = torch.randn(labels, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows / rows.norm(dim=1, keepdim=True)


def test_pair_radius_by_hand_takes_the_minimum_over_all_labels() -> None:
    constants = torch.tensor([[9.0, 0.5, 2.0], [0.5, 9.0, 1.0], [2.0, 1.0, 9.0]], dtype=torch.float64)
    logits = torch.tensor([[3.0, 2.0, 0.0], [0.0, 1.0, 0.9], [0.0, 0.0, 0.0]], dtype=torch.float64)
    label, gap, radius = certify_pairs(logits, constants)
    assert label.tolist() == [0, 1, 0]
    torch.testing.assert_close(gap, torch.tensor([1.0, 0.1, 0.0], dtype=torch.float64))
    assert radius.tolist() == pytest.approx([1.5, 0.1, 0.0])


@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_pair_radius_is_the_exact_distance_of_linear_logits(seed: int, scale: float) -> None:
    rows = made_up_rows(seed)
    points = scale * torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    logits = points @ rows.mT
    constants = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    label, gap, radius = certify_pairs(logits.float(), constants, points.norm(dim=1))
    for point, best, proved, half in zip(points, label.tolist(), radius.tolist(), gap.tolist(), strict=True):
        exact = min(
            float((rows[best] - rows[j]) @ point / (rows[best] - rows[j]).norm()) for j in range(4) if j != best
        )
        assert proved <= exact
        assert proved >= exact - 1e-4 * scale
        assert proved >= half / 2 - 1e-4 * scale


@given(
    st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    st.sampled_from([0.0, 1e-300, 1e-3, 2.0]),
)
def test_pair_radius_is_finite_and_never_above_any_pair(rows: list[list[float]], constant: float) -> None:
    radius = certify_pairs(torch.tensor(rows), torch.full((3, 3), constant, dtype=torch.float64)).radius
    for row, proved in zip(rows, radius.tolist(), strict=True):
        assert 0 <= proved < math.inf
        if not all(map(math.isfinite, row)):
            assert proved == 0
            continue
        first, second, _ = sorted(row, reverse=True)
        assert proved * constant <= (first - second) * (1 + 1e-12)
        if first == second:
            assert proved == 0


def test_equal_rows_prove_what_float32_can_tell_apart_and_no_more() -> None:
    zero = torch.zeros(2, 2, dtype=torch.float64)
    radius = certify_pairs(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), zero).radius
    assert 1e4 < float(radius[0]) < 1e7
    assert float(radius[1]) == 0


def test_signals_that_cancel_out_in_the_logits_prove_nothing() -> None:
    logits = torch.tensor([[1e-5, 0.0]])
    constants = torch.full((2, 2), 2.0, dtype=torch.float64)
    for signal, proved in ((0.0, True), (100.0, False)):
        size = torch.tensor([signal])
        assert bool(certify_pairs(logits, constants, size).radius > 0) is proved
        assert bool(certify_logits(logits, 2.0, size).radius > 0) is proved


@given(st.floats(0, 1e300))
def test_rounding_down_never_enlarges(value: float) -> None:
    rounded = round_down(torch.tensor([value], dtype=torch.float64), torch.float32)
    assert bool(rounded.isfinite())
    assert float(rounded) <= value
    assert float(rounded) >= min(value, 3e38) * (1 - 2e-7) - 1e-44

"""Certificates from logits: never more than the gap allows, and nothing where nothing is proved."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from l2nnn_lightning.certificates import certify_logits, confidence_gap, no_certificate


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

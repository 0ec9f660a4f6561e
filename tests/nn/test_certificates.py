"""Certificates from logits: never more than the gap allows, and nothing where nothing is proved."""

import math
from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from made_up_training import make_classifier

from l2nnn_lightning.nn.certificates import (
    Certificate,
    certify_logits,
    certify_pairs,
    confidence_gap,
    no_certificate,
    round_down,
)
from l2nnn_lightning.nn.precision import full_precision


def test_radius_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [-5.0, -1.0, -2.0]], dtype=torch.float64)
    for constant in (2.0, math.sqrt(2)):
        label, gap, radius = certify_logits(logits, constant)
        assert label.tolist() == [0, 1]
        assert gap.tolist() == [2.0, 1.0]
        torch.testing.assert_close(radius, torch.tensor([2.0, 1.0], dtype=torch.float64) / constant)


TOP = torch.finfo(torch.float32).max


def certify_equal_pairs(logits: torch.Tensor, constant: float) -> Certificate:
    return certify_pairs(logits, torch.full((3, 3), constant, dtype=torch.float64))


@pytest.mark.parametrize("certify", [certify_logits, certify_equal_pairs])
@given(
    st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    st.sampled_from([1e-3, math.sqrt(2), 2.0]),
)
@example([[value] * 3 for value in (0.0, 1.0, -1e30, 1e-40, TOP, -TOP)], 2.0)
@example([[TOP, -TOP, 0.0], [1e-45, 0.0, 0.0]], 2.0)
@example(
    [[3.0, 1.0, 0.0], *([*row] for bad in (math.nan, math.inf, -math.inf) for row in permutations((bad, 3, 1)))], 2.0
)
def test_radius_is_finite_and_never_above_the_gap_over_the_constant(
    certify: Callable[..., Certificate], rows: list[list[float]], constant: float
) -> None:
    """What is not finite, and a tie, proves nothing."""
    label, _, radius = certify(torch.tensor(rows), constant)
    for row, best, proved in zip(rows, label.tolist(), radius.tolist(), strict=True):
        assert 0 <= proved <= TOP
        if not all(map(math.isfinite, row)):
            assert proved == 0
            continue
        first, second, _ = sorted(row, reverse=True)
        assert row[best] == first
        # In double precision: what was taken off for rounding pays for the rounding of the division.
        assert proved * constant <= (first - second) * (1 + 1e-12)
    if rows[0] == [3.0, 1.0, 0.0]:
        assert radius[0] > 0.9


def test_gap_below_rounding_proves_nothing() -> None:
    logits = torch.tensor([[1000.0, 1000.0]])
    logits[0, 0] = torch.nextafter(logits[0, 0], torch.tensor(math.inf))
    certificate = certify_logits(logits, 2.0)
    assert certificate.gap.item() > 0
    assert certificate.radius.item() == 0


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


def test_equal_rows_prove_what_float32_can_tell_apart_and_no_more() -> None:
    for constant in (0.0, 1e-300):
        constants = torch.full((2, 2), constant, dtype=torch.float64)
        radius = certify_pairs(torch.tensor([[1.0, 0.0], [1.0, 1.0], [math.nan, 0.0]]), constants).radius
        assert 1e4 < float(radius[0]) < 1e7
        assert radius[1:].tolist() == [0, 0]


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


# --- precision ---


def test_autocast_is_off_inside_and_back_on_outside():
    a = torch.randn(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        with full_precision(a.device):
            assert (a @ a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16


def test_weights_of_half_precision_prove_nothing():
    model = make_classifier(hard=True)
    image = torch.rand(3, *model.image_shape)
    assert float(model.certify(image).radius.max()) > 0
    assert float(model.bfloat16().certify(image).radius.max()) == 0

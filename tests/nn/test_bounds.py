from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from l2nnn_lightning.nn import weight_bound, weight_penalty
from l2nnn_lightning.nn.bounds import gram_bound, gram_penalty, gram_row_sums, power_bound, power_row_sums


def reference_bound(w: np.ndarray) -> float:
    return min(np.abs(w.T @ w).sum(1).max(), np.abs(w @ w.T).sum(1).max())


def reference_penalty(w: np.ndarray) -> float:
    return min(np.maximum(np.abs(m).sum(1) - 1, 0).sum() for m in (w.T @ w, w @ w.T))


shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))


@given(shapes, st.integers(0, 1000), st.floats(0.01, 10))
def test_weight_bound_equals_numpy_and_covers_the_svd(shape, seed, scale):
    w = scale * np.random.default_rng(seed).standard_normal(shape)
    bound = float(weight_bound(torch.from_numpy(w)))
    assert bound == pytest.approx(reference_bound(w), rel=1e-12)
    assert np.linalg.norm(w, 2) ** 2 <= bound * (1 + 1e-12)


@given(shapes, st.integers(0, 1000), st.floats(0.01, 3))
def test_weight_penalty_equals_numpy(shape, seed, scale):
    w = scale * np.random.default_rng(seed).standard_normal(shape)
    assert float(weight_penalty(torch.from_numpy(w))) == pytest.approx(reference_penalty(w), rel=1e-12, abs=1e-12)


@given(st.integers(1, 4), shapes, st.integers(0, 100))
def test_batched_bounds_equal_the_single_ones(groups, shape, seed):
    batch = torch.from_numpy(np.random.default_rng(seed).standard_normal((groups, *shape)))
    for batched, single in ((gram_bound, weight_bound), (gram_penalty, weight_penalty)):
        torch.testing.assert_close(batched(batch), torch.stack([single(w) for w in batch]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(4000, 40), (40, 4000)])
def test_long_matrices_use_one_gram_matrix_and_stay_above_the_norm(shape):
    w = torch.randn(1, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    small = w[0] if shape[0] < shape[1] else w[0].mT
    assert float(gram_bound(w)) == pytest.approx(float((small @ small.mT).abs().sum(1).max()), rel=1e-12)
    assert float(torch.linalg.matrix_norm(w, 2)) ** 2 <= float(gram_bound(w))


@pytest.mark.parametrize(
    "weight", [torch.ones(3), torch.ones(2, 3, 4), torch.ones(2, 3).half(), torch.ones(2, 3).int()]
)
@pytest.mark.parametrize("function", [weight_bound, weight_penalty])
def test_bounds_refuse_what_is_no_matrix_in_single_or_double(function, weight):
    with pytest.raises(ValueError, match="weight must be"):
        function(weight)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        power_bound(torch.ones(1, 2, 2), 0)


@pytest.mark.parametrize(
    "function",
    [
        gram_bound,
        gram_penalty,
        lambda weight: gram_row_sums(weight).square(),
        lambda weight: power_row_sums(weight, 3),
        lambda weight: weight_bound(weight[0]),
        lambda weight: weight_penalty(weight[0]),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 7), (1, 9, 4)])
def test_gradients_equal_finite_differences(function, shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, weight)


def test_row_sums_of_a_large_product_are_put_together_from_blocks():
    weight = torch.randn(1, 300, 150, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = (weight @ weight.mT).abs().sum(-1)
    torch.testing.assert_close(gram_row_sums(weight), expected)
    other = (weight.mT @ weight).abs().sum(-1)
    torch.testing.assert_close(weight_bound(weight[0]), torch.minimum(expected.max(), other.max()))


def matrices(seed, rows, columns, groups=2):
    return torch.randn(groups, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 99), st.integers(1, 12), st.integers(1, 12))
def test_every_step_is_tighter_and_none_falls_below_the_norm(seed, rows, columns):
    weight = matrices(seed, rows, columns)
    exact = torch.linalg.matrix_norm(weight, 2) ** 2
    bounds = [power_bound(weight, steps) for steps in (1, 2, 4, 8, 12)]
    for looser, tighter in pairwise(bounds):
        assert (tighter <= looser * (1 + 1e-12)).all()
    assert (bounds[-1] >= exact * (1 - 1e-12)).all()
    assert (bounds[-1] <= exact * 1.002).all()


def test_the_first_step_is_one_side_of_the_papers_bound():
    weight = matrices(0, 3, 9)
    assert (gram_bound(weight) <= power_bound(weight, 1) * (1 + 1e-12)).all()
    torch.testing.assert_close(power_bound(weight, 1), (weight @ weight.mT).abs().sum(-1).amax(-1))


@given(st.integers(0, 99), st.integers(1, 5))
def test_row_sums_of_powers_dominate_the_gram_matrix(seed, steps):
    weight = matrices(seed, 6, 4)
    gap = torch.diag_embed(power_row_sums(weight, steps)) - weight @ weight.mT
    assert torch.linalg.eigvalsh(gap).min() >= -1e-10


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_no_power_overflows(scale):
    weight = matrices(1, 20, 20).float()
    torch.testing.assert_close(
        power_bound(weight * scale, 7) / scale, power_bound(weight, 7) * scale, rtol=1e-4, atol=0
    )


def test_zero_rows_have_finite_gradients():
    zero = torch.zeros(1, 3, 4, requires_grad=True)
    power_bound(zero).sum().backward()
    assert zero.grad.isfinite().all()

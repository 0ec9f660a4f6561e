import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from l2nnn_lightning.nn import weight_bound, weight_penalty
from l2nnn_lightning.nn.bounds import gram_bound, gram_penalty, gram_row_sums


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


def test_weight_bound_is_one_for_orthonormal_rows():
    q = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q[:3]
    assert float(weight_bound(q)) == pytest.approx(1, abs=1e-12)
    assert float(weight_penalty(q)) == pytest.approx(0, abs=1e-12)


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


@pytest.mark.parametrize(
    "function",
    [
        gram_bound,
        gram_penalty,
        lambda weight: gram_row_sums(weight).square(),
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

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from l2nnn_lightning.nn.bounds import gram_bound, power_bound, power_row_sums


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


def test_gradient_is_that_of_finite_differences_and_zero_rows_are_finite():
    weight = matrices(2, 4, 5, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: power_row_sums(w, 3), weight)
    zero = torch.zeros(1, 3, 4, requires_grad=True)
    power_bound(zero).sum().backward()
    assert zero.grad is not None
    assert zero.grad.isfinite().all()


def test_steps_start_at_one():
    with pytest.raises(ValueError, match="steps must be at least 1"):
        power_bound(torch.ones(1, 2, 2), 0)

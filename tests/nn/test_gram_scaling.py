import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from l2nnn_lightning.nn.bounds import gram_bound
from l2nnn_lightning.nn.gram_scaling import scale_by_gram

HARD, SOFT = torch.tensor(True), torch.tensor(False)


def weights(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).requires_grad_()


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 100))
def test_the_scaled_matrices_are_nonexpansive_patch_by_patch(groups, rows, columns, copies, seed):
    weight = weights(groups, rows, columns, seed=seed).detach()
    scaled = scale_by_gram(weight, weight, HARD, copies, 1.0).numpy()
    for raw, matrix in zip(weight.numpy(), scaled, strict=True):
        bound = min(np.abs(raw.T @ raw).sum(1).max(), np.abs(raw @ raw.T).sum(1).max())
        np.testing.assert_allclose(matrix, raw / math.sqrt(copies * bound), rtol=1e-12)
        assert math.sqrt(copies) * np.linalg.norm(matrix, 2) <= 1 + 1e-12


@pytest.mark.parametrize("shape", [(1, 3, 7), (1, 7, 3), (1, 5, 5), (4, 4, 6), (3, 1, 1), (2, 130, 150)])
def test_the_gradient_is_that_of_dividing_by_the_bound(shape):
    weight, grad = weights(*shape), weights(*shape, seed=1).detach()
    (scale_by_gram(weight, weight, HARD, 4, 0.5) * grad).sum().backward()
    ours, weight.grad = weight.grad, None
    bound = gram_bound(weight)[:, None, None]
    (weight * 0.5 / (4 * bound).sqrt() * grad).sum().backward()
    torch.testing.assert_close(ours, weight.grad, rtol=1e-10, atol=1e-12)
    if weight.numel() < 100:
        assert torch.autograd.gradcheck(lambda w: scale_by_gram(w, w, HARD, 4, 0.5), weight)


def test_each_matrix_of_a_batch_takes_its_own_side_of_the_minimum():
    batch = weights(6, 4, 4)
    by_rows, by_columns = ((m @ m.mT).abs().sum(-1).amax(-1) for m in (batch, batch.mT))
    assert len(set((by_rows < by_columns).tolist())) == 2
    assert torch.autograd.gradcheck(lambda w: scale_by_gram(w, w, HARD, 1, 1.0), batch)


def test_soft_matrices_are_only_divided_by_the_root_of_the_copies():
    weight = weights(2, 3, 4)
    scaled = scale_by_gram(weight, weight, SOFT, 9, 1.0)
    torch.testing.assert_close(scaled, weight / 3)
    scaled.sum().backward()
    torch.testing.assert_close(weight.grad, torch.full_like(weight, 1 / 3))


@pytest.mark.parametrize("size", [0.0, 1e-20])
def test_negligible_matrices_and_their_gradients_are_not_blown_up(size):
    weight = torch.full((1, 3, 4), size, requires_grad=True)
    scaled = scale_by_gram(weight, weight, HARD, 1, 1.0)
    torch.testing.assert_close(scaled, weight)
    scaled.sum().backward()
    torch.testing.assert_close(weight.grad, torch.ones_like(weight))

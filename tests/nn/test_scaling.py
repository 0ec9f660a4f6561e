"""Divisors against one another, and the scaling by the paper's bound; layers are tested with the parametrization."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import affine_norm
from torch import nn

from l2nnn_lightning.nn import harden, nonexpansive
from l2nnn_lightning.nn.bounds import gram_bound
from l2nnn_lightning.nn.layouts import Layout
from l2nnn_lightning.nn.scaling import BOUNDS, divisor, scale_by_gram


def layout_of(layer):
    return layer.parametrizations.weight[0].layout


@pytest.fixture(params=[(1, 1), (2, 1), (2, 2)], ids=str)
def conv(request):
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, 3, padding=1, stride=request.param).double()


def test_one_factor_a_channel_is_never_smaller_than_one_for_all(conv):
    nonexpansive(conv)
    weight, layout = conv.parametrizations.weight.original.detach(), layout_of(conv)
    for apart, bounds in [("rows", "gram"), ("rows_power", "power"), ("operator_columns", "operator")]:
        divisors = divisor(apart, weight, layout)
        largest = divisor(bounds, weight, layout).max()
        assert divisors.std() > 0
        if apart != "rows":
            assert divisors.mean() < largest * (1 + 1e-9)
    minimum = divisor("minimum", weight, layout)
    for uniform in ("gram", "power", "operator"):
        assert (minimum <= divisor(uniform, weight, layout) * (1 + 1e-12)).all()


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_random_convolution_keeps_more_of_its_norm_than_with_the_papers_bound(conv, bound):
    kept = {}
    for name in ("gram", bound):
        copy = nn.Conv2d(4, 6, 3, padding=1, stride=conv.stride).double()
        copy.load_state_dict(conv.state_dict())
        kept[name] = affine_norm(harden(nonexpansive(copy, name)), (4, 8, 8))
    assert kept["gram"] <= kept[bound] + 1e-9 or bound.startswith(("rows", "columns"))
    assert kept[bound] > 0.2


def test_linear_maps_are_scaled_along_the_shorter_side():
    tall, wide = torch.randn(5, 3), torch.randn(3, 5)
    assert divisor("operator_columns", tall, Layout(1, 5)).shape == (1, 1, 3)
    assert divisor("operator_columns", wide, Layout(1, 3)).shape == (1, 3, 1)
    assert divisor("operator_rows", tall, Layout(1, 5)).shape == (1, 5, 1)


def test_orthogonal_weights_are_left_alone():
    weight = nn.init.orthogonal_(torch.empty(4, 9))
    for bound in ("gram", "power", "rows", "rows_power", "operator", "operator_columns", "minimum"):
        torch.testing.assert_close(divisor(bound, weight, Layout(1, 4)).amax(), torch.tensor(1.0))


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

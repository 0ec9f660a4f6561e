"""Lp norm-pooling: its norm by exact Jacobians and pairs, its values by numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import jacobian_norm

from l2nnn_lightning.models import ConvL2NNN
from l2nnn_lightning.nn import LpPool2d, NormPool2d, harden

ORDERS = [1.0, 1.3, 2.0, 3.0, 17.0, 50.0, math.inf]


@given(
    p=st.sampled_from(ORDERS),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.one_of(st.none(), st.tuples(st.integers(1, 4), st.integers(1, 4))),
    pad=st.booleans(),
    extra=st.integers(0, 3),
    seed=st.integers(0, 999),
    zeros=st.booleans(),
)
def test_lp_pooling_is_nonexpansive(p, kernel, stride, pad, extra, seed, zeros):
    pool = LpPool2d(p, kernel, stride, tuple(k // 2 for k in kernel) if pad else 0)
    generator = torch.Generator().manual_seed(seed)
    x, move = torch.randn(2, 2, kernel[0] + extra, kernel[1] + extra, dtype=torch.float64, generator=generator)
    x *= torch.rand(x.shape, generator=generator) < (0.4 if zeros else 1)
    assert jacobian_norm(pool, x) <= 1 + 1e-9
    for length in (1e-6, 1.0, 1e3):
        y = x + length * move
        assert (pool(x[None]) - pool(y[None])).norm() <= (x - y).norm() * (1 + 1e-6)


@pytest.mark.parametrize("p", ORDERS)
def test_a_window_becomes_its_norm(p):
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 4))
    windows = x.reshape(2, 3, 3, 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(2, 3, 3, 2, 4)
    norm = np.linalg.norm(windows, ord=p, axis=4) / max(1, 4 ** (1 / p - 0.5))
    np.testing.assert_allclose(LpPool2d(p, 2)(torch.from_numpy(x)).numpy(), norm)
    overlapping = LpPool2d(p, 3, 1, 1)(torch.from_numpy(x))
    corner = np.linalg.norm(x[0, 0, :2, :2].ravel(), ord=p) / 3 / max(1, 9 ** (1 / p - 0.5))
    assert float(overlapping[0, 0, 0, 0]) == pytest.approx(corner)


@pytest.mark.parametrize("p", ORDERS)
def test_the_constant_is_attained(p):
    """Below 2 by equal entries, above by a single one: a larger factor would be expansive."""
    x = torch.ones(1, 2, 2, dtype=torch.float64) if p < 2 else torch.eye(2, dtype=torch.float64)[None] * 1.0
    if p >= 2:
        x[0, 1, 1] = 0
    assert jacobian_norm(LpPool2d(p, 2), x) == pytest.approx(1)


def test_order_two_is_norm_pooling():
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    for arguments in [(2,), (3, 2, 1), ((2, 3), 1)]:
        torch.testing.assert_close(LpPool2d(2.0, *arguments)(x), NormPool2d(*arguments)(x))


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-30, 1e30])
def test_small_and_large_windows_are_finite_with_their_gradients(p, size):
    x = torch.full((1, 1, 4, 4), size)
    x[..., :2] *= 0.1
    x.requires_grad_(True)
    y = LpPool2d(p, 2)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert y.isfinite().all()
    assert float(gradient.abs().max()) <= 1 + 1e-6
    assert float(y.detach().max()) <= max(2 * size * (1 + 1e-6), 1e-37)
    assert float(gradient.abs().max()) == 0 or size > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0.5, 2), "p must be at least 1, got 0.5"), ((math.nan, 2), "p must be"), ((2.0, 0), "kernel_size and stride")],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LpPool2d(*arguments)


def test_a_network_pools_by_the_order_that_it_is_given():
    network = harden(ConvL2NNN((1, 8, 8), 3, channels=[2], dense=[4], norm_order=math.inf))
    assert [layer.p for layer in network.trunk if isinstance(layer, LpPool2d)] == [math.inf]

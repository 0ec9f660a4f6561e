"""Scalar nonlinearities with a largest slope of 1: slopes by autograd on a fine grid, and by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import jacobian_norm
from torch import Tensor

from l2nnn_lightning.models.l2nnn import Activation, activation_of
from l2nnn_lightning.nn import ScaledSigmoid, TwoSided, UnitSlope
from l2nnn_lightning.nn.nonlinearities import INCREASING, NONLINEARITIES

#: Fine around 0, where slopes change, and far out.
FAR = torch.tensor([-1e30, -1e4, -99.0, 99.0, 1e4, 1e30], dtype=torch.float64)
GRID = torch.cat([torch.linspace(-12, 12, 240_001, dtype=torch.float64), FAR])


def slopes(f: object, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(f(x).sum(), x)  # type: ignore[operator]
    return slope


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_the_largest_slope_is_one_and_zero_stays_zero(name: str) -> None:
    f = UnitSlope(*NONLINEARITIES[name])
    slope = slopes(f, GRID)
    assert 1 - 1e-8 < float(slope.abs().max()) <= 1
    assert float(f(torch.zeros(1, dtype=torch.float64))) == 0
    if name in INCREASING:
        assert float(slope.min()) >= 0
    assert f(GRID.float()).isfinite().all()


@given(st.sampled_from(sorted(NONLINEARITIES)), st.integers(0, 999), st.sampled_from([1e-6, 0.1, 1.0, 30.0]))
def test_no_pair_of_points_moves_apart(name: str, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = scale * torch.randn(2, 500, dtype=torch.float64, generator=generator)
    f = UnitSlope(*NONLINEARITIES[name])
    assert bool(((f(x) - f(y)).abs() <= (x - y).abs() * (1 + 1e-12)).all())
    if name in INCREASING:
        two_sided = TwoSided(f)
        moved = (two_sided(x[:, None]) - two_sided(y[:, None])).norm(dim=1)
        assert bool((moved <= (x - y).abs() * (1 + 1e-12)).all())


def test_a_steeper_function_is_shrunk_and_a_flatter_one_enlarged() -> None:
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(UnitSlope(lambda v: 7 * v, 7.0)(x), x)
    flat = UnitSlope(torch.sigmoid, 0.25)
    assert float(slopes(flat, GRID).max()) == pytest.approx(1)
    assert jacobian_norm(flat, torch.zeros(3, dtype=torch.float64)) == pytest.approx(1)


def test_softplus_is_the_log_of_a_sum_without_its_value_at_zero() -> None:
    x = torch.tensor([-50.0, -3.0, -1e-9, 0.0, 1e-9, 3.0, 50.0], dtype=torch.float64)
    expected = [math.log1p(math.exp(v)) - math.log(2) for v in x.tolist()]
    assert NONLINEARITIES["softplus"][0](x).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("slope", [0.0, -1.0, float("inf"), float("nan")])
def test_a_slope_that_is_none_is_refused(slope: float) -> None:
    with pytest.raises(ValueError, match="slope must be positive and finite"):
        UnitSlope(torch.tanh, slope)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("shape", [(3, 2, 2), (3,), 3, 1])
def test_a_sigmoid_has_a_height_for_each_neuron(shape: int | tuple[int, ...], centred: bool) -> None:
    sigmoid = ScaledSigmoid(shape, centred=centred).double()
    with torch.no_grad():
        sigmoid.log_height.normal_(std=2.0)
    x = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    t = sigmoid.log_height.detach().exp()
    t = t if t.dim() == 3 else t[:, None, None]
    expected = t * torch.sigmoid(4 * x / t) - (t / 2 if centred else 0)
    torch.testing.assert_close(sigmoid(x).detach(), expected)
    assert jacobian_norm(sigmoid, x[0]) <= 1


@pytest.mark.parametrize("log_height", [-1e4, -80.0, 80.0, 1e4])
@pytest.mark.parametrize("centred", [False, True])
def test_a_sigmoid_of_any_height_is_finite_with_its_gradients(log_height: float, centred: bool) -> None:
    sigmoid = ScaledSigmoid(2, centred=centred)
    with torch.no_grad():
        sigmoid.log_height.fill_(log_height)
    x = torch.tensor([[0.0, -3.0], [1e-3, 4.0]], requires_grad=True)
    y = sigmoid(x)
    slope_x, slope_t = torch.autograd.grad(y.sum(), (x, sigmoid.log_height))
    assert y.isfinite().all()
    assert slope_t.isfinite().all()
    assert float(slope_x.min()) >= 0
    assert float(slope_x.max()) <= 1 + 1e-6
    assert not centred or bool((y.abs() <= x.abs() * (1 + 1e-6)).all())


def test_an_input_of_another_shape_is_refused() -> None:
    for shape, x in [((3, 2, 2), torch.zeros(1, 3, 4, 4)), (3, torch.zeros(1, 4)), ((3, 2), torch.zeros(1, 3))]:
        with pytest.raises(ValueError, match="t is made for"):
            ScaledSigmoid(shape)(x)


@pytest.mark.parametrize("name", Activation.__args__)  # type: ignore[attr-defined]
@pytest.mark.parametrize("dim", [1, 2])
def test_every_activation_of_the_networks_is_nonexpansive_and_widens_as_it_says(name: Activation, dim: int) -> None:
    build, widening = activation_of(name, [4], dim)
    shape = (4, 3, 2) if dim == 1 else (3, 4)
    for module in (build(shape), build()):
        module.double()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_(std=3.0)
        x = torch.randn(shape, dtype=torch.float64)
        assert 0.5 < jacobian_norm(module, x) <= 1 + 1e-12
        assert module(x[None]).shape[dim] == 4 * widening
        assert float(module(torch.zeros_like(x)[None]).detach().abs().max()) == 0

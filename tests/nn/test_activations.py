"""Activations and poolings, by exact Jacobians and by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import jacobian_norm
from torch import nn

from l2nnn_lightning.nn import MaxMin, NormPool2d, ScaledSigmoid, TwoSided, TwoSidedReLU
from l2nnn_lightning.nn.labelwise import PerLabel
from l2nnn_lightning.nn.pooling import PixelUnshuffle

SLACK = 1 + 1e-6
PIECES = {
    "two_sided_relu": TwoSidedReLU,
    "two_sided_of_tanh": lambda: TwoSided(torch.tanh),
    "sigmoid": lambda: ScaledSigmoid(4, height=0.7),
    "two_sided_of_sigmoid": lambda: TwoSided(ScaledSigmoid(4, height=2.5)),
    "maxmin": MaxMin,
}


@given(st.sampled_from(sorted(PIECES)), st.integers(0, 999), st.floats(1e-3, 30))
def test_pieces_are_nonexpansive_by_their_jacobian(name, seed, scale):
    x = scale * torch.randn(4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert jacobian_norm(PIECES[name]().double(), x) <= SLACK


@given(st.sampled_from(sorted(PIECES)), st.integers(0, 999), st.floats(1e-3, 30))
def test_pieces_are_nonexpansive_between_any_two_points(name, seed, scale):
    x, y = scale * torch.randn(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    piece = PIECES[name]().double()
    assert (piece(x) - piece(y)).norm() <= (x - y).norm() * SLACK


def test_two_sided_relu_keeps_distances_within_one_sign_pattern_and_channels_in_order():
    x = torch.tensor([[1.0, -2.0, 3.0]])
    assert TwoSidedReLU()(x).tolist() == [[1, 0, 3, 0, 2, 0]]
    assert TwoSidedReLU(dim=2)(x[:, None]).tolist() == [[[1, 0, 3, 0, 2, 0]]]
    other = torch.tensor([[4.0, -1.0, 0.5]])
    torch.testing.assert_close((TwoSidedReLU()(x) - TwoSidedReLU()(other)).norm(), (x - other).norm())


def test_scaled_sigmoid_has_slope_one_at_zero_for_each_height():
    sigmoid = ScaledSigmoid(2, height=3.0).double()
    with torch.no_grad():
        sigmoid.log_height[1] = torch.tensor(0.25).log()
    x = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    y = sigmoid(x)
    assert y.detach()[0].tolist() == pytest.approx([1.5, 0.125])
    assert torch.autograd.grad(y.sum(), x)[0][0].tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("arguments", [{"height": 0}, {"height": -1.0}, {"height": float("inf")}])
def test_scaled_sigmoid_refuses_bad_heights(arguments):
    with pytest.raises(ValueError, match="must be"):
        ScaledSigmoid(**arguments)


@pytest.mark.parametrize(
    ("shape", "dim"), [((3, 6), 1), ((2, 4, 5), 1), ((2, 4, 3, 5), 1), ((2, 3, 6), 2), ((2, 3, 6), -1)]
)
def test_maxmin_sorts_neighbours(shape: tuple[int, ...], dim: int) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    last = x.movedim(dim, -1)
    by_hand = last.clone()
    for i in range(0, last.shape[-1], 2):
        by_hand[..., i : i + 2] = last[..., i : i + 2].sort(-1, descending=True).values
    assert MaxMin(dim)(x).equal(by_hand.movedim(-1, dim))


def test_maxmin_refuses_an_odd_number_of_channels() -> None:
    with pytest.raises(ValueError, match="size of dimension 1 must be even, got 3"):
        MaxMin()(torch.zeros(2, 3, 4, 4))


@given(st.integers(0, 10_000))
def test_maxmin_keeps_the_norm_of_every_gradient(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    # A permutation of the entries: every singular value is 1.
    assert jacobian_norm(MaxMin(), x) == pytest.approx(1, abs=1e-12)
    assert jacobian_norm(MaxMin(), torch.zeros(4)) == pytest.approx(1)


def test_a_maxmin_of_every_label_keeps_to_its_label() -> None:
    x = torch.randn(2, 12, 3, 3, generator=torch.Generator().manual_seed(0))
    together = PerLabel(3, MaxMin())(x)
    for label in range(3):
        part = slice(4 * label, 4 * label + 4)
        assert together[:, part].equal(MaxMin()(x[:, part]))


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.one_of(st.none(), st.tuples(st.integers(1, 5), st.integers(1, 5))),
    pad=st.booleans(),
    extra=st.integers(0, 3),
    seed=st.integers(0, 999),
    zeros=st.booleans(),
)
def test_norm_pooling_is_nonexpansive(kernel, stride, pad, extra, seed, zeros):
    pool = NormPool2d(kernel, stride, tuple(k // 2 for k in kernel) if pad else 0)
    x = torch.randn(2, kernel[0] + extra, kernel[1] + extra, dtype=torch.float64)
    x *= torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < (0.4 if zeros else 1)
    assert jacobian_norm(pool, x) <= 1 + 1e-6
    y = x + torch.randn_like(x)
    assert (pool(x[None]) - pool(y[None])).norm() <= (x - y).norm() * (1 + 1e-6)


def test_norm_pooling_takes_the_norm_of_each_window():
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    windows = nn.functional.unfold(x, 2, stride=2).reshape(2, 3, 4, 2, 3)
    torch.testing.assert_close(NormPool2d(2)(x), windows.norm(dim=2))
    overlapping = nn.functional.unfold(x, 3, stride=2, padding=1).reshape(2, 3, 9, 3, 3)
    torch.testing.assert_close(NormPool2d(3, 2, 1)(x), overlapping.norm(dim=2) / 2)


def test_overlap_is_counted_exactly():
    """An entry in the middle reaches K windows: without the factor its distance would grow by sqrt(K)."""
    x = torch.zeros(1, 7, 7, dtype=torch.float64)
    x[0, 3, 3] = 1
    for kernel, stride, windows in [(3, 1, 9), (3, 2, 1), (2, 1, 4), (4, 2, 4), (2, 3, 1)]:
        pooled = NormPool2d(kernel, stride)(x[None])
        factor = (-(-kernel // stride)) ** 2
        assert float(pooled.square().sum()) == pytest.approx(windows / factor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_windows_have_gradient_zero(dtype):
    x = torch.zeros(1, 1, 4, 4, dtype=dtype, requires_grad=True)
    y = NormPool2d(2)(x)
    y.sum().backward()
    assert float(x.grad.abs().max()) == 0
    assert float(y.detach().max()) < 1e-18


@pytest.mark.parametrize("arguments", [(0,), (2, 0), (2, 2, 2), (3, 1, -1)])
def test_norm_pooling_refuses_bad_sizes(arguments):
    with pytest.raises(ValueError, match="kernel_size and stride"):
        NormPool2d(*arguments)


def test_unshuffling_is_torchs_also_of_an_empty_batch_and_exports_with_any():
    unshuffle, x = PixelUnshuffle(2), torch.rand(5, 3, 6, 4)
    expected = nn.functional.pixel_unshuffle(x, 2)
    channels_last = unshuffle(x.contiguous(memory_format=torch.channels_last))
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    exported = torch.export.export(unshuffle, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    for count in (0, 1, 3):
        assert torch.equal(unshuffle(x[:count]), expected[:count])
        assert torch.equal(exported(x[:count]), expected[:count])

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import jacobian_norm

from l2nnn_lightning.nn import MaxMin, ScaledSigmoid, TwoSided, TwoSidedReLU
from l2nnn_lightning.nn.labelwise import PerLabel

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

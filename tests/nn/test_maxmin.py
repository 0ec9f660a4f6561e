"""MaxMin against sorting by hand, and its Lipschitz constant against the Jacobian's singular values."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import jacobian_norm
from torch import nn

from l2nnn_lightning.nn import MaxMin, harden, nonexpansive
from l2nnn_lightning.nn.continuity import keep_biases_in_scale
from l2nnn_lightning.nn.labelwise import PerLabel


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


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_maxmin_keeps_the_norm_of_every_gradient(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    # A permutation of the entries: every singular value is 1.
    assert jacobian_norm(MaxMin(), x) == pytest.approx(1, abs=1e-12)
    assert jacobian_norm(MaxMin(), torch.zeros(4)) == pytest.approx(1)
    y = x + torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    assert float((MaxMin()(x[None]) - MaxMin()(y[None])).norm()) <= float((x - y).norm())


def test_hard_scaling_keeps_the_answers_of_a_maxmin_chain() -> None:
    torch.manual_seed(0)
    chain = nn.Sequential(nonexpansive(nn.Linear(6, 8)), MaxMin(), nonexpansive(nn.Linear(8, 3)))
    x = torch.randn(20, 6)
    before = chain(x)
    divisor = keep_biases_in_scale(chain)
    assert divisor is not None
    assert torch.allclose(harden(chain)(x) * divisor.float(), before, atol=1e-5)


def test_a_maxmin_of_every_label_keeps_to_its_label() -> None:
    x = torch.randn(2, 12, 3, 3, generator=torch.Generator().manual_seed(0))
    together = PerLabel(3, MaxMin())(x)
    for label in range(3):
        part = slice(4 * label, 4 * label + 4)
        assert together[:, part].equal(MaxMin()(x[:, part]))

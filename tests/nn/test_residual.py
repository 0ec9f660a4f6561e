"""Residual blocks: the whole block's Lipschitz constant, for every t and branch, against exact oracles."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import affine_norm, jacobian_norm
from torch import nn

from l2nnn_lightning.nn import Residual, TwoSidedReLU, harden, nonexpansive
from l2nnn_lightning.nn.residual import Splitting

EXACT = 1 + 1e-6
BLOCKS: dict[str, dict[str, Any]] = {
    "block": {},
    "block_own_merge": {"shared": False},
    "channel": {"t": "channel", "shape": 4},
    "channel_own_merge": {"t": "channel", "shape": 4, "shared": False},
    "entry": {"t": "entry", "shape": (4, 3, 3)},
    "entry_own_merge": {"t": "entry", "shape": (4, 3, 3), "shared": False},
}


def hard_branch(channels: int = 4) -> nn.Module:
    """Two convolutions whose raw weights are anything but nonexpansive."""
    branch = nn.Sequential(
        nonexpansive(nn.Conv2d(channels, channels, 3, padding=1)),
        TwoSidedReLU(),
        nonexpansive(nn.Conv2d(2 * channels, channels, 3, padding=1)),
    )
    with torch.no_grad():
        for parameter in branch.parameters():
            parameter.copy_(3 * torch.randn_like(parameter))
    return harden(branch)


def set_phases(block: nn.Module, low: float, high: float) -> None:
    with torch.no_grad():
        for module in block.modules():
            if isinstance(module, Splitting):
                module.phase.uniform_(low, high)


@settings(max_examples=20)
@given(st.sampled_from(sorted(BLOCKS)), st.integers(0, 999), st.sampled_from([0.1, 2.0, 50.0]))
def test_block_is_nonexpansive_by_its_jacobian_for_every_t(name: str, seed: int, spread: float) -> None:
    torch.manual_seed(seed)
    block = Residual(hard_branch(), **BLOCKS[name]).double().eval()
    set_phases(block, -spread, spread)
    x = torch.randn(4, 3, 3, dtype=torch.float64)
    assert jacobian_norm(block, x) <= EXACT
    y = x + torch.randn_like(x)
    assert float((block(x[None]) - block(y[None])).detach().norm()) <= float((x - y).norm()) * EXACT


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_block_attains_its_constant_and_no_more_with_an_aligned_branch(name: str) -> None:
    """With f the identity and one t the block is the identity: any larger factor would be expansive."""
    for initial in (0.0, 0.2, 0.5, math.sqrt(0.5), 0.99, 1.0):
        block = Residual(nn.Identity(), initial=initial, **BLOCKS[name]).double()
        assert affine_norm(block, (4, 3, 3)) == pytest.approx(1, abs=1e-9)
    set_phases(block, -3, 3)
    norm = affine_norm(block, (4, 3, 3))
    assert 0.5 < norm <= 1 + 1e-12


def test_worst_rotation_for_a_given_t_stays_at_one() -> None:
    """Against unequal t per channel, the rotation that aligns both paths best reaches 1 and does not pass it."""
    for seed in range(5):
        torch.manual_seed(seed)
        linear = nn.Linear(5, 5, bias=False).double()
        block = Residual(linear, "channel", 5, shared=False).double()
        set_phases(block, -math.pi, math.pi)
        with torch.no_grad():
            (t, t_rest), (s, s_rest) = block.split(), block.merge()
            u, v = nn.functional.normalize(torch.rand(2, 5, dtype=torch.float64), dim=1)
            for _ in range(200):
                # The reflection that turns what enters the branch to where it helps the output most.
                given, wanted = (nn.functional.normalize(a, dim=0) for a in (t_rest * v, s_rest * u))
                mirror = given - wanted
                turn = torch.eye(5, dtype=torch.float64) - 2 * torch.outer(mirror, mirror) / mirror.square().sum()
                u = nn.functional.normalize(s * t * v + s_rest * (turn @ (t_rest * v)), dim=0)
                v = nn.functional.normalize(s * t * u + t_rest * (turn.mT @ (s_rest * u)), dim=0)
            linear.weight.copy_(turn)
        assert 0.9 < affine_norm(block, (5,)) <= 1 + 1e-12


def test_block_follows_equations_9_and_10() -> None:
    branch = nn.Linear(3, 3).double()
    block = Residual(branch, initial=0.6, shared=False).double()
    x = torch.randn(2, 3, dtype=torch.float64)
    torch.testing.assert_close(block(x), 0.6 * (0.6 * x) + 0.8 * branch(0.8 * x))
    with torch.no_grad():
        block.merge.phase.fill_(math.asin(1 - 4 * math.asin(0.28) / math.pi))
    torch.testing.assert_close(block(x), 0.28 * (0.6 * x) + 0.96 * branch(0.8 * x))


def test_ends_are_the_identity_and_the_branch_with_finite_gradients() -> None:
    x = torch.randn(2, 4, 3, 3)
    for initial in (0.0, 1.0):
        block = Residual(hard_branch(), initial=initial)
        y = block(x)
        torch.testing.assert_close(y, x if initial == 1 else block.branch(x))
        y.square().sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in block.parameters())


def test_only_the_channels_that_take_part_are_scaled() -> None:
    block = Residual(hard_branch(4), "channel", channels=(1, 5)).double().eval()
    assert block.split.phase.shape == (4,)
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    y = block(x)
    assert torch.equal(y[:, [0, 5]], x[:, [0, 5]])
    whole = Residual(block.branch, "channel", 4).double().eval()
    torch.testing.assert_close(y[:, 1:5], whole(x[:, 1:5]))
    for image in x:
        assert jacobian_norm(block, image) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_factors_never_pass_the_unit_circle_by_rounding(dtype: torch.dtype) -> None:
    splitting = Splitting((20_001,)).to(dtype)
    with torch.no_grad():
        splitting.phase.copy_(torch.linspace(-4, 4, 20_001, dtype=dtype))
        t, rest = (factor.double() for factor in splitting())
    square = t.square() + rest.square()
    assert float(square.max()) <= 1
    assert float(square.min()) > 1 - 20 * torch.finfo(dtype).eps
    assert float(t.min()) >= 0
    assert float(t.max()) > 1 - 10 * torch.finfo(dtype).eps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t": "layer"}, "t must be one of block, channel, entry, got 'layer'"),
        ({"t": "channel"}, "t='channel' needs shape: the number of channels"),
        ({"t": "entry"}, "t='entry' needs shape: the shape of one sample"),
        ({"t": "channel", "shape": 0}, "shape must be positive, got 0"),
        ({"initial": float("nan")}, r"the initial t must be in \[0, 1\], got nan"),
        ({"channels": (3, 3)}, r"channels must be \(first, end\)"),
        ({"t": "channel", "shape": 3, "channels": (0, 2)}, "2 channels take part, but shape is 3"),
    ],
)
def test_bad_description_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Residual(nn.Identity(), **options)


@pytest.mark.parametrize(
    ("block", "shape", "message"),
    [
        (Residual(nn.Linear(4, 3)), (2, 4), r"must keep the shape: \(2, 4\) became \(2, 3\)"),
        (Residual(TwoSidedReLU()), (2, 4, 3), r"must keep the shape: \(2, 4, 3\) became \(2, 8, 3\)"),
        (Residual(nn.Identity(), "channel", 3), (2, 4), r"t is made for \(3,\)"),
        (Residual(nn.Identity(), "entry", (4, 5)), (2, 4, 6), r"t is made for \(4, 5\)"),
        (Residual(nn.Identity(), channels=(2, 5)), (2, 4), "channels 2 to 5 take part, but the input has 4"),
    ],
)
def test_unfit_input_is_refused(block: Residual, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        block(torch.zeros(shape))


@settings(max_examples=40)
@given(
    st.sampled_from(["block", "channel", "entry"]),
    st.booleans(),
    st.integers(0, 4),
    st.integers(0, 3),
    st.booleans(),
    st.integers(0, 999),
)
def test_some_outputs_are_added_and_the_rest_is_joined(
    t: str, shared: bool, added: int, more: int, inner: bool, seed: int
) -> None:
    """The branch gives fewer or more channels than it receives; for every t the block stays nonexpansive."""
    torch.manual_seed(seed)
    given_ = max(added + more, 1)
    branch = nn.Conv2d(4, given_, 1, bias=False).double()
    nn.init.orthogonal_(branch.weight)  # of norm 1
    where = {"channels": (1, 5)} if inner else {}
    shape = None if t == "block" else (4, 2, 2)
    block = Residual(branch, t, shape, shared=shared, added=added, **where).double()  # type: ignore[arg-type]
    set_phases(block, -2, 2)
    channels = 6 if inner else 4
    norm = affine_norm(block, (channels, 2, 2))
    assert 0.5 < norm <= EXACT
    x = torch.randn(3, channels, 2, 2, dtype=torch.float64)
    y = block(x)
    assert y.shape == (3, channels + given_ - added, 2, 2)

    def broadcast(factor: torch.Tensor) -> torch.Tensor:
        return factor.reshape(*factor.shape, *[1] * (3 - factor.dim())) if factor.dim() else factor

    (t_, rest), (s, s_rest) = (map(broadcast, part()) for part in (block.split, block.merge))
    if shared and t != "block":
        s, s_rest = s[:added], s_rest[:added]
    first = 1 if inner else 0
    part = x[:, first : first + 4]
    f = branch(rest * part)
    torch.testing.assert_close(
        y[:, first : first + added], s * (t_ * part)[:, :added] + s_rest * f[:, :added] if added else y[:, :0]
    )
    torch.testing.assert_close(y[:, first + added : first + 4], (t_ * part)[:, added:])
    torch.testing.assert_close(y[:, channels:], f[:, added:])
    if inner:
        assert torch.equal(y[:, [0, 5]], x[:, [0, 5]])


def test_a_branch_that_joins_nothing_keeps_every_distance() -> None:
    block = Residual(nn.Identity(), added=0).double()
    x, y = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    assert block(x).shape == (5, 8, 3)
    torch.testing.assert_close((block(x) - block(y)).norm(), (x - y).norm())


@pytest.mark.parametrize(
    ("build", "shape", "message"),
    [
        (lambda: Residual(nn.Identity(), added=-1), (2, 4), "added must be at least 0, got -1"),
        (lambda: Residual(nn.Identity(), "channel", 3, added=4), (2, 3), "added must be at most the 3 channels"),
        (lambda: Residual(nn.Linear(1, 3), added=3), (2, 1), r"of which 3 are added: \(2, 1\) became \(2, 3\)"),
        (lambda: Residual(nn.Linear(4, 2), added=3), (2, 4), r"of which 3 are added: \(2, 4\) became \(2, 2\)"),
        (lambda: Residual(nn.AvgPool2d(2), added=1), (2, 4, 4, 4), "must keep all but its channels"),
        (lambda: Residual(nn.Flatten(), added=1), (2, 4, 4, 4), "must keep all but its channels"),
    ],
)
def test_channels_that_cannot_be_added_are_refused(build: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()(torch.zeros(shape))

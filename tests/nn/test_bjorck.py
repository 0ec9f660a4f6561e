"""Bjorck steps after a bound: no norm above 1, no singular value lost, whatever the weight; against numpy's SVD."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracles import affine_norm, jacobian_norm
from torch import nn

from l2nnn_lightning.models import ConvL2NNN
from l2nnn_lightning.nn import LabelwiseLinear, fold, harden, largest_bound, nonexpansive, soften, tight_norm
from l2nnn_lightning.nn.bjorck import bjorck_steps, rounding_of_steps
from l2nnn_lightning.nn.parametrization import raw_weight, scaling_of
from l2nnn_lightning.nn.scaling import BOUNDS, STEPS, find_bound, steps_of

#: Each with the bound that it begins with.
BEGINNINGS = {"bjorck": "gram", "bjorck_rows": "operator_columns", "bjorck:1": "gram", "bjorck:25": "gram"}
KINDS = ("gaussian", "sparse", "rank one", "orthonormal", "nearly orthonormal", "graded", "equal", "zero")


def made_up(kind: str, rows: int, columns: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((rows, columns))
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return {
        "gaussian": matrix,
        "sparse": matrix * (generator.random(matrix.shape) < 0.3),
        "rank one": np.outer(matrix[:, 0], matrix[0]),
        "orthonormal": left @ right,
        "nearly orthonormal": left @ right + 1e-3 * matrix,
        "graded": (left * 10.0 ** -np.arange(len(values))) @ right,
        "equal": np.ones_like(matrix),
        "zero": np.zeros_like(matrix),
    }[kind]


def singular_values(layer: nn.Module) -> np.ndarray:
    """Of the flattened matrices times the root of the copies, by numpy in float64."""
    layout = scaling_of(layer).layout
    matrices = layout.matrices(layer.weight.detach().double()).numpy()
    return np.linalg.svd(matrices, compute_uv=False) * math.sqrt(layout.copies)


@settings(max_examples=300)
@given(
    bound=st.sampled_from(list(BEGINNINGS)),
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    scale=st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6]),
    training=st.booleans(),
    seed=st.integers(0, 99),
)
@example(bound="bjorck:25", kind="orthonormal", rows=200, columns=200, scale=1.0, training=False, seed=0)
@example(bound="bjorck", kind="gaussian", rows=100, columns=300, scale=1.0, training=True, seed=0)
def test_no_norm_exceeds_1_and_no_singular_value_falls(bound, kind, rows, columns, scale, training, seed):
    weight = torch.from_numpy(scale * made_up(kind, rows, columns, seed)).float()
    values = {}
    for name in (bound, BEGINNINGS[bound]):
        linear = nn.Linear(columns, rows, bias=False)
        linear.weight.data.copy_(weight)
        values[name] = singular_values(harden(nonexpansive(linear, name)).train(training))
    # Strictly: rounding is accounted for in the layer, and numpy's own is far below that.
    assert values[bound].max() <= 1
    # Entries of both are rounded to float32, and the one is shrunk by the allowance for it.
    allowed = 2 * rounding_of_steps(rows, columns, torch.float32) + 1e-6
    assert (values[bound] >= values[BEGINNINGS[bound]] * (1 - allowed) - allowed).all()
    if kind == "orthonormal" or (min(rows, columns) == 1 and weight.any()):
        assert values[bound].min() >= 1 - allowed


@given(st.sampled_from(KINDS[:-1]), st.integers(2, 30), st.integers(2, 30), st.integers(1, 6), st.integers(0, 99))
def test_each_singular_value_takes_the_cubic_steps(kind, rows, columns, steps, seed):
    matrix = made_up(kind, rows, columns, seed)
    left, values, right = np.linalg.svd(matrix / np.linalg.norm(matrix, 2), full_matrices=False)
    expected = values.copy()
    for _ in range(steps):
        expected = 1.5 * expected - 0.5 * expected**3
    assert (expected >= values - 1e-15).all()
    stepped = bjorck_steps(torch.from_numpy((left * values) @ right)[None], steps)[0].numpy()
    np.testing.assert_allclose(stepped, (left * expected) @ right, atol=1e-12)


@settings(max_examples=60)
@given(
    bound=st.sampled_from(list(BEGINNINGS)),
    kind=st.sampled_from(KINDS),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    circular=st.booleans(),
    double=st.booleans(),
    seed=st.integers(0, 99),
)
def test_convolutions_are_nonexpansive_as_operators(
    bound, kind, kernel, stride, dilation, groups, circular, double, seed
):
    padding = dilation * (kernel - 1) // 2
    mode = "circular" if circular else "zeros"
    conv = nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups, bias=False, padding_mode=mode)
    weight = torch.from_numpy(made_up(kind, 6, 4 * kernel**2 // groups, seed))
    conv.weight.data.copy_(weight.reshape(conv.weight.shape))
    layer = harden(nonexpansive(conv.to(torch.float64 if double else torch.float32), bound)).eval()
    assert singular_values(layer).max() <= 1
    weight = fold(layer).double()  # the layer's arithmetic in float64; its weight is what the claim is about
    norm = affine_norm(weight, (4, 9, 9))
    assert norm <= 1 + 1e-13  # the oracle's own rounding
    assert norm <= tight_norm(layer) * (1 + 1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bound", STEPS)
def test_layers_of_other_precisions(bound, dtype):
    for seed, kind in enumerate(KINDS):
        linear = nn.Linear(60, 50, bias=False).to(dtype)
        linear.weight.data.copy_(torch.from_numpy(made_up(kind, 50, 60, seed)))
        layer = harden(nonexpansive(linear, bound))
        for training in (False, True):
            assert layer.train(training).weight.dtype == dtype
            # Half precision claims nothing, but its rounding stays within the four ulp that every scaling is shrunk by.
            assert singular_values(layer).max() <= 1


def test_autocast_does_not_reach_the_steps():
    layer = harden(nonexpansive(nn.Linear(64, 64, bias=False), "bjorck:20"))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.weight.dtype == torch.float32
        assert singular_values(layer).max() <= 1


def test_each_matrix_of_a_labelwise_layer_takes_its_own_steps():
    layer = harden(nonexpansive(LabelwiseLinear(3, 8, 5), "bjorck:30")).eval()
    with torch.no_grad():
        raw_weight(layer).mul_(torch.tensor([1e-4, 1.0, 1e4])[:, None, None])
    values = singular_values(layer)
    np.testing.assert_allclose(values, 1, atol=3e-6)
    assert values.max() <= 1


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-17, 1e-12, 1e12])
@pytest.mark.parametrize("bound", STEPS)
def test_extreme_weights_stay_finite_with_their_gradients(bound, scale, training):
    layer = nonexpansive(nn.Linear(6, 4, bias=False), bound).train(training)
    reference = harden(layer).weight.detach().clone()
    with torch.no_grad():
        raw_weight(layer).mul_(scale)
    layer.weight.square().sum().backward()
    assert bool(raw_weight(layer).grad.isfinite().all())
    assert singular_values(layer).max() <= 1
    if scale >= 1e-12:
        torch.testing.assert_close(layer.weight.detach(), reference)
    elif scale:  # negligible: as if soft, but for the steps, each of which multiplies by 3/2
        expected = raw_weight(layer).detach() * 1.5 ** steps_of(bound)
        torch.testing.assert_close(layer.weight.detach(), expected, atol=0, rtol=1e-5)


@pytest.mark.parametrize("bound", ["bjorck", "bjorck:1", "bjorck_rows"])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.Linear, (5, 3)),
        (nn.Linear, (3, 5)),
        (nn.Linear, (4, 1)),
        (LabelwiseLinear, (2, 3, 3)),
        (nn.Conv1d, (2, 3, 3)),
        (partial(nn.Conv2d, groups=2), (2, 4, 2, 2)),
    ],
)
def test_gradients_are_those_of_finite_differences(kind, shape, bound):
    layer = harden(nonexpansive(kind(*shape).double(), bound))
    scaling, raw = scaling_of(layer), raw_weight(layer)
    for training in (False, True):
        assert torch.autograd.gradcheck(scaling.train(training), raw)


def test_soft_weights_are_the_raw_ones_and_the_switch_is_reported():
    conv = nonexpansive(nn.Conv2d(2, 3, 3), "bjorck")
    raw = raw_weight(conv).detach()
    torch.testing.assert_close(conv.weight.detach(), raw / 3)
    plain = nonexpansive(nn.Conv2d(2, 3, 3), "gram")
    raw_weight(plain).data.copy_(raw)
    assert largest_bound(conv) == pytest.approx(largest_bound(plain))
    # W is divided by at most this: ||hard W x|| >= ||soft W x|| / hard_norm for every x.
    soft = conv.weight.detach().flatten(1).double()
    hard = harden(conv).weight.detach().flatten(1).double()
    most = float(scaling_of(conv).hard_norm(raw))
    assert float(torch.linalg.eigvalsh(hard.mT @ hard - soft.mT @ soft / most**2).min()) >= -1e-6
    assert not scaling_of(conv).is_uniform
    torch.testing.assert_close(soften(conv).weight.detach(), raw / 3)


@pytest.mark.parametrize("bound", STEPS)
def test_a_hard_network_keeps_its_promise(bound):
    network = ConvL2NNN((1, 8, 8), 4, channels=[3, 4], dense=[12], bound=bound, certificate="pairwise", hard=True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(2 * torch.randn_like(parameter))
    network.eval().double()
    assert 1e-3 < jacobian_norm(network.trunk, torch.rand(1, 8, 8).double()) <= 1 + 1e-9
    images = torch.rand(40, 1, 8, 8).double()
    with torch.no_grad():
        logits = network(images)
        certificate = network.rule()(logits, images)
    label, radius = certificate.label, certificate.radius
    assert float(radius.min()) >= 0
    assert float(radius.max()) > 1e-3
    # Straight towards the nearest other label by the gradient, to just within the radius.
    moved = images.clone()
    for _ in range(20):
        there = network(moved.requires_grad_())
        lead = there.gather(1, label[:, None])[:, 0] - there.scatter(1, label[:, None], -torch.inf).amax(1)
        (gradient,) = torch.autograd.grad(lead.sum(), moved)
        step = gradient.flatten(1) / gradient.flatten(1).norm(dim=1, keepdim=True).clamp_min(1e-12)
        change = (moved.detach() - images).flatten(1) - 0.2 * radius[:, None] * step
        change *= (0.999 * radius / change.norm(dim=1).clamp_min(1e-12)).clamp_max(1)[:, None]
        moved = images + change.view_as(images)
    with torch.no_grad():
        assert torch.equal(network(moved).argmax(1), label)
        torch.testing.assert_close(fold(network)(images), logits)


def test_steps_are_named_or_left_out():
    assert [steps_of(name) for name in ("gram", "bjorck", "bjorck_rows", "bjorck:6", "bjorck_rows:12")] == [
        0,
        4,
        2,
        6,
        12,
    ]
    assert find_bound("bjorck_rows:12") is BOUNDS["bjorck_rows"]


@pytest.mark.parametrize("name", ["bjork", "bjorck:", "bjorck:0", "bjorck:100", "bjorck:x", "bjorck_columns", "gram:2"])
def test_other_names_are_refused_with_the_choices(name):
    with pytest.raises(ValueError, match=f"bound must be one of gram, .*, bjorck, bjorck_rows, or .* got '{name}'"):
        nonexpansive(nn.Linear(2, 2), name)

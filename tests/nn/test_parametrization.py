import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import affine_norm
from torch import nn

from l2nnn_lightning.nn import (
    LabelwiseLinear,
    fold,
    harden,
    is_hard,
    largest_bound,
    nonexpansive,
    penalty,
    soften,
    weight_bound,
    weight_penalty,
)
from l2nnn_lightning.nn.layouts import copying_factor
from l2nnn_lightning.nn.parametrization import raw_weight
from l2nnn_lightning.nn.scaling import BOUNDS

SLACK = 1 + 1e-6
NAMES = st.sampled_from(list(BOUNDS))


def randomised(layer: nn.Module, seed: int, sparse: bool = False) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if sparse:
                values *= torch.rand(parameter.shape, generator=generator) < 0.3
            parameter.copy_(values)
    return layer


@settings(max_examples=200)
@given(
    bound=NAMES,
    rank=st.sampled_from([1, 2]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    groups=st.sampled_from([1, 2]),
    extra=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    training=st.booleans(),
    double=st.booleans(),
    sparse=st.booleans(),
    seed=st.integers(0, 99),
)
def test_zero_padded_convolutions_are_nonexpansive(
    bound, rank, kernel, stride, padding, dilation, groups, extra, training, double, sparse, seed
):
    kind = nn.Conv1d if rank == 1 else nn.Conv2d
    conv = kind(2, 4, kernel[:rank], stride[:rank], padding[:rank], dilation[:rank], groups)
    layer = harden(nonexpansive(randomised(conv, seed, sparse), bound)).train(training)
    if double:
        layer = layer.double()
    size = tuple(d * (k - 1) + 1 + e for k, d, e in zip(kernel[:rank], dilation[:rank], extra[:rank], strict=True))
    assert affine_norm(lambda x: layer(x.to(layer.weight.dtype)), (2, *size)) <= SLACK


@given(
    bound=NAMES,
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    same=st.booleans(),
    size=st.integers(6, 9),
    seed=st.integers(0, 99),
)
def test_circular_convolutions_are_nonexpansive_at_every_map_size(bound, kernel, stride, dilation, same, size, seed):
    if same:
        stride, padding = 1, "same"
    else:
        padding = tuple(dilation * (k - 1) // 2 for k in kernel)
    conv = nn.Conv2d(2, 3, kernel, stride=stride, padding=padding, dilation=dilation, padding_mode="circular")
    layer = harden(nonexpansive(randomised(conv, seed), bound)).double()
    assert affine_norm(layer, (2, size, size + 1)) <= SLACK


def test_copying_factor_is_reached():
    """A constant kernel on a map with room shows that the factor counts real copies: one fewer would be wrong."""
    for k, s, d in [(3, 2, 1), (4, 2, 2), (3, 2, 2), (4, 3, 3), (5, 4, 1), (4, 6, 4)]:
        conv = nn.Conv1d(1, k, k, stride=s, dilation=d, bias=False)
        with torch.no_grad():
            conv.weight.copy_(torch.eye(k).reshape(k, 1, k))
        norm = affine_norm(conv.double(), (1, 12 * s * d))
        assert norm**2 == pytest.approx(copying_factor(conv), abs=1e-9)


@given(NAMES, st.integers(1, 20), st.integers(1, 20), st.integers(0, 99), st.booleans())
def test_linear_layers_are_nonexpansive(bound, inputs, outputs, seed, training):
    layer = harden(nonexpansive(randomised(nn.Linear(inputs, outputs), seed), bound)).train(training)
    assert affine_norm(lambda x: layer(x.float()), (inputs,)) <= SLACK


def test_each_label_of_a_labelwise_layer_is_nonexpansive_alone():
    layer = harden(nonexpansive(randomised(LabelwiseLinear(5, 7, 3), 0))).double()
    norms = [affine_norm(lambda x, k=k: layer(x)[:, k], (7,)) for k in range(5)]
    assert max(norms) <= SLACK
    apart = layer(torch.ones(2, 5, 7).double() * torch.arange(5.0)[None, :, None])
    together = torch.stack([layer(torch.full((2, 7), float(k)).double())[:, k] for k in range(5)], 1)
    torch.testing.assert_close(apart, together)


@pytest.mark.parametrize(
    ("scale", "training"),
    [(1e-30, True), (1e-17, True), (1e-12, True), (1e12, True), (1e-30, False), (1e-17, False), (1e25, False)],
)
def test_hard_scaling_survives_extreme_weights(scale, training):
    layer = harden(nonexpansive(randomised(nn.Linear(6, 4, bias=False), 1))).train(training)
    reference = layer.weight.detach().clone()
    with torch.no_grad():
        layer.parametrizations.weight.original.mul_(scale)
    assert float(torch.linalg.matrix_norm(layer.weight.double(), 2)) <= SLACK
    if 1e-12 <= scale <= 1e12:
        torch.testing.assert_close(layer.weight.detach(), reference)


def test_hard_weight_is_the_papers_and_soft_weight_the_raw_one():
    conv = nonexpansive(randomised(nn.Conv2d(2, 3, (3, 5), stride=(2, 1)), 2))
    raw = conv.parametrizations.weight.original.detach()
    copies = 2 * 5
    torch.testing.assert_close(conv.weight, raw / copies**0.5)
    expected = raw / (copies * weight_bound(raw.flatten(1))) ** 0.5
    torch.testing.assert_close(harden(conv).weight.detach(), expected)
    torch.testing.assert_close(soften(conv).weight, raw / copies**0.5)


@pytest.mark.parametrize("layer", [nn.Linear(3, 4), nn.Conv2d(2, 6, 3, stride=2, groups=2), LabelwiseLinear(2, 3, 4)])
def test_assigning_a_weight_sets_the_soft_weight_and_registration_keeps_the_raw_one(layer):
    initial, wanted = layer.weight.detach().clone(), torch.randn_like(layer.weight)
    nonexpansive(layer)
    assert torch.equal(raw_weight(layer), initial)
    layer.weight = wanted
    torch.testing.assert_close(layer.weight.detach(), wanted)
    torch.testing.assert_close(fold(layer).weight.detach(), wanted)


def test_penalty_sums_equation_7_over_the_layers():
    net = nn.Sequential(
        nonexpansive(randomised(nn.Conv2d(2, 4, 3, groups=2), 3)), nn.Linear(3, 3), nonexpansive(nn.Linear(5, 6))
    )
    raw = net[0].parametrizations.weight.original
    expected = sum(weight_penalty(w) for w in (raw[:2].flatten(1), raw[2:].flatten(1), net[2].weight))
    torch.testing.assert_close(penalty(net), expected)
    assert float(penalty(nn.Linear(2, 2))) == 0


def test_modes_travel_with_the_state_dict_and_with_copies():
    net = nn.Sequential(nonexpansive(nn.Linear(4, 4)), nonexpansive(nn.Linear(4, 2)))
    assert not is_hard(net)
    harden(net[0])
    assert not is_hard(net)
    assert not is_hard(nn.Linear(2, 2))
    harden(net)
    other = nn.Sequential(nonexpansive(nn.Linear(4, 4)), nonexpansive(nn.Linear(4, 2)))
    other.load_state_dict(net.state_dict())
    x = torch.randn(3, 4)
    assert is_hard(other)
    assert is_hard(copy.deepcopy(net))
    torch.testing.assert_close(other(x), net(x))
    averaged = torch.optim.swa_utils.AveragedModel(soften(net), use_buffers=True)
    harden(net)
    averaged.update_parameters(net)
    assert is_hard(averaged)


@pytest.mark.parametrize("hard", [True, False])
def test_fold_gives_a_plain_network_with_the_same_outputs_and_leaves_the_original(hard):
    net = nn.Sequential(
        nonexpansive(nn.Conv2d(1, 3, 3)), nn.Flatten(), nonexpansive(LabelwiseLinear(4, 48, 2)), nn.Flatten()
    ).eval()
    if hard:
        harden(net)
    x = torch.randn(2, 1, 6, 6)
    plain = fold(net)
    assert type(plain[0]) is nn.Conv2d
    assert not any("parametrizations" in name for name in plain.state_dict())
    torch.testing.assert_close(plain(x), net(x))
    assert is_hard(net) == hard
    torch.testing.assert_close(fold(net)(x), net(x))
    assert type(fold(net[0])) is nn.Conv2d


def test_bounds_stay_in_single_precision_under_autocast():
    layer = harden(nonexpansive(randomised(nn.Linear(64, 64, bias=False), 4)))
    with torch.autocast("cpu", torch.bfloat16):
        weight = layer.weight.detach()
    assert weight.dtype == torch.float32
    assert float(torch.linalg.matrix_norm(weight.double(), 2)) <= SLACK


def test_an_optimizer_step_is_seen_in_evaluation():
    """Fused optimizers change weights without raising their version: a cache keyed on it once served stale weights."""
    layer = harden(nonexpansive(nn.Linear(4, 4)))
    x = torch.randn(2, 4)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)
    with torch.no_grad():
        before = layer.eval()(x)
    layer.train()(x).square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        assert not torch.allclose(layer.eval()(x), before)


def test_largest_bound_is_over_all_layers():
    net = nn.Sequential(nonexpansive(nn.Linear(2, 2, bias=False)), nonexpansive(nn.Linear(2, 2, bias=False)))
    with torch.no_grad():
        net[0].parametrizations.weight.original.copy_(torch.eye(2))
        net[1].parametrizations.weight.original.copy_(3 * torch.eye(2))
    assert largest_bound(net) == pytest.approx(9)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "reflect"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate"), "replicate"),
        (nn.Conv1d(1, 1, 3, padding=2, padding_mode="circular"), "circular padding"),
        (nn.ConvTranspose2d(1, 1, 3), "not supported"),
        (nn.BatchNorm2d(3), "not supported"),
        (nn.LazyLinear(3), "no weight yet"),
        (nonexpansive(nn.Linear(2, 2)), "already"),
    ],
)
def test_nonexpansive_refuses_what_it_cannot_prove(module, message):
    with pytest.raises(ValueError, match=message):
        nonexpansive(module)
    with pytest.raises(ValueError, match="bound must be one of"):
        nonexpansive(nn.Linear(2, 2), bound="spectral")

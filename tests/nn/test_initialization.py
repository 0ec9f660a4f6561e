"""Where weights begin, and how biases follow them when they become hard."""

import pytest
import torch
from oracles import affine_norm
from torch import nn

from l2nnn_lightning.models import ConvL2NNN
from l2nnn_lightning.nn import (
    LabelwiseLinear,
    MaxMin,
    NormPool2d,
    Residual,
    ScaledSigmoid,
    SubtractMean,
    harden,
    largest_bound,
    nonexpansive,
)
from l2nnn_lightning.nn.continuity import keep_biases_in_scale
from l2nnn_lightning.nn.initialization import dirac_, orthogonal_, principal_


def low_rank_images(count: int) -> torch.Tensor:
    return (torch.rand(count, 3) @ torch.rand(3, 144)).reshape(count, 1, 12, 12) / 3


def test_orthogonal_weights_have_bound_one_and_zero_biases():
    net = nn.Sequential(
        nonexpansive(nn.Conv2d(2, 3, 3)), nonexpansive(nn.Linear(3, 9)), nonexpansive(LabelwiseLinear(4, 6, 5))
    )
    orthogonal_(net)
    assert largest_bound(net.eval()) == pytest.approx(1, abs=1e-5)
    assert all(float(layer.bias.detach().abs().max()) == 0 for layer in net)


def test_principal_weights_keep_more_distance_than_orthogonal_ones_at_bound_one():
    images = low_rank_images(64)
    net = ConvL2NNN((1, 12, 12), 3, channels=(4, 6), dense=(10,), head_hidden=(5,)).eval()
    harden(net)

    def spread() -> float:
        with torch.no_grad():
            features = net.trunk(images)
        return float((features[:32] - features[32:]).norm(dim=1).mean())

    before = spread()
    principal_(net, images)
    assert spread() > 2 * before
    assert largest_bound(net) == pytest.approx(1, abs=1e-4)


def test_principal_directions_span_the_inputs_of_a_linear_layer():
    layer = nonexpansive(nn.Linear(8, 3))
    orthogonal_(layer)
    x = torch.randn(50, 3) @ torch.randn(3, 8)
    principal_(layer, x)
    weight = layer.weight.detach()
    torch.testing.assert_close(weight @ weight.mT, torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x @ weight.mT @ weight, x, atol=1e-4, rtol=1e-4)


def test_principal_leaves_a_layer_alone_where_the_data_have_too_few_directions():
    layer = nonexpansive(nn.Linear(8, 6))
    orthogonal_(layer)
    before = layer.weight.detach().clone()
    principal_(layer, torch.randn(4, 8))
    torch.testing.assert_close(layer.weight.detach(), before)


@pytest.mark.parametrize(
    ("inputs", "outputs", "groups"), [(4, 4, 1), (3, 8, 1), (8, 3, 1), (4, 4, 2), (2, 6, 2), (6, 2, 2)]
)
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_dirac_is_the_identity_of_the_shared_channels(inputs, outputs, groups, kernel):
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)
    dirac_(nonexpansive(conv, bound="operator_columns"))
    harden(conv).double().eval()
    x = torch.rand(2, inputs, 5, 5, dtype=torch.float64)
    y = conv(x)
    each_in, each_out = inputs // groups, outputs // groups
    for group in range(groups):
        shared = min(each_in, each_out)
        part = y[:, group * each_out : group * each_out + shared]
        torch.testing.assert_close(part, x[:, group * each_in : group * each_in + shared], rtol=0.02, atol=0)
        surplus = y[:, group * each_out + shared : (group + 1) * each_out]
        assert surplus.numel() == 0 or 0 < float(surplus.detach().abs().max()) < 0.3
    assert 0.97 < affine_norm(conv, (inputs, 5, 5)) <= 1 + 1e-6


def test_a_single_head_changes_by_one_factor_at_the_switch():
    net = ConvL2NNN((1, 8, 8), 3, channels=(2,), dense=(5,), head="single").double()
    for parameter in net.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    before = net(x)
    torch.testing.assert_close(net.harden() * net(x), before)


def test_nothing_is_changed_where_the_function_cannot_be_kept():
    for layers in (
        [nonexpansive(nn.Linear(3, 3)), ScaledSigmoid(), nonexpansive(nn.Linear(3, 2))],
        [nonexpansive(nn.Conv2d(2, 2, 1, groups=2)), nonexpansive(nn.Conv2d(2, 2, 1)), NormPool2d(2)],
    ):
        biases = [layer.bias.detach().clone() for layer in layers if hasattr(layer, "bias")]
        assert keep_biases_in_scale(layers) is None
        after = [layer.bias for layer in layers if hasattr(layer, "bias")]
        assert all(torch.equal(a, b) for a, b in zip(biases, after, strict=True))


def test_what_comes_before_the_first_layer_may_be_anything():
    layer = nonexpansive(nn.Linear(4, 4))
    assert keep_biases_in_scale([SubtractMean(0.5), layer, MaxMin()]) is not None
    assert keep_biases_in_scale([layer, SubtractMean(0.5)]) is None
    assert keep_biases_in_scale([Residual(layer)]) is None

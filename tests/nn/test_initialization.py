"""Where weights begin, and how biases follow them when they become hard."""

import pytest
import torch
from torch import nn

from l2nnn_lightning.models import ConvL2NNN
from l2nnn_lightning.nn import LabelwiseLinear, NormPool2d, ScaledSigmoid, harden, largest_bound, nonexpansive
from l2nnn_lightning.nn.continuity import keep_biases_in_scale
from l2nnn_lightning.nn.initialization import orthogonal_, principal_


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


def test_nothing_is_changed_where_the_function_cannot_be_kept():
    for layers in (
        [nonexpansive(nn.Linear(3, 3)), ScaledSigmoid(), nonexpansive(nn.Linear(3, 2))],
        [nonexpansive(nn.Conv2d(2, 2, 1, groups=2)), nonexpansive(nn.Conv2d(2, 2, 1)), NormPool2d(2)],
    ):
        biases = [layer.bias.detach().clone() for layer in layers if hasattr(layer, "bias")]
        assert keep_biases_in_scale(layers) is None
        after = [layer.bias for layer in layers if hasattr(layer, "bias")]
        assert all(torch.equal(a, b) for a, b in zip(biases, after, strict=True))

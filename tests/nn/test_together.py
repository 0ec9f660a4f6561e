from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from l2nnn_lightning.nn import TwoSidedReLU, harden, nonexpansive, soften
from l2nnn_lightning.nn.parametrization import nonexpansive_layers
from l2nnn_lightning.nn.scaling import Bound
from l2nnn_lightning.nn.together import weights_together


def conv(inputs, outputs, bound, **options):
    return nonexpansive(nn.Conv2d(inputs, outputs, 3, padding=1, **options), bound)


@pytest.fixture(params=get_args(Bound))
def network(request):
    """Layers alike, some in groups, and one of each other kind; one of those alike is soft."""
    torch.manual_seed(0)
    bound = request.param
    apart = [conv(2, 4, bound), TwoSidedReLU(), conv(8, 8, bound, stride=2), nn.Flatten()]
    alike = [conv(8, 8, bound), conv(8, 8, bound), conv(8, 8, bound)]
    grouped = [conv(8, 8, bound, groups=2), conv(8, 8, bound, groups=2)]
    network = harden(nn.Sequential(*apart[:2], *alike, *grouped, *apart[2:], nonexpansive(nn.Linear(72, 5), bound)))
    soften(alike[1])
    return network


def outputs_and_gradients(network, image):
    network.zero_grad()
    logits = network(image)
    logits.square().sum().backward()
    return logits.detach(), *(p.grad for p in network.parameters())


def test_outputs_and_gradients_are_those_of_layers_apart(network):
    image = torch.rand(3, 2, 6, 6)
    apart = outputs_and_gradients(network, image)
    with weights_together(network):
        together = outputs_and_gradients(network, image)
    for a, b in zip(apart, together, strict=True):
        torch.testing.assert_close(a, b)


def test_each_weight_is_computed_once_and_forgotten_afterwards(network):
    with weights_together(network):
        inside = [(layer.weight, layer.weight) for layer, _ in nonexpansive_layers(network)]
    assert all(first is again for first, again in inside)
    with torch.no_grad():
        for layer, _ in nonexpansive_layers(network):
            layer.parametrizations.weight.original.zero_()
    assert not any(layer.weight.any() for layer, _ in nonexpansive_layers(network))


def test_an_error_inside_leaves_no_weight_behind(network):
    with pytest.raises(RuntimeError), weights_together(network):
        network(torch.rand(3, 1, 6, 6))
    assert all(scaling.computed is None for _, scaling in nonexpansive_layers(network))


def test_a_weight_with_a_second_parametrization_is_left_alone():
    class Halve(nn.Module):
        def forward(self, weight):
            return weight / 2

    layer = harden(nonexpansive(nn.Linear(4, 3)))
    parametrize.register_parametrization(layer, "weight", Halve())
    expected = layer.weight.detach()
    with weights_together(layer):
        torch.testing.assert_close(layer.weight.detach(), expected)

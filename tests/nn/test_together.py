import pytest
import torch
from torch import nn

from l2nnn_lightning.nn import TwoSidedReLU, harden, nonexpansive
from l2nnn_lightning.nn.nonexpansive import nonexpansive_layers
from l2nnn_lightning.nn.together import weights_together


@pytest.fixture(params=["gram", "operator", "operator_columns"])
def network(request):
    torch.manual_seed(0)
    conv = nonexpansive(nn.Conv2d(1, 4, 3), request.param)
    dense = nonexpansive(nn.Linear(8 * 4 * 4, 5), request.param)
    return harden(nn.Sequential(conv, TwoSidedReLU(), nn.Flatten(), dense))


def outputs_and_gradients(network, image):
    network.zero_grad()
    logits = network(image)
    logits.square().sum().backward()
    return logits.detach(), *(p.grad for p in network.parameters())


def test_outputs_and_gradients_are_those_of_layers_apart(network):
    image = torch.rand(3, 1, 6, 6)
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
        network(torch.rand(3, 2, 6, 6))
    assert all(scaling.computed is None for _, scaling in nonexpansive_layers(network))

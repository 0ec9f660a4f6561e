"""Ordinary networks: plain layers that learn, of the sizes that are claimed."""

import pytest
import torch
from small_networks import PLAIN, small
from torch import nn

from l2nnn_lightning.models import ConvL2NNN, ImageShape, PlainResNet, PlainTwin


@pytest.mark.parametrize("name", PLAIN)
def test_ordinary_network_is_nothing_but_plain_layers(name: str) -> None:
    network = small(name)
    assert network.harden() is None
    assert not network.is_hard
    assert not any("parametrizations" in key for key in network.state_dict())


def test_plain_twin_has_the_layers_of_its_l2nnn() -> None:
    twin = PlainTwin((1, 8, 8), 4, channels=[2, 3], dense=[6], activation="two_sided_relu", pooling="norm")
    l2nnn = ConvL2NNN((1, 8, 8), 4, channels=[2, 3], dense=[6])
    sizes = [sorted(p.numel() for p in network.parameters()) for network in (twin, l2nnn)]
    assert sizes[0] == sizes[1]
    kinds = {type(layer) for layer in PlainTwin((1, 8, 8), 4, channels=[2, 3], dense=[6]).modules()}
    assert {nn.ReLU, nn.MaxPool2d} <= kinds


def test_default_resnet_has_eighteen_layers_and_eleven_million_parameters() -> None:
    network = PlainResNet((3, 32, 32), 10)
    weighted = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert sum(not (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)) for layer in weighted) == 18
    assert 11.1e6 < sum(p.numel() for p in network.parameters()) < 11.3e6


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 17), (2, 8, 8)])
def test_resnet_takes_images_of_any_size_and_learns(shape: ImageShape) -> None:
    network = PlainResNet(shape, 3, width=4, blocks=[1, 2])
    images, labels = torch.rand(6, *shape), torch.arange(6) % 3
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None for p in network.parameters())


def test_shortcut_carries_the_input_where_the_convolutions_are_zero() -> None:
    network = PlainResNet((3, 8, 8), 3, width=4, blocks=[2]).eval()
    for name, parameter in network.named_parameters():
        if "conv2" in name:
            nn.init.zeros_(parameter)
    stem = network[0](torch.rand(2, 3, 8, 8))
    assert torch.equal(network[2](network[1](stem)), stem)

"""What each builder promises: sizes, where a network begins, what its parts see."""

from typing import Any

import pytest
import torch
from small_networks import EXACT, PLAIN, build, small, wild
from torch import nn

from l2nnn_lightning.models import ConvL2NNN, PlainResNet, PlainTwin
from l2nnn_lightning.nn import Residual, harden
from l2nnn_lightning.nn.parametrization import nonexpansive_layers, raw_weight
from l2nnn_lightning.nn.residual import Splitting

TINY: dict[str, Any] = {"channels": [4, 4], "depth": 1, "dense": [6]}


def test_paper_network_has_22_layers() -> None:
    assert len(list(build("mnist_paper", (1, 28, 28)).chain())) == 22


def test_networks_of_separate_labels_share_nothing() -> None:
    network = build("cifar_paper", (3, 8, 8), crop=8, channels=[2, 2], head_hidden=[4])
    wild(network)
    image = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    before = network(image)
    with torch.no_grad():
        raw_weight(network.trunk[2])[:2] += 1  # the two filters of label 0
    after = network(image)
    assert bool((before[:, 0] != after[:, 0]).all())
    assert torch.equal(before[:, 1:], after[:, 1:])


def test_crop_ignores_the_margin() -> None:
    network = wild(build("cifar_paper", (1, 8, 8), crop=4, channels=[2, 2], head_hidden=[]))
    image = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    changed = image.clone()
    changed[:, :, :2] = 1
    assert torch.equal(network(image), network(changed))


def test_convolutions_begin_as_an_isometry() -> None:
    """Wide enough to hold all pixels, the trunk before its dense layer only sorts them."""
    network = harden(build("cifar_tight", (3, 8, 8), channels=[16, 64], dense=[6])).double().eval()
    convolutions = network.trunk[: [isinstance(layer, nn.Flatten) for layer in network.trunk].index(True)]
    image = torch.rand(3, 8, 8, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: convolutions(x[None]).flatten(), image)
    values = torch.linalg.svdvals(jacobian.flatten(1))
    assert values.shape == (192,)
    assert float(values.max()) <= EXACT
    # Faint filters (norm 0.02) cost the square of their norm, times the entries they meet.
    assert float(values.min()) > 0.97


def test_half_the_brightness_is_the_origin() -> None:
    network = build("cifar_tight", (3, 8, 8), channels=[4, 6], dense=[6])
    grey = torch.full((1, 3, 8, 8), 0.5)
    assert float(network(grey).detach().abs().max()) == 0
    assert float(network(grey + 0.1).detach().abs().max()) > 0


def test_every_channel_learns_within_three_steps() -> None:
    """With zero filters that the next layer does not read either, half the channels would never get a gradient."""
    network = harden(build("cifar_tight", (3, 8, 8), channels=[24, 24], dense=[6]))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    x = torch.rand(8, 3, 8, 8)
    # A fresh network's dropped channels wake when the layer that reads them has moved.
    for _ in range(3):
        optimizer.zero_grad()
        network(x).square().sum().neg().backward()
        grads = {id(p): p.grad.clone() for p in network.parameters() if p.grad is not None}
        optimizer.step()
    for layer, _ in nonexpansive_layers(network):
        raw = raw_weight(layer)
        if raw.dim() == 4:
            assert bool((grads[id(raw)].abs().amax((1, 2, 3)) > 0).all())
            assert bool((grads[id(raw)].abs().amax((0, 2, 3)) > 0).all())


@pytest.mark.parametrize("activation", ["maxmin", "two_sided_relu"])
@pytest.mark.parametrize("t", ["block", "channel", "entry"])
def test_blocks_begin_as_the_identity(activation: str, t: str) -> None:
    options = TINY | {"channels": [4, 16], "activation": activation, "t": t}
    network = harden(build("cifar_resnet", (1, 8, 8), **options)).eval()
    x = torch.rand(2, 1, 8, 8)
    blocks = 0
    for layer in network.trunk:
        y = layer(x)
        if isinstance(layer, Residual):
            blocks += 1
            # Faint filters reach other channels only as the square of their norm of 0.02.
            torch.testing.assert_close(y, x, atol=5e-3, rtol=0)
        x = y
    assert blocks == 2


def test_t_is_trained_in_every_block_at_its_own_place() -> None:
    network = harden(build("cifar_resnet", (3, 8, 8), **TINY, t="entry", shared_t=False, initial_t=0.6))
    splits = [module for module in network.modules() if isinstance(module, Splitting)]
    assert [tuple(split.phase.shape) for split in splits] == [(4, 4, 4)] * 2 + [(4, 2, 2)] * 2
    assert all(float((split()[0] - 0.6).detach().abs().max()) < 1e-5 for split in splits)
    network(torch.rand(4, 3, 8, 8)).square().sum().backward()
    assert all(split.phase.grad is not None and float(split.phase.grad.abs().max()) > 0 for split in splits)


def test_t_of_one_makes_blocks_the_identity_for_any_branch() -> None:
    network = build("cifar_resnet", (1, 4, 4), **TINY, initial_t=1.0)
    block = next(layer for layer in network.trunk if isinstance(layer, Residual))
    with torch.no_grad():
        for parameter in block.branch.parameters():
            parameter.normal_()
    x = torch.rand(2, 4, 2, 2)
    torch.testing.assert_close(block(x), x)


def test_padding_keeps_every_pixel() -> None:
    """A 7x6 image is padded to 8x8: each of its pixels still moves the logits."""
    network = harden(build("cifar_resnet", (1, 7, 6), **TINY | {"channels": [4, 16]})).eval()
    image = torch.rand(1, 1, 7, 6, requires_grad=True)
    network(image).square().sum().backward()
    assert image.grad is not None
    assert bool((image.grad != 0).all())


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


def test_shortcut_carries_the_input_where_the_convolutions_are_zero() -> None:
    network = PlainResNet((3, 8, 8), 3, width=4, blocks=[2]).eval()
    for name, parameter in network.named_parameters():
        if "conv2" in name:
            nn.init.zeros_(parameter)
    stem = network[0](torch.rand(2, 3, 8, 8))
    assert torch.equal(network[2](network[1](stem)), stem)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 17), (2, 8, 8)])
def test_plain_resnet_takes_images_of_any_size(shape: tuple[int, int, int]) -> None:
    network = PlainResNet(shape, 3, width=4, blocks=[1, 2])
    network(torch.rand(6, *shape)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())

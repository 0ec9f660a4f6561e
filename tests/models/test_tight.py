"""The tight networks: nonexpansive for every bound, isometric where they begin, sizes checked."""

from typing import Any, get_args

import pytest
import torch
from oracles import affine_norm, jacobian_norm
from torch import nn

from l2nnn_lightning.models import L2NNN, L2NNNS, build_network
from l2nnn_lightning.nn import harden, nonexpansive
from l2nnn_lightning.nn.initialization import dirac_
from l2nnn_lightning.nn.parametrization import Bound, nonexpansive_layers

EXACT = 1 + 1e-6
TINY: dict[str, dict[str, Any]] = {
    "cifar_tight": {"channels": [4, 6], "dense": [6]},
    "conv_tight": {"channels": [3, 4], "kernel_size": 3, "dense": [6]},
}


def build(name: str, shape: tuple[int, int, int], **options: Any) -> L2NNN:
    network = build_network(L2NNNS, name, shape, 4, TINY[name] | options)
    assert isinstance(network, L2NNN)
    return network


@pytest.mark.parametrize("bound", get_args(Bound))
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar_tight", {}),
        ("cifar_tight", {"activation": "two_sided_relu", "depth": 1}),
        ("conv_tight", {}),
        ("conv_tight", {"activation": "maxmin", "channels": [2, 4], "pooling": "unshuffle"}),
    ],
)
def test_hard_network_is_nonexpansive_as_a_whole(name: str, options: dict[str, Any], bound: str) -> None:
    network = build(name, (2, 4, 8), bound=bound, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    harden(network).double().eval()
    image = torch.rand(2, 4, 8, dtype=torch.float64)
    assert 1e-6 < jacobian_norm(network.trunk, image) <= EXACT
    rows = torch.autograd.functional.jacobian(lambda x: network(x[None])[0], image).flatten(1)
    assert float(rows.norm(dim=1).max()) <= EXACT


def test_convolutions_begin_as_an_isometry() -> None:
    """Wide enough to hold all pixels, the trunk before its dense layer only sorts them."""
    network = harden(build("cifar_tight", (3, 8, 8), channels=[16, 64])).double().eval()
    convolutions = network.trunk[: [isinstance(layer, nn.Flatten) for layer in network.trunk].index(True)]
    image = torch.rand(3, 8, 8, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: convolutions(x[None]).flatten(), image)
    values = torch.linalg.svdvals(jacobian.flatten(1))
    assert values.shape == (192,)
    assert float(values.max()) <= EXACT
    # Faint filters (norm 0.02) cost the square of their norm, times the entries they meet.
    assert float(values.min()) > 0.97


def test_heads_are_unit_rows() -> None:
    network = harden(build("cifar_tight", (3, 8, 8))).eval()
    weight = network.head.stacks[0].weight
    assert weight.shape == (4, 1, 6)
    torch.testing.assert_close(weight.norm(dim=2), torch.ones(4, 1))


def test_half_the_brightness_is_the_origin() -> None:
    network = build("cifar_tight", (3, 8, 8))
    grey = torch.full((1, 3, 8, 8), 0.5)
    assert float(network(grey).detach().abs().max()) == 0
    assert float(network(grey + 0.1).detach().abs().max()) > 0


@pytest.mark.parametrize(
    ("inputs", "outputs", "groups"), [(4, 4, 1), (3, 8, 1), (8, 3, 1), (4, 4, 2), (2, 6, 2), (6, 2, 2)]
)
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_dirac_is_the_identity_of_the_shared_channels(inputs: int, outputs: int, groups: int, kernel: int) -> None:
    conv = nonexpansive(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups), bound="operator_columns"
    )
    dirac_(conv)
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
    assert 0.97 < affine_norm(conv, (inputs, 5, 5)) <= EXACT


def test_every_channel_learns_within_three_steps() -> None:
    """With zero filters that the next layer does not read either, half the channels would never get a gradient."""
    network = harden(build("cifar_tight", (3, 8, 8), channels=[24, 24]))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    x = torch.rand(8, 3, 8, 8)
    # A fresh network's dropped channels wake when the layer that reads them has moved.
    for _ in range(3):
        optimizer.zero_grad()
        network(x).square().sum().neg().backward()
        grads = {id(p): p.grad.clone() for p in network.parameters() if p.grad is not None}
        optimizer.step()
    for layer, _ in nonexpansive_layers(network):
        raw = layer.parametrizations["weight"].original  # type: ignore[index,union-attr]
        if raw.dim() == 4:
            assert bool((grads[id(raw)].abs().amax((1, 2, 3)) > 0).all())
            assert bool((grads[id(raw)].abs().amax((0, 2, 3)) > 0).all())


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("cifar_tight", (3, 10, 8), {}, "images of 10x8: 2 unshuffles need sides divisible by 4"),
        ("cifar_tight", (3, 8, 8), {"depth": 0}, "depth must be at least 1, got 0"),
        ("cifar_tight", (3, 8, 8), {"kernel_size": 4}, "kernel_size must be odd, got 4"),
        ("cifar_tight", (3, 8, 8), {"channels": [4, 0]}, "widths must be at least 1, got 0"),
        ("conv_tight", (1, 9, 8), {"pooling": "unshuffle"}, "images of 9x8: 2 unshuffles need sides divisible by 4"),
        ("conv_tight", (1, 3, 8), {}, "images of 3x8 are too small for 2 poolings"),
        ("conv_tight", (1, 8, 8), {"pooling": "max"}, "pooling must be 'norm' or 'unshuffle', got 'max'"),
        ("conv_tight", (1, 8, 8), {"activation": "maxmin"}, "widths must be even, got 3"),
    ],
)
def test_bad_description_is_refused(
    name: str, shape: tuple[int, int, int], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, shape, **options)

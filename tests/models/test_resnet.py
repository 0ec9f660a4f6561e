"""The residual network: its Lipschitz constant as a whole, where it begins, and its options."""

from typing import Any

import pytest
import torch
from oracles import jacobian_norm

from l2nnn_lightning.models import L2NNN, L2NNNS, build_network
from l2nnn_lightning.nn import Residual, harden
from l2nnn_lightning.nn.residual import Splitting

EXACT = 1 + 1e-6
TINY: dict[str, Any] = {"channels": [4, 4], "depth": 1, "dense": [6]}
CASES: list[tuple[tuple[int, int, int], dict[str, Any]]] = [
    ((3, 8, 8), {}),
    ((1, 7, 6), {"t": "entry", "shared_t": False}),
    ((2, 8, 4), {"t": "block", "activation": "two_sided_relu", "head_hidden": [4], "bound": "gram"}),
    ((3, 4, 8), {"normalize": True, "bound": "operator", "depth": 2}),
]


def build(shape: tuple[int, int, int], options: dict[str, Any]) -> L2NNN:
    network = build_network(L2NNNS, "cifar_resnet", shape, 4, TINY | options)
    assert isinstance(network, L2NNN)
    return network


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scale", [0.02, 2.0])
def test_hard_network_is_nonexpansive_as_a_whole(
    case: tuple[tuple[int, int, int], dict[str, Any]], scale: float
) -> None:
    torch.manual_seed(int(scale))
    network = build(*case)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            spread = 3.0 if "phase" in name else scale
            parameter.add_(spread * torch.randn_like(parameter))
    harden(network).double()
    network(torch.rand(4, *case[0], dtype=torch.float64))  # in training: moves a running mean
    network.eval()
    images = torch.rand(2, *case[0], dtype=torch.float64)
    for image in images:
        norm = jacobian_norm(network.trunk, image)
        assert 1e-6 < norm <= EXACT
        rows = torch.autograd.functional.jacobian(lambda x: network(x[None])[0], image).flatten(1)
        assert float(rows.norm(dim=1).max()) <= EXACT
    moved = (network(images[:1]) - network(images[1:])).detach().abs().max()
    assert float(moved) <= float((images[0] - images[1]).norm()) * EXACT


@pytest.mark.parametrize("activation", ["maxmin", "two_sided_relu"])
@pytest.mark.parametrize("t", ["block", "channel", "entry"])
def test_blocks_begin_as_the_identity(activation: str, t: str) -> None:
    network = harden(build((1, 8, 8), {"channels": [4, 16], "activation": activation, "t": t})).eval()
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
    network = harden(build((3, 8, 8), {"t": "entry", "shared_t": False, "initial_t": 0.6}))
    splits = [module for module in network.modules() if isinstance(module, Splitting)]
    assert [tuple(split.phase.shape) for split in splits] == [(4, 4, 4)] * 2 + [(4, 2, 2)] * 2
    assert all(float((split()[0] - 0.6).detach().abs().max()) < 1e-5 for split in splits)
    network(torch.rand(4, 3, 8, 8)).square().sum().backward()
    assert all(float(split.phase.grad.abs().max()) > 0 for split in splits)


def test_t_of_one_makes_blocks_the_identity_for_any_branch() -> None:
    network = build((1, 4, 4), {"initial_t": 1.0})
    block = next(layer for layer in network.trunk if isinstance(layer, Residual))
    with torch.no_grad():
        for parameter in block.branch.parameters():
            parameter.normal_()
    x = torch.rand(2, 4, 2, 2)
    torch.testing.assert_close(block(x), x)


def test_padding_keeps_every_pixel() -> None:
    """A 7x6 image is padded to 8x8: each of its pixels still moves the logits."""
    network = harden(build((1, 7, 6), {"channels": [4, 16]})).eval()
    image = torch.rand(1, 1, 7, 6, requires_grad=True)
    network(image).square().sum().backward()
    assert bool((image.grad != 0).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 2}, "kernel_size must be odd, got 2"),
        ({"depth": 0}, "depth must be at least 1 and channels not empty, got 0"),
        ({"channels": []}, "channels not empty"),
        ({"channels": [3]}, "maxmin sorts pairs of channels: widths must be even, got 3"),
        ({"dense": [5]}, "widths must be even, got 5"),
        ({"activation": "relu"}, "activation must be one of two_sided_relu, maxmin, got 'relu'"),
        ({"t": "pixel"}, "t must be one of block, channel, entry"),
        ({"initial_t": 2.0}, r"the initial t must be in \[0, 1\], got 2.0"),
        ({"bound": "tight"}, "bound must be one of gram"),
        ({"mean": [0.5, 0.5]}, "made for 2 channels"),
    ],
)
def test_bad_description_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build((3, 8, 8), options)(torch.rand(1, 3, 8, 8))

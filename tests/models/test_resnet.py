"""The residual network: where it begins, and its t."""

from typing import Any

import pytest
import torch
from small_networks import build

from l2nnn_lightning.nn import Residual, harden
from l2nnn_lightning.nn.residual import Splitting

TINY: dict[str, Any] = {"channels": [4, 4], "depth": 1, "dense": [6]}


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

"""Layers of a program compute what the plain ones do, in another order of the same sums."""

import pytest
import torch
from torch import nn

from l2nnn_lightning.nn.blocked import BlockedLinear, sum_in_blocks
from l2nnn_lightning.nn.patches import PatchConv2d, read_patches


@pytest.mark.parametrize(("features", "depth"), [(1, 65), (64, 65), (65, 66), (784, 69), (3136, 71)])
def test_blocks_add_up_to_the_same_sums(features: int, depth: int) -> None:
    torch.manual_seed(features)
    for bias in (True, False):
        layer = nn.Linear(features, 5, bias).double()
        blocked, x = BlockedLinear(layer), torch.randn(3, features).double()
        assert blocked.depth == depth
        assert torch.equal(blocked.matrix(), layer.weight)
        torch.testing.assert_close(blocked(x), layer(x), rtol=0, atol=1e-12)
        assert blocked(x[:0]).shape == (0, 5)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(1, 1, 0), (3, 1, 1), (5, 1, 2), ((3, 2), (2, 1), (1, 0)), (4, 3, 2)]
)
def test_patches_give_the_same_convolution_and_gradient(
    kernel: int | tuple[int, int], stride: int | tuple[int, int], padding: int | tuple[int, int]
) -> None:
    torch.manual_seed(0)
    for bias in (True, False):
        layer = nn.Conv2d(3, 4, kernel, stride, padding, bias=bias).double()
        for batch in (0, 1, 19):
            x = torch.randn(batch, 3, 9, 8, requires_grad=True, dtype=torch.float64)
            ours, theirs = PatchConv2d(layer)(x), layer(x)
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
            gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, theirs)]
            torch.testing.assert_close(*gradients, rtol=0, atol=1e-11)


def test_only_wide_plain_layers_are_replaced() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 4, 5),
        nn.Conv2d(1, 4, 5),
        nn.Conv2d(4, 4, 5, groups=2),
        nn.Flatten(),
        nn.Linear(200, 8),
        nn.Linear(8, 2),
    )
    sum_in_blocks(network)
    read_patches(network)
    kinds = ["PatchConv2d", "Conv2d", "Conv2d", "Flatten", "BlockedLinear", "Linear"]
    assert [type(layer).__name__ for layer in network] == kinds

"""Claims that were broken once, each by a network that a checkpoint file can hold; none of them is made any more."""

import math
from typing import Any

import pytest
import torch
from boundaries import assert_no_claim_is_broken
from made_up_images import SHAPE
from small_networks import L2NNNS, small, wild
from torch import Tensor, nn
from torch.nn.utils import parametrize

from l2nnn_lightning.models import L2NNN, NETWORKS, Certified, Network, TemplateNet
from l2nnn_lightning.nn import harden, soften
from l2nnn_lightning.nn.heads import MultiHead
from l2nnn_lightning.nn.precision import full_precision

PIXELS = (1, 1, 2)


def dense(layer: nn.Module, rows: Any, bias: Any) -> None:
    """Set a hard layer's raw weight and its bias."""
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(torch.as_tensor(rows))
        if layer.bias is not None:
            layer.bias.copy_(torch.as_tensor(bias).view_as(layer.bias))


def images(*values: list[float]) -> list[Tensor]:
    return [torch.tensor(value).view(1, *PIXELS) for value in values]


@pytest.mark.parametrize("hidden", [2.0**24, 2.0**28, 2.0**53, 2.0**57])
def test_what_biases_hide_is_in_the_allowance(hidden: float) -> None:
    """A huge signal rounds the image away, and a second layer takes it out again: steps of 2 at 2^24, or at 2^53."""
    network = NETWORKS["mlp"](PIXELS, 2, dense=[2, 2], hard=True, activation="relu").eval()
    dense(network.trunk[1], [[1.0, 1.0], [0.0, 0.0]], [hidden, 0.0])
    dense(network.trunk[3], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    dense(network.trunk[3], [[1.0, 0.0], [0.0, 1.0]], [-hidden * float(network.trunk[3].weight[0, 0].detach()), 0.0])
    dense(network.head.stacks[0], [[[1.0, 0.0]], [[-1.0, 0.0]]], [-0.5, 0.5])
    scale = hidden / 2.0 ** (24 if hidden < 2.0**50 else 53)
    one, other = images([0.0, 0.0], [2 * scale, 2 * scale])
    assert_no_claim_is_broken(network, one, other)
    assert not Certified(network, "float32")(one).radius.any()


def test_what_the_mean_hides_is_in_the_allowance() -> None:
    network = NETWORKS["mlp"](PIXELS, 2, dense=[2], mean=2.0**24, hard=True, activation="relu").eval()
    dense(network.trunk[2], [[-1.0, 0.0], [0.0, 0.0]], [0.0, 0.0])
    dense(network.trunk[2], [[-1.0, 0.0], [0.0, 0.0]], [2.0**24 * float(network.trunk[2].weight[0, 0].detach()), 0.0])
    dense(network.head.stacks[0], [[[1.0, 0.0]], [[-1.0, 0.0]]], [-0.5, 0.5])
    one, other = images([0.0, 0.0], [-4.0, 0.0])
    assert_no_claim_is_broken(network, one, other)


def test_what_biases_hide_from_templates_is_in_the_allowance() -> None:
    network = TemplateNet((1, 2, 2), 2, templates_per_label=1, trunk="conv", channels=4, hard=True).eval()
    with torch.no_grad():
        network.trunk[1].bias.fill_(2.0**23)
        network.trunk[3].bias.fill_(-(2.0**23))
        one, other = torch.full((1, 1, 2, 2), 0.1), torch.full((1, 1, 2, 2), 0.9)
        network.head.weight.copy_(torch.stack([network.trunk(one), network.trunk(other)]))
    if not torch.equal(*network.head.weight.detach()):
        assert_no_claim_is_broken(network, one, other)
    assert not Certified(network, "float32")(one).radius.any()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_the_length_of_sums_is_in_the_allowance(shape: tuple[int, int, int]) -> None:
    """The largest term comes first in one row and last in the other."""
    network = L2NNN(nn.Sequential(nn.Flatten()), MultiHead(math.prod(shape), 2, bias=False), hard=True).eval()
    network.image_shape = shape
    row = torch.full((math.prod(shape),), 0.01)
    row[0] = 10.0
    dense(network.head.stacks[0], torch.stack([row, row.flip(0)])[:, None], None)
    torch.manual_seed(0)
    left, right = torch.rand(1, *shape), torch.rand(1, *shape)
    left.view(-1)[0] = right.view(-1)[-1] = 1.0
    left.view(-1)[-1] = right.view(-1)[0] = 0.9
    assert float(Certified(network)(left).radius) > 0.01
    assert_no_claim_is_broken(network, left, right)


def test_precision_that_is_switched_down_outside_stays_outside() -> None:
    before = [torch.backends.mkldnn.matmul.fp32_precision, torch.backends.mkldnn.conv.fp32_precision]
    network, image = wild(small("mnist_small"), 0.3).float(), torch.rand(40, *SHAPE)
    expected = [Certified(network, program).logits(image) for program in ("float64", "float32")]
    try:
        torch.backends.mkldnn.matmul.fp32_precision = torch.backends.mkldnn.conv.fp32_precision = "bf16"
        with full_precision(torch.device("cpu")):
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
            assert torch.backends.mkldnn.conv.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
        with torch.autocast("cpu", torch.bfloat16):
            found = [Certified(network, program).logits(image) for program in ("float64", "float32")]
    finally:
        torch.backends.mkldnn.matmul.fp32_precision, torch.backends.mkldnn.conv.fp32_precision = before
    for ours, theirs in zip(expected, found, strict=True):
        assert torch.equal(ours, theirs)


class Tenfold(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 10 * weight


def in_trunk(module: nn.Module) -> Network:
    network = small("mlp", certificate="pairwise", hard=True).eval()
    network.trunk.insert(1, module.eval())
    return network


def batch_norm() -> nn.Module:
    norm = nn.BatchNorm1d(36)
    norm.running_var.fill_(1e-4)
    return norm


def linear() -> nn.Module:
    layer = nn.Linear(36, 36)
    layer.weight.data = 100 * torch.eye(36)
    return layer


def tenfold() -> Network:
    network = small("mlp", certificate="pairwise", hard=True).eval()
    parametrize.register_parametrization(network.trunk[1], "weight", Tenfold())
    return network


def scaled_forward() -> Network:
    network = small("mlp", hard=True).eval()
    network.trunk[1].forward = lambda x: 100 * x[:, :6]  # type: ignore[method-assign]
    return network


def hooked() -> Network:
    network = small("mlp", hard=True).eval()
    network.trunk[1].register_forward_hook(lambda _module, _args, y: 100 * y)
    return network


class Widened(type(small("mlp"))):  # type: ignore[misc]
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(100 * image)


FOREIGN = {
    "linear": lambda: in_trunk(linear()),
    "batch_norm": lambda: in_trunk(batch_norm()),
    "second_parametrization": tenfold,
    "another_forward": scaled_forward,
    "hook": hooked,
    "subclass": lambda: Widened(SHAPE, 3, channels=(), dense=[6], hard=True).eval(),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_foreign_proves_nothing_or_counts(name: str) -> None:
    network, image = FOREIGN[name](), torch.rand(6, *SHAPE)
    certified = Certified(network)
    label, _, radius = certified(image)
    if name not in ("linear", "second_parametrization"):  # whose norms count
        assert not radius.any()
        assert certified.rule.reason
    x = image.double().requires_grad_(True)
    logits = certified.program(x)
    lead = logits.gather(1, label[:, None]) - logits
    for rival in range(3):
        (gradient,) = torch.autograd.grad(lead[:, rival].sum(), x, retain_graph=True)
        slope = gradient.flatten(1).norm(dim=1)
        apart = label != rival
        assert bool((radius * slope <= lead[:, rival] * (1 + 1e-9) + 1e-12)[apart].all())


def test_weights_that_torch_keeps_from_before_the_switch_are_not_used() -> None:
    network, image = soften(wild(small("mlp", certificate="pairwise"))).float(), torch.rand(5, *SHAPE)
    with parametrize.cached():
        network(image)
        harden(network)
        found = Certified(network)(image)
    assert torch.equal(found.radius, Certified(network)(image).radius)
    assert not torch.equal(found.radius, torch.zeros(5))


@pytest.mark.parametrize("name", [*L2NNNS, "templates"])
def test_odd_values_anywhere_give_a_radius_that_is_a_number(name: str) -> None:
    """Also in pixels that a network crops, or behind a trunk."""
    options = {"trunk": "conv", "channels": 4} if name == "templates" else {}
    for dtype, program in ((torch.float32, "float32"), (torch.float64, "float64")):
        network, image = wild(small(name, **options), 0.3).to(dtype), torch.rand(5, *SHAPE, dtype=dtype)
        large = 1e200 if dtype == torch.float64 else 1e38
        image[:4, 0, 5, 5] = torch.tensor([math.nan, math.inf, large, -1e30], dtype=dtype)
        radius = Certified(network, program)(image).radius  # type: ignore[arg-type]
        assert bool(radius.isfinite().all())
        assert not radius[:2].any()


@pytest.mark.parametrize("value", [1e160, 1e300, math.nan, math.inf])
def test_weights_out_of_all_proportion_prove_nothing_of_what_moves(value: float) -> None:
    network, image = wild(small("mlp")), torch.rand(3, *SHAPE, dtype=torch.float64)
    network.trunk[1].parametrizations.weight.original.data.fill_(value)
    certified = Certified(network)
    logits = certified.logits(torch.cat([image, 1e3 * image]))
    assert not certified(image).radius.any() or bool((logits == logits[0]).all())


def test_templates_whose_logits_overflow_prove_nothing() -> None:
    network = TemplateNet(SHAPE, 3, templates_per_label=1).eval()
    with torch.no_grad():
        network.head.weight.mul_(1e25)
    assert not Certified(network, "float32")(torch.rand(3, *SHAPE)).radius.any()

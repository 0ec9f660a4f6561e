"""Networks in penalty mode: what the product of their exact norms proves, held against operators probed by basis."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_images import SHAPE
from small_networks import L2NNNS, PLAIN, shortest_step, small, wild
from torch import Tensor, nn

from l2nnn_lightning.models import Certified, ConvL2NNN, Network
from l2nnn_lightning.models.base import certify
from l2nnn_lightning.nn import fold, harden, nonexpansive, soften, tight_norm
from l2nnn_lightning.nn.certificates import NothingProved
from l2nnn_lightning.nn.norms import layer_norms
from l2nnn_lightning.nn.soft import SoftRule, lipschitz_product

#: Networks whose modules follow each other, by what is special about them.
CHAINS: dict[str, tuple[str, dict[str, Any]]] = {
    "conv": ("mnist_small", {}),
    "stacks": ("mnist_paper", {}),
    "relu_max": ("mnist_small", {"activation": "relu", "pooling": "max"}),
    "lp_sigmoid": ("mnist_small", {"activation": "two_sided_sigmoid", "norm_order": 3.0, "dropout": 0.5}),
    "single": ("mnist_small", {"head": "single", "mean": 0.5}),
    "unshuffle": ("conv_tight", {}),
    "separate": ("cifar_paper", {}),
    "dense": ("mlp", {}),
}
OTHERS = ["cifar_resnet", "rows_rnn", "parseval_mnist"]
every_chain = pytest.mark.parametrize("chain", CHAINS)
both = pytest.mark.parametrize("certificate", ["paper", "pairwise"])


def soft(chain: str, scale: float = 1.0, **options: Any) -> Network:
    """A network of random raw weights, in float64; ``scale`` multiplies each weight, whatever its norm."""
    name, own = CHAINS[chain]
    network = soften(wild(small(name, **own, **options), 0.3))
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if "original" in key:
                parameter.mul_(scale)
    return network


def probed(layer: nn.Module, shape: tuple[int, ...]) -> np.ndarray:
    """The matrix of an affine layer, column by column."""
    size = math.prod(shape)
    with torch.no_grad():
        columns = layer(torch.eye(size, dtype=torch.float64).reshape(size, *shape)) - layer(
            torch.zeros(1, *shape, dtype=torch.float64)
        )
    return columns.flatten(1).numpy().T


def exact_constants(network: Network) -> np.ndarray:
    """Products of largest singular values, (K, K): of the trunk, times the sum of both stacks', or sqrt(2) times one.

    Per label where labels have matrices of their own.
    """
    plain = fold(copy.deepcopy(network).eval())
    x, own = torch.rand(1, *SHAPE, dtype=torch.float64), np.ones(3)
    for layer in [*plain.trunk, *(plain.head.stacks if hasattr(plain.head, "stacks") else [plain.head.linear])]:
        weight = getattr(layer, "weight", None)
        if weight is not None and weight.dim() == 3:  # a matrix for each label
            own *= [np.linalg.svd(matrix, compute_uv=False)[0] for matrix in weight.detach().numpy()]
        elif weight is not None:
            matrix = probed(layer, tuple(x.shape[1:]))
            if getattr(layer, "groups", 1) == 1:
                own *= np.linalg.svd(matrix, compute_uv=False)[0]
            else:  # a block for each label
                blocks = matrix.reshape(3, len(matrix) // 3, 3, -1)
                own *= [np.linalg.svd(blocks[k, :, k], compute_uv=False)[0] for k in range(3)]
        x = layer(x)
    return math.sqrt(2) * own[:, None].repeat(3, 1) if hasattr(plain.head, "linear") else own[:, None] + own


@every_chain
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_the_papers_constant_is_the_product_of_norms_and_never_below(chain: str, scale: float) -> None:
    network = soft(chain, scale)
    rule, exact = network.soft_rule(), exact_constants(network)
    assert isinstance(rule, SoftRule)
    divisor = math.sqrt(2) if chain == "single" else 2
    assert rule.name == f"gap/({'2' if divisor == 2 else 'sqrt(2)'} x product of exact norms), penalty mode"
    assert float(rule.constants) == pytest.approx(divisor * rule.product)
    assert float(rule.constants) >= exact.max()
    if chain == "dense":  # the bound of a convolution counts images of any size
        assert float(rule.constants) == pytest.approx(exact.max(), rel=1e-7)
    elif chain != "separate":  # there each label's own groups are measured together
        assert float(rule.constants) <= 4 * exact.max()


@every_chain
@both
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_no_two_images_and_no_derivative_exceed_the_constants(chain: str, certificate: str, scale: float) -> None:
    network = soft(chain, scale, certificate=certificate)
    constants = network.soft_rule().constants.expand(3, 3)
    x = (
        torch.rand(40, *SHAPE, dtype=torch.float64)
        * torch.logspace(-2, 2, 40, dtype=torch.float64)[:, None, None, None]
    )
    step = torch.randn_like(x) * torch.logspace(-4, 2, 40, dtype=torch.float64)[:, None, None, None]
    moved, far = (network(x + step) - network(x)).detach(), step.flatten(1).norm(dim=1)
    ratio_BKK = (moved[:, :, None] - moved[:, None]).abs() / far[:, None, None]
    assert bool((ratio_BKK <= constants * (1 + 1e-6)).all())
    jacobian = torch.autograd.functional.jacobian(lambda v: network(v[None])[0], x[20]).flatten(1)
    steepest_KK = (jacobian[:, None] - jacobian).norm(dim=2)
    assert float(steepest_KK.max()) > 0
    assert bool((steepest_KK <= constants * (1 + 1e-9)).all())


@every_chain
@both
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_no_step_crosses_a_radius(chain: str, certificate: str, scale: float) -> None:
    network, images = soft(chain, scale, certificate=certificate), torch.rand(8, *SHAPE, dtype=torch.float64)
    bias = [parameter for key, parameter in network.head.named_parameters() if key.endswith("bias")][-1]
    bias.data -= network(images).detach().mean(0).view_as(bias)  # all boundaries among the images
    certified = Certified(network)
    label, _, radius = certify(certified.network, network.soft_rule(), images)[0]
    assert bool((radius > 0).all())
    distance = shortest_step(certified.network, images, label)
    assert int(distance.isfinite().sum()) >= 2
    assert bool((distance >= radius).all())
    if certificate == "pairwise":
        network.certificate = "paper"
        half = certify(certified.network, network.soft_rule(), images)[0].radius
        assert bool((radius >= half * (1 - 1e-9)).all())


def test_scaling_a_layer_leaves_the_radius_where_clamped_constants_would_inflate_it() -> None:
    network, images = soft("stacks", certificate="pairwise"), torch.rand(5, *SHAPE, dtype=torch.float64)
    radius = certify(network, network.soft_rule(), images)[0].radius
    for factor in (0.01, 100.0):
        scaled = copy.deepcopy(network)
        for parameter in scaled.head.stacks[-1].parameters():
            parameter.data *= factor
        found = certify(scaled, scaled.soft_rule(), images)[0].radius
        torch.testing.assert_close(found, radius, rtol=1e-6, atol=1e-9)


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    groups=st.sampled_from([1, 2]),
    scale=st.sampled_from([1e-3, 0.1, 1.0, 10.0, 1e3]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_norms_of_soft_convolutions_are_upper_bounds(
    kernel: tuple[int, int], stride: int, groups: int, scale: float, seed: int
) -> None:
    torch.manual_seed(seed)
    conv = nonexpansive(nn.Conv2d(2, 4, kernel, stride, (kernel[0] // 2, kernel[1] // 2), groups=groups).double())
    conv.parametrizations.weight.original.data *= scale
    exact = float(np.linalg.svd(probed(conv, (2, 7, 6)), compute_uv=False)[0])
    assert exact <= float(layer_norms(conv)) <= 4 * exact
    assert lipschitz_product(nn.Sequential(nn.Sequential(conv), nn.ReLU())) == pytest.approx(float(layer_norms(conv)))
    assert tight_norm(harden(conv)) <= 1


def test_rounding_of_amplified_signals_is_never_counted_as_a_lead() -> None:
    """The first layer's signals are huge and cancel: float32 leaves noise, of which nothing may be proved."""
    torch.manual_seed(1)
    network = soften(ConvL2NNN(SHAPE, 3, channels=[], dense=[8, 8]).eval())
    first, second = network.trunk[1], network.trunk[3]
    with torch.no_grad():
        first.parametrizations.weight.original.mul_(1e3)
        first.bias.fill_(1e6)
        second.bias.sub_(second(network.trunk[2](first(torch.rand(1, 36))))[0])
    images = torch.rand(64, *SHAPE)
    exactly = copy.deepcopy(network).double()
    radius = certify(network, network.soft_rule(), images)[0].radius
    exact_label, gap, exact_radius = certify(exactly, exactly.soft_rule(), images.double())[0]
    noise = (network(images) - exactly(images.double())).abs().amax(1)
    assert float((noise / gap).detach().max()) > 1e-4  # it is a hard case
    agrees = network(images).argmax(1) == exact_label
    assert bool((radius.double() <= torch.where(agrees, exact_radius, 0) * (1 + 1e-6)).all())


@pytest.mark.parametrize("name", [*OTHERS, *PLAIN, "templates"])
def test_what_is_no_product_is_refused_in_one_line(name: str) -> None:
    network = soften(small(name, **({"trunk": "conv", "channels": 4} if name == "templates" else {})))
    with pytest.raises(ValueError, match="no product of exact norms") as caught:
        network.soft_rule()
    assert "\n" not in str(caught.value)


def test_a_hard_network_keeps_to_its_own_certificate() -> None:
    with pytest.raises(ValueError, match="is hard"):
        soft("conv").train().apply(harden).soft_rule()


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e200, 1e30, 1e-30, 0.0])
@both
def test_weights_that_are_not_finite_or_out_of_proportion_claim_nothing(value: float, certificate: str) -> None:
    for part in ("trunk", "head"):
        network = soft("stacks", certificate=certificate)
        layer = network.trunk[0] if part == "trunk" else network.head.stacks[0]
        layer.parametrizations.weight.original.data.fill_(value)
        with pytest.raises(ValueError, match="proves nothing"):
            network.soft_rule()


@both
def test_images_that_are_not_finite_ties_and_half_precision_claim_nothing(certificate: str) -> None:
    network = soft("conv", certificate=certificate).float()
    rule, images = network.soft_rule(), torch.rand(4, *SHAPE)
    images[:, 0, 2, 3] = torch.tensor([0.5, torch.nan, torch.inf, -torch.inf])
    radius = certify(network, rule, images)[0].radius
    assert radius.isfinite().all()
    assert radius.bool().tolist() == [True, False, False, False]
    assert not rule(torch.ones(4, 3), torch.rand(4, *SHAPE)).radius.any()
    half: Tensor = certify(copy.deepcopy(network).bfloat16(), rule, images)[0].radius
    assert not half.any()
    assert certify(network, rule, images[:0])[0].radius.shape == (0,)


@pytest.mark.parametrize("name", L2NNNS)
def test_penalty_mode_claims_nothing_unless_it_is_asked(name: str) -> None:
    network = soften(small(name))
    for quick in (True, False):
        assert isinstance(network.rule(quick=quick), NothingProved)
    if name not in OTHERS:
        network.soft_rule()
        assert isinstance(network.rule(), NothingProved)
    assert not Certified(network)(torch.rand(5, *SHAPE)).radius.any()

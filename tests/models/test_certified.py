"""What networks prove of themselves: constants that are never below the exact ones, radii that no step crosses."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from made_up_images import SHAPE
from oracles import affine_norm
from small_networks import L2NNNS, PLAIN, SMALL, shortest_step, small, wild
from torch import Tensor, nn

from l2nnn_lightning.models import NETWORKS, Certified, ConvL2NNN, Network, TemplateNet
from l2nnn_lightning.nn import fold, soften
from l2nnn_lightning.nn.certificates import GapRule, NothingProved, PairRule
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.objectives import CrossEntropy

#: Every kind of network with every certificate that it has.
KINDS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"certificate": kind}) for name in L2NNNS for kind in ("paper", "pairwise")),
    ("templates", {}),
    ("templates", {"nearest": False, "trunk": "conv", "channels": 4}),
]
all_kinds = pytest.mark.parametrize(
    ("name", "options"), KINDS, ids=[f"{name}-{next(iter(options.values()), 'pixels')}" for name, options in KINDS]
)


def untamed(name: str, options: dict[str, Any]) -> Network:
    """A hard network in float32, of weights that tell images apart."""
    return wild(small(name, **options), 0.3).float()


def exact_norm(chain: nn.Sequential, x: Tensor) -> float:
    """Multiply the largest singular values of a plain chain's linear layers; what is between them counts as 1."""
    product = 1.0
    for layer in chain:
        if getattr(layer, "weight", None) is not None:
            product *= affine_norm(layer, tuple(x.shape[1:]))
        x = layer(x)
    return product


@pytest.mark.parametrize("channels", [[], [2, 3]])
@pytest.mark.parametrize("head_hidden", [[], [4]])
@pytest.mark.parametrize("head", ["multi", "single"])
def test_pairwise_constants_are_products_of_norms(head: Any, head_hidden: list[int], channels: list[int]) -> None:
    options: dict[str, Any] = {"dense": [7, 6], "head": head, "head_hidden": head_hidden}
    network = wild(ConvL2NNN(SHAPE, 3, channels=channels, certificate="pairwise", bound="columns", **options))
    rule = network.rule()
    assert isinstance(rule, PairRule)
    plain = fold(network)
    norm = exact_norm(plain.trunk, torch.rand(1, *SHAPE, dtype=torch.float64))
    if head_hidden and head == "multi":
        stacks = [layer.weight for layer in plain.head.stacks[::2]]
        own = torch.stack([torch.linalg.svdvals(weight)[:, 0] for weight in stacks]).prod(0)
        exact = norm * (own[:, None] + own)
    else:
        rows = plain.head.linear.weight if head == "single" else plain.head.stacks[0].weight[:, 0]
        exact = norm * (rows[:, None] - rows[None, :]).norm(dim=2)
    assert bool((rule.constant_KK >= exact).all())
    if not channels:  # the bound of a convolution counts images of any size
        torch.testing.assert_close(rule.constant_KK, exact.detach(), rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    ("options", "name", "constant"), [({}, "gap/2", 2.0), ({"head": "single"}, "gap/sqrt(2)", 2**0.5)]
)
def test_the_papers_rule_divides_the_gap(options: dict[str, Any], name: str, constant: float) -> None:
    network = wild(small("mlp", **options))
    rule = network.rule()
    assert isinstance(rule, GapRule)
    assert (rule.name, rule.gap_lipschitz) == (name, pytest.approx(constant))
    _, gap, radius = Certified(network)(torch.rand(5, *SHAPE))
    torch.testing.assert_close(radius, gap / constant)


@all_kinds
def test_no_step_crosses_a_radius(name: str, options: dict[str, Any]) -> None:
    network, images = untamed(name, options).double(), torch.rand(8, *SHAPE, dtype=torch.float64)
    if name != "templates":  # put all boundaries among the images
        bias = [parameter for key, parameter in network.head.named_parameters() if key.endswith("bias")][-1]
        bias.data -= network(images).detach().mean(0).view_as(bias)
    certified = Certified(network)
    (label, gap, radius), radius_box = certified.in_box(images)
    assert float(radius.max()) > 0
    assert bool((radius >= 0.499 * gap).all()) or name == "templates"  # Lemma 6 at least
    distance = shortest_step(certified.network, images, label)
    assert int(distance.isfinite().sum()) >= 4
    assert bool((distance >= radius).all())
    assert (radius_box is not None) == (options == {})
    if radius_box is not None:
        assert bool((radius_box >= radius).all())
        assert bool((shortest_step(certified.network, images, label, in_box=True) >= radius_box).all())


@pytest.mark.parametrize(("name", "options"), [*KINDS, *((name, {}) for name in PLAIN)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certified_says_what_the_classifier_said(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    """Bit for bit, also when the network has trained on."""
    factory = partial(NETWORKS[name], **SMALL[name] | options)
    classifier = Classifier(factory, CrossEntropy, image_shape=SHAPE, num_labels=3)
    wild(classifier.network, 0.3)
    classifier = classifier.to(dtype).train()
    images = torch.rand(5, *SHAPE, dtype=dtype)
    certified, said = classifier.certified(), classifier.certify(images)
    assert (classifier.training, certified.training) == (True, False)
    assert certified.is_hard == classifier.is_hard == bool(said.radius.any()) == (name not in PLAIN)
    assert certified(images[:0]).radius.shape == (0,)
    assert not any(parameter.requires_grad for parameter in certified.parameters())
    radius_box = certified.in_box(images)[1]
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.1)
    classifier(images).square().sum().backward()
    optimizer.step()
    assert not torch.equal(classifier.certify(images).gap, said.gap)
    for again in (certified(images), certified.in_box(images)[0]):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(again, said, strict=True))
    assert radius_box is None or torch.equal(radius_box, certified.in_box(images)[1])


@all_kinds
def test_signed_radius_is_at_most_what_is_proved_and_negative_where_another_label_wins(
    name: str, options: dict[str, Any]
) -> None:
    network, images = untamed(name, options), torch.rand(8, *SHAPE)
    logits = network(images)
    radius, found = network.signed_radius(images, logits.argmax(1))
    torch.testing.assert_close(found, logits)
    assert bool((radius >= 0).all())
    assert bool((radius <= Certified(network)(images).radius + 1e-4).all())  # rounding
    assert bool((network.signed_radius(images, logits.argmin(1), logits).radius < 0).all())
    if not network.has_box:
        with pytest.raises(ValueError, match="radii inside the image box need templates on raw pixels"):
            network.signed_radius(images, logits.argmax(1), in_box=True)


def assert_nothing_proved(certified: Certified, images: Tensor) -> None:
    certificate, radius_box = certified.in_box(images)
    assert certificate.radius.shape == (len(images),)
    assert not certificate.radius.any()
    assert radius_box is None or not radius_box.any()


@pytest.mark.parametrize(("name", "options"), [*KINDS[:-2], KINDS[-1], *((name, {}) for name in PLAIN)])
def test_soft_and_ordinary_networks_prove_nothing(name: str, options: dict[str, Any]) -> None:
    network = soften(untamed(name, options))
    certified = Certified(network)
    assert isinstance(certified.rule, NothingProved)
    assert (certified.is_hard, certified.rule.name) == (False, "none")
    assert float(certified(torch.rand(5, *SHAPE)).gap.max()) > 0
    assert_nothing_proved(certified, torch.rand(5, *SHAPE))
    network.harden()
    assert bool(Certified(network)(torch.rand(5, *SHAPE)).radius.any()) == network.can_prove == (name not in PLAIN)
    if name in PLAIN:
        with pytest.raises(ValueError, match="proves no radius to train on"):
            network.signed_radius(torch.rand(2, *SHAPE), torch.tensor([0, 1]))


@all_kinds
def test_half_precision_and_ties_prove_nothing(name: str, options: dict[str, Any]) -> None:
    network, images = untamed(name, options), torch.rand(5, *SHAPE)
    for dtype in (torch.bfloat16, torch.float16):
        assert_nothing_proved(Certified(copy.deepcopy(network).to(dtype)), images)
        assert_nothing_proved(Certified(network).to(dtype), images)
    for parameter in network.head.parameters():
        parameter.data.zero_()
    assert_nothing_proved(Certified(network), images)


@all_kinds
def test_what_is_not_finite_proves_nothing(name: str, options: dict[str, Any]) -> None:
    images = torch.rand(4, *SHAPE)
    images[:, 0, 2, 3] = torch.tensor([0.5, torch.nan, torch.inf, -torch.inf])
    (_, _, radius), radius_box = Certified(untamed(name, options)).in_box(images)
    for proved in (radius, radius if radius_box is None else radius_box):
        assert not proved[1:].any()
        assert bool(proved.isfinite().all())


def test_starting_templates_takes_the_centres_of_each_label() -> None:
    network = TemplateNet(SHAPE, 3, templates_per_label=1)
    images = torch.rand(30, *SHAPE)
    labels = torch.arange(30) % 3
    network.start(images, labels, seed=0)
    means = torch.stack([images[labels == label].flatten(1).mean(0) for label in range(3)])
    torch.testing.assert_close(network.head.weight.detach()[:, 0], means)


@pytest.mark.parametrize("name", SMALL)
def test_certificates_become_graphs_for_batches_of_any_size(name: str) -> None:
    certified = Certified(untamed(name, {"certificate": "pairwise"} if name in L2NNNS else {}))
    # The search of templates is no formula.
    assert certified.rule.is_graph == (name != "templates")
    module: nn.Module = certified if certified.rule.is_graph else certified.network
    shapes = {"image": {0: torch.export.Dim("batch", min=1)}}
    program = torch.export.export(module, (torch.rand(2, *SHAPE),), dynamic_shapes=shapes)
    images = torch.rand(5, *SHAPE)
    torch.testing.assert_close(program.module()(images), module(images))

"""Whole networks: each builds and runs by name, and no logit of a hard one moves faster than its input."""

import math
from typing import Any

import pytest
import torch
from oracles import jacobian_norm
from torch import Tensor, nn

from l2nnn_lightning.models import L2NNN, L2NNNS, ORDINARY, build_network
from l2nnn_lightning.nn import fold, harden, is_hard, soften

# Float64 rounding over some ten layers.
EXACT = 1 + 1e-6

SMALL: list[tuple[str, tuple[int, int, int], dict[str, Any]]] = [
    ("mnist_small", (1, 8, 8), {"channels": [2, 3], "dense": [6]}),
    ("mnist_small", (2, 9, 7), {"channels": [3], "kernel_size": 3, "dense": [], "head_hidden": [4]}),
    ("mnist_small", (1, 8, 8), {"channels": [2, 3], "dense": [6], "activation": "relu", "pooling": "max"}),
    ("mnist_small", (1, 8, 8), {"channels": [2], "dense": [6], "head": "single"}),
    ("mnist_paper", (1, 8, 8), {"channels": [2, 3], "dense": [6, 5, 4, 4], "head_hidden": [4, 3, 3]}),
    ("cifar_paper", (3, 9, 8), {"crop": 8, "channels": [2, 2, 3], "head_hidden": [4]}),
    ("mlp", (1, 5, 6), {"dense": [7, 6]}),
    ("mlp", (1, 5, 6), {"dense": [7], "head": "single"}),
]
NAMES = [f"{name}-{i}" for i, (name, _, _) in enumerate(SMALL)]


def wild_network(name: str, shape: tuple[int, int, int], options: dict[str, Any], scale: float = 3.0) -> L2NNN:
    """A hard network whose raw weights are anything but orthogonal, with biases, in float64."""
    network = build_network(L2NNNS, name, shape, 4, options)
    assert isinstance(network, L2NNN)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(scale * torch.randn_like(parameter) + 0.3)
    return harden(network).double().eval()


def jacobian(network: nn.Module, image: Tensor) -> Tensor:
    """Rows of derivatives, (K, pixels)."""
    rows = torch.autograd.functional.jacobian(lambda x: network(x[None])[0], image)
    return rows.reshape(rows.shape[0], -1)


@pytest.mark.parametrize("case", SMALL, ids=NAMES)
def test_hard_network_is_nonexpansive_in_each_logit(case: tuple[str, tuple[int, int, int], dict[str, Any]]) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        network = wild_network(*case)
        for image in torch.rand(3, *case[1], dtype=torch.float64):
            rows = jacobian(network, image)
            assert float(rows.norm(dim=1).max()) <= EXACT
            differences = rows[:, None] - rows[None, :]
            assert float(differences.norm(dim=2).max()) <= network.gap_lipschitz * EXACT
            assert float(rows.norm(dim=1).max()) > 1e-6  # a constant network would prove everything


@pytest.mark.parametrize("case", [case for case in SMALL if case[2].get("head") == "single"])
def test_single_head_is_jointly_nonexpansive(case: tuple[str, tuple[int, int, int], dict[str, Any]]) -> None:
    network = wild_network(*case)
    assert network.gap_lipschitz == pytest.approx(math.sqrt(2))
    for image in torch.rand(4, *case[1], dtype=torch.float64):
        assert jacobian_norm(network, image) <= EXACT


@pytest.mark.parametrize("case", SMALL, ids=NAMES)
def test_hard_network_is_nonexpansive_between_distant_images(
    case: tuple[str, tuple[int, int, int], dict[str, Any]],
) -> None:
    network = wild_network(*case)
    one, other = torch.rand(2, 64, *case[1], dtype=torch.float64)
    one[:8] = 0  # where the norm of a window has a kink
    with torch.no_grad():
        moved = (network(one) - network(other)).abs().amax(1)
    assert bool((moved <= (one - other).flatten(1).norm(dim=1) * EXACT).all())


@pytest.mark.parametrize("case", SMALL, ids=NAMES)
def test_hard_network_in_float32_keeps_to_its_constant(
    case: tuple[str, tuple[int, int, int], dict[str, Any]],
) -> None:
    network = wild_network(*case).float()
    for image in torch.rand(3, *case[1]):
        rows = jacobian(network, image).double()
        # A dozen sums of some hundred terms, each rounded to 6e-8.
        assert float(rows.norm(dim=1).max()) <= 1 + 1e-5


def test_soft_network_may_be_expansive() -> None:
    network = soften(wild_network("mlp", (1, 5, 6), {"dense": [7, 6]}))
    image = torch.rand(1, 5, 6, dtype=torch.float64)
    assert not is_hard(network)
    assert float(jacobian(network, image).norm(dim=1).max()) > 2


def test_fresh_network_is_soft_and_almost_nonexpansive() -> None:
    network = build_network(L2NNNS, "mnist_small", (1, 8, 8), 4, {"channels": [2], "dense": [6]})
    assert not is_hard(network)
    soft = jacobian(network.double().eval(), torch.rand(1, 8, 8, dtype=torch.float64))
    # Orthonormal rows: b(W) = 1, so the penalty has nothing to do yet.
    assert float(soft.norm(dim=1).max()) <= 1 + 1e-5


@pytest.mark.parametrize("name", sorted(L2NNNS))
def test_registered_network_runs_at_its_own_size(name: str) -> None:
    shape = (3, 32, 32) if name.startswith("cifar") else (1, 28, 28)
    options = {"channels": (2, 2, 4)} if name.startswith("cifar") else None  # its orthogonal start takes seconds
    network = harden(build_network(L2NNNS, name, shape, 10, options)).eval()
    # Templates on raw pixels have no layer to harden.
    assert is_hard(network) or getattr(network, "sees_pixels", False)
    image = torch.rand(2, *shape)
    with torch.no_grad():
        logits = network(image)
        plain = fold(network)(image)
        assert network(image[:0]).shape == (0, 10)
    assert logits.shape == (2, 10)
    assert bool(logits.isfinite().all())
    assert float(logits.std()) > 0
    torch.testing.assert_close(plain, logits)


@pytest.mark.parametrize("bound", ["gram", "rows_power", "operator_columns", "minimum"])
def test_hard_network_lends_itself_to_function_transforms(bound: str) -> None:
    options = {"channels": [2], "dense": [6], "bound": bound}
    network = harden(build_network(L2NNNS, "mnist_small", (3, 8, 8), 4, options)).double().eval()
    image = torch.rand(3, 3, 8, 8, dtype=torch.float64)
    one_by_one = torch.stack([jacobian(network, x).view(4, 3, 8, 8) for x in image])
    of_one = torch.func.jacrev(lambda x: network(x[None])[0])
    torch.testing.assert_close(torch.func.vmap(of_one)(image), one_by_one)
    torch.testing.assert_close(torch.func.vmap(torch.func.jacfwd(lambda x: network(x[None])[0]))(image), one_by_one)

    def largest(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(network, weights, (x[None],)).amax()

    weights = dict(network.named_parameters())
    per_sample = torch.func.vmap(torch.func.grad(largest), in_dims=(None, 0))(weights, image)
    for x, *gradients in zip(image, *per_sample.values(), strict=True):
        expected = torch.autograd.grad(network(x[None]).amax(), list(weights.values()))
        torch.testing.assert_close(tuple(gradients), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_maps_have_their_channels_last_on_a_cpu_and_gradients_do_not(channels: int) -> None:
    network = build_network(L2NNNS, "mnist_small", (channels, 8, 8), 4, {"channels": [2, 3], "dense": [6]})
    maps: list[Tensor] = []
    network.trunk[1].register_forward_hook(lambda *arguments: maps.append(arguments[2]))
    image = torch.rand(5, channels, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(image).sum(), image)
    assert maps[0].is_contiguous(memory_format=torch.channels_last)
    assert not maps[0].is_contiguous()
    assert gradient.is_contiguous()
    network._convolves = False
    torch.testing.assert_close(torch.autograd.grad(network(image).sum(), image)[0], gradient)


@pytest.mark.parametrize("name", sorted(ORDINARY))
def test_ordinary_network_runs_and_is_nothing_but_plain_layers(name: str) -> None:
    network = build_network(ORDINARY, name, (1, 12, 12), 5, {"dropout": 0.5})
    logits = network.eval()(torch.rand(3, 1, 12, 12))
    assert logits.shape == (3, 5)
    assert not is_hard(harden(network))
    assert not any("parametrizations" in key for key in network.state_dict())


def test_plain_twin_has_the_layers_of_its_l2nnn() -> None:
    options = {"channels": [2, 3], "dense": [6], "activation": "two_sided_relu", "pooling": "norm"}
    twin = build_network(ORDINARY, "mnist_small_plain", (1, 8, 8), 4, options)
    l2nnn = build_network(L2NNNS, "mnist_small", (1, 8, 8), 4, options)
    sizes = [sorted(p.numel() for p in network.parameters()) for network in (twin, l2nnn)]
    assert sizes[0] == sizes[1]
    narrow = build_network(ORDINARY, "mnist_small_plain", (1, 8, 8), 4, {"channels": [2, 3], "dense": [6]})
    kinds = {type(layer) for layer in narrow.modules()}
    assert {nn.ReLU, nn.MaxPool2d} <= kinds


def test_paper_network_has_22_layers() -> None:
    network = build_network(L2NNNS, "mnist_paper", (1, 28, 28), 10, None)
    assert isinstance(network, L2NNN)
    assert len(list(network.chain())) == 22


def test_networks_of_separate_labels_share_nothing() -> None:
    network = wild_network("cifar_paper", (3, 8, 8), {"crop": 8, "channels": [2, 2], "head_hidden": [4]})
    image = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    before = network(image)
    conv = network.trunk[2]
    assert isinstance(conv, nn.Conv2d)
    with torch.no_grad():
        conv.parametrizations["weight"].original[:2] += 1  # the two filters of label 0
    after = network(image)
    assert bool((before[:, 0] != after[:, 0]).all())
    assert torch.equal(before[:, 1:], after[:, 1:])


def test_crop_ignores_the_margin() -> None:
    network = wild_network("cifar_paper", (1, 8, 8), {"crop": 4, "channels": [2, 2], "head_hidden": []})
    image = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    changed = image.clone()
    changed[:, :, :2] = 1
    assert torch.equal(network(image), network(changed))


@pytest.mark.parametrize(
    ("name", "shape", "labels", "options", "message"),
    [
        ("resnet", (1, 8, 8), 4, {}, r"network must be one of mnist_small, .*got 'resnet'"),
        ("mlp", (1, 8, 8), 1, {}, "num_labels must be at least 2, got 1"),
        ("mlp", (8, 8), 4, {}, r"image_shape must be \(channels, height, width\), got \(8, 8\)"),
        ("mlp", (1, 0, 8), 4, {}, "image_shape must be"),
        ("mlp", (1, 8, 8), 4, {"width": 3}, "network_args of mlp: .*'width'"),
        ("mnist_small", (1, 8, 8), 4, {"kernel_size": 4}, "kernel_size must be odd, got 4"),
        ("mnist_small", (1, 3, 8), 4, {}, "images of 3x8 are too small for 2 poolings"),
        ("mnist_small", (1, 8, 8), 4, {"activation": "tanh"}, "activation must be"),
        ("mnist_small", (1, 8, 8), 4, {"pooling": "mean"}, "pooling must be"),
        ("mnist_small", (1, 8, 8), 4, {"head": "none"}, "head must be"),
        ("mnist_small", (1, 8, 8), 4, {"bound": "tight"}, "bound must be one of gram"),
        ("cifar_paper", (3, 8, 8), 4, {}, r"crop must be in \[1, 8\] for images of 8x8, got 28"),
        ("cifar_paper", (3, 8, 8), 4, {"crop": 2}, "a crop of 2 is too small for 2 poolings"),
        ("cifar_paper", (3, 8, 8), 4, {"crop": 8, "kernel_size": 2}, "kernel_size must be odd"),
    ],
)
def test_bad_description_is_refused(
    name: str, shape: tuple[int, ...], labels: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(L2NNNS, name, shape, labels, options)


def test_ordinary_network_refuses_small_images() -> None:
    with pytest.raises(ValueError, match="images of 3x8 are too small"):
        build_network(ORDINARY, "madry_mnist", (1, 3, 8), 4, None)

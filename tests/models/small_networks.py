"""Small networks of every registered kind; and hard ones whose weights are anything but tame."""

from typing import Any

import pytest
import torch
from made_up_images import SHAPE
from torch import Tensor, nn

from l2nnn_lightning.models import L2NNN, NETWORKS, ImageShape, Network
from l2nnn_lightning.nn import harden

#: Float64 rounding over some ten layers.
EXACT = 1 + 1e-6
#: Options that make each registered network small enough for images of 6x6, by its name.
SMALL: dict[str, dict[str, Any]] = {
    "mnist_small": {"channels": [2, 3], "dense": [6]},
    "mnist_paper": {"channels": [2, 3], "dense": [6, 5, 4, 4], "head_hidden": [4, 3, 3]},
    "cifar_paper": {"crop": 5, "channels": [2, 2], "head_hidden": [4]},
    "conv_tight": {"channels": [2], "kernel_size": 3, "dense": [6]},
    "cifar_tight": {"channels": [4], "depth": 1, "dense": [6]},
    "cifar_resnet": {"channels": [4], "depth": 1, "dense": [6], "normalize": True, "t": "entry"},
    "shift": {"widths": [8], "depth": 1, "dense": [6]},
    "rows_rnn": {"hidden": [6, 4], "dense": [6]},
    "mlp": {"dense": [6]},
    "parseval_mnist": {"channels": [3], "kernel_size": 3, "dense": [5]},
    "templates": {"templates_per_label": 3},
    "madry_mnist": {"channels": [2, 3], "dense": 6, "dropout": 0.5},
    "mnist_small_plain": {"channels": [2, 3], "dense": [6], "dropout": 0.5},
    "mnist_paper_plain": {"channels": [2, 3], "dense": [6, 5, 4, 4], "head_hidden": [4, 3, 3]},
    "cifar_resnet_plain": {"width": 4, "blocks": [1, 1], "dropout": 0.5},
}
PLAIN = [name for name in SMALL if name.endswith("plain") or name == "madry_mnist"]
PROVING = [name for name in SMALL if name not in PLAIN]
L2NNNS = [name for name in PROVING if name != "templates"]

#: Networks and images of many shapes.
Case = tuple[str, ImageShape, dict[str, Any]]
SHAPES: list[Case] = [
    ("mnist_small", (1, 8, 8), {"channels": [2, 3], "dense": [6]}),
    ("mnist_small", (2, 9, 7), {"channels": [3], "kernel_size": 3, "dense": [], "head_hidden": [4]}),
    ("mnist_small", (1, 8, 8), {"channels": [2, 3], "dense": [6], "activation": "relu", "pooling": "max"}),
    ("mnist_small", (1, 8, 8), {"channels": [2], "dense": [6], "head": "single"}),
    ("mnist_paper", (1, 8, 8), {"channels": [2, 3], "dense": [6, 5, 4, 4], "head_hidden": [4, 3, 3]}),
    ("cifar_paper", (3, 9, 8), {"crop": 8, "channels": [2, 2, 3], "head_hidden": [4]}),
    ("mlp", (1, 5, 6), {"dense": [7, 6]}),
    ("mlp", (1, 5, 6), {"dense": [7], "head": "single"}),
    ("conv_tight", (2, 4, 8), {"channels": [2, 4], "dense": [6], "activation": "maxmin", "pooling": "unshuffle"}),
    ("cifar_tight", (2, 4, 8), {"channels": [4, 6], "dense": [6], "activation": "two_sided_relu", "depth": 1}),
    ("cifar_resnet", (3, 8, 8), {"channels": [4, 4], "depth": 1, "dense": [6]}),
    ("cifar_resnet", (1, 7, 6), {"channels": [4, 4], "depth": 1, "dense": [6], "t": "entry", "shared_t": False}),
    (
        "cifar_resnet",
        (2, 8, 4),
        {"channels": [4], "depth": 1, "dense": [6], "t": "block", "activation": "two_sided_relu", "head_hidden": [4]},
    ),
    ("cifar_resnet", (3, 4, 8), {"channels": [4, 4], "depth": 2, "dense": [6], "normalize": True, "bound": "operator"}),
    ("shift", (2, 4, 8), {"widths": [8, 10], "depth": 2, "dense": [6]}),
    ("shift", (3, 5, 6), {"widths": [8], "activation": "maxmin", "active": 1.0, "padding": "zeros", "dense": []}),
    ("shift", (1, 8, 7), {"widths": [8, 8], "downsampling": "norm", "activation": "two_sided_relu", "dense": [6]}),
    ("shift", (1, 4, 4), {"widths": [12], "moving": 1.0, "active": 0.2, "dense": [], "head_hidden": [4]}),
    (
        "mnist_small",
        (1, 8, 8),
        {"channels": [2, 3], "dense": [6], "head_hidden": [4], "activation": "two_sided_sigmoid", "norm_order": 3.0},
    ),
    ("mnist_small", (2, 9, 7), {"channels": [3], "dense": [6], "activation": "gelu", "norm_order": 1.0}),
    ("mlp", (1, 5, 6), {"dense": [7], "head_hidden": [4], "activation": "two_sided_elu", "dropout": 0.3}),
    (
        "cifar_resnet",
        (3, 8, 8),
        {"channels": [4, 4], "depth": 2, "dense": [6], "added": 2, "grown": 2, "t": "entry", "normalize": "batch_std"},
    ),
    (
        "cifar_resnet",
        (1, 8, 8),
        {"channels": [4], "dense": [6], "grown": 4, "shared_t": False, "normalize": "sample", "mean_groups": 2},
    ),
    ("rows_rnn", (1, 5, 6), {"hidden": [6], "dense": [6], "activation": "two_sided_sigmoid"}),
    ("rows_rnn", (1, 5, 6), {"hidden": [6], "dense": [6], "readout": "last"}),
    ("rows_rnn", (2, 3, 4), {"hidden": [6], "dense": [6], "readout": "all"}),
    (
        "rows_rnn",
        (2, 3, 4),
        {"hidden": [4, 6], "dense": [6], "readout": "last", "t": "block", "activation": "two_sided_relu"},
    ),
    ("rows_rnn", (1, 5, 6), {"hidden": [4, 6], "dense": [], "head_hidden": [3], "bound": "gram"}),
    ("parseval_mnist", (2, 8, 9), {"channels": [3, 4], "kernel_size": 3, "dense": [5]}),
]
all_shapes = pytest.mark.parametrize("case", SHAPES, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(SHAPES)])


def small(name: str, **options: Any) -> Network:
    """Build a registered network for made-up images of three labels."""
    return NETWORKS[name](SHAPE, 3, **SMALL[name] | options)


def build(name: str, shape: ImageShape, **options: Any) -> L2NNN:
    """Build an L2NNN of four labels."""
    network = NETWORKS[name](shape, 4, **options)
    assert isinstance(network, L2NNN)
    return network


def wild(network: Network, scale: float = 3.0) -> Network:
    """Make a network hard, with raw weights that are anything but orthogonal, and biases; in float64, for evaluation.

    At a small scale, weights stay near where they begin.
    """
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn_like(parameter)
            if "phase" in name:
                parameter.add_(3 * noise)
            elif scale < 1:
                parameter.add_(scale * noise)
            else:
                parameter.copy_(scale * noise + 0.3)
    return harden(network).double().eval()


def derivatives(network: nn.Module, image: Tensor) -> Tensor:
    """The Jacobian, a row for each label: (K, pixels)."""
    return torch.autograd.functional.jacobian(lambda x: network(x[None])[0], image).flatten(1)


def shortest_step(network: nn.Module, image: Tensor, label: Tensor, *, in_box: bool = False) -> Tensor:
    """Find how far each image moves to get another label, by linearising the network again and again: (B,)."""
    found = torch.full((len(image),), torch.inf, dtype=image.dtype)
    start = image
    for rival in range(3):
        x = start.clone().requires_grad_(True)
        for _ in range(40):
            logits = network(x)
            lead = logits.gather(1, label[:, None])[:, 0] - logits[:, rival]
            (gradient,) = torch.autograd.grad(lead.sum(), x)
            square = gradient.flatten(1).square().sum(1).clamp_min(1e-20)
            moved = x.detach() - ((lead.detach() * 1.02 + 1e-4) / square)[:, None, None, None] * gradient
            x = (moved.clamp(0, 1) if in_box else moved).requires_grad_(True)
            with torch.no_grad():
                broken = network(x).argmax(1) != label
            distance = (x.detach() - start).flatten(1).norm(dim=1)
            found = torch.where(broken & (distance < found) & (label != rival), distance, found)
    return found

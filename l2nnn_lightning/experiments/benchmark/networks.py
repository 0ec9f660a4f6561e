"""The networks that the parts measure, and what a training step and an inference are."""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.models import L2NNNS, build_network
from l2nnn_lightning.training.losses import L2NNNLoss

__all__ = ["add_network_arguments", "built_networks", "forward", "made_up_batch", "training_step"]

_NUM_LABELS = 10


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which networks, with which bounds, on which images."""
    parser.add_argument("--networks", default="mnist_small,mnist_paper", help="names, separated by commas")
    parser.add_argument("--bounds", default="gram", help="bounds of their layers, separated by commas")
    parser.add_argument("--image_shape", help="channels,height,width (default: 3,32,32 for cifar*, resnet*; 1,28,28)")


def built_networks(options: argparse.Namespace) -> Iterator[tuple[str, nn.Module, tuple[int, int, int]]]:
    """Build each network with each bound.

    Args:
        options: of the command line.

    Returns:
        The name and the bound for a table, the network (soft, on its device), and the shape of an image.
    """
    for name in options.networks.split(","):
        if name not in L2NNNS:
            raise UserError(f"unknown network {name!r}: --networks takes {', '.join(L2NNNS)}")
        shape = _image_shape(name, options.image_shape)
        for bound in options.bounds.split(","):
            arguments: dict[str, Any] | None = None if bound == "gram" else {"bound": bound}
            torch.manual_seed(0)
            network = build_network(L2NNNS, name, shape, _NUM_LABELS, arguments).to(options.device)
            yield f"{name}, {bound}", network, shape


def made_up_batch(shape: tuple[int, int, int], options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Draw random images and labels."""
    image = torch.rand(options.batch_size, *shape, device=options.device)
    return image, torch.randint(_NUM_LABELS, (options.batch_size,), device=options.device)


def training_step(network: nn.Module, image: Tensor, label: Tensor) -> Callable[[], None]:
    """Make the task of one step with the paper's loss and a fused Adam, the same for any network."""
    network.train()
    loss = L2NNNLoss(_NUM_LABELS).to(image.device)
    parameters = [p for p in (*network.parameters(), *loss.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss(network(image), label)["loss"].backward()
        optimizer.step()

    return step


def forward(network: nn.Module, image: Tensor) -> Callable[[], Tensor]:
    """Make the task of one forward pass in evaluation mode."""
    network.eval()

    @torch.no_grad()
    def run() -> Tensor:
        logits: Tensor = network(image)
        return logits

    return run


def _image_shape(name: str, given: str | None) -> tuple[int, int, int]:
    if given is None:
        return (3, 32, 32) if name.startswith(("cifar", "resnet")) else (1, 28, 28)
    try:
        channels, height, width = (int(part) for part in given.split(","))
    except ValueError:
        raise UserError(f"--image_shape must be channels,height,width, got {given!r}") from None
    if min(channels, height, width) < 1:
        raise UserError(f"--image_shape must be positive, got {given!r}")
    return channels, height, width

"""What the parts measure: networks, made-up images, a checkpoint for whole commands, a training step, an inference."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from l2nnn_lightning.data import Batch
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.experiments.benchmark.run import BenchmarkOptions
from l2nnn_lightning.models import NETWORKS, NetworkFactory
from l2nnn_lightning.nn.scaling import find_bound
from l2nnn_lightning.training.classifier import L2NNNClassifier
from l2nnn_lightning.training.paper_loss import PaperLoss

__all__ = ["Shape", "forward", "made_up_batch", "network_builders", "training_step", "write_run"]

Shape = tuple[int, int, int]
_NUM_LABELS = 10


def network_builders(
    options: BenchmarkOptions, device: torch.device
) -> Iterator[tuple[str, Callable[[], nn.Module], Shape]]:
    """Give for each network with each bound its name for a table, what builds it (soft), and the shape of an image."""
    for name, bound in product(options.networks.split(","), options.bounds.split(",")):
        shape = _image_shape(options.image_shape or ("3,32,32" if name.startswith("cifar") else "1,28,28"))
        if name not in NETWORKS:
            raise UserError(f"unknown network {name!r}: --networks takes {', '.join(NETWORKS)}")
        try:
            find_bound(bound)
        except ValueError as error:
            raise UserError(f"--bounds: {error}") from error
        yield f"{name}, {bound}", partial(_build, name, bound, shape, device), shape


def _build(name: str, bound: str, shape: Shape, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name](shape, _NUM_LABELS, **({} if bound == "gram" else {"bound": bound})).to(device)


def _image_shape(given: str) -> Shape:
    try:
        channels, height, width = map(int, given.split(","))
    except ValueError:
        channels = height = width = 0
    if min(channels, height, width) < 1:
        raise UserError(f"--image_shape must be channels,height,width, got {given!r}")
    return channels, height, width


def made_up_batch(shape: Shape, batch_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw random images and labels."""
    return torch.rand(batch_size, *shape, device=device), torch.randint(_NUM_LABELS, (batch_size,), device=device)


def write_run(folder: Path, network: NetworkFactory, shape: Shape, images: int) -> Path:
    """Write so many made-up test images, and a hard network with random weights for them; returns the checkpoint."""
    channels, height, width = shape
    pixels = np.random.default_rng(0).integers(0, 256, (images, height, width, channels), dtype=np.uint8)
    for split, count in (("train", _NUM_LABELS), ("test", images)):
        for i in range(count):
            label = folder / "images" / split / str(i % _NUM_LABELS)
            label.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[i].squeeze()).save(label / f"{i}.png")
    torch.manual_seed(0)
    classifier = L2NNNClassifier(network, image_shape=shape, num_labels=_NUM_LABELS)
    classifier.harden()
    checkpoint: dict[str, Any] = {"state_dict": classifier.state_dict(), "hyper_parameters": dict(classifier.hparams)}
    classifier.on_save_checkpoint(checkpoint)
    init_args = {"root": str(folder / "images"), "channels": channels, "val_size": 0}
    checkpoint["l2nnn_lightning"]["data"] = {"name": "ImageFolder", "init_args": init_args}
    torch.save(checkpoint, folder / "hard.ckpt")
    return folder / "hard.ckpt"


def training_step(
    network: nn.Module,
    image: Tensor,
    label: Tensor,
    build: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
) -> Callable[[], None]:
    """Make the task of one step with the paper's loss, the same for any network.

    Args:
        network: the network.
        image: the batch.
        label: its labels.
        build: builds the optimizer of all that is trained; by default a fused Adam.
    """
    network.train()
    objective = PaperLoss(_NUM_LABELS).to(image.device)
    trained = nn.ModuleList([network, objective])
    batch = Batch(image, label)
    optimizer = (
        build(trained)
        if build is not None
        else torch.optim.Adam([p for p in trained.parameters() if p.requires_grad], fused=True)
    )

    def step() -> None:
        optimizer.zero_grad()
        objective(network, batch)[1]["loss"].backward()
        optimizer.step()

    return step


def forward(network: nn.Module, image: Tensor) -> Callable[[], Tensor]:
    """Make the task of one forward pass in evaluation mode."""
    network.eval()
    return torch.no_grad()(lambda: network(image))

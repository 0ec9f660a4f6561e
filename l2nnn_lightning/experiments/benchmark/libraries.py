"""A training step of constrained layers against plain ones at equal architecture: ours, deel-torchlip, orthogonium."""

import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from l2nnn_lightning.experiments.benchmark.networks import made_up_batch, training_step
from l2nnn_lightning.experiments.benchmark.run import BenchmarkOptions
from l2nnn_lightning.experiments.benchmark.timing import Row, compare
from l2nnn_lightning.nn import NormPool2d, TwoSidedReLU, harden, nonexpansive

__all__ = ["run"]

Layer = Callable[[int, int], nn.Module]
"""Makes a layer from numbers of inputs and outputs."""

_MISSING = "libraries: {} is not installed and is left out: see requirements-dev.txt"


def run(options: BenchmarkOptions, device: torch.device) -> Iterator[Row]:
    """Time a step of two 5x5 convolutions and two dense layers, with each library's layers and with plain ones."""
    batch = made_up_batch((1, 28, 28), options.batch_size, device)
    for name, conv, dense in _libraries(options.bounds.split(",")):
        torch.manual_seed(0)
        networks = harden(_Network(conv, dense)).to(device), _Network(_conv, nn.Linear).to(device)
        tasks = [training_step(network, *batch) for network in networks]
        target = "<= 1.05" if name.startswith("ours") else None
        what = "training step, constrained / plain"
        yield compare("libraries", name, what, *tasks, repeats=options.repeats, device=device, target=target)


class _Network(nn.Module):
    """Everything but the layers is the same for all libraries."""

    def __init__(self, conv: Layer, dense: Layer) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(conv(1, 16), TwoSidedReLU(), NormPool2d(2)),
            *(conv(32, 32), TwoSidedReLU(), NormPool2d(2)),
            nn.Flatten(),
            *(dense(64 * 7 * 7, 256), TwoSidedReLU(), dense(512, 10)),
        )

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image)
        return logits


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 5, padding=2)


def _libraries(bounds: list[str]) -> Iterator[tuple[str, Layer, Layer]]:
    """Give each library's name, 5x5 convolution and dense layer."""
    for bound in bounds:
        yield f"ours, {bound}", *_ours(bound)
    try:
        from deel.torchlip import SpectralConv2d, SpectralLinear
    except ImportError:
        print(_MISSING.format("deel-torchlip"), file=sys.stderr)
    else:
        yield "deel-torchlip", lambda i, o: SpectralConv2d(i, o, 5, padding=2), SpectralLinear
    try:
        from orthogonium.layers import AdaptiveOrthoConv2d, OrthoLinear
    except ImportError:
        print(_MISSING.format("orthogonium"), file=sys.stderr)
    else:
        yield "orthogonium", lambda i, o: AdaptiveOrthoConv2d(i, o, 5), OrthoLinear


def _ours(bound: str) -> tuple[Layer, Layer]:
    return (
        lambda i, o: nonexpansive(_conv(i, o), bound),
        lambda i, o: nonexpansive(nn.Linear(i, o), bound),
    )

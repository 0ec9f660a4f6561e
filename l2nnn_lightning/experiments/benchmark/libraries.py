"""A training step of constrained layers against plain ones at equal architecture: ours, deel-torchlip, orthogonium."""

import argparse
import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from l2nnn_lightning.experiments.benchmark.networks import made_up_batch, training_step
from l2nnn_lightning.experiments.benchmark.rows import Row
from l2nnn_lightning.experiments.benchmark.timing import compare
from l2nnn_lightning.nn import NormPool2d, TwoSidedReLU, harden, nonexpansive

__all__ = ["add_arguments", "run"]

Layers = tuple[Callable[[int, int], nn.Module], Callable[[int, int], nn.Module]]
"""What makes a 5x5 convolution, and what makes a dense layer, from numbers of inputs and outputs."""

_MISSING = "libraries: {} is not installed and is left out: see requirements-dev.txt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this part: none."""


def run(options: argparse.Namespace) -> list[Row]:
    """Time a step of two 5x5 convolutions and two dense layers, with each library's layers and with plain ones."""
    image, label = made_up_batch((1, 28, 28), options)
    rows = []
    for name, (conv, dense) in _libraries(options.bounds.split(",")):
        torch.manual_seed(0)
        network = harden(_network(conv, dense)).to(options.device)
        plain = _network(_conv, nn.Linear).to(options.device)
        rows.append(
            compare(
                "libraries",
                name,
                "training step, constrained / plain",
                training_step(network, image, label),
                training_step(plain, image, label),
                repeats=options.repeats,
                device=options.device,
                target="<= 1.05" if name.startswith("ours") else None,
            )
        )
    return rows


class _Network(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image)
        return logits


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 5, padding=2)


def _network(conv: Callable[[int, int], nn.Module], dense: Callable[[int, int], nn.Module]) -> nn.Module:
    """Everything but the layers is the same for all libraries."""
    return _Network(
        conv(1, 16),
        TwoSidedReLU(),
        NormPool2d(2),
        conv(32, 32),
        TwoSidedReLU(),
        NormPool2d(2),
        nn.Flatten(),
        dense(64 * 7 * 7, 256),
        TwoSidedReLU(),
        dense(512, 10),
    )


def _libraries(bounds: list[str]) -> Iterator[tuple[str, Layers]]:
    for bound in bounds:
        yield f"ours, {bound}", _ours(bound)
    try:
        from deel.torchlip import SpectralConv2d, SpectralLinear
    except ImportError:
        print(_MISSING.format("deel-torchlip"), file=sys.stderr)
    else:
        yield "deel-torchlip", (lambda i, o: SpectralConv2d(i, o, 5, padding=2), SpectralLinear)
    try:
        from orthogonium.layers import AdaptiveOrthoConv2d, OrthoLinear
    except ImportError:
        print(_MISSING.format("orthogonium"), file=sys.stderr)
    else:
        yield "orthogonium", (lambda i, o: AdaptiveOrthoConv2d(i, o, 5), OrthoLinear)


def _ours(bound: str) -> Layers:
    return (
        lambda i, o: nonexpansive(_conv(i, o), bound),  # type: ignore[arg-type]
        lambda i, o: nonexpansive(nn.Linear(i, o), bound),  # type: ignore[arg-type]
    )

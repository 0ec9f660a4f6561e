"""The cost of the constraint: a training step of a hard network against its plain twin."""

import argparse

import torch
from torch import nn

from l2nnn_lightning.benchmark.networks import built_networks, made_up_batch, training_step
from l2nnn_lightning.benchmark.rows import Row
from l2nnn_lightning.benchmark.timing import compare
from l2nnn_lightning.nn import fold, harden

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this part."""
    parser.add_argument("--compile", action="store_true", help="step: compile both networks")


def run(options: argparse.Namespace) -> list[Row]:
    """Time forward pass, backward pass and update of a batch."""
    rows = []
    for subject, network, shape in built_networks(options):
        image, label = made_up_batch(shape, options)
        plain = {"training step, hard / plain": fold(harden(network))}
        if options.device.type == "cpu" and any(isinstance(layer, nn.Conv2d) for layer in network.modules()):
            # The layout that nonexpansive convolutions choose on a CPU, which plain ones are not given by default.
            laid_out = fold(network).to(memory_format=torch.channels_last)
            plain["training step, hard / plain with channels last"] = laid_out
        if options.compile:
            for module in (network, *plain.values()):
                module.compile()
        target = "<= 1.3" if "cifar" in subject else "<= 1.05"
        rows += [
            compare(
                "step",
                subject,
                what,
                training_step(network, image, label),
                training_step(other, image, label),
                repeats=options.repeats,
                device=options.device,
                target=target,
            )
            for what, other in plain.items()
        ]
    return rows

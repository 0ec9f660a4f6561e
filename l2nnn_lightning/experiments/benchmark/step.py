"""The cost of the constraint: a training step of a hard network against its plain twin."""

import argparse

from l2nnn_lightning.experiments.benchmark.networks import built_networks, made_up_batch, training_step
from l2nnn_lightning.experiments.benchmark.rows import Row
from l2nnn_lightning.experiments.benchmark.timing import compare
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
        plain = fold(harden(network))
        if options.compile:
            network.compile()
            plain.compile()
        rows.append(
            compare(
                "step",
                subject,
                "training step, hard / plain",
                training_step(network, image, label),
                training_step(plain, image, label),
                repeats=options.repeats,
                device=options.device,
                target="<= 1.3" if "cifar" in subject else "<= 1.05",
            )
        )
    return rows

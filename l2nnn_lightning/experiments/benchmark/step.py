"""The cost of the constraint: a training step of a hard network against its plain twin."""

from collections.abc import Iterator

import torch

from l2nnn_lightning.experiments.benchmark.networks import made_up_batch, network_builders, training_step
from l2nnn_lightning.experiments.benchmark.run import BenchmarkOptions
from l2nnn_lightning.experiments.benchmark.timing import Row, compare
from l2nnn_lightning.nn import fold, harden

__all__ = ["run"]


def run(options: BenchmarkOptions, device: torch.device) -> Iterator[Row]:
    """Time forward pass, backward pass and update of a batch."""
    for subject, build, shape in network_builders(options, device):
        network = harden(build())
        batch = made_up_batch(shape, options.batch_size, device)
        plain = fold(network)
        if options.compile:
            network.compile()
            plain.compile()
        tasks = training_step(network, *batch), training_step(plain, *batch)
        target = "<= 1.3" if "cifar" in subject else "<= 1.05"
        what = "training step, hard / plain"
        yield compare("step", subject, what, *tasks, repeats=options.repeats, device=device, target=target)

"""Inference of a folded network against a plain one: folding leaves nothing behind."""

from collections.abc import Iterator
from unittest import mock

import torch

from l2nnn_lightning.experiments.benchmark.networks import forward, made_up_batch, network_builders
from l2nnn_lightning.experiments.benchmark.run import BenchmarkOptions
from l2nnn_lightning.experiments.benchmark.timing import Row, compare
from l2nnn_lightning.nn import fold, harden

__all__ = ["run"]


def run(options: BenchmarkOptions, device: torch.device) -> Iterator[Row]:
    """Time a forward pass of a folded network and of one that never had a parametrization, with the same weights."""
    for subject, build, shape in network_builders(options, device):
        image, _ = made_up_batch(shape, options.batch_size, device)
        folded = fold(harden(build()))
        with (
            mock.patch("torch.nn.utils.parametrize.register_parametrization"),
            mock.patch("l2nnn_lightning.nn.parametrization.raw_weight"),
        ):
            plain = build()
        plain.load_state_dict(folded.state_dict())
        tasks = forward(folded, image), forward(plain, image)
        what = "inference, folded / plain"
        yield compare("inference", subject, what, *tasks, repeats=options.repeats, device=device, target="<= 1.02")

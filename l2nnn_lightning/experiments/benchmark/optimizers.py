"""The cost of orthonormal rows: whole training steps with OrthogonalMomentum against as many with Adam."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from l2nnn_lightning.experiments.benchmark.networks import made_up_batch, training_step
from l2nnn_lightning.experiments.benchmark.run import BenchmarkOptions
from l2nnn_lightning.experiments.benchmark.timing import Row, compare
from l2nnn_lightning.models import ConvL2NNN, NetworkFactory
from l2nnn_lightning.nn import harden
from l2nnn_lightning.training.optimizers import OrthogonalMomentum, ScaledAdam, parameter_groups

__all__ = ["run"]

_SHAPE, _NUM_LABELS = (1, 28, 28), 10
_STACKS: NetworkFactory = partial(ConvL2NNN, channels=(), dense=(784,), head_hidden=(64, 64, 64))
_SUBJECTS: dict[str, NetworkFactory] = {
    "mnist_quick": partial(ConvL2NNN, channels=(), dense=(512,), head_hidden=(64, 64), activation="maxmin"),
    "784, stacks of 64, 64, 64": _STACKS,
    "mnist_small": ConvL2NNN,
}


def run(options: BenchmarkOptions, device: torch.device) -> Iterator[Row]:
    """Time as many steps of each as there are between two updates of the matrices."""
    batch = made_up_batch(_SHAPE, options.batch_size, device)
    for subject, network in _SUBJECTS.items():
        for every in (1, 2):
            tasks = [
                _steps(network, batch, optimizer, every)
                for optimizer in (partial(OrthogonalMomentum, every=every), ScaledAdam)
            ]
            what = f"training step, orthogonal momentum every {every} / Adam"
            yield compare("optimizers", subject, what, *tasks, repeats=options.repeats, device=device, target="<= 1.35")


def _steps(
    network: NetworkFactory, batch: tuple[Tensor, Tensor], optimizer: Callable[..., torch.optim.Optimizer], count: int
) -> Callable[[], None]:
    def build(module: nn.Module) -> torch.optim.Optimizer:
        return optimizer(parameter_groups(module))

    torch.manual_seed(0)
    step = training_step(harden(network(_SHAPE, _NUM_LABELS)).to(batch[0].device), *batch, build)

    def steps() -> None:
        for _ in range(count):
            step()

    return steps

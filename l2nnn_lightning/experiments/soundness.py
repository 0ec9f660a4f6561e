"""``l2nnn soundness``: try to break what is claimed, of every kind of network, near boundaries."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from l2nnn_lightning.data.errors import FailedWorkError
from l2nnn_lightning.evaluation.report.files import versions, write_json
from l2nnn_lightning.experiments.soundness_options import soundness_options
from l2nnn_lightning.models import NETWORKS, Certified, ImageShape, Network
from l2nnn_lightning.nn import harden
from l2nnn_lightning.training.checkpoints import load_pretrained, pretrained_names

__all__ = ["run_soundness"]

_SHAPE: ImageShape = (1, 8, 8)
_LABELS, _IMAGES, _STEPS = 3, 32, 6
#: What makes each registered network small enough for images of 8x8; those that are not named are left out.
_SMALL: dict[str, dict[str, Any]] = {
    "mnist_small": {"channels": [2, 3], "dense": [12]},
    "mnist_paper": {"channels": [2, 3], "dense": [9, 8, 6, 6], "head_hidden": [5, 4, 4]},
    "cifar_paper": {"crop": 7, "channels": [2, 2], "head_hidden": [6]},
    "conv_tight": {"channels": [3], "kernel_size": 3, "dense": [8], "certificate": "pairwise"},
    "cifar_tight": {"channels": [4, 6], "depth": 1, "dense": [8], "certificate": "pairwise"},
    "cifar_resnet": {"channels": [4], "depth": 2, "dense": [8], "normalize": True, "certificate": "pairwise"},
    "rows_rnn": {"hidden": [6, 4], "dense": [8], "certificate": "pairwise"},
    "mlp": {"dense": [200, 150], "certificate": "pairwise"},
    "shift": {"widths": [8, 12], "depth": 2, "dense": [8], "certificate": "pairwise"},
    "parseval_mnist": {"channels": [3], "kernel_size": 3, "dense": [8], "certificate": "pairwise"},
    "templates": {"templates_per_label": 12},
}


def run_soundness(args: Sequence[str]) -> dict[str, Any]:
    """Attack until the budget is spent, and say what was tried.

    Raises:
        FailedWorkError: if a label changes within a radius that was claimed; it says of which network.
        ArgumentError: for a bad command line.
    """
    options = soundness_options(args)
    started, tightest = time.perf_counter(), 0.0
    tried: dict[str, int] = {}
    generator = torch.Generator().manual_seed(options.seed)
    for name, network, shape in _networks(options.seed):
        for program in ("float64", "float32"):
            certified = Certified(network, program)
            for attacks, nearest in _attack(certified, shape, generator, f"{name}, {program}, seed {options.seed}"):
                key = f"{name} {program}"
                tried[key] = tried.get(key, 0) + attacks
                tightest = max(tightest, nearest)
        if sum(tried.values()) >= options.budget:
            break
    found = {
        "attacks": sum(tried.values()),
        "breaks": 0,
        "by_network": tried,
        "largest_radius_over_distance": tightest,
        "seconds": time.perf_counter() - started,
        "seed": options.seed,
        "versions": versions(),
    }
    if options.output is not None:
        write_json(Path(options.output), found)
    print(json.dumps({key: value for key, value in found.items() if key != "versions"}, indent=2))
    return found


def _networks(seed: int) -> Iterator[tuple[str, Network, ImageShape]]:
    """Draw hard networks without end: each kind in turn with other weights, and now and then a shipped one."""
    while True:
        for name, small in _SMALL.items():
            torch.manual_seed(seed)
            network = NETWORKS[name](_SHAPE, _LABELS, **small)
            with torch.no_grad():
                for key, parameter in network.named_parameters():
                    noise = torch.randn_like(parameter)
                    parameter.add_(noise if "phase" in key else (0.1, 0.5, 3.0)[seed % 3] * noise)
            yield name, harden(network).eval(), _SHAPE
            seed += 1
        for name in pretrained_names():
            classifier = load_pretrained(name)
            yield name, classifier.network, classifier.image_shape


def _images(shape: ImageShape, generator: torch.Generator) -> Tensor:
    """Draw noise, smooth images, dark, huge and constant ones, and corners of the box."""
    noise = torch.rand(_IMAGES, *shape, generator=generator)
    noise[::8] *= 1e-3
    noise[1::8] *= 1e3
    noise[2::8] = noise[2::8].mean((1, 2, 3), keepdim=True)
    noise[3::8] = (noise[3::8] > 0.5).float()
    smooth = torch.rand(len(noise[4::8]), shape[0], 4, 4, generator=generator)
    noise[4::8] = nn.functional.interpolate(smooth, shape[1:], mode="bilinear")
    return noise


def _attack(
    certified: Certified, shape: ImageShape, generator: torch.Generator, where: str
) -> Iterator[tuple[int, float]]:
    """Attack images and their neighbours at boundaries; say how many, and the largest radius over a distance."""
    images = _images(shape, generator).to(next(certified.program.parameters()).dtype)
    engines = _engines(certified)
    label = engines[0](images)
    other = images.roll(1, 0)
    apart = label != engines[0](other)
    if bool(apart.any()):
        inside, outside = _bisect(engines[0], images[apart], other[apart])
        distance = (inside.double() - outside.double()).flatten(1).norm(dim=1)
        for side in (inside, outside):
            radius = certified(side).radius.double()
            if bool((radius > distance).any()):
                raise FailedWorkError(f"{where}: a radius of {float(radius.max()):.3g} is broken at a boundary")
            yield len(side), float((radius / distance.clamp_min(1e-300)).max())
        images = torch.cat([images, inside])
    answer = certified(images)
    for start in range(_STEPS):
        moved = _moved(certified, images, answer.label, answer.radius.double(), generator, gradient=start % 2 == 0)
        step = (moved.double() - images.double()).flatten(1).norm(dim=1)
        within = (step < answer.radius.double()) & (answer.radius > 0)
        for engine in engines:
            if bool((engine(moved) != answer.label)[within].any()):
                raise FailedWorkError(f"{where}: a label changes within its radius")
            yield int(within.sum()), 0.0


def _engines(certified: Certified) -> list[Callable[[Tensor], Tensor]]:
    """Compute labels in other orders of the same sums: at once, one by one, and with channels last."""

    def at_once(images: Tensor) -> Tensor:
        return certified.logits(images).argmax(1)

    def one_by_one(images: Tensor) -> Tensor:
        return torch.cat([at_once(image) for image in torch.split(images, 1)])

    def channels_last(images: Tensor) -> Tensor:
        return at_once(images.contiguous(memory_format=torch.channels_last))

    return [at_once, one_by_one, channels_last]


def _bisect(label_of: Callable[[Tensor], Tensor], one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Move two images of different labels together, until nothing lies between them."""
    first = label_of(one)
    for _ in range(120):
        middle = (one + other) / 2
        same = (label_of(middle) == first)[:, None, None, None]
        one, other = torch.where(same, middle, one), torch.where(same, other, middle)
    return one, other


def _moved(
    certified: Certified,
    images: Tensor,
    label: Tensor,
    radius: Tensor,
    generator: torch.Generator,
    *,
    gradient: bool,
) -> Tensor:
    """Move each image nearly as far as its radius: against the lead over the runner-up, or anywhere."""
    direction = torch.randn(images.shape, generator=generator, dtype=images.dtype)
    if gradient:
        x = images.detach().requires_grad_(True)
        logits = certified.program(x)
        rival = logits.scatter(1, label[:, None], -torch.inf).amax(1)
        (direction,) = torch.autograd.grad((rival - logits.gather(1, label[:, None])[:, 0]).sum(), x)
    length = direction.double().flatten(1).norm(dim=1).clamp_min(1e-300)
    step = (radius.clamp_max(1e6) * (1 - 1e-6) / length)[:, None, None, None] * direction.double()
    moved: Tensor = (images.double() + step).to(images.dtype)
    return moved

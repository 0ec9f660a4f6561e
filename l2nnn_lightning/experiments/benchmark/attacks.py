"""Our Carlini-Wagner attack against foolbox's: how close the adversarial images are, and how long they take."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from l2nnn_lightning.attacks import CarliniWagnerL2
from l2nnn_lightning.data import to_float
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.experiments.benchmark.run import BenchmarkOptions
from l2nnn_lightning.experiments.benchmark.timing import Row, seconds_of
from l2nnn_lightning.nn import fold
from l2nnn_lightning.training.checkpoints import Checkpoint
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["run"]

SEARCH_STEPS = 9  # foolbox's default and ours


def run(options: BenchmarkOptions, device: torch.device) -> Iterator[Row]:
    """Attack the first test images of each checkpoint's data set by both implementations, with the same settings.

    Only images that the network gets right count: the others need no attack.

    Yields:
        For each checkpoint the mean and the quartiles of the norms, ours beside foolbox's; then seconds, and what both
        leave unbroken within ``attack_eps``. Nothing where there are no checkpoints.

    Raises:
        UserError: if foolbox is not installed, or a checkpoint cannot be used.
    """
    for path in filter(None, options.attack_checkpoints.split(",")):
        foolbox = _foolbox()
        classifier, images, labels = _load(path, options, device)
        network = fold(classifier.network).eval().requires_grad_(False)
        size = options.attack_batch
        with torch.no_grad():
            right = torch.cat([network(x).argmax(1) for x in torch.split(images, size)]) == labels
        for count, measure in ((options.attack_images, _strength), (options.attack_timed, _speed)):
            kept = right[:count].nonzero().flatten()
            if len(kept):
                kept_parts = images[kept], labels[kept], classifier.certify(images[kept]).radius
                batches = list(zip(*(torch.split(part, size) for part in kept_parts), strict=True))
                contest = _Contest(foolbox, network, batches, options.attack_iterations)
                yield from measure(contest, path, options.attack_eps)


@dataclass
class _Contest:
    """Two attacks with the same settings on the same images; norms are infinite where nothing was found."""

    foolbox: Any
    network: nn.Module
    batches: list[tuple[Tensor, ...]]  # images, labels, certified radii
    steps: int

    def ours(self, eps: float | None) -> Tensor:
        attack = CarliniWagnerL2(self.network, SEARCH_STEPS, self.steps, eps=eps)
        found = [attack.run(x, y, radius=None if eps is None else radius) for x, y, radius in self.batches]
        return torch.cat([result.norm for result in found])

    def theirs(self) -> Tensor:
        attack = self.foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=SEARCH_STEPS, steps=self.steps)
        model = self.foolbox.PyTorchModel(self.network, bounds=(0, 1), device=self.batches[0][0].device)
        norms = []
        for x, y, _ in self.batches:
            _, found, success = attack(model, x, y, epsilons=None)
            norms.append((found - x).flatten(1).norm(dim=1).where(success, torch.inf))
        return torch.cat(norms)


def _strength(contest: _Contest, subject: str, eps: float) -> Iterator[Row]:  # noqa: ARG001 (minima know no eps)
    both = torch.stack([contest.ours(None), contest.theirs()]).double()
    # Where one finds nothing, a mean would be infinite: it is taken where both found something.
    pairs = {"mean": both[:, both.isfinite().all(0)].mean(1)}
    for q in (1, 2, 3):
        pairs[f"quartile {q}"] = both.quantile(q / 4, dim=1, interpolation="lower")
    for name, pair in pairs.items():
        a, b = pair.tolist()
        yield Row("attacks", subject, f"norm, {name}: ours / foolbox", a, b, "L2", a / b, target="<= 1.01")
    what = f"of {both.shape[1]} images broken at any norm, ours beside foolbox"
    ours, theirs = both.isfinite().double().mean(1).tolist()
    yield Row("attacks", subject, what, ours, theirs, "fraction")


def _speed(contest: _Contest, subject: str, eps: float) -> Iterator[Row]:
    device = contest.batches[0][0].device
    norms: list[Tensor] = []
    ours = seconds_of(lambda: norms.append(contest.ours(eps)), device)
    theirs = seconds_of(lambda: norms.append(contest.theirs()), device)
    broken_ours, broken_theirs = (norm <= eps for norm in norms)
    left_ours, left_theirs = (float((~broken).double().mean()) for broken in (broken_ours, broken_theirs))
    missed = float((broken_theirs & ~broken_ours).double().mean())
    what = f"{len(broken_ours)} images, {contest.steps} iterations, L2 {eps:g}"
    yield Row("attacks", subject, f"{what}: ours / foolbox", ours, theirs, "s", ours / theirs, target="<= 0.2")
    yield Row("attacks", subject, f"{what}: unbroken, ours beside foolbox", left_ours, left_theirs, "fraction")
    yield Row("attacks", subject, f"{what}: broken by foolbox alone", missed, None, "fraction", target="<= 0")


def _load(path: str, options: BenchmarkOptions, device: torch.device) -> tuple[Classifier, Tensor, Tensor]:
    """Load a checkpoint and the first test images of the data set that it was trained on."""
    checkpoint = Checkpoint.read(path)
    datamodule = checkpoint.datamodule(root=options.attack_root)
    datamodule.setup("test")
    assert datamodule.test_set is not None
    first = slice(max(options.attack_images, options.attack_timed))
    images = to_float(datamodule.test_set.images[first], device)
    return checkpoint.classifier().to(device), images, datamodule.test_set.labels[first].to(device)


def _foolbox() -> Any:
    try:
        import foolbox
    except ImportError as error:
        raise UserError("foolbox is not installed: pip install -r requirements-dev.txt") from error
    return foolbox

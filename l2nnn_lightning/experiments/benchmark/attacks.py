"""Our Carlini-Wagner attack against foolbox's: how close the adversarial images are, and how long they take."""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from l2nnn_lightning.attacks import CarliniWagnerL2
from l2nnn_lightning.data import build_datamodule
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.experiments.benchmark.rows import Row
from l2nnn_lightning.nn import fold
from l2nnn_lightning.training.checkpoints import load_classifier
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["add_arguments", "compare_with_foolbox", "run"]

SEARCH_STEPS = 9  # foolbox's default and ours


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this part."""
    add = parser.add_argument
    add(
        "--attack_checkpoints",
        default="",
        help="attacks: checkpoints, separated by commas; without them it is left out",
    )
    add("--attack_root", help="attacks: where their data set is, if not where it was in training")
    add("--attack_images", type=int, default=200, help="attacks: test images for the norms (default: 200)")
    add("--attack_timed", type=int, default=1000, help="attacks: test images for the time (default: 1000)")
    add("--attack_iterations", type=int, default=1000, help="attacks: iterations for each c (default: 1000)")
    add("--attack_eps", type=float, default=3.0, help="attacks: L2 radius of the timed verdicts (default: 3)")
    add("--attack_batch", type=int, default=100, help="attacks: images at once, of both (default: 100)")


def run(options: argparse.Namespace) -> list[Row]:
    """Compare on the checkpoints that were given; nothing where there are none and the part was not asked for."""
    for name in ("attack_images", "attack_timed"):
        if getattr(options, name) < 0:
            raise UserError(f"--{name} must be at least 0, got {getattr(options, name)}")
    for name in ("attack_iterations", "attack_batch"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if not 0 < options.attack_eps < float("inf"):
        raise UserError(f"--attack_eps must be positive and finite, got {options.attack_eps}")
    checkpoints = [path for path in options.attack_checkpoints.split(",") if path]
    if not checkpoints:
        if "attacks" in options.parts:
            raise UserError("the part attacks needs --attack_checkpoints: name .ckpt files, separated by commas")
        return []
    return compare_with_foolbox(
        checkpoints,
        options.attack_images,
        options.attack_timed,
        eps=options.attack_eps,
        max_iter=options.attack_iterations,
        batch_size=options.attack_batch,
        root=options.attack_root,
        device=options.device,
    )


def compare_with_foolbox(
    checkpoints: Sequence[str],
    images: int,
    timed: int,
    *,
    eps: float = 3.0,
    max_iter: int = 1000,
    batch_size: int = 100,
    root: str | None = None,
    device: torch.device | str = "cpu",
) -> list[Row]:
    """Attack the first test images of each checkpoint's data set by both implementations, with the same settings.

    Only images that the network gets right count: the others need no attack.

    Args:
        checkpoints: paths of checkpoints.
        images: how many test images have their closest adversarial images compared; 0 for none.
        timed: how many test images are attacked to tell whether they break within ``eps``, by the clock; 0 for none.
        eps: that L2 radius, > 0.
        max_iter: iterations for each of nine values of c.
        batch_size: images at once.
        root: where the data set is, if not where it was in training.
        device: where the networks run.

    Returns:
        For each checkpoint the mean and the quartiles of the norms, ours beside foolbox's; then seconds, and what both
        leave unbroken within ``eps``.

    Raises:
        UserError: if foolbox is not installed, or a checkpoint cannot be used.
    """
    foolbox = _foolbox()
    rows: list[Row] = []
    for path in checkpoints:
        classifier, pixels, labels = _load(path, max(images, timed), root, device)
        network = fold(classifier.network).eval().requires_grad_(False)
        with torch.no_grad():
            right = torch.cat([network(x).argmax(1) == y for _, x, y in _batches(pixels, labels, batch_size)])
        for count, compare in ((images, _strength), (timed, _speed)):
            kept = right[:count]
            if not kept.any():
                continue
            radius = classifier.certify(pixels[:count][kept]).radius
            contest = _Contest(
                foolbox, network, pixels[:count][kept], labels[:count][kept], radius, max_iter, batch_size
            )
            rows += compare(contest, path, eps)
    return rows


class _Contest:
    """Two attacks with the same settings on the same images."""

    def __init__(
        self,
        foolbox: ModuleType,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        radius: Tensor,
        max_iter: int,
        batch_size: int,
    ) -> None:
        self.network, self.images, self.labels, self.radius = network, images, labels, radius
        self.max_iter, self.batch_size = max_iter, batch_size
        self.attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=SEARCH_STEPS, steps=max_iter)
        self.model = foolbox.PyTorchModel(network, bounds=(0, 1), device=images.device)

    def ours(self, eps: float | None) -> Tensor:
        """Return our norms, infinite where nothing was found."""
        attack = CarliniWagnerL2(self.network, SEARCH_STEPS, self.max_iter, eps=eps)
        norms = [
            attack.run(x, y, radius=None if eps is None else self.radius[rows]).norm
            for rows, x, y in _batches(self.images, self.labels, self.batch_size)
        ]
        return torch.cat(norms)

    def theirs(self) -> Tensor:
        """Return foolbox's norms, infinite where nothing was found."""
        norms = []
        for _, x, y in _batches(self.images, self.labels, self.batch_size):
            _, found, success = self.attack(self.model, x, y, epsilons=None)
            norms.append((found - x).flatten(1).norm(dim=1).where(success, torch.inf))
        return torch.cat(norms)


def _strength(contest: _Contest, subject: str, eps: float) -> list[Row]:  # noqa: ARG001 (minima know no eps)
    ours, theirs = contest.ours(None), contest.theirs()
    # Where one finds nothing, a mean would be infinite: it is taken where both found something.
    both = ours.isfinite() & theirs.isfinite()
    pairs = {"mean": [float(norms[both].double().mean()) for norms in (ours, theirs)]}
    for q in (1, 2, 3):
        pairs[f"quartile {q}"] = [
            float(norms.double().quantile(q / 4, interpolation="lower")) for norms in (ours, theirs)
        ]
    rows = [
        Row("attacks", subject, f"norm, {name}: ours / foolbox", a, b, "L2", a / b, target="<= 1.01")
        for name, (a, b) in pairs.items()
    ]
    what = f"of {len(ours)} images broken at any norm, ours beside foolbox"
    broken = [float(norms.isfinite().double().mean()) for norms in (ours, theirs)]
    return [*rows, Row("attacks", subject, what, broken[0], broken[1], "fraction")]


def _speed(contest: _Contest, subject: str, eps: float) -> list[Row]:
    our_norms, our_seconds = _timed(lambda: contest.ours(eps), contest.images.device)
    their_norms, their_seconds = _timed(contest.theirs, contest.images.device)
    ours, theirs = our_norms <= eps, their_norms <= eps
    unbroken = [float((~broken).double().mean()) for broken in (ours, theirs)]
    missed = float((theirs & ~ours).double().mean())
    what = f"{len(ours)} images, {contest.max_iter} iterations, L2 {eps:g}"
    ratio = our_seconds / their_seconds
    return [
        Row("attacks", subject, f"{what}: ours / foolbox", our_seconds, their_seconds, "s", ratio, target="<= 0.2"),
        Row("attacks", subject, f"{what}: unbroken, ours beside foolbox", unbroken[0], unbroken[1], "fraction"),
        Row("attacks", subject, f"{what}: broken by foolbox alone", missed, None, "fraction", target="<= 0"),
    ]


def _timed(attack: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, float]:
    _wait(device)
    started = time.perf_counter()
    norms = attack()
    _wait(device)
    return norms, time.perf_counter() - started


def _load(path: str, count: int, root: str | None, device: torch.device | str) -> tuple[Classifier, Tensor, Tensor]:
    """Load a checkpoint and the first test images of the data set that it was trained on."""
    classifier, checkpoint = load_classifier(path)
    described = checkpoint["l2nnn_lightning"]["data"]
    if described is None:
        raise UserError(f"{path} does not say what it was trained on: use a checkpoint that train.py wrote")
    init_args = described["init_args"] if root is None else {**described["init_args"], "root": root}
    datamodule = build_datamodule(described["name"], init_args)
    datamodule.setup("test")
    assert datamodule.test_set is not None
    images, labels = datamodule.test_set.images[:count], datamodule.test_set.labels[:count]
    return classifier.to(device), images.to(device).float() / 255, labels.to(device)


def _foolbox() -> ModuleType:
    try:
        import foolbox
    except ImportError as error:
        raise UserError("foolbox is not installed: pip install -r requirements-dev.txt") from error
    module: ModuleType = foolbox
    return module


def _batches(images: Tensor, labels: Tensor, size: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        yield rows, images[rows], labels[rows]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

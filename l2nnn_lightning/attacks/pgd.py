"""Projected gradient descent and the fast gradient sign method; the loop serves adversarial training too."""

import zlib
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from l2nnn_lightning.attacks.base import ImageAttack, NormKind, spread

__all__ = ["FGSM", "PGD", "PGDL2", "climb", "into_ball", "random_start"]


def climb(
    loss_of: Callable[[Tensor], Tensor],
    points: Tensor,
    project: Callable[[Tensor], Tensor],
    *,
    steps: int,
    step_size: float,
    norm_kind: NormKind,
) -> Tensor:
    """Follow the gradient of a loss: ``x <- project(x + step_size * direction)`` (Madry et al., 2018).

    Args:
        loss_of: maps points, (B, ...), to a scalar.
        points: where to begin; the last ones are returned, detached.
        project: brings points back to where they are allowed.
        steps: number of steps.
        step_size: length of a step, in the norm.
        norm_kind: "Linf" steps by the gradient's sign, "L2" along the gradient of each sample.
    """
    for _ in range(steps):
        points = points.detach().requires_grad_()
        (direction,) = torch.autograd.grad(loss_of(points), points)
        if norm_kind == "Linf":
            direction = direction.sign()
        else:  # torchattacks' guard against a gradient of zero
            direction = direction / spread(torch.linalg.vector_norm(direction.flatten(1), dim=1) + 1e-10, direction)
        points = project(points.detach() + step_size * direction)
    return points.detach()


def random_start(images: Tensor, eps: float, norm_kind: NormKind, seed: int) -> Tensor:
    """Draw a point in the ball of radius ``eps`` around each image (B, ...), from a generator of its own.

    The generator is seeded by ``seed`` >= 0 and the pixels, so that an evaluation gives the same result in whatever
    parts it is done. In the L-infinity norm the point is uniform; in the L2 norm its direction and its distance are.
    """
    pixels = images.detach().cpu().contiguous()
    # The generator of the CPU knows seeds of 32 bits only.
    seeds = [zlib.crc32(row.tobytes(), seed & 0xFFFFFFFF) for row in pixels.numpy()]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    if norm_kind == "Linf":
        moves = [torch.empty_like(pixels[0]).uniform_(-eps, eps, generator=generator) for generator in generators]
        return (images + torch.stack(moves).to(images)).clamp(0, 1)
    normals = [torch.empty_like(pixels[0]).normal_(generator=generator) for generator in generators]
    shares = [torch.rand((), generator=generator, dtype=pixels.dtype) for generator in generators]
    move = torch.stack(normals).to(images)
    length = torch.linalg.vector_norm(move.flatten(1), dim=1)
    return (images + move * spread(torch.stack(shares).to(images) / length * eps, move)).clamp(0, 1)


class PGD(ImageAttack):
    """Attack by projected gradient descent on the margin, from a random start, with the steps of torchattacks' loops.

    The margin, the largest other logit minus the true one, has a gradient at every scale of the logits, which the
    cross-entropy has not. A sample counts as broken if any iterate was misclassified, not only the last. The random
    start of an image depends on the seed and the image alone. Here in the L-infinity norm.
    """

    norm_kind: ClassVar[NormKind] = "Linf"
    starts_at_random: ClassVar[bool] = True
    travel: ClassVar[float] = 2.5  # all steps together, in radii: enough to cross the ball

    def attempt(self, images: Tensor, labels: Tensor, restart: int) -> tuple[Tensor, int]:
        """Climb once, and note every misclassified iterate on the way."""
        found = start = images
        if self.starts_at_random:
            start = random_start(images, self.inner_eps, self.norm_kind, self.seed + restart)

        def loss_of(points: Tensor) -> Tensor:
            nonlocal found
            logits = self.logits(points)
            wrong = logits.detach().argmax(1) != labels
            found = torch.where(spread(wrong, points), points.detach(), found)
            return F.cross_entropy(_two_logits(logits, labels), labels)

        last = climb(
            loss_of,
            start,
            lambda points: into_ball(points, images, self.inner_eps, self.norm_kind),
            steps=self.max_iter,
            step_size=self.travel * self.outer_eps / self.max_iter,
            norm_kind=self.norm_kind,
        )
        loss_of(last)
        return found, self.max_iter


class PGDL2(PGD):
    """Projected gradient descent in the L2 norm."""

    norm_kind: ClassVar[NormKind] = "L2"


class FGSM(PGD):
    """Attack by one step of the fast gradient sign method (Goodfellow et al., 2014), of length ``eps``, from the image.

    It has no use for ``max_iter``, ``restarts`` and ``seed``.
    """

    starts_at_random: ClassVar[bool] = False
    travel: ClassVar[float] = 1.0
    max_iter = 1

    def __init__(
        self, model: nn.Module, eps: float | None = None, max_iter: int | None = None, **settings: int
    ) -> None:
        super().__init__(model, eps, max_iter, **settings)
        self.max_iter = self.restarts = 1


def into_ball(points: Tensor, images: Tensor, eps: float, norm_kind: NormKind) -> Tensor:
    """Bring points, (B, ...), into the ball of radius ``eps`` around each image, and into [0, 1]."""
    move = points - images
    if norm_kind == "Linf":
        return (images + move.clamp(-eps, eps)).clamp(0, 1)
    length = torch.linalg.vector_norm(move.flatten(1), dim=1)
    return (images + move * spread((eps / length).clamp(max=1), move)).clamp(0, 1)


def _two_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Keep the true logit and the largest other: their cross-entropy has the margin's gradient up to a factor."""
    own = labels[:, None]
    other = logits.detach().scatter(1, own, -torch.inf).argmax(1, keepdim=True)
    margin = logits.gather(1, own) - logits.gather(1, other)
    scale = margin.detach().abs().clamp_min(torch.finfo(logits.dtype).tiny ** 0.5)
    return torch.full_like(logits, -torch.inf).scatter(1, other, 0.0).scatter(1, own, margin / scale)

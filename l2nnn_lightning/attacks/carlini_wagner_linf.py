"""The Carlini-Wagner L-infinity attack, every sample on a schedule of its own (table 4)."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from l2nnn_lightning.attacks.base import ImageAttack, NormKind, check_at_least, check_positive, spread
from l2nnn_lightning.attacks.search import LIMIT, SHRINK, AdamRows, adam_rate, to_images, to_points

__all__ = ["CarliniWagnerLinf"]

# A margin of so many units in the last place of the largest logit could change sign with the size of the batch.
ROUNDING = 16
# The threshold on pixels begins at their whole range and ends at one grey level.
FIRST, LAST = 1.0, 1 / 256


class CarliniWagnerLinf(ImageAttack):
    """Find a misclassified image with small changes of every pixel, by Carlini and Wagner (2017), not targeted.

    The largest change alone has a gradient in one pixel. So the attack minimises
    ``c max(margin(x'), 0) + sum_i max(|x'_i - x_i| - tau, 0)`` by Adam, over the hyperbolic tangent's argument of
    ``x'``, with ``margin`` the logit of the true label minus the largest other. Once the sum is near 0, tau falls to
    0.9 times the smaller of itself and the largest change, and the search goes on from the image found; where
    ``max_iter`` iterations do not get there, c grows tenfold (the authors double it), from 1e-5 up to 20, and then the
    search ends.

    Every sample has its own c, tau, optimizer state, iteration count and end: what else is in the batch does not
    matter, and samples that are finished leave it. With ``eps`` the attack decides whether the distance is at most
    ``eps``: tau does not fall below it, samples finish as soon as they are broken within it, and a search that ended
    above it is given one more try at ``eps``, from the image itself.

    Args:
        model: maps images (B, ...) in [0, 1] to logits (B, K), K >= 2; see :class:`ImageAttack`.
        max_iter: largest number of iterations for each c, >= 1; None: 1000.
        lr: Adam's step size in the space of the tangent's argument, > 0.
        eps: L-infinity threshold, > 0; None searches for the minimum norm, down to 1/256 and to within a tenth.
        abort_early: end a c once the sample's loss has improved by less than 0.1% over a tenth of ``max_iter``.
        restarts: number of searches; from the second on they start at random noise, by ``seed``, around the image.

    References:
        Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017, section VI.C.
    """

    norm_kind: ClassVar[NormKind] = "Linf"
    needs_eps = False
    max_iter = 1000

    def __init__(
        self,
        model: nn.Module,
        max_iter: int | None = None,
        lr: float = 0.005,
        eps: float | None = None,
        *,
        abort_early: bool = True,
        restarts: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(model, eps, max_iter, restarts=restarts, seed=seed)
        check_positive(lr=lr)
        check_at_least(1, max_iter=self.max_iter)
        self.lr, self.abort_early = lr, abort_early

    def attempt(self, image: Tensor, label: Tensor, restart: int) -> tuple[Tensor, Tensor]:
        """Let tau fall for every sample; return the closest adversarial images, or originals, and the iterations."""
        start = to_points(image)
        if restart > 0:
            # One noise pattern for all samples: the outcome of a sample does not depend on its place in the batch.
            generator = torch.Generator().manual_seed(self.seed + restart)
            start = start + 0.1 * torch.randn(image.shape[1:], generator=generator, dtype=image.dtype).to(image.device)
        rows = _Rows(image, label, start)
        best, iterations = image.clone(), torch.zeros_like(label)
        window = math.ceil(self.max_iter / 10)
        # As in the L2 attack: an interval that divides max_iter keeps the looks of all samples in step.
        interval = max(n for n in range(1, 11) if self.max_iter % n == 0 and n <= max(1, window // 10))
        while len(rows.index) > 0:
            for _ in range(interval):
                self._iterate(rows)
            if not bool(torch.isfinite(rows.loss).all()):
                raise ValueError("the model's logits are not finite on images in [0, 1]: it cannot be attacked")
            stalled = rows.has_stalled(window)
            ended = (rows.step >= self.max_iter) | (stalled if self.abort_early else torch.zeros_like(stalled))
            finished = rows.next(ended, self.eps)
            if bool(finished.any()):
                best[rows.index[finished]] = rows.best[finished]
                iterations[rows.index[finished]] = rows.iterations[finished]
                rows.keep(~finished)
        return best, iterations

    def _iterate(self, rows: "_Rows") -> None:
        tangent, image = to_images(rows.point)
        image.requires_grad_()
        logits = self.logits(image)
        own = logits.gather(1, rows.label[:, None])[:, 0]
        margin = own - logits.scatter(1, rows.label[:, None], -torch.inf).max(1).values
        penalty = rows.c * margin.clamp_min(0)
        (gradient,) = torch.autograd.grad(penalty.sum(), image)
        with torch.no_grad():
            rounding = ROUNDING * torch.finfo(logits.dtype).eps * logits.abs().amax(1)
            rows.record(image.detach(), penalty.detach(), margin.detach() < -rounding)
            rows.descend(gradient, tangent, image.detach(), self.lr)

    @torch.no_grad()
    def settle(self, image: Tensor, candidate: Tensor, label: Tensor) -> Tensor:
        """Take a slightly longer step where the whole batch, by its kernels' rounding, does not confirm a candidate."""
        for stretch in (1.001, 1.01):
            undecided = ~self.is_wrong(candidate, label)
            longer = (image + stretch * (candidate - image)).clamp(0, 1)
            candidate = torch.where(spread(undecided, longer), longer, candidate)
        return candidate


class _Rows(AdamRows):
    """Everything the search knows of its samples, as tensors with one row per sample.

    Args:
        image: (A, ...) the original images.
        label: (A,) their labels.
        start: (A, ...) the first point, in the space of :func:`to_points`.
    """

    first_c, largest_c, factor = 1e-5, 20.0, 10.0

    def __init__(self, image: Tensor, label: Tensor, start: Tensor) -> None:
        none, ones = torch.zeros_like(label), torch.ones(len(label), dtype=image.dtype, device=image.device)
        self.index = torch.arange(len(label), device=label.device)
        self.image, self.label, self.start = image, label, start.clamp(-LIMIT, LIMIT)
        self.tau, self.c = FIRST * ones, self.first_c * ones
        self.is_last_try = none > 0
        # The current search: Adam's state, and what it has seen with this c.
        self.point = self.start.clone()
        self.mean, self.square = torch.zeros_like(image), torch.zeros_like(image)
        self.moments, self.step, self.found = none.clone(), none.clone(), none > 0
        self.loss, self.loss_before, self.window_start = torch.inf * ones, torch.inf * ones, none.clone()
        # The closest adversarial image.
        self.best, self.best_change, self.iterations = image.clone(), torch.inf * ones, none.clone()

    def record(self, image: Tensor, penalty: Tensor, adversarial: Tensor) -> None:
        """Note the loss of an iteration, and the image where it is adversarial and closer than before."""
        change = (image - self.image).abs().flatten(1)
        loss = penalty + (change - self.tau[:, None]).clamp_min(0).sum(1)
        # Not torch.fmin: NaN has to show.
        self.loss = torch.minimum(self.loss, loss)
        self.found |= adversarial & (loss < 1e-4 * self.c)
        largest = change.amax(1)
        closer = adversarial & (largest < self.best_change)
        self.best_change = torch.where(closer, largest, self.best_change)
        self.best = torch.where(spread(closer, image), image, self.best)

    def descend(self, gradient: Tensor, tangent: Tensor, image: Tensor, lr: float) -> None:
        """Take one Adam step on the loss, ``gradient`` being that of ``c max(margin, 0)`` in the pixels."""
        self.step += 1
        self.moments += 1
        self.iterations += 1
        move = image - self.image
        beyond = torch.where(move.abs() > spread(self.tau, move), move.sign(), 0)
        gradient = (gradient + beyond).mul_((1 - tangent * tangent).mul_(0.5 / SHRINK))
        self.move(gradient, adam_rate(lr, self.moments.to(image.dtype)))

    def next(self, ended: Tensor, eps: float | None) -> Tensor:
        """Lower tau where it was met, raise c where it was not; return which samples are finished."""
        lower = 0.9 * torch.minimum(self.tau, self.best_change)
        if eps is None:
            found, floor = self.found, LAST
            finished = found & (lower <= floor)
        else:
            # A hair below eps, since tau is met only nearly; once it is there, only eps itself counts.
            floor = 0.99 * eps
            found = self.found & (self.tau > floor)
            finished = self.best_change <= eps * (1 - 1e-5)
        failed = ended & ~found
        self.tau = torch.where(found, lower.clamp_min(floor), self.tau)
        self.start = torch.where(spread(found, self.start), to_points(self.best), self.start)
        self.c = torch.where(failed, self.factor * self.c, self.c)
        exhausted = failed & (self.c > self.largest_c)
        again = torch.zeros_like(exhausted)
        if eps is not None:
            again = exhausted & ~self.is_last_try & (self.tau > floor)
            self.is_last_try |= again
            self.tau = torch.where(again, floor, self.tau)
            self.c = torch.where(again, self.first_c, self.c)
            self.start = torch.where(spread(again, self.start), to_points(self.image), self.start)
        # A higher c goes on where the lower one ended; a new tau begins anew.
        anew = found | again
        self.point = torch.where(spread(anew, self.point), self.start, self.point)
        for state in (self.mean, self.square, self.moments):
            state.masked_fill_(spread(anew, state), 0)
        for state in (self.step, self.found, self.window_start):
            state.masked_fill_(anew | failed, 0)
        for state in (self.loss, self.loss_before):
            state.masked_fill_(anew | failed, torch.inf)
        return finished | (exhausted & ~again)

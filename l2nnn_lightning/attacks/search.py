"""The state of a search over c: one row per sample still under attack, each with its own c, goal and optimizer."""

import math

import torch
from torch import Tensor

from l2nnn_lightning.attacks.base import spread

__all__ = ["AdamRows", "Rows", "adam_rate", "to_images", "to_points"]

SHRINK = 0.8
"""The box [0, 1] is mapped to this part of the tangent's range (-1, 1), so that a pixel at exactly 0 or 1 has a finite
argument and a slope of 1 - SHRINK^2. With a value next to 1 such pixels need hundreds of steps before they move at all;
0.5 to 0.9 give norms within 0.2% of each other on MNIST."""

LIMIT = math.atanh(SHRINK)


def to_points(images: Tensor) -> Tensor:
    """Map pixels in [0, 1] to the tangent's argument."""
    return torch.atanh(SHRINK * (2 * images - 1))


def to_images(points: Tensor) -> tuple[Tensor, Tensor]:
    """Map the tangent's argument to the tangent and to pixels, which stay in [0, 1]."""
    tangent = torch.tanh(points)
    return tangent, (tangent * (0.5 / SHRINK) + 0.5).clamp_(0, 1)


def adam_rate(lr: float, steps: Tensor) -> Tensor:
    """Correct Adam's step size for its first steps: (A,) for each row's own count."""
    rate: Tensor = lr * (1 - 0.999**steps).sqrt() / (1 - 0.9**steps)
    return rate


class AdamRows:
    """Rows of samples under attack, each with its own point, Adam's state and loss, which subclasses set."""

    point: Tensor
    mean: Tensor
    square: Tensor
    step: Tensor
    loss: Tensor
    loss_before: Tensor
    window_start: Tensor

    def keep(self, mask: Tensor) -> None:
        """Drop the rows where ``mask`` is false."""
        for name, rows in vars(self).items():
            setattr(self, name, rows[mask])

    def move(self, gradient: Tensor, rate: Tensor) -> None:
        """Take one Adam step of each row's rate, (A,), in the space of :func:`to_points`."""
        self.mean.lerp_(gradient, 0.1)
        self.square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        # Adam's usual 1e-8 would damp the small gradients of a small c.
        self.point.addcdiv_(self.mean * -spread(rate, gradient), self.square.sqrt().add_(1e-12)).clamp_(-LIMIT, LIMIT)

    def has_stalled(self, window: int) -> Tensor:
        """Tell which samples end a window of iterations with less than 0.1% of improvement."""
        ends = self.step - self.window_start >= window
        self.window_start = torch.where(ends, self.step, self.window_start)
        stalled = ends & ~(self.loss <= 0.999 * self.loss_before)
        self.loss_before = torch.where(ends, self.loss, self.loss_before)
        return stalled


class Rows(AdamRows):
    """Everything the search knows of its samples, as tensors with one row per sample.

    Args:
        image: (A, ...) the original images.
        label: (A,) their labels.
        start: (A, ...) the first point of each c, in the space of :func:`to_points`.
        c: (A,) the first weight of the margin.
        goals: (A, G) labels to aim at, one after the other; -1 for whichever other label is ahead.
        distance_guess: (A,) roughly how far the closest adversarial image might be; infinite where unknown.
    """

    def __init__(
        self, image: Tensor, label: Tensor, start: Tensor, c: Tensor, goals: Tensor, distance_guess: Tensor
    ) -> None:
        none = torch.zeros_like(label)
        infinite = torch.full_like(c, torch.inf)
        self.index = torch.arange(len(label), device=label.device)
        self.image, self.label, self.start, self.c = image, label, start.clamp(-LIMIT, LIMIT), c
        # Per goal: the largest c that failed, the smallest that succeeded. Then the number of c's used up.
        self.goals, self.search = goals, none.clone()
        self.lower = torch.zeros_like(goals, dtype=c.dtype)
        self.upper = torch.full_like(self.lower, torch.inf)
        # The current c: Adam's state, and what the search has seen with it.
        self.point = self.start.clone()
        self.mean, self.square = torch.zeros_like(image), torch.zeros_like(image)
        self.step, self.found = none.clone(), none > 0
        self.loss, self.loss_before, self.window_start = infinite.clone(), infinite.clone(), none.clone()
        # The closest adversarial image over all c.
        self.best, self.best_square, self.iterations = image.clone(), infinite.clone(), none.clone()
        # The length that steps are measured by: a generous guess, then what was found before the current c.
        self.scale = 5 * distance_guess

    def record(self, image: Tensor, penalty: Tensor, adversarial: Tensor) -> None:
        """Note the loss of an iteration, and the image where it is adversarial and closer than before."""
        square = (image - self.image).flatten(1).square().sum(1)
        # Not torch.fmin: NaN has to show.
        self.loss = torch.minimum(self.loss, square + penalty)
        self.found |= adversarial
        closer = adversarial & (square < self.best_square)
        self.best_square = torch.where(closer, square, self.best_square)
        self.best = torch.where(spread(closer, image), image, self.best)

    def descend(self, gradient: Tensor, tangent: Tensor, image: Tensor, lr: float) -> None:
        """Take one Adam step on ``||image - original||^2 + penalty``, ``gradient`` being that of the penalty."""
        self.step += 1
        self.iterations += 1
        slope = (1 - tangent * tangent).mul_(0.5 / SHRINK)
        gradient = torch.add(gradient, image - self.image, alpha=2).mul_(slope)
        rate = adam_rate(lr, self.step.to(image.dtype))
        # Steps must be finer than the move that is looked for: at most a fifth of its share per entry.
        share = 0.2 * self.scale / self.image[0].numel() ** 0.5
        rate = rate * share.clamp_max(lr) / lr
        self.move(gradient, rate)

    def goal(self) -> Tensor:
        """Return the label each sample aims at now, (A,); -1 for whichever other label is ahead."""
        return self.goals.gather(1, self._turn())[:, 0]

    def next_c(self, mask: Tensor) -> None:
        """Move to the next goal and its next c, where ``mask`` is true.

        A goal that has succeeded goes between its bounds. One that has not takes ten times what failed, and at least
        the c that served another goal, or ten times what failed for all.
        """
        turn = self._turn()
        self.upper.scatter_(1, turn, torch.where(mask & self.found, self.c, self.upper.gather(1, turn)[:, 0])[:, None])
        self.lower.scatter_(1, turn, torch.where(mask & ~self.found, self.c, self.lower.gather(1, turn)[:, 0])[:, None])
        known = mask & (self.best_square < torch.inf)
        self.scale = torch.where(known, self.best_square.sqrt(), torch.where(mask, torch.inf, self.scale))
        self.search += mask
        turn = self._turn()
        lower, upper = self.lower.gather(1, turn)[:, 0], self.upper.gather(1, turn)[:, 0]
        between = torch.where(lower > 0, (lower * upper).sqrt(), upper / 10)
        beyond = torch.maximum(10 * lower, torch.minimum(self.upper.amin(1), 10 * self.lower.amax(1)))
        beyond = torch.where(self.lower.amax(1) > 0, beyond, self.upper.amin(1))
        self.c = torch.where(mask, torch.where(upper < torch.inf, between, beyond), self.c)
        self.point = torch.where(spread(mask, self.point), self.start, self.point)
        for state in (self.mean, self.square, self.step, self.found, self.window_start):
            state.masked_fill_(spread(mask, state), 0)
        for state in (self.loss, self.loss_before):
            state.masked_fill_(mask, torch.inf)

    def _turn(self) -> Tensor:
        return (self.search % self.goals.shape[1])[:, None]

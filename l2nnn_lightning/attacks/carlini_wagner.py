"""The Carlini-Wagner L2 attack, every sample on a schedule of its own (section 3.1)."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from l2nnn_lightning.attacks.base import ImageAttack, NormKind, check_at_least, check_positive, spread
from l2nnn_lightning.attacks.search import Rows, to_images, to_points

__all__ = ["CarliniWagnerL2"]

# How many labels, those with the largest logits, are considered as goals: one gradient each, once.
CANDIDATES = 9
# A margin of so many units in the last place of the largest logit could change sign with the size of the batch.
ROUNDING = 16


class CarliniWagnerL2(ImageAttack):
    """Find the closest misclassified image by the attack of Carlini and Wagner (2017), not targeted.

    Minimises ``||x' - x||^2 + c max(margin(x'), 0)`` by Adam, over the hyperbolic tangent's argument of ``x'`` so that
    ``x'`` stays in [0, 1]. ``margin`` is the logit of the true label minus that of a rival: in turn the label that
    looks closest, whichever is ahead, and the one that looks second closest, each with its own search over ``c``: times
    ten until an adversarial image is found, then by geometric bisection. Last, the best image is pulled back along the
    straight line to ``x`` as far as it stays misclassified.

    Every sample has its own c, optimizer state, iteration count and end: what else is in the batch does not matter,
    and samples that are finished leave the batch, so that the cost falls with them. With ``eps`` the attack decides
    whether the distance is at most ``eps`` instead of minimising it, which is much cheaper: samples finish as soon
    as they are broken within ``eps``.

    Args:
        model: maps images (B, ...) in [0, 1] to logits (B, K), K >= 2; see :class:`ImageAttack`.
        search_steps: number of values of c that are tried per sample, all rivals together, >= 1.
        max_iter: largest number of iterations for each c, >= 1; None: 1000.
        lr: Adam's step size in the space of the tangent's argument, > 0.
        eps: L2 threshold, > 0; None searches for the minimum norm.
        abort_early: end a c once the sample's loss has improved by less than 0.1% over a tenth of ``max_iter`` (at
            most 1000 iterations).
        restarts: number of searches; from the second on they start at random noise, by ``seed``, around the image.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
        >>> _ = model[1].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> attack = CarliniWagnerL2(model, search_steps=3, max_iter=100)
        >>> result = attack.run(torch.tensor([[[0.7, 0.3]]]), torch.tensor([0]))
        >>> round(result.norm.item(), 3)  # 0.4 / sqrt(2)
        0.283

    References:
        Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017.
    """

    norm_kind: ClassVar[NormKind] = "L2"
    needs_eps = False
    max_iter = 1000

    def __init__(
        self,
        model: nn.Module,
        search_steps: int = 9,
        max_iter: int | None = None,
        lr: float = 0.01,
        eps: float | None = None,
        *,
        abort_early: bool = True,
        restarts: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(model, eps, max_iter, restarts=restarts, seed=seed)
        check_at_least(1, search_steps=search_steps)
        check_positive(lr=lr)
        self.search_steps, self.lr, self.abort_early = search_steps, lr, abort_early

    def attempt(self, image: Tensor, label: Tensor, restart: int) -> tuple[Tensor, Tensor]:
        """Search c for every sample; return the closest adversarial images, or the originals, and the iterations."""
        start = to_points(image)
        if restart > 0:
            # One noise pattern for all samples: the outcome of a sample does not depend on its place in the batch.
            generator = torch.Generator().manual_seed(self.seed + restart)
            start = start + 0.1 * torch.randn(image.shape[1:], generator=generator, dtype=image.dtype).to(image.device)
        rows = Rows(image, label, start, *self._aim(image, label))
        best, iterations = image.clone(), torch.zeros_like(label)
        window = min(math.ceil(self.max_iter / 10), 1000)
        # Ends are looked for only now and then: each look makes a GPU wait. An interval that divides max_iter keeps the
        # looks of all samples in step, so that none is looked at earlier or later for what else is in the batch.
        interval = max(n for n in range(1, 11) if self.max_iter % n == 0 and n <= max(1, window // 10))
        while len(rows.index) > 0:
            for _ in range(interval):
                self._iterate(rows)
            if not bool(torch.isfinite(rows.loss).all()):
                raise ValueError("the model's logits are not finite on images in [0, 1]: it cannot be attacked")
            ended = rows.step >= self.max_iter
            if self.abort_early:
                ended |= rows.has_stalled(window)
            finished = torch.zeros_like(ended)
            if self.eps is not None:
                finished = rows.best_square <= (self.eps * (1 - 1e-6)) ** 2
            rows.next_c(ended & ~finished)
            finished |= rows.search >= self.search_steps
            if bool(finished.any()):
                best[rows.index[finished]] = rows.best[finished]
                iterations[rows.index[finished]] = rows.iterations[finished]
                rows.keep(~finished)
        return best, iterations

    def _margin(self, images: Tensor, labels: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
        """Return the margin against the goal, and whether another label is ahead beyond rounding, both (B,)."""
        logits = self.logits(images)
        own = logits.gather(1, labels[:, None])[:, 0]
        largest = logits.scatter(1, labels[:, None], -torch.inf).max(1).values
        rounding = ROUNDING * torch.finfo(logits.dtype).eps * logits.abs().amax(1)
        aimed = torch.where(goals < 0, largest, logits.gather(1, goals.clamp_min(0)[:, None])[:, 0])
        return own - aimed, (own - largest < -rounding).detach()

    def _aim(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the first c (B,), the goals (B, G) and a guess of the distance (B,).

        The goals are the two labels that look closest and, between them, whichever is ahead.

        A label looks as far away as its margin divided by the norm of its margin's gradient. The label with the
        smallest margin is often not the closest one, and an attack that only follows it stays in its basin. At
        distance d the pull of the norm, 2 d, balances that of the margin, c ||gradient||; c starts at twice that.
        """
        image = image.clone().requires_grad_()
        logits = self.logits(image)
        others = logits.detach().scatter(1, label[:, None], -torch.inf)
        rivals = others.topk(min(CANDIDATES, logits.shape[1] - 1), 1).indices
        margins = logits.gather(1, label[:, None]) - logits.gather(1, rivals)
        gradients = [torch.autograd.grad(margin.sum(), image, retain_graph=True)[0] for margin in margins.unbind(1)]
        slopes = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients], 1)
        distances = (margins.detach() / slopes).nan_to_num(torch.inf)
        order = distances.argsort(1)[:, :2]
        goals = rivals.gather(1, order)
        if goals.shape[1] == 2:  # with two labels there is but one other
            goals = torch.stack([goals[:, 0], torch.full_like(label, -1), goals[:, 1]], 1)
        closest = distances.gather(1, order[:, :1])[:, 0]
        if self.eps is not None:
            closest = closest.clamp_min(self.eps)
        c = 4 * closest / slopes.gather(1, order[:, :1])[:, 0]
        return c.nan_to_num(1.0, 1.0, 1.0).clamp(1e-10, 1e10), goals, closest

    def _iterate(self, rows: Rows) -> None:
        tangent, image = to_images(rows.point)
        image.requires_grad_()
        margin, adversarial = self._margin(image, rows.label, rows.goal())
        penalty = margin.clamp_min(0) * rows.c
        (gradient,) = torch.autograd.grad(penalty.sum(), image)
        with torch.no_grad():
            rows.record(image.detach(), penalty.detach(), adversarial)
            rows.descend(gradient, tangent, image.detach(), self.lr)

    @torch.no_grad()
    def settle(self, image: Tensor, candidate: Tensor, label: Tensor) -> Tensor:
        """Pull candidates back along the line to the original, then see that the whole batch confirms them."""
        candidate = candidate.clone()
        moved = (candidate != image).flatten(1).any(1).nonzero()[:, 0]
        start, closest = image[moved], candidate[moved]
        direction = closest - start
        near, far = torch.zeros_like(moved, dtype=image.dtype), torch.ones_like(moved, dtype=image.dtype)
        for _ in range(12 if len(moved) > 0 else 0):
            middle = (near + far) / 2
            trial = start + spread(middle, start) * direction
            _, adversarial = self._margin(trial, label[moved], label[moved])
            closest = torch.where(spread(adversarial, trial), trial, closest)
            far = torch.where(adversarial, middle, far)
            near = torch.where(adversarial, near, middle)
        candidate[moved] = closest
        # Low-precision kernels may round otherwise in a batch of another size; a slightly longer step settles it.
        for stretch in (1.001, 1.01):
            undecided = ~self.is_wrong(candidate, label)
            longer = (image + stretch * (candidate - image)).clamp(0, 1)
            candidate = torch.where(spread(undecided, longer), longer, candidate)
        return candidate

"""The Carlini-Wagner L2 attack, every sample on a schedule of its own (section 3.1)."""

import contextlib
import io
import math

import torch
from torch import Tensor, nn
from torchattacks.attack import Attack

from l2nnn_lightning.attacks.guard import undisturbed
from l2nnn_lightning.attacks.progress import OnProgress, SearchReport, search_report
from l2nnn_lightning.attacks.result import (
    AttackResult,
    NormKind,
    check_at_least,
    check_batch,
    check_logits,
    check_positive,
    distance,
    spread,
)
from l2nnn_lightning.attacks.search import Rows, to_images, to_points

__all__ = ["CarliniWagnerL2"]

CANDIDATES = 9
"""How many labels, those with the largest logits, are considered as goals: one gradient each, once."""

ROUNDING = 16
"""A margin of so many units in the last place of the largest logit could change sign with the size of the batch."""


class CarliniWagnerL2(Attack):
    """Find the closest misclassified image by the attack of Carlini and Wagner (2017), not targeted.

    Minimises ``||x' - x||^2 + c max(margin(x'), 0)`` by Adam, over the hyperbolic tangent's argument of ``x'`` so that
    ``x'`` stays in [0, 1]. ``margin`` is the logit of the true label minus that of a rival: in turn the label that
    looks closest, whichever is ahead, and the one that looks second closest, each with its own search over ``c``: times
    ten until an adversarial image is found, then by geometric bisection. Last, the best image is pulled back along the
    straight line to ``x`` as far as it stays misclassified.

    Every sample has its own c, optimizer state, iteration count and end: what else is in the batch does not matter,
    and samples that are finished leave the batch, so that the cost falls with them. With ``eps`` the attack decides
    whether the distance is at most ``eps`` instead of minimising it, which is much cheaper: samples finish as soon
    as they are broken within ``eps``, and those whose certified radius is at least ``eps`` are not attacked.

    Args:
        model: maps images (B, ...) in [0, 1] to logits (B, K), K >= 2. Attacked in evaluation mode, left untouched.
        search_steps: number of values of c that are tried per sample, all rivals together, >= 1.
        max_iter: largest number of iterations for each c, >= 1.
        lr: Adam's step size in the space of the tangent's argument, > 0.
        eps: L2 threshold, > 0; None searches for the minimum norm.
        initial_c: first value of c, > 0 (Carlini and Wagner: 1e-3); None starts each sample where its margin and its
            gradient say the boundary might be, which serves small and large logits alike.
        abort_early: end a c once the sample's loss has improved by less than 0.1% over a tenth of ``max_iter`` (at
            most 1000 iterations).
        restarts: number of searches; from the second on they start at seeded random noise around the image.
        seed: seed of that noise.

    Shape:
        - images: (B, ...) float32 or float64 in [0, 1]; labels: (B,) integers; output: as the images.

    Raises:
        ValueError: if a setting is outside its range.

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

    norm_kind: NormKind = "L2"

    def __init__(
        self,
        model: nn.Module,
        search_steps: int = 9,
        max_iter: int = 1000,
        lr: float = 0.01,
        eps: float | None = None,
        *,
        initial_c: float | None = None,
        abort_early: bool = True,
        restarts: int = 1,
        seed: int = 0,
    ) -> None:
        check_at_least(1, search_steps=search_steps, max_iter=max_iter, restarts=restarts)
        check_at_least(0, seed=seed)
        check_positive(lr=lr, eps=eps, initial_c=initial_c)
        # torchattacks prints a notice where a model has no parameters; here the images tell the device.
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__("CarliniWagnerL2", model)  # type: ignore[no-untyped-call]
        self.search_steps = search_steps
        self.max_iter = max_iter
        self.lr = lr
        self.eps = eps
        self.initial_c = initial_c
        self.abort_early = abort_early
        self.restarts = restarts
        self.seed = seed

    @property
    def minimum_norm(self) -> bool:
        """Whether the norms are minima, so that one run gives robust accuracy at every radius."""
        return self.eps is None

    def __call__(self, inputs: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Attack as torchattacks does, but with the mode of every submodule restored."""
        with undisturbed(self.model):
            adversarial: Tensor = super().__call__(inputs, labels)  # type: ignore[no-untyped-call]
        return adversarial

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Return the closest adversarial images found; the original where there is none (within ``eps``)."""
        return self.run(images, labels).images

    def run(
        self, images: Tensor, labels: Tensor, radius: Tensor | None = None, on_progress: OnProgress | None = None
    ) -> AttackResult:
        """Attack a batch and measure it.

        Args:
            images: (B, ...) in [0, 1].
            labels: (B,) true labels.
            radius: (B,) certified L2 radii; with ``eps``, samples proven at ``eps`` are not attacked.
            on_progress: called every few iterations.

        Returns:
            The images, their L2 norms, whether each sample is broken and the iterations it took. Without ``eps`` the
            norms are the smallest found; with ``eps`` they are at most ``eps``, and infinite where nothing was found.

        Raises:
            ValueError: if the batch is not valid, or the model's logits are not finite.
        """
        check_batch(images, labels, radius)
        self.device = images.device
        with undisturbed(self.model):
            image, label = images.detach().clone(), labels.to(torch.int64, copy=True)
            wrong = self._is_wrong(image, label)
            unproven = torch.ones_like(wrong)
            if radius is not None and self.eps is not None:
                unproven = ~(radius.detach().to(image.device) >= self.eps)
            best = image.clone()
            norm = torch.where(wrong, 0.0, torch.inf).to(image)
            iterations = torch.zeros_like(label)
            for restart in range(self.restarts):
                threshold = 0.0 if self.eps is None else self.eps
                todo = (~wrong & unproven & (norm > threshold)).nonzero()[:, 0]
                if len(todo) == 0:
                    break
                last = restart == self.restarts - 1
                report = search_report(norm, ~wrong & ~unproven, self.eps, on_progress, last=last)
                found, steps = self._search(image[todo], label[todo], restart, report)
                iterations[todo] += steps
                candidate = image.clone()
                candidate[todo] = found
                candidate = self._settle(image, candidate, label)
                moved = distance(candidate, image, "L2")
                closer = self._is_wrong(candidate, label) & (moved < norm)
                best = torch.where(spread(closer, best), candidate, best)
                norm = torch.where(closer, moved, norm)
        broken = norm <= self._limit(norm)
        return AttackResult(
            torch.where(spread(broken, best), best, image), norm.masked_fill(~broken, torch.inf), broken, iterations
        )

    def _limit(self, norm: Tensor) -> float:
        return torch.finfo(norm.dtype).max if self.eps is None else self.eps

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.get_logits(images)  # type: ignore[no-untyped-call]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def _is_wrong(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            logits = self._logits(images)
        check_logits(logits, labels)
        return logits.argmax(1) != labels

    def _margin(self, images: Tensor, labels: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
        """Return the margin against the goal, and whether another label is ahead beyond rounding, both (B,)."""
        logits = self._logits(images)
        own = logits.gather(1, labels[:, None])[:, 0]
        largest = logits.scatter(1, labels[:, None], -torch.inf).max(1).values
        rounding = ROUNDING * torch.finfo(logits.dtype).eps * logits.abs().amax(1)
        aimed = torch.where(goals < 0, largest, logits.gather(1, goals.clamp_min(0)[:, None])[:, 0])
        return own - aimed, (own - largest < -rounding).detach()

    def _search(self, image: Tensor, label: Tensor, restart: int, report: SearchReport | None) -> tuple[Tensor, Tensor]:
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
        gone = 0  # broken samples that have left the search
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
            if report is not None:
                broken = rows.best_square.sqrt() <= self._limit(image)
                report(int((~finished).sum()), gone + int(broken.sum()), int(rows.iterations.max()))
                gone += int((broken & finished).sum())
            if bool(finished.any()):
                best[rows.index[finished]] = rows.best[finished]
                iterations[rows.index[finished]] = rows.iterations[finished]
                rows.keep(~finished)
        return best, iterations

    def _aim(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the first c (B,), the goals (B, G) and a guess of the distance (B,).

        The goals are the two labels that look closest and, between them, whichever is ahead.

        A label looks as far away as its margin divided by the norm of its margin's gradient. The label with the
        smallest margin is often not the closest one, and an attack that only follows it stays in its basin. At
        distance d the pull of the norm, 2 d, balances that of the margin, c ||gradient||; c starts at twice that.
        """
        image = image.clone().requires_grad_()
        logits = self._logits(image)
        candidates = (
            logits.detach().scatter(1, label[:, None], -torch.inf).topk(min(CANDIDATES, logits.shape[1] - 1), 1)
        )
        margins = logits.gather(1, label[:, None]) - logits.gather(1, candidates.indices)
        slopes = torch.stack(
            [
                torch.autograd.grad(m.sum(), image, retain_graph=True)[0].flatten(1).norm(dim=1)
                for m in margins.unbind(1)
            ],
            1,
        )
        distances = (margins.detach() / slopes).nan_to_num(torch.inf)
        order = distances.argsort(1)[:, :2]
        goals = candidates.indices.gather(1, order)
        if goals.shape[1] == 2:  # with two labels there is but one other
            goals = torch.stack([goals[:, 0], torch.full_like(label, -1), goals[:, 1]], 1)
        closest = distances.gather(1, order[:, :1])[:, 0]
        if self.eps is not None:
            closest = closest.clamp_min(self.eps)
        if self.initial_c is not None:
            return torch.full_like(closest, self.initial_c), goals, closest
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
    def _settle(self, image: Tensor, candidate: Tensor, label: Tensor) -> Tensor:
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
            undecided = ~self._is_wrong(candidate, label)
            longer = (image + stretch * (candidate - image)).clamp(0, 1)
            candidate = torch.where(spread(undecided, longer), longer, candidate)
        return candidate

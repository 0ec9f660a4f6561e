"""What all attacks inside a fixed ball share: whom to attack, how often, and what counts as broken."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from l2nnn_lightning.attacks.guard import undisturbed
from l2nnn_lightning.attacks.progress import AttemptReport, OnProgress, attempt_report
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

__all__ = ["AttackWithin"]


class AttackWithin(ABC):
    """Look for a misclassified image at distance ``eps`` at most.

    Args:
        model: maps images (B, C, H, W) in [0, 1] to logits (B, K), K >= 2. Attacked in evaluation mode, left untouched.
        norm_kind: "L2" or "Linf".
        eps: radius of the ball, > 0.
        max_iter: iterations of each attempt, >= 1.
        restarts: number of attempts, >= 1; only samples that are still unbroken see the next one.
        seed: seed of everything random, >= 0. The global random state is left as it was.

    Raises:
        ValueError: if a setting is outside its range.
    """

    minimum_norm = False

    def __init__(
        self, model: nn.Module, norm_kind: NormKind, eps: float, max_iter: int, restarts: int, seed: int
    ) -> None:
        if norm_kind not in ("L2", "Linf"):
            raise ValueError(f"norm_kind must be L2 or Linf, got {norm_kind!r}")
        check_positive(eps=eps)
        check_at_least(1, max_iter=max_iter, restarts=restarts)
        check_at_least(0, seed=seed)
        self.model, self.norm_kind, self.eps = model, norm_kind, eps
        self.max_iter, self.restarts, self.seed = max_iter, restarts, seed
        # A hair inside, so that rounding puts no image outside.
        self.inner_eps = eps * (1 - 1e-5)

    @abstractmethod
    def attempt(self, images: Tensor, labels: Tensor, report: AttemptReport | None) -> tuple[Tensor, int]:
        """Attack once; return images within ``inner_eps`` and the number of iterations."""

    def run(
        self, images: Tensor, labels: Tensor, radius: Tensor | None = None, on_progress: OnProgress | None = None
    ) -> AttackResult:
        """Attack a batch and measure it.

        Args:
            images: (B, C, H, W) in [0, 1], float32 or float64.
            labels: (B,) true labels.
            radius: (B,) certified L2 radii; samples that they prove at ``eps`` are not attacked. An L-infinity ball
                of radius ``eps`` lies in the L2 ball of radius ``eps sqrt(C H W)``.
            on_progress: called now and then.

        Returns:
            The images, their norms, whether each sample is broken and the iterations it took.

        Raises:
            ValueError: if the batch is not valid.
        """
        check_batch(images, labels, radius)
        if images.dim() != 4:
            raise ValueError(f"images must have shape (B, C, H, W), got {tuple(images.shape)}")
        with undisturbed(self.model), torch.random.fork_rng(devices=_gpus(images)):
            image, label = images.detach().clone(), labels.to(torch.int64, copy=True)
            norm = torch.where(self._is_wrong(image, label), 0.0, torch.inf).to(image)
            unproven = torch.ones_like(label, dtype=torch.bool)
            if radius is not None:
                reach = self.eps * (image[0].numel() ** 0.5 if self.norm_kind == "Linf" and len(image) > 0 else 1)
                unproven = ~(radius.detach().to(image.device) >= reach)
            best, iterations = image.clone(), torch.zeros_like(label)
            for restart in range(self.restarts):
                todo = (unproven & (norm > self.eps)).nonzero()[:, 0]
                if len(todo) == 0:
                    break
                torch.manual_seed(self.seed + restart)
                candidate = image.clone()
                last = self.max_iter if restart == self.restarts - 1 else None
                report = attempt_report(norm, ~unproven & (norm > self.eps), self.eps, last, on_progress)
                candidate[todo], steps = self.attempt(image[todo], label[todo], report)
                iterations[todo] += steps
                moved = distance(candidate, image, self.norm_kind)
                success = self._is_wrong(candidate, label) & (moved <= self.eps) & (norm > self.eps)
                best = torch.where(spread(success, best), candidate, best)
                norm = torch.where(success, moved, norm)
        return AttackResult(best, norm, norm <= self.eps, iterations)

    def _is_wrong(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.model(images)
        check_logits(logits, labels)
        return logits.argmax(1) != labels


def _gpus(images: Tensor) -> list[int]:
    return list(range(torch.cuda.device_count())) if images.is_cuda else []

"""Projected gradient descent and the fast gradient sign method: torchattacks' attacks, watched and restarted."""

from typing import Literal

import torch
import torchattacks
from torch import Tensor, nn

from l2nnn_lightning.attacks.noise import NoisePerImage
from l2nnn_lightning.attacks.progress import AttemptReport
from l2nnn_lightning.attacks.result import NormKind, check_positive, spread
from l2nnn_lightning.attacks.within import AttackWithin

__all__ = ["FGSM", "PGD", "Loss"]

Loss = Literal["margin", "ce"]

REPORT_EVERY = 10
"""Iterations between reports, each of which makes a GPU wait."""


class PGD(AttackWithin):
    """Attack by projected gradient descent from a random start (Madry et al., 2017).

    Runs torchattacks' ``PGD`` (L-infinity) or ``PGDL2``, on the device of the images. A sample counts as broken if any
    iterate was misclassified, not only the last. The random start of an image depends on the seed and the image alone.

    Args:
        model: maps images (B, C, H, W) in [0, 1] to logits (B, K), K >= 2. Attacked in evaluation mode, left untouched.
        norm_kind: "L2" or "Linf".
        eps: radius of the ball, > 0.
        max_iter: steps of each attempt, >= 1.
        step_size: length of a step, > 0; None takes ``2.5 eps / max_iter``, enough to cross the ball.
        restarts: number of random starts, >= 1; only samples that are still unbroken see the next one.
        loss: "margin" climbs the largest other logit minus the true one, and has a gradient at every scale of the
            logits; "ce" the cross-entropy, as Madry et al. do, which has none in float32 once the margin is above 100.
        seed: seed of the random starts, >= 0. The global random state is left as it was.

    Raises:
        ValueError: if a setting is outside its range.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
        >>> _ = model[1].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> image, label = torch.tensor([[[[0.7, 0.3]]]]), torch.tensor([0])
        >>> [PGD(model, "Linf", eps).run(image, label).broken.item() for eps in (0.19, 0.21)]
        [False, True]

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2017.
    """

    def __init__(
        self,
        model: nn.Module,
        norm_kind: NormKind,
        eps: float,
        max_iter: int = 100,
        *,
        step_size: float | None = None,
        restarts: int = 1,
        loss: Loss = "margin",
        seed: int = 0,
    ) -> None:
        super().__init__(model, norm_kind, eps, max_iter, restarts, seed)
        check_positive(step_size=step_size)
        _check_loss(loss)
        self.loss: Loss = loss
        self.step_size = 2.5 * eps / max_iter if step_size is None else step_size

    def attempt(self, images: Tensor, labels: Tensor, report: AttemptReport | None) -> tuple[Tensor, int]:
        """Run torchattacks' attack once from a random start."""
        watcher = _Watcher(self.model, images, labels, self.loss, report)
        kind = torchattacks.PGD if self.norm_kind == "Linf" else torchattacks.PGDL2
        attack = kind(watcher, eps=self.inner_eps, alpha=self.step_size, steps=self.max_iter)
        attack.set_device(images.device)
        with NoisePerImage(images, torch.initial_seed()):
            adversarial = attack.forward(images, labels)  # type: ignore[no-untyped-call]
        watcher(adversarial)
        return watcher.found, self.max_iter


class FGSM(AttackWithin):
    """Attack by one step of the fast gradient sign method (Goodfellow et al., 2014), torchattacks' ``FGSM``.

    Args:
        model: maps images (B, C, H, W) in [0, 1] to logits (B, K), K >= 2. Attacked in evaluation mode, left untouched.
        eps: L-infinity length of the step, > 0.
        loss: "margin" or "ce", as for :class:`PGD`.

    Raises:
        ValueError: if a setting is outside its range.
    """

    def __init__(self, model: nn.Module, eps: float, *, loss: Loss = "margin") -> None:
        super().__init__(model, "Linf", eps, max_iter=1, restarts=1, seed=0)
        _check_loss(loss)
        self.loss: Loss = loss

    def attempt(self, images: Tensor, labels: Tensor, report: AttemptReport | None) -> tuple[Tensor, int]:
        """Take the step."""
        watcher = _Watcher(self.model, images, labels, self.loss, report)
        attack = torchattacks.FGSM(watcher, eps=self.inner_eps)  # type: ignore[no-untyped-call]
        attack.set_device(images.device)
        watcher(attack.forward(images, labels))  # type: ignore[no-untyped-call]
        return watcher.found, 1


class _Watcher(nn.Module):
    """The model as torchattacks sees it: notes misclassified images, and gives the cross-entropy something to climb."""

    def __init__(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss: Loss, report: AttemptReport | None
    ) -> None:
        super().__init__()
        self.model, self.labels, self.loss, self.found = model, labels, loss, images
        self.report, self.passes, self.broken = report, 0, torch.zeros_like(labels, dtype=torch.bool)
        # torchattacks asks the first parameter for its device, and prints a notice where there is none.
        self.anchor = nn.Parameter(images.new_zeros(()), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        wrong = logits.detach().argmax(1) != self.labels
        self.found = torch.where(spread(wrong, images), images.detach(), self.found)
        self.broken |= wrong
        if self.report is not None and self.passes % REPORT_EVERY == 0:
            self.report(self.passes, int(self.broken.sum()))
        self.passes += 1
        if self.loss == "ce":
            return logits
        # The cross-entropy of two logits at distance 1 has the margin's gradient up to a positive factor, which neither
        # the sign nor the normalised gradient of an attack feels.
        own = self.labels[:, None]
        other = logits.detach().scatter(1, own, -torch.inf).argmax(1, keepdim=True)
        margin = logits.gather(1, own) - logits.gather(1, other)
        scale = margin.detach().abs().clamp_min(torch.finfo(logits.dtype).tiny ** 0.5)
        return torch.full_like(logits, -torch.inf).scatter(1, other, 0.0).scatter(1, own, margin / scale)


def _check_loss(loss: str) -> None:
    if loss not in ("margin", "ce"):
        raise ValueError(f"loss must be margin or ce, got {loss!r}")

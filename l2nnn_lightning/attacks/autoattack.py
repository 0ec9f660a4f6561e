"""AutoAttack, by its authors' own code: torchattacks' copy differs from it and its FAB is broken."""

import logging
import sys

import torch
from pyautoattack import AutoAttack as Ensemble  # type: ignore[import-untyped]
from torch import Tensor, nn

from l2nnn_lightning.attacks.progress import AttemptReport
from l2nnn_lightning.attacks.result import NormKind
from l2nnn_lightning.attacks.within import AttackWithin

__all__ = ["AutoAttack"]


class AutoAttack(AttackWithin):
    """Attack by the ensemble AutoAttack (Croce and Hein, 2020).

    The code is that of its authors, the package ``pyautoattack``. With the default settings this is their *standard*
    version: APGD on the cross-entropy, targeted APGD on the difference-of-logits ratio, targeted FAB and Square, each
    on what its predecessors left. With fewer than four labels that ratio is not defined and targeted APGD is left out.

    Args:
        model: maps images (B, C, H, W) in [0, 1] to logits (B, K), K >= 2. Attacked in evaluation mode, left untouched.
        norm_kind: "L2" or "Linf".
        eps: radius of the ball, > 0.
        max_iter: steps of each gradient attack against each label, >= 1; Square makes 50 times as many queries. The
            standard is 100.
        restarts: number of times the ensemble is run, with other seeds, on what is unbroken, >= 1.
        seed: seed of the random starts, >= 0, which the ensemble draws for a whole batch: another batch size gives
            other starts. The global random state is left as it was.

    Raises:
        ValueError: if a setting is outside its range.

    References:
        Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
        Attacks", ICML 2020.
    """

    def __init__(
        self,
        model: nn.Module,
        norm_kind: NormKind,
        eps: float,
        max_iter: int = 100,
        *,
        restarts: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(model, norm_kind, eps, max_iter, restarts, seed)

    def attempt(self, images: Tensor, labels: Tensor, report: AttemptReport | None) -> tuple[Tensor, int]:
        """Run the ensemble once; the iterations are the passes through the model, shared by all samples."""
        counted = _Counter(self.model, report)
        with torch.no_grad():
            targets = counted(images[:1]).shape[1] - 1
        gradient_attacks = ["apgd-ce", "apgd-t", "fab-t"] if targets >= 3 else ["apgd-ce", "fab-t"]
        ensemble = Ensemble(
            counted,
            attacks=[*gradient_attacks, "square"],
            device=images.device,
            eps=self.inner_eps,
            norm=self.norm_kind,
            seed=torch.initial_seed(),
            version="custom",
        )
        ensemble.verbose = False
        for attack in (ensemble.apgd, ensemble.apgd_targeted, ensemble.fab):
            attack.n_iter, attack.n_restarts = self.max_iter, 1
        for attack in (ensemble.apgd, ensemble.apgd_targeted):
            # Checkpoints of the step size, as the constructor derives them from the number of iterations.
            attack.n_iter_2 = max(int(0.22 * self.max_iter), 1)
            attack.n_iter_min = max(int(0.06 * self.max_iter), 1)
            attack.size_decr = max(int(0.03 * self.max_iter), 1)
        ensemble.apgd_targeted.n_target_classes = ensemble.fab.n_target_classes = min(targets, 9)
        ensemble.square.n_queries = 50 * self.max_iter
        # Its check for dynamic defences switches off whatever traces the process, a debugger for one.
        trace, level = sys.gettrace(), ensemble.logger.level
        try:
            ensemble.logger.setLevel(logging.ERROR)
            found, _ = ensemble.run_standard_evaluation(images, labels, batch_size=len(images))
        finally:
            ensemble.logger.setLevel(level)
            sys.settrace(trace)
        return found, counted.passes


class _Counter(nn.Module):
    def __init__(self, model: nn.Module, report: AttemptReport | None) -> None:
        super().__init__()
        self.model, self.report, self.passes = model, report, 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        if self.report is not None:
            self.report(self.passes, 0)  # the ensemble tells what it broke only when it is through
        logits: Tensor = self.model(images)
        return logits

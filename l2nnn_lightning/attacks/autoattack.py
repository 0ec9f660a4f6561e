"""AutoAttack, by its authors' own code: torchattacks' copy differs from it and its FAB is broken."""

import logging
import sys
from typing import ClassVar

import torch
from pyautoattack import AutoAttack as Ensemble  # type: ignore[import-untyped]
from torch import Tensor

from l2nnn_lightning.attacks.base import ImageAttack, NormKind

__all__ = ["AutoAttack", "AutoAttackL2"]


class AutoAttack(ImageAttack):
    """Attack by the ensemble AutoAttack (Croce and Hein, ICML 2020), here in the L-infinity norm.

    The code is that of its authors, the package ``pyautoattack``. With the default settings this is their *standard*
    version: APGD on the cross-entropy, targeted APGD on the difference-of-logits ratio, targeted FAB and Square, each
    on what its predecessors left. With fewer than four labels that ratio is not defined and targeted APGD is left out.

    Images are float32 (B, C, H, W). ``max_iter``, 100 in the standard version, are the steps of each gradient attack
    against each label; Square makes 50 times as many queries. The ensemble draws its random starts for a whole batch:
    another batch size gives other ones.
    """

    norm_kind: ClassVar[NormKind] = "Linf"

    def attempt(self, images: Tensor, labels: Tensor, restart: int) -> tuple[Tensor, int]:
        """Run the ensemble once; the iterations are the passes through the model, shared by all samples."""
        if images.dim() != 4:
            raise ValueError(f"images must have shape (B, C, H, W), got {tuple(images.shape)}")
        passes = 0

        def counted(points: Tensor) -> Tensor:
            nonlocal passes
            passes += 1
            return self.logits(points)

        with torch.no_grad():
            targets = counted(images[:1]).shape[1] - 1
        ensemble = Ensemble(
            counted,
            attacks=["apgd-ce", *(["apgd-t"] if targets >= 3 else []), "fab-t", "square"],
            device=images.device,
            eps=self.inner_eps,
            norm=self.norm_kind,
            seed=self.seed + restart,
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
            with torch.random.fork_rng(range(torch.cuda.device_count()) if images.is_cuda else []):
                torch.manual_seed(self.seed + restart)
                found, _ = ensemble.run_standard_evaluation(images, labels, batch_size=len(images))
        finally:
            ensemble.logger.setLevel(level)
            sys.settrace(trace)
        return found, passes


class AutoAttackL2(AutoAttack):
    """AutoAttack in the L2 norm."""

    norm_kind: ClassVar[NormKind] = "L2"

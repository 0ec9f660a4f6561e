"""The Parseval update after each step of the optimizer (Cisse et al., 2017)."""

from typing import Any

import pytorch_lightning as pl

from l2nnn_lightning.models.parseval import parseval_retraction_

__all__ = ["ParsevalRetraction"]


class ParsevalRetraction(pl.Callback):
    """Keep the filters of a network orthonormal while it trains, see :func:`parseval_retraction_`.

    Args:
        beta: how far each retraction goes, in (0, 1/2].
        steps: retractions after each step of the optimizer, >= 1.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, beta: float = 0.5, steps: int = 2) -> None:
        super().__init__()
        if not 0 < beta <= 0.5:
            raise ValueError(f"beta must be in (0, 0.5], got {beta}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.beta, self.steps = beta, steps

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:  # noqa: ARG002
        """Retract every layer."""
        parseval_retraction_(pl_module, self.beta, self.steps)

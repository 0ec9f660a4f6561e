"""The switch from the penalty (7) to hard scaling W / sqrt(b(W)) close to convergence (appendix A.1)."""

import math
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.nn import largest_bound
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["HardScalingSwitch"]

# An orthogonal start has a bound of 1 and the penalty holds it near; beyond this the weights have run away.
_RUNAWAY_BOUND = 100.0


class HardScalingSwitch(pl.Callback):
    """Begin with the penalty, which allows larger learning rates, and make the network hard near convergence.

    The switch comes at the end of an epoch: at ``switch_epoch`` if given, else when ``monitor`` has not improved for
    ``patience`` epochs, and at ``latest`` at the latest. It makes every layer hard, rescales the biases so that a
    positively homogeneous chain keeps its function up to one factor per label, starts the falling part of the
    learning-rate schedule at ``lr_factor`` times the base, and resets early stopping and best checkpoints, whose
    scores belong to a network that proves nothing.

    Args:
        monitor: the metric that is watched, logged in validation or training.
        mode: whether it should fall (``"min"``) or rise (``"max"``).
        patience: epochs without improvement before the switch, >= 1.
        min_delta: the least change that counts as an improvement, >= 0.
        switch_epoch: switch after so many epochs, whatever the metric does; 0 switches before the first.
        latest: switch at the latest after this fraction of the epochs, in (0, 1].
        lr_factor: the learning rate after the switch as a multiple of the base, > 0.
        penalty_factor: the penalty weight grows geometrically to this multiple of its start, >= 1.
        penalty_epochs: the epochs it takes to get there, >= 1.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> HardScalingSwitch(monitor="val/loss", patience=2).state_key
        'HardScalingSwitch'
    """

    def __init__(
        self,
        monitor: str = "val/loss",
        mode: Literal["min", "max"] = "min",
        patience: int = 3,
        min_delta: float = 0.0,
        switch_epoch: int | None = None,
        latest: float = 0.5,
        lr_factor: float = 1.0,
        penalty_factor: float = 1.0,
        penalty_epochs: int = 1,
    ) -> None:
        super().__init__()
        for name, value, fits, what in (
            ("mode", mode, mode in ("min", "max"), "'min' or 'max'"),
            ("patience", patience, patience >= 1, "at least 1"),
            ("min_delta", min_delta, min_delta >= 0, "at least 0"),
            ("switch_epoch", switch_epoch, switch_epoch is None or switch_epoch >= 0, "at least 0"),
            ("latest", latest, 0 < latest <= 1, "in (0, 1]"),
            ("lr_factor", lr_factor, lr_factor > 0, "positive"),
            ("penalty_factor", penalty_factor, penalty_factor >= 1, "at least 1"),
            ("penalty_epochs", penalty_epochs, penalty_epochs >= 1, "at least 1"),
        ):
            if not fits:
                raise ValueError(f"{name} must be {what}, got {value!r}")
        self.monitor, self.mode, self.patience, self.min_delta = monitor, mode, patience, min_delta
        self.switch_epoch, self.latest, self.lr_factor = switch_epoch, latest, lr_factor
        self.penalty_factor, self.penalty_epochs = penalty_factor, penalty_epochs
        self.best: float | None = None
        self.waited = 0
        self.switched_at: int | None = None

    def comes_within(self, max_epochs: int | None) -> bool:
        """Tell whether the switch comes in a training of so many epochs, if nothing else ends it; None: without end."""
        return self.switch_epoch is None or max_epochs in (None, -1) or self.switch_epoch <= (max_epochs or 0)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers: the best value, the epochs waited, the last epoch in penalty mode."""
        return {"best": self.best, "waited": self.waited, "switched_at": self.switched_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        vars(self).update(state_dict)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Raise the penalty weight; switch before the first step where that is asked for."""
        if self.switched_at is not None and self.switched_at == trainer.current_epoch - 1:
            # Early stopping and checkpoints look at an epoch's metrics after this callback: they saw soft ones since.
            _forget_scores(trainer)
        if not pl_module.is_soft:
            return
        if self.switch_epoch is not None and trainer.current_epoch >= self.switch_epoch:
            self._switch(trainer, pl_module, trainer.current_epoch - 1, "as configured")
            return
        progress = min(1.0, trainer.current_epoch / self.penalty_epochs)
        pl_module.penalty_scale = self.penalty_factor**progress

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Watch the metric, and switch when its time has come."""
        if not pl_module.is_soft:
            return
        bound = largest_bound(pl_module.network)
        weight = pl_module.penalty_weight * pl_module.penalty_scale
        pl_module.log_dict({"train/largest_bound": bound, "train/penalty_weight": weight})
        if not bound < _RUNAWAY_BOUND:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            rank_zero_warn(
                f"the weights run away (largest bound {bound:.3g}): lower model.optimizer.lr (now {rate:.3g}), raise "
                f"model.penalty_weight (now {weight:g}) or lower what rewards the gap (model.objective.omega)"
            )
        done = trainer.current_epoch + 1
        if self.switch_epoch is not None:
            reason = "as configured" if done >= self.switch_epoch else None
        else:
            reason = self._look(trainer)
            if trainer.max_epochs is not None and 0 < math.ceil(self.latest * trainer.max_epochs) <= done:
                reason = reason or f"at the latest, {self.latest:g} of the epochs"
        # Every process must switch at the same step.
        if trainer.strategy.reduce_boolean_decision(reason is not None, all=False):
            self._switch(trainer, pl_module, trainer.current_epoch, reason or "as another process decided")

    def _look(self, trainer: pl.Trainer) -> str | None:
        """Compare the metric with its best value; return why to switch, or None."""
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            known = ", ".join(sorted(trainer.callback_metrics)) or "none"
            raise UserError(
                f"HardScalingSwitch: there is no metric {self.monitor!r} to monitor; "
                f"there are: {known}. Set monitor, or switch_epoch"
            )
        now = float(value)
        better = self.best is None or (
            now < self.best - self.min_delta if self.mode == "min" else now > self.best + self.min_delta
        )
        if better and math.isfinite(now):
            self.best, self.waited = now, 0
            return None
        self.waited += 1
        if self.waited < self.patience:
            return None
        best = "none" if self.best is None else f"{self.best:.4g}"
        return f"{self.monitor} has not improved on {best} for {self.waited} epochs"

    def _switch(self, trainer: pl.Trainer, pl_module: Classifier, last_soft_epoch: int, reason: str) -> None:
        bound = largest_bound(pl_module.network)
        pl_module.harden(self.lr_factor)
        self.switched_at = last_soft_epoch
        _forget_scores(trainer)
        rank_zero_info(
            f"Switched to hard scaling after epoch {last_soft_epoch + 1}, step {trainer.global_step} "
            f"({reason}); the largest bound was {bound:.3f}"
        )


def _forget_scores(trainer: pl.Trainer) -> None:
    """Reset early stopping and best checkpoints."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, EarlyStopping):
            if callback.wait_count >= callback.patience and callback.stopped_epoch == trainer.current_epoch:
                # Its patience ended together with the penalty; nothing is proved yet, so training goes on.
                trainer.should_stop, callback.stopped_epoch = False, 0
            callback.wait_count = 0
            callback.best_score = torch.tensor(math.inf if callback.mode == "min" else -math.inf)
        elif isinstance(callback, ModelCheckpoint) and callback.monitor is not None:
            callback.best_k_models.clear()
            callback.kth_best_model_path = callback.best_model_path = ""
            callback.best_model_score = callback.current_score = None
            callback.kth_value = torch.tensor(math.inf if callback.mode == "min" else -math.inf)
